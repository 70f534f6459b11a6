"""What a job asks for, and the requests that serve it: one each, or one for each of its stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dcsim.models.shapes import Clip
from dcsim.workload.blocks import Blocks
from dcsim.workload.graph import Graph, chains
from dcsim.workload.sessions import Turns

__all__ = ["Content", "Drawn", "Rows", "in_one", "in_stages", "with_all_clips"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Content:
    """A prefix forest: what requests have in common.

    `parent`, `tokens` and `klass` int64[M]: the node above (of a lower row, -1 for none), its own
    tokens, the job class. `reads` and `leaves` int64[N]: the node in which what a request may find
    of its prompt ends, and that in which its context ends; -1 for none. `brought` int64[M]: 1 for
    an adapter, which is no part of a prompt; None where there are none.
    """

    parent: Ints
    tokens: Ints
    klass: Ints
    reads: Ints
    leaves: Ints
    brought: Ints | None = None


@dataclass(frozen=True)
class Drawn:
    """What users ask of a job, in order of arrival."""

    arrival: Ints
    shape: Ints
    prompt: Ints
    output: Ints
    clips: tuple[Clip, ...] = ()
    turns: Turns | None = None
    blocks: Blocks | None = None


@dataclass(frozen=True)
class Rows:
    """The requests that serve a job. `shape`: rows of the `clips` of their class; `number`: which
    of what was asked a request is a part of, where it is but a part; `shown`: whether its first
    result is one for the user, where not all are."""

    arrival: Ints
    klass: Ints
    shape: Ints
    prompt: Ints
    output: Ints
    clips: Mapping[int, tuple[Clip, ...]] = field(default_factory=dict)
    graph: Graph | None = None
    content: Content | None = None
    blocks: Mapping[int, Blocks] = field(default_factory=dict)
    number: Ints | None = None
    shown: NDArray[np.bool_] | None = None

    def cut(self, first: int, last: int) -> Rows:
        """Some of them, of requests that have nothing in common and wait for none."""
        names = ("arrival", "klass", "shape", "prompt", "output")
        return replace(self, **{name: getattr(self, name)[first:last] for name in names})

    def pieces(self, size: int) -> Iterator[Rows]:
        """The same, `size` at a time."""
        for first in range(0, len(self.arrival), size):
            yield self.cut(first, first + size)


def with_all_clips(
    parts: Sequence[Rows], known: Mapping[int, tuple[Clip, ...]] | None = None
) -> tuple[dict[int, tuple[Clip, ...]], Ints]:
    """By class all clips that any of them asks for, or others (`known`), and for each request its
    row among them."""
    found = {klass: set(clips) for klass, clips in (known or {}).items()}
    for each in parts:
        for klass, clips in each.clips.items():
            found.setdefault(klass, set()).update(clips)
    whole = {klass: tuple(sorted(clips, key=astuple)) for klass, clips in found.items()}
    rows = [np.empty(0, dtype=np.int64)]
    for each in parts:
        shape = each.shape.copy()
        for klass, clips in each.clips.items():
            if clips != whole[klass]:
                place = np.array([whole[klass].index(clip) for clip in clips], dtype=np.int64)
                mine = each.klass == klass
                shape[mine] = place[each.shape[mine]]
        rows.append(shape)
    return whole, np.concatenate(rows)


def in_one(drawn: Drawn, klass: int) -> Rows:
    """Each request as it was asked for."""
    turns, blocks = drawn.turns, drawn.blocks
    row = np.arange(len(drawn.arrival), dtype=np.int64)
    return Rows(
        drawn.arrival,
        np.full(len(row), klass, dtype=np.int64),
        drawn.shape,
        drawn.prompt,
        drawn.output,
        {klass: drawn.clips},
        None if turns is None else chains(turns.after, turns.delay),
        _content(drawn, klass, row, len(row)),
        {} if blocks is None else {klass: blocks},
    )


def in_stages(drawn: Drawn, classes: Sequence[int]) -> Rows:
    """Each request as one a stage; `classes`: those of the stages, in order."""
    return _clip_stages(drawn, classes) if drawn.clips else _prefill_decode(drawn, classes)


def _clip_stages(drawn: Drawn, classes: Sequence[int]) -> Rows:
    many, count = len(classes), len(drawn.arrival)
    first = np.arange(many * count, dtype=np.int64) % many == 0
    after = np.where(first, -1, np.arange(many * count, dtype=np.int64) - 1)
    none = np.zeros(many * count, dtype=np.int64)
    delay = none.copy()
    if drawn.turns is not None:
        before = drawn.turns.after
        after[first] = np.where(before < 0, -1, before * many + many - 1)
        delay[first] = drawn.turns.delay
    return Rows(
        np.repeat(drawn.arrival, many),
        np.tile(np.array(classes, dtype=np.int64), count),
        np.repeat(drawn.shape, many),
        none,
        none,
        dict.fromkeys(classes, drawn.clips),
        chains(after, delay),
        number=np.repeat(np.arange(count, dtype=np.int64), many),
        shown=~first | (many < 3),
    )


def _prefill_decode(drawn: Drawn, classes: Sequence[int]) -> Rows:
    """Prefill puts out the first token; decode begins with the KV of the prompt and that token.

    An answer of one token needs no decode.
    """
    more = drawn.output > 1
    number = np.repeat(np.arange(len(more), dtype=np.int64), 1 + more)
    count = len(number)
    prefill = np.cumsum(1 + more) - (1 + more)
    decode = np.ones(count, dtype=np.bool_)
    decode[prefill] = False
    after, delay = np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.int64)
    if drawn.turns is not None:
        before = drawn.turns.after
        last = prefill + more
        after[prefill] = np.where(before < 0, -1, last[before])
        delay[prefill] = drawn.turns.delay
    after[decode] = np.flatnonzero(decode) - 1
    prompt = drawn.prompt[number]
    blocks = drawn.blocks
    return Rows(
        drawn.arrival[number],
        np.where(decode, classes[1], classes[0]).astype(np.int64),
        np.zeros(count, dtype=np.int64),
        np.where(decode, prompt + 1, prompt),
        np.where(decode, drawn.output[number] - 1, 1),
        graph=chains(after, delay, np.where(decode, prompt, 0)),
        content=_content(drawn, classes[0], prefill, count),
        blocks={} if blocks is None else {classes[0]: blocks},
        number=number,
    )


def _content(drawn: Drawn, klass: int, rows: Ints, count: int) -> Content | None:
    """The forest of the turns, which are these of `count` rows."""
    turns = drawn.turns
    if turns is None or not len(turns.nodes):
        return None
    parent, tokens = turns.nodes.T
    columns = []
    for given in (turns.reads, turns.leaves):
        column = np.full(count, -1, dtype=np.int64)
        column[rows] = given
        columns.append(column)
    owner = np.full(len(parent), klass, dtype=np.int64)
    return Content(parent, tokens, owner, columns[0], columns[1])
