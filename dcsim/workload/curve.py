"""A rate over time, integrated and inverted: how arrivals one a unit come at a changing rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.spec import Rate

__all__ = ["Curve"]

Floats = NDArray[np.float64]


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
        """The first `duration` ns (> 0) of a rate, its period repeated as often as needed."""
        times = np.array(rate.times, dtype=np.int64)
        left = np.array(rate.values, dtype=np.float64)
        if rate.interpolate == "step":
            right = left
        else:
            right = np.append(left[1:], left[-1] if rate.period is None else left[0])
        if rate.period is None:
            edges = np.append(times, max(duration, rate.times[-1]))
        else:
            laps = -(-duration // rate.period)
            starts = np.arange(laps, dtype=np.int64)[:, None] * rate.period + times
            edges = np.append(starts.ravel(), laps * rate.period)
            left, right = np.tile(left, laps), np.tile(right, laps)
        return cls.through(edges / 1e9, left, right)._until(duration / 1e9)

    def _until(self, end: float) -> Curve:
        cells = int(np.searchsorted(self.edges, end, side="left"))
        edges, right = self.edges[: cells + 1].copy(), self.right[:cells].copy()
        last = cells - 1
        share = (end - edges[last]) / (edges[cells] - edges[last])
        right[last] = self.left[last] + share * (right[last] - self.left[last])
        edges[cells] = end
        return Curve.through(edges, self.left[:cells], right)

    def expected(self) -> float:
        """How many arrivals are expected over the whole curve."""
        return float(self.total[-1])

    def times(self, counts: Floats) -> Floats:
        """When the expected number of arrivals reaches each of `counts`, in seconds.

        `counts` float64[N] in `(0, expected()]`. Within a cell `left*x + slope*x^2/2 = rest` is
        solved in the form that loses no digits where the slope is small. A cell of rate 0 is
        never hit.
        """
        cell = np.searchsorted(self.total, counts, side="left") - 1
        np.clip(cell, 0, len(self.left) - 1, out=cell)
        left = self.left[cell]
        width = np.diff(self.edges)[cell]
        slope = (self.right[cell] - left) / width
        rest = counts - self.total[cell]
        root = np.sqrt(np.maximum(left * left + 2.0 * slope * rest, 0.0))
        into = np.minimum(2.0 * rest / (left + root), width)
        return np.asarray(self.edges[cell] + into, dtype=np.float64)
