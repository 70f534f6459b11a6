"""Means and percentiles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PERCENTILES", "STATISTICS", "spread", "weighted_percentile"]

PERCENTILES = (50, 90, 95, 99)
STATISTICS = ("count", "mean", *(f"p{p}" for p in PERCENTILES), "max")
"""Keys of what `spread` gives."""


def spread(values: NDArray[np.int64]) -> dict[str, int] | None:
    """Count, mean, percentiles and greatest of some numbers; None if there are none.

    A percentile is by nearest rank: the least value that at least p % of them do not exceed.
    """
    if len(values) == 0:
        return None
    ranks = {f"p{p}": math.ceil(len(values) * p / 100) - 1 for p in PERCENTILES}
    placed = np.partition(values, sorted(set(ranks.values())))  # only these come to their places
    figures = {"count": len(values), "mean": round(float(values.mean()))}
    figures |= {name: int(placed[rank]) for name, rank in ranks.items()}
    return figures | {"max": int(values.max())}


def weighted_percentile(values: NDArray[Any], weights: NDArray[Any], p: float) -> int:
    """The least value that is not exceeded for at least p % of the weight (nearest rank)."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    row = int(np.searchsorted(total * 100, total[-1] * p, side="left"))
    return int(values[order][min(row, len(values) - 1)])
