"""Which tier useful context belongs in: the five-minute rule over what a run found useful."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.results import Results

__all__ = ["YEAR", "GapClass", "Place", "Prices", "Split", "split"]

Ints = NDArray[np.int64]

YEAR = 365 * 86_400 * 10**9
"""ns."""
_OPEN = 4
"""The last class has no end: it is taken to end at this many times its beginning, as others do."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What it costs to keep context, and to compute it again.

    `dram` and `nand` are USD a byte of capacity, which serves for `life` ns; `recompute` is USD to
    compute a byte of KV again. A drive of `capacity` bytes reads and writes as many bytes/s, and is
    rated at `dwpd` drive writes a day for its `warranty_years` (None: wear is left out).
    """

    dram: float
    nand: float
    recompute: float
    capacity: int
    read: int
    write: int
    dwpd: float | None = None
    warranty_years: float = 5
    life: int = 5 * YEAR

    @property
    def least_gap(self) -> float:
        """ns: the gap below which a drive is bought for its bandwidth or its wear, not its room.

        To write and to read a byte of each byte of a drive once takes `capacity / write` and
        `capacity / read` seconds, and so many writes as are rated last for the life of it.
        """
        busy = max(self.capacity / self.read, self.capacity / self.write) * 1e9
        if self.dwpd is None:
            return busy
        return max(busy, self.life / (self.dwpd * self.warranty_years * 365))

    def costs(self, gap: float) -> dict[str, float]:
        """USD for one reuse of a byte after `gap` ns, by place."""
        return {
            "dram": self.dram * gap / self.life,
            "nand": self.nand * max(gap, self.least_gap) / self.life,
            "recompute": self.recompute,
        }

    def break_even(self) -> dict[str, float | None]:
        """ns: the gaps at which two places cost the same; None where one is always cheaper."""
        worn = self.nand * self.least_gap / self.dram
        nand = self.recompute * self.life / self.nand
        return {
            "dram_nand": worn if self.dram > self.nand else None,
            "dram_recompute": self.recompute * self.life / self.dram,
            "nand_recompute": nand if nand >= self.least_gap else None,
        }


@dataclass(frozen=True)
class GapClass:
    """Useful context of one class of gaps: `gap_from_ns` to `gap_to_ns` (None: any longer).

    `costs` are USD a byte and reuse at `gap_ns`, the geometric middle; `place` is the cheapest.
    """

    gap_from_ns: int
    gap_to_ns: int | None
    gap_ns: float
    costs: dict[str, float]
    place: str
    useful_bytes: float
    reused_bytes: int


@dataclass(frozen=True)
class Place:
    """What falls to DRAM, to NAND or to computing again.

    `demand_mean` and `demand_peak` are useful bytes (mean over the run, most of a bin),
    `reused_bytes_per_s` how fast they are asked for, `capacity_bytes` what must be bought for room,
    bandwidth and wear, `usd` what that costs, or what computing again does over the life.
    """

    demand_mean: float
    demand_peak: int
    reused_bytes_per_s: float
    capacity_bytes: int
    usd: float


@dataclass(frozen=True)
class Split:
    """Useful context over DRAM, NAND and computing it again."""

    break_even_ns: dict[str, float | None]
    least_gap_ns: float
    classes: tuple[GapClass, ...]
    places: dict[str, Place]

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


def split(results: Results, prices: Prices) -> Split:
    """Puts each class of gaps where a reuse costs least, and adds up what falls to each place.

    Demand is that of the pass with capacities lifted. Prices need no new run: a place is a sum of
    columns of the table `useful`. Raises ValueError where the run kept no account of reuse.
    """
    if "useful" not in results.tables:
        raise ValueError("no job of this run has `keep.reuse`: nothing is used again")
    table = results.arrays("useful")
    duration = results.summary["duration_ns"]
    bins = -(-duration // results.summary["bin_ns"])
    length = (table["end_ns"] - table["start_ns"])[:bins].astype(np.float64)
    start, end = table["gap_from_ns"], table["gap_to_ns"]
    useful = table["useful_demand_bytes"].reshape(-1, bins)
    reused = table["reused_demand_bytes"].reshape(-1, bins)
    classes = []
    held: dict[str, Ints] = {}
    asked = dict.fromkeys(("dram", "nand", "recompute"), 0)
    for low in np.unique(start).tolist():
        mine = start[::bins] == low
        high = end[::bins][mine][0]
        top = None if np.isnan(float(high)) else int(high)
        gap = _middle(low, top)
        costs = prices.costs(gap)
        place = min(costs, key=lambda name: costs[name])
        bytes_held, bytes_asked = useful[mine].sum(axis=0), int(reused[mine].sum())
        mean = float(np.average(bytes_held, weights=length))
        classes.append(GapClass(low, top, gap, costs, place, mean, bytes_asked))
        held[place] = held.get(place, 0) + bytes_held
        asked[place] += bytes_asked
    nothing = np.zeros(bins, dtype=np.int64)
    places = {
        name: _place(prices, name, held.get(name, nothing), length, asked[name], duration)
        for name in asked
    }
    return Split(prices.break_even(), prices.least_gap, tuple(classes), places)


def _middle(low: int, high: int | None) -> float:
    """The geometric middle of a class of gaps; half of its end where it begins at 0."""
    high = _OPEN * low if high is None else high
    return high / 2 if low == 0 else float(np.sqrt(float(low) * float(high)))


def _place(
    prices: Prices, name: str, held: Ints, length: NDArray[np.float64], asked: int, duration: int
) -> Place:
    mean, peak = float(np.average(held, weights=length)), int(held.max(initial=0))
    rate = asked / (duration / 1e9)
    if name == "recompute":
        return Place(mean, peak, rate, 0, prices.recompute * asked * prices.life / duration)
    least = prices.least_gap if name == "nand" else 0.0
    capacity = max(peak, round(rate * least / 1e9))
    return Place(mean, peak, rate, capacity, capacity * getattr(prices, name))
