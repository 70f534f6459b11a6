"""The memory trace: what a request does to memory, step by step.

All bytes and FLOPs are totals of a replica: the fullest GPU's, times the GPUs of the layout.
Only a `Record` is of one GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.models.feature_cache import computed_steps
from dcsim.models.shapes import Clip, RequestShape, Turn
from dcsim.models.tape import CATEGORIES, KINDS, Tape
from dcsim.spec import Layout

Ints = NDArray[np.int64]

CACHED, CHUNK = "cached", "chunk"
"""The segment and the record of steps that a feature cache skips; the record of a chunk's steps."""


@dataclass(frozen=True)
class Holding:
    """Tensors of one origin that are held while a record's fullest op runs."""

    module: str
    """Part of the network that made them, or whose parameters were read last before."""
    op: str
    """What made them; empty for what is no activation, as its category says enough."""
    category: str
    """One of `CATEGORIES`."""
    count: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Record:
    """The ops of one step on one GPU, in order; arrays have a row an op.

    `held` (ops, categories) are the bytes held while the op runs, by `CATEGORIES`.
    """

    names: tuple[str, ...]
    kind: Ints
    """Index into `KINDS`."""
    flops: Ints
    weights: Ints
    """Bytes of parameters read."""
    moved: Ints
    """Bytes of anything else read or written."""
    comm: Ints
    """Bytes sent to other GPUs."""
    held: Ints
    live: int
    """Bytes held when the step has ended."""
    modules: tuple[str, ...] = ()
    """The part of the network that each op is of, where that is known."""
    holdings: tuple[Holding, ...] = ()
    """What the bytes of the fullest op are, the largest first."""

    def __post_init__(self) -> None:
        for field in fields(self):  # traces are remembered and shared
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        def same(a: Any, b: Any) -> bool:
            return np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)

        return isinstance(other, Record) and all(
            same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def of(tape: Tape, first: int = 0) -> Record:
        """The ops of a tape from its `first` op to the last."""
        rows = tape.profile[first:]
        ops = [tape.events[at] for at, _ in rows]
        table = np.array([op[3:7] for op in ops], dtype=np.int64).reshape(-1, 4)
        flops, weights, moved, comm = (np.ascontiguousarray(table[:, i]) for i in range(4))
        held = np.array([h for _, h in rows], dtype=np.int64).reshape(-1, len(CATEGORIES))
        return Record(
            names=tuple(op[1] for op in ops),
            kind=np.array([KINDS.index(op[2]) for op in ops], dtype=np.int64),
            flops=flops,
            weights=weights,
            moved=moved,
            comm=comm,
            held=held,
            live=tape.live,
            modules=tuple(op[7] for op in ops),
            holdings=_holdings(tape, rows[int(held.sum(axis=1).argmax())][0]) if rows else (),
        )

    @property
    def extra(self) -> Ints:
        """Bytes held above `live`, by op; 0 where the step holds less than it leaves."""
        above: Ints = np.maximum(self.held.sum(axis=1) - self.live, 0)
        return above

    @property
    def peak(self) -> int:
        """The most `extra`."""
        return int(self.extra.max(initial=0))

    def count(self, kind: str) -> int:
        """Ops of a kind."""
        return int((self.kind == KINDS.index(kind)).sum())

    def total(self, column: str, *kinds: str) -> int:
        """Sum of `flops`, `weights`, `moved` or `comm` over ops of some kinds."""
        rows = np.isin(self.kind, [KINDS.index(k) for k in kinds])
        return int(getattr(self, column)[rows].sum())


def _holdings(tape: Tape, fullest: int) -> tuple[Holding, ...]:
    """What is held at an op, by its place among the events; an allocation is of the next op."""
    events = tape.events
    found: dict[int, int] = {}
    kept: dict[int, str] = {}
    for at in range(fullest + 1):
        event = events[at]
        what = event[0]
        if what == "free":
            del found[event[1]]
        elif what == "alloc":
            found[event[1]] = at
        elif what == "keep":
            kept[event[1]] = event[2]
    grouped: dict[tuple[str, str, str], list[int]] = {}
    for number, at in found.items():
        _, _, size, first = events[at]
        op = module = ""
        category = kept.get(number) or first
        if category == "activations":
            maker = next(events[i] for i in range(at, fullest + 1) if events[i][0] == "op")
            op, module = maker[1], maker[7]
        total = grouped.setdefault((module, op, category), [0, 0])
        total[0] += 1
        total[1] += size
    every = (Holding(*key, count, size) for key, (count, size) in grouped.items())
    return tuple(sorted(every, key=lambda h: (-h.bytes, h.module, h.op, h.category)))


@dataclass(frozen=True)
class Phase:
    """A stage of a request: which weights it needs."""

    name: str
    layers: int
    """Layers of the network."""
    params: int
    """Parameters of the network, unsharded."""
    weights: int
    """Bytes of them in the replica's HBM."""
    checkpoint: int
    """Bytes of them in a file."""
    reads: int
    """Bytes of weights that a step's matrix products read, however many jobs share them."""
    dtype: str
    """Of attention and convolutions."""
    dense_dtype: str
    """Of matrix products."""
    collectives: int = 0
    """Exchanges between GPUs in a step."""
    passes: int = 1
    """Times that a step runs the network, one after the other."""
    experts: int = 1
    """Networks that its weights are of, of which a step needs one."""
    idle: int = 0
    """Of those times, in how many a GPU waits for others: bubbles of a pipeline."""

    @property
    def launches(self) -> int:
        """Layers that a step runs, each with a launch overhead."""
        return self.layers * self.passes

    @property
    def busy(self) -> Fraction:
        """Share of a step in which a GPU computes."""
        return Fraction(self.passes - self.idle, self.passes)


@dataclass(frozen=True)
class Segment:
    """A run of steps whose demands are linear in the step index.

    `rule` fixed: the figures are a step's, and `_slope` what each next step adds.
    `prefill` and `decode`: dense, other and comm are a token's, `attn_flops` a (query, key)
    pair's, `attn_bytes` and `live` a token's of context; see `MemoryTrace.segments`.
    """

    name: str
    phase: str
    steps: int
    tokens: int
    """Rows fed to the dense layers (`prefill`: tokens of a chunk)."""
    dense_flops: int = 0
    dense_bytes: int = 0
    """Activations moved by matrix products; their weights are the phase's `reads`."""
    attn_flops: int = 0
    attn_flops_slope: int = 0
    attn_bytes: int = 0
    attn_bytes_slope: int = 0
    local_flops: int = 0
    """Of attention that no context adds to: full windows."""
    again_flops: int = 0
    """Of what is computed again for every token before a chunk (`prefill`: a context token's)."""
    again_flops_slope: int = 0
    conv_flops: int = 0
    conv_bytes: int = 0
    other_bytes: int = 0
    comm_bytes: int = 0
    ring_bytes: int = 0
    """Sent to other GPUs while attention computes (`prefill`: a context token's)."""
    ring_bytes_slope: int = 0
    host_bytes: int = 0
    """From the host's memory in each step."""
    overlapped: bool = False
    """Whether they come while the step computes, so that the longer of the two counts."""
    live: int = 0
    """Bytes held during a step and after it."""
    live_slope: int = 0
    peak: int = 0
    """The most bytes held beyond `live` while a step runs."""
    first: bool = False
    """Whether its end puts out the first result."""
    rule: str = "fixed"
    record: str = ""
    """Name of the record its step was counted from."""

    @staticmethod
    def of(
        record: Record,
        source: str,
        name: str,
        phase: str,
        steps: int,
        tokens: int,
        *,
        gpus: int = 1,
        passes: int = 1,
        first: bool = False,
    ) -> Segment:
        """Steps like a recorded one, which is `passes` of them on each of `gpus`; `source`: the
        record's name."""

        def each(column: str, *kinds: str) -> int:
            return gpus * -(-record.total(column, *kinds) // passes)

        return Segment(
            name,
            phase,
            steps,
            tokens,
            dense_flops=each("flops", "dense"),
            dense_bytes=each("moved", "dense"),
            attn_flops=each("flops", "attention"),
            attn_bytes=each("moved", "attention"),
            conv_flops=each("flops", "conv"),
            conv_bytes=each("moved", "conv") + each("weights", "conv"),
            other_bytes=each("moved", "memory") + each("weights", "memory"),
            comm_bytes=each("comm", "comm"),
            ring_bytes=each("comm", "attention"),
            live=gpus * record.live,
            peak=gpus * record.peak,
            first=first,
            record=source,
        )

    @property
    def flops(self) -> int:
        """FLOPs of the first step (fixed)."""
        return self.dense_flops + self.attn_flops + self.local_flops + self.conv_flops

    @property
    def most_live(self) -> int:
        """The most bytes live in any step (fixed)."""
        return max(self.live, self.live + self.live_slope * (self.steps - 1))


@dataclass(frozen=True)
class MemoryTrace:
    """What a request of one shape does to one replica."""

    model: str
    kind: str
    """`dit` or `llm`."""
    options: Mapping[str, Any]
    shape: RequestShape
    layout: Layout
    phases: tuple[Phase, ...]
    rows: tuple[Segment, ...]
    """Segments in order; of a language model one `prefill` and one `decode` row."""
    records: Mapping[str, Record]
    artifact: int
    """Bytes of the finished clip."""
    overhead: int
    """Bytes the replica's GPUs hold beside tensors."""
    state: int = 0
    """Bytes a request holds whatever its length: full windows and states of a language model."""
    offloaded: bool = False
    """Whether the weights lie in host memory and come to HBM with the requests that need them."""
    switch: Segment | None = None
    """The step that brings the second of two experts, after those of the first."""
    early: tuple[int, int] = (1, 1)
    """Numerator and denominator: of n sampler steps the first expert takes `1 + n x early`, rounded
    down."""
    context: int = 0
    """Bytes of what a streamed clip leaves for one that goes on from it."""
    stored: int = 0
    """Live bytes that are a feature cache's, from the first step on."""

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.layout.gpus

    @property
    def params(self) -> int:
        """Parameters of the network whose step is the first result: the transformer. Those of the
        text encoder and the VAE are in `phases`."""
        main = next(row.phase for row in self.rows if row.first)
        return next(p.params for p in self.phases if p.name == main)

    @property
    def weights_bytes(self) -> int:
        """HBM that the weights hold in the replica."""
        return sum(p.weights for p in self.phases)

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of the weights in DRAM and NAND."""
        return sum(p.checkpoint for p in self.phases)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The rows, with prefill and decode rows written out as the engine's contract says."""
        return tuple(s for row in self.rows for s in _expanded(row, self.shape))

    @property
    def residency_bytes(self) -> int:
        """Weights and the most live bytes."""
        return self.weights_bytes + self.state + max(s.most_live for s in self.segments)

    @property
    def peak_bytes(self) -> int:
        """The most bytes held at once, without `overhead`."""
        most = max(s.most_live + s.peak for s in self.segments)
        return self.weights_bytes + self.state + most

    @property
    def peak_phase(self) -> str:
        """The phase that makes the peak."""
        return max(self.segments, key=lambda s: s.most_live + s.peak).phase

    def with_steps(self, steps: int) -> MemoryTrace:
        """The same clip in another number of denoising steps, without tracing it again.

        Equal to tracing that shape: all denoising steps are alike. ValueError for a language
        model or fewer than 1 step.
        """
        if not isinstance(self.shape, Clip) or steps < 1:
            raise ValueError(f"{self.model} in {steps} denoising steps")
        return self if steps == self.shape.steps else self.spread(steps)

    def spread(self, steps: int) -> MemoryTrace:
        """The rows of a clip anew: its denoising steps after the first, computed and cached."""
        assert isinstance(self.shape, Clip)
        rows: list[Segment] = []
        again = next(row.record for row in self.rows if row.first)
        shape = replace(self.shape, steps=steps)
        if CHUNK in self.records:  # each is denoised in all steps before the next
            found = (replace(r, steps=steps) if CHUNK in r.record else r for r in self.rows)
            return replace(self, rows=tuple(found), shape=shape)
        steps = shape.denoised
        computed = computed_steps(self.options, steps)
        for row in self.rows:
            if row.first or not (row.record in (again, CACHED) or row == self.switch):
                rows.append(row)
            if row.first:
                rows += self._computed(replace(row, name=again, first=False), shape, computed)
            if row.first and steps > computed:
                rows.append(self._cached(row, row.steps * (steps - computed)))
        return replace(self, rows=tuple(rows), shape=shape)

    def _computed(self, step: Segment, shape: Clip, computed: int) -> list[Segment]:
        """The computed sampler steps after the first, by the expert that takes each.

        A sampler step is one or two steps of the replica: as many as the first has.
        """
        early = computed
        if self.switch is not None:
            # Steps that an edit leaves out are the first expert's; if those are all, it is not
            # there, and the other is from the start.
            early = 1 + shape.steps * self.early[0] // self.early[1] - shape.steps + shape.denoised
            early = computed if early < 1 else min(early, computed)
        rows = [replace(step, steps=step.steps * (early - 1))] if early > 1 else []
        if self.switch is not None and early < computed:
            rows += [self.switch, replace(step, steps=step.steps * (computed - early))]
        return rows

    def _cached(self, first: Segment, steps: int) -> Segment:
        """Steps that a feature cache skips, with what the first step holds."""
        row = Segment.of(
            self.records[CACHED],
            CACHED,
            CACHED,
            f"{first.phase} {CACHED}",
            steps,
            first.tokens,
            gpus=self.gpus,
            passes=first.steps,
        )
        return replace(row, live=first.live)

    def scale(self, *, memory: float = 1.0, compute: float = 1.0) -> MemoryTrace:
        """The trace with live and peak bytes times `memory`, FLOPs and traffic times `compute`.

        A rough what-if ("a model that holds half of that"). Weights, records and the number
        of steps stay; sizes round up.
        """
        size, work = Fraction(memory), Fraction(compute)

        def scaled(s: Segment) -> Segment:
            held = {f: ceil(getattr(s, f) * size) for f in ("live", "live_slope", "peak")}
            done = {
                f.name: ceil(getattr(s, f.name) * work)
                for f in fields(s)
                if "_flops" in f.name or "_bytes" in f.name
            }
            return replace(s, **held, **done)

        rows = tuple(scaled(s) for s in self.rows)
        return replace(self, rows=rows, stored=ceil(self.stored * size))


def _expanded(row: Segment, shape: RequestShape) -> tuple[Segment, ...]:
    """A prefill or decode row as fixed segments for a prompt and an output."""
    if row.rule == "fixed" or not isinstance(shape, Turn):
        return (row,)
    if row.rule == "decode":
        return _decode(row, shape.prompt, shape.output)
    full, rest = divmod(shape.prompt, row.tokens)
    chunks = [(0, full, row.tokens), (full * row.tokens, 1, rest)]
    out = [_chunks(row, shape.prompt, *c) for c in chunks if c[1] and c[2]]
    out[-1] = replace(out[-1], first=row.first)
    return tuple(out)


def _chunks(row: Segment, prompt: int, before: int, steps: int, n: int) -> Segment:
    return replace(
        row,
        rule="fixed",
        steps=steps,
        tokens=n,
        dense_flops=row.dense_flops * n,
        dense_bytes=row.dense_bytes * n,
        attn_flops=row.attn_flops * (n * before + n * (n + 1) // 2),
        attn_flops_slope=row.attn_flops * n * n,
        attn_bytes=row.attn_bytes * (before + n),
        attn_bytes_slope=row.attn_bytes * n,
        local_flops=row.local_flops * n,
        again_flops=row.again_flops * (before + n),
        again_flops_slope=row.again_flops * n,
        other_bytes=row.other_bytes * n,
        comm_bytes=row.comm_bytes * n,
        ring_bytes=row.ring_bytes * (before + n),
        ring_bytes_slope=row.ring_bytes * n,
        live=row.live * prompt,
        peak=row.peak * n,
        first=False,
    )


def _decode(row: Segment, prompt: int, output: int) -> tuple[Segment, ...]:
    if output < 2:
        return ()
    step = replace(
        row,
        rule="fixed",
        steps=output - 1,
        attn_flops=row.attn_flops * (prompt + 1),
        attn_flops_slope=row.attn_flops,
        attn_bytes=row.attn_bytes * (prompt + 1),
        attn_bytes_slope=row.attn_bytes,
        live=row.live * (prompt + 1),
        live_slope=row.live,
    )
    return (step,)
