"""Feature caches of a diffusion model: what skipped steps still compute, and what is held for them.

A trace is counted with every step computed; here it is changed into one whose steps past the
computed ones cost what the method leaves of the recorded step. docs/pricing.md, *feature caching*;
methods: TeaCache (Liu et al. 2024), First Block Cache (ParaAttention, diffusers), Pyramid Attention
Broadcast (Zhao et al. 2024), TaylorSeer (Liu et al. 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dcsim.models.shapes import Clip
from dcsim.models.tape import ATTENTION, CATEGORIES, COMM, CONV, DENSE, GRAIN, KINDS, MEMORY, nbytes
from dcsim.traces.record import Ints, Record
from dcsim.traces.segments import Phase
from dcsim.traces.trace import CACHED, MemoryTrace

ORDER = 1
"""Of TaylorSeer's expansion: an output and its first difference."""

INTO = ("q", "k", "v", "qkv", "kv")
"""Projections with which attention begins, by the last part of a module's name."""


@dataclass(frozen=True)
class Hidden:
    """Hidden states of a pass on one GPU: elements of all branches in it, and dtypes."""

    image: int
    text: int
    """Of text tokens that run beside the image's."""
    dtype: str
    residual: str


class Part(NamedTuple):
    """Where an operation belongs."""

    block: int | None
    half: str = ""
    """`attention`, `ffn`, or neither."""
    begun: bool = False
    """Whether its block has come to one of them."""


class Added(NamedTuple):
    """An operation that a skipped step has beside what is kept; bytes."""

    name: str
    moved: int
    held: int = 0


