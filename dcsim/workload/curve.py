"""A rate over time, integrated and inverted: how arrivals one a unit come at a changing rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.spec import Rate

__all__ = ["Curve"]

Floats = NDArray[np.float64]
_DAY = 86_400 * 10**9


@dataclass(frozen=True)
class Curve:
    """A rate that is linear within each of K cells, with steps allowed between them.

    `edges` float64[K+1], seconds, increasing; `left` and `right` float64[K], the rate per second
    at the beginning and at the end of each cell, not negative; `total` float64[K+1], the
    expected arrivals up to each edge.
    """

    edges: Floats
    left: Floats
    right: Floats
    total: Floats

    @classmethod
    def through(cls, edges: Floats, left: Floats, right: Floats) -> Curve:
        """The curve of these cells, those of no width left out.

        Raises `ValueError` where rates are not finite or negative, or edges decrease.
        """
        width = np.diff(edges)
        rates = np.concatenate([left, right])
        if not (width >= 0).all() or not (width > 0).any():
            raise ValueError("the edges of a curve increase")
        if not (np.isfinite(rates).all() and (rates >= 0).all()):
            raise ValueError("rates are finite and not negative")
        wide = width > 0
        total = np.concatenate([[0.0], np.cumsum((0.5 * (left + right) * width)[wide])])
        return cls(np.append(edges[0], edges[1:][wide]), left[wide], right[wide], total)

    @classmethod
    def of(cls, rate: Rate, duration: int) -> Curve:
        """A rate for longer than `duration` ns (> 0), its period repeated as often as needed.

        No cell ends with the run: a longer run has the same cells, and so the same arrivals.
        """
        times = np.array(rate.times, dtype=np.int64)
        left = np.array(rate.values, dtype=np.float64)
        if rate.interpolate == "step":
            right = left
        else:
            right = np.append(left[1:], left[-1] if rate.period is None else left[0])
        if rate.period is None:
            edges = np.append(times, max(duration, rate.times[-1]) + duration + _DAY)
        else:
            laps = -(-duration // rate.period) + 1
            starts = np.arange(laps, dtype=np.int64)[:, None] * rate.period + times
            edges = np.append(starts.ravel(), laps * rate.period)
            left, right = np.tile(left, laps), np.tile(right, laps)
        return cls.through(edges / 1e9, left, right)

    def expected(self, until: float) -> float:
        """How many arrivals are expected up to a time on the curve, seconds."""
        cell = min(int(np.searchsorted(self.edges, until, side="right")), len(self.left)) - 1
        into, width = until - self.edges[cell], self.edges[cell + 1] - self.edges[cell]
        slope = (self.right[cell] - self.left[cell]) / width
        return float(self.total[cell] + self.left[cell] * into + slope * into * into / 2)

    def times(self, counts: Floats) -> Floats:
        """When the expected number of arrivals reaches each of `counts`, in seconds.

        `counts` float64[N], above 0, at most the expected number of the whole curve. Within a
        cell `left*x + slope*x^2/2 = rest` is solved in the form that loses no digits where the
        slope is small. A cell of rate 0 is never hit.
        """
        cell = np.zeros(1, dtype=np.int64)  # of a rate that never changes: one for all
        if len(self.left) > 1:
            cell = np.searchsorted(self.total, counts, side="left") - 1
            np.clip(cell, 0, len(self.left) - 1, out=cell)
        left = self.left[cell]
        width = np.diff(self.edges)[cell]
        slope = (self.right[cell] - left) / width
        rest = counts - self.total[cell]
        root = np.sqrt(np.maximum(left * left + 2.0 * slope * rest, 0.0))
        into = np.minimum(2.0 * rest / (left + root), width)
        return np.asarray(self.edges[cell] + into, dtype=np.float64)
