"""The timeline as arrays of P pools by B bins."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.engine import CATEGORIES
from dcsim.results import Results
from dcsim.testing.rows import Rows

__all__ = ["OUT", "Grid"]

Ints = NDArray[np.int64]
OUT = ("moved", "expired", "evicted", "lost")
"""Causes by which bytes leave a pool."""


class Grid:
    """The timeline of a result. Raises AssertionError unless its bins tile the run."""

    def __init__(self, results: Results) -> None:
        self.rows = Rows(results, "timeline")
        self.duration = int(results.summary["duration_ns"])
        start, end = self.rows.ints("start_ns"), self.rows.ints("end_ns")
        law = "the bins of every pool tile the run"
        self.pools = int((start == 0).sum())
        bins = len(start) // max(self.pools, 1)
        first = np.zeros(len(start), dtype=np.bool_)
        first[::bins] = True
        last = np.roll(first, -1)
        self.rows.hold(law, (start == 0) == first, bins_a_pool=bins)
        self.rows.hold(law, first | (start == np.roll(end, 1)), before_ends=np.roll(end, 1))
        self.rows.hold(law, (end > start) & (~last | (end == self.duration)), run=self.duration)
        self.shape = (self.pools, bins)
        self.start, self.end = start[:bins], end[:bins]

    def __getitem__(self, column: str) -> Ints:
        """A column as int64[P, B]; without adapters theirs is 0."""
        if column == "adapters" and column not in self.rows.table.column_names:
            return np.zeros(self.shape, dtype=np.int64)
        return self.rows.ints(column).reshape(self.shape)

    @cached_property
    def tier(self) -> NDArray[Any]:
        """Tier of each pool."""
        return self.rows.words("tier")[:: self.shape[1]]

    @cached_property
    def pool(self) -> list[str]:
        """Name of each pool."""
        return [str(name) for name in self.rows.words("pool")[:: self.shape[1]]]

    @cached_property
    def held(self) -> Ints:
        """Mean bytes held, all categories, int64[P, B]."""
        return np.asarray(sum(self[category] for category in CATEGORIES))

    @cached_property
    def again(self) -> Ints:
        """Mean bytes held of what is used again, contexts and adapters, int64[P, B]."""
        return np.asarray(self["cache"] + self["adapters"])

    @cached_property
    def firm(self) -> Ints:
        """The same but for what is cached in HBM, which makes room for anything, int64[P, B]."""
        return np.asarray(self.held - self.again * (self.tier == "hbm")[:, None])

    @cached_property
    def objects(self) -> Ints:
        """Bytes of objects held at the end of each bin, by the flows, int64[P, B]."""
        freed = sum(self[cause] for cause in OUT)
        return np.asarray(np.cumsum(self["taken"] - freed, axis=1))

    def bin_of(self, times: Ints) -> Ints:
        """The bin of each time; that of the end of the run is the last."""
        return np.minimum(np.searchsorted(self.end, times, side="right"), self.shape[1] - 1)

    def hold(self, law: str, ok: NDArray[np.bool_], **numbers: Any) -> None:
        """As `Rows.hold`, of arrays [P, B]."""
        flat = {k: v if np.ndim(v) == 0 else np.ravel(v) for k, v in numbers.items()}
        self.rows.hold(law, np.ravel(ok), **flat)