def cached(trace: MemoryTrace, hidden: Hidden, blocks: int, passes: int) -> MemoryTrace:
    """The trace under the option `feature_cache`; a step is `passes` passes of `blocks` blocks."""
    method = trace.options["feature_cache"]
    first = next(i for i, row in enumerate(trace.rows) if row.first)
    record = trace.records[trace.rows[first].record]
    parts = list(_parts(record))
    found = _Method(method, record, parts, hidden, passes)
    left = _left(record, [i for i, part in enumerate(parts) if found.keeps(part)], found.added())
    held = trace.gpus * found.stored()
    rows = tuple(
        replace(row, live=row.live + held) if i >= first else row
        for i, row in enumerate(trace.rows)
    )
    network = next(phase for phase in trace.phases if phase.name == trace.rows[first].phase)
    phase = Phase(
        f"{network.name} {CACHED}",
        blocks if method in ("pab", "taylorseer") else 1,
        0,
        0,
        0,
        trace.gpus * -(-left.total("weights", DENSE) // passes),
        network.dtype,
        network.dense_dtype,
        -(-left.count(COMM) // passes),
    )
    records = {**trace.records, CACHED: left}
    changed = replace(trace, rows=rows, phases=(*trace.phases, phase), records=records, stored=held)
    assert isinstance(trace.shape, Clip)
    return changed.spread(trace.shape.steps)


def _parts(record: Record) -> Iterator[Part]:
    """The part of each operation of a step, in order."""
    places = [_place(module) for module in record.modules]
    apart, attended = _apart(record), _attentions(record)
    before, half, begun, ended = None, "", False, False
    for i, ((block, tail), code) in enumerate(zip(places, record.kind.tolist(), strict=True)):
        kind = KINDS[code]
        if block != before:
            half, begun, ended = "", False, False
        elif ended and kind != COMM:
            half = "ffn" if half == "attention" and block not in apart else ""
            ended = False
        if block is not None and kind in (DENSE, CONV):
            if tail in INTO:
                half = "attention"
            elif tail == "up":
                half = "ffn"
            elif tail in ("out", "down"):
                half = "attention" if tail == "out" and block in apart else "ffn"
                ended = True
        elif i in attended and block not in apart:
            ended = True
        before, begun = block, begun or bool(half)
        yield Part(block, half, begun)


def _attentions(record: Record) -> set[int]:
    """The last operation of each attention of a block, of which there may be several in a row: a
    product and another, turns of a ring."""
    found: set[int] = set()
    last = -1
    for i, (module, code) in enumerate(zip(record.modules, record.kind.tolist(), strict=True)):
        if KINDS[code] == ATTENTION and _place(module)[0] is not None:
            last = i
        elif KINDS[code] in (DENSE, CONV) and last >= 0:
            found.add(last)
            last = -1
    return found | ({last} if last >= 0 else set())


def _apart(record: Record) -> set[int]:
    """Blocks whose attention and feed-forward each have a projection back."""
    places = map(_place, record.modules)
    return {block for block, tail in places if tail == "down" and block is not None}


def _place(module: str) -> tuple[int | None, str]:
    """The block and the last part of the name."""
    first = module.partition(".")[0]
    return (int(first) if first.isdecimal() else None), module.rpartition(".")[2]


class _Method:
    """One method on the recorded step."""

    def __init__(
        self, name: str, record: Record, parts: list[Part], hidden: Hidden, passes: int
    ) -> None:
        self.name, self.hidden, self.passes = name, hidden, passes
        self.attentions = len(_attentions(record))
        self.modules = self.attentions + passes * len(_apart(record))
        """Outputs that TaylorSeer forecasts in a step."""

    def keeps(self, part: Part) -> bool:
        """Whether a skipped step has an operation."""
        match self.name:
            case "teacache":
                return part.block is None or (part.block == 0 and not part.begun)
            case "fbcache":
                return part.block in (None, 0)
            case "pab":
                return part.half != "attention"
        return not part.half

    def added(self) -> list[Added]:
        """What a skipped step computes more."""
        h = self.hidden
        image, text = (nbytes((n,), h.residual) for n in (h.image, h.text))
        inner = nbytes((h.image,), h.dtype)
        both = _held(h.image, h.residual) + _held(h.text, h.residual)
        match self.name:
            case "teacache":
                compare = Added("compare", 2 * inner)
                return [compare, Added("add", 3 * image, _held(h.image, h.residual))] * self.passes
            case "fbcache":
                compare = Added("compare", 2 * image)
                return [compare, Added("add", 3 * (image + text), both)] * self.passes
            case "taylorseer":
                moved = 3 * (inner + nbytes((h.text,), h.dtype))
                return [Added("forecast", moved, self._output())] * self.modules
        return []

    def _output(self) -> int:
        """Bytes held of an output of attention or feed-forward."""
        return _held(self.hidden.image, self.hidden.dtype) + _held(
            self.hidden.text, self.hidden.dtype
        )

    def stored(self) -> int:
        """Bytes held from step to step on one GPU."""
        h = self.hidden
        image, text = _held(h.image, h.residual), _held(h.text, h.residual)
        match self.name:
            case "teacache":
                return self.passes * (_held(h.image, h.dtype) + image)
            case "fbcache":
                return self.passes * (3 * image + 2 * text)
            case "pab":
                return self.attentions * self._output()
        return (ORDER + 1) * self.modules * self._output()


def _held(elements: int, dtype: str) -> int:
    return -(-nbytes((elements,), dtype) // GRAIN) * GRAIN


def _left(record: Record, kept: list[int], added: list[Added]) -> Record:
    """The record of a skipped step."""
    none = np.zeros(len(added), dtype=np.int64)
    held = np.zeros((len(added), len(CATEGORIES)), dtype=np.int64)
    held[:, 0] = [record.live + each.held for each in added]

    def joined(column: str, more: Ints) -> Ints:
        return np.concatenate([getattr(record, column)[kept], more])

    return Record(
        (*(record.names[i] for i in kept), *(each.name for each in added)),
        joined("kind", none + KINDS.index(MEMORY)),
        joined("flops", none),
        joined("weights", none),
        joined("moved", np.array([each.moved for each in added], dtype=np.int64)),
        joined("comm", none),
        np.concatenate([record.held[kept], held]),
        record.live,
        (*(record.modules[i] for i in kept), *("" for _ in added)),
    )
