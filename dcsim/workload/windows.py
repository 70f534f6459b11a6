"""Requests window by window: what is drawn and held at once is bounded, however long the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from dcsim.spec import Scenario
from dcsim.workload.requests import Part, Requests, generate, joined_requests, parts
from dcsim.workload.shapes import Clip
from dcsim.workload.stages import Rows, with_all_clips

__all__ = ["WINDOW", "Stream", "stream_of"]

WINDOW = 1 << 18
"""Requests of a job that are drawn at once: some 25 MB with all that comes of them."""


@dataclass(frozen=True)
class Stream:
    """Requests that are drawn, or read, window by window: each time anew, and each time the same.

    A window has what all jobs ask in a stretch of time. `shapes`: as of `Requests`, of all.
    """

    parts: tuple[Part, ...]
    size: int
    shapes: tuple[tuple[Clip, ...], ...]

    def windows(self) -> Iterator[Requests]:
        """All requests, in order."""
        known = dict(enumerate(self.shapes))
        for rows in _together([part(self.size) for part in self.parts]):
            yield joined_requests(len(self.shapes), rows, known)

    def whole(self) -> Requests:
        """All at once."""
        found = list(chain.from_iterable(part(self.size) for part in self.parts))
        return joined_requests(len(self.shapes), found, dict(enumerate(self.shapes)))


def stream_of(scenario: Scenario, size: int = WINDOW) -> Requests | Stream:
    """The requests of a scenario: all that `generate` gives, at once if they are few.

    `size`: of a window. They come at once, too, where what they have in common, or who waits for
    whom, is to be known before the engine runs.
    """
    found = parts(scenario)
    if found is None:
        return generate(scenario)
    heads = [list(islice(part(size), 2)) for part in found]
    if all(len(head) < 2 for head in heads):
        return joined_requests(len(scenario.jobs), [rows for head in heads for rows in head])
    clips: dict[int, tuple[Clip, ...]] = {}
    for part, head in zip(found, heads, strict=True):
        clips = with_all_clips([rows.cut(0, 0) for rows in head], clips)[0]
        if len(head) > 1 and any(head[0].clips.values()):  # all that it asks for are to be priced
            for rows in part(size):
                clips = with_all_clips([rows.cut(0, 0)], clips)[0]
    shapes = tuple(clips.get(row, ()) for row in range(len(scenario.jobs)))
    return Stream(tuple(found), size, shapes)


def _together(pieces: list[Iterator[Rows]]) -> Iterator[list[Rows]]:
    """What all bring in stretches of time, one after another.

    A stretch ends before the last request that is at hand of some job, since more of its may come
    at that very time; it is the first such end of all jobs that bring more.
    """
    held = [_Held(each) for each in pieces]
    while any(each.rows for each in held):
        end = min((each.last for each in held if each.more), default=None)
        rows = [rows for each in held for rows in each.take(end)]
        if rows:
            yield rows


class _Held:
    """The requests of a job that are at hand, in pieces, and those to come."""

    def __init__(self, pieces: Iterator[Rows]) -> None:
        self._pieces = pieces
        self._next = next(pieces, None)
        self.rows: deque[Rows] = deque()
        self._fetch()

    def _fetch(self) -> None:
        if self._next is not None:
            self.rows.append(self._next)
            self._next = next(self._pieces, None)

    @property
    def more(self) -> bool:
        """Whether some are not at hand."""
        return self._next is not None

    @property
    def last(self) -> int:
        """When the last that is at hand arrives, ns."""
        return int(self.rows[-1].arrival[-1])

    def take(self, end: int | None) -> Iterator[Rows]:
        """Those before `end`, all without any."""
        while self.rows:
            rows = self.rows.popleft()
            count = len(rows.arrival)
            cut = count if end is None else int(np.searchsorted(rows.arrival, end))
            if cut:
                yield rows.cut(0, cut)
            if cut < count:
                self.rows.appendleft(rows.cut(cut, count))
                break
        if not self.rows or self.last == end:
            self._fetch()
