"""Who waits for whom: turns, stages and steps, as lists by request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Graph", "chains", "joined"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Graph:
    """N requests that wait for others.

    Request r waits for `after[start[r]:start[r + 1]]`, of lower rows, in rising order: `start`
    int64[N+1], `after` int64[M]. `delay` int64[N], ns: from the end of the last of them on. `fed`
    int64[N]: tokens of its prompt that are handed over to it. `handover` int64[M]: bytes that
    are, where no model says how many.
    """

    start: Ints
    after: Ints
    delay: Ints
    fed: Ints
    handover: Ints

    @property
    def last(self) -> Ints:
        """The last that each waits for, int64[N]; -1 for none."""
        found = np.full(len(self.delay), -1, dtype=np.int64)
        waits = np.diff(self.start) > 0
        found[waits] = self.after[self.start[1:][waits] - 1]
        return found

    @property
    def waiting(self) -> Ints:
        """The request that waits, for each of `after`: int64[M]."""
        return np.repeat(np.arange(len(self.delay), dtype=np.int64), np.diff(self.start))

    def take(self, order: Ints) -> Graph:
        """The same in another order, in which each stays behind what it waits for."""
        row = np.empty(len(order), dtype=np.int64)
        row[order] = np.arange(len(order))
        count = np.diff(self.start)[order]
        start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        place = np.arange(start[-1]) - np.repeat(start[:-1], count)
        entry = np.repeat(self.start[:-1][order], count) + place
        return Graph(
            start,
            row[self.after[entry]],
            self.delay[order],
            self.fed[order],
            self.handover[entry],
        )


def chains(after: Ints, delay: Ints, fed: Ints | None = None) -> Graph:
    """A graph of requests that wait for one at most: `after`, -1 for none."""
    waits = after >= 0
    start = np.concatenate([[0], np.cumsum(waits)]).astype(np.int64)
    none = np.zeros(len(after), dtype=np.int64)
    one = after[waits]
    return Graph(start, one, delay, none if fed is None else fed, np.zeros(len(one), np.int64))


def joined(graphs: Sequence[Graph | int]) -> Graph:
    """Graphs one after the other; a number stands for so many requests that wait for none."""
    start: list[Ints] = [np.zeros(1, dtype=np.int64)]
    columns: list[list[Ints]] = [[], [], [], []]
    rows = entries = 0
    for each in graphs:
        if isinstance(each, int):
            none = np.full(each, -1, dtype=np.int64)
            each = chains(none, np.zeros(each, dtype=np.int64))
        start.append(each.start[1:] + entries)
        parts = (each.after + rows, each.delay, each.fed, each.handover)
        for column, values in zip(columns, parts, strict=True):
            column.append(values)
        rows += len(each.delay)
        entries += len(each.after)
    empty = np.empty(0, dtype=np.int64)
    return Graph(np.concatenate(start), *(np.concatenate([empty, *c]) for c in columns))
