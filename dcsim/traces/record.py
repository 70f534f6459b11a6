"""A recorded step: the ops of one GPU in order, and what the fullest of them holds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.models.tape import CATEGORIES, KINDS, Tape

Ints = NDArray[np.int64]


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
