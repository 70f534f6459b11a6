"""Does a queue grow without end? Told from when requests arrive and when they are admitted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Queue", "queue_figures"]

Ints = NDArray[np.int64]

_SLICES = 16
_FILLING = 4
"""Slices at the beginning that are not looked at: an empty system fills."""
_SURE = 3.0
_FEWEST = 10


def queue_figures(arrival: Ints, start: Ints, duration: int) -> dict[str, Any]:
    """`Queue` of requests that are all at hand."""
    queue = Queue(duration)
    queue.add(arrival, start)
    return queue.figures()


class Queue:
    """What waits at the end of a run of `duration` ns, and whether the queue grows all along.

    The run is cut into 16 slices; in each of the last 12 the queue grows by
    its arrivals less its admissions. It is said to grow where the mean of these 12 is above 0 by
    three standard errors, and all of them together by ten requests. A queue that is stable, near
    full load too, grows and shrinks by turns, and what one slice adds the next ones take away; one
    burst, wherever it comes, lifts the mean by no more than one standard error. A load that is
    above what can be served for half of that time or more, up to the end, is found.
    """

    def __init__(self, duration: int) -> None:
        self._duration = duration
        self._came = np.zeros(_SLICES - _FILLING, dtype=np.int64)
        self._went = self._came.copy()
        self._waiting = 0

    def add(self, arrival: Ints, start: Ints) -> None:
        """Some requests that can be admitted: int64[N], ns, `start` -1 for those that have not
        been."""
        self._came += _by_slice(arrival, self._duration)
        self._went += _by_slice(start[start >= 0], self._duration)
        self._waiting += int(np.count_nonzero(start < 0))

    def figures(self) -> dict[str, Any]:
        """Those of all requests that have been added."""
        growth = (self._came - self._went).astype(np.float64)
        error = float(growth.std(ddof=1)) / len(growth) ** 0.5
        seconds = self._duration * (1 - _FILLING / _SLICES) / 1e9
        return {
            "waiting": self._waiting,
            "grows": bool(growth.sum() >= _FEWEST and growth.mean() >= _SURE * error),
            "arrivals_per_s": int(self._came.sum()) / seconds,
            "admissions_per_s": int(self._went.sum()) / seconds,
        }


def _by_slice(times: Ints, duration: int) -> Ints:
    """How many fall into each slice that is looked at."""
    of = (times * (_SLICES / duration)).astype(np.int64)
    return np.bincount(of, minlength=_SLICES)[_FILLING:_SLICES]
