"""What the pools held over time: the engine's accounts, added up by pool and category."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import CATEGORIES, CAUSES, EVENTS, Outputs
from dcsim.engine.border import ACCOUNTS, CONTROL
from dcsim.results.columns import by_name

__all__ = ["Bins", "Series", "categories", "pool_series"]

Ints = NDArray[np.int64]


SPARE = [CATEGORIES.index(category) for category in ("cache", "adapters")]
"""What is cached in HBM."""


def categories(plan: Plan) -> tuple[str, ...]:
    """The categories that there are in a run: adapters where jobs have any."""
    return CATEGORIES if "brought" in plan.tables else CATEGORIES[: CATEGORIES.index("adapters")]


@dataclass(frozen=True)
class Bins:
    """The B bins of a timeline: `start` and `end`, int64[B], ns; the last ends at the horizon."""

    start: Ints
    end: Ints

    @classmethod
    def of(cls, horizon: int, width: int) -> Bins:
        """Bins of `width` ns up to `horizon` ns, both > 0."""
        start = np.arange(0, horizon, width, dtype=np.int64)
        return cls(start, np.minimum(start + width, horizon))

    @property
    def length(self) -> Ints:
        """ns, int64[B]."""
        return self.end - self.start

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True)
class Series:
    """Bytes in P pools and T tiers over B bins, with C categories and F causes of flow, all int64.

    `held` [C, P, B]: time-weighted means as built; `peak` [P, B]: the most at any time of a bin;
    `demand` and `demand_peak`: the same with capacities lifted; `tier_peak` and `tier_demand_peak`
    [T, B]: the most that all pools of a tier hold together at any time of a bin; `flow` [F, P, B]:
    bytes taken and given up, as built. `capacity` [P, B]: its time-weighted mean, `capacity_low`
    and `capacity_high` its extremes within a bin. `slack` [P]: whether what is cached in the pool
    makes room for anything at no cost (HBM); then it is in `held`, but neither occupies nor is
    demanded.
    """

    bins: Bins
    held: Ints
    peak: Ints
    demand: Ints
    demand_peak: Ints
    tier_peak: Ints
    tier_demand_peak: Ints
    flow: Ints
    capacity: Ints
    capacity_low: Ints
    capacity_high: Ints
    slack: NDArray[np.bool_]

    @property
    def occupied(self) -> Ints:
        """int64[P, B]: means held as built, but for what is cached in the slack."""
        return self._firm(self.held)

    @property
    def demanded(self) -> Ints:
        """int64[P, B]: the same with capacities lifted."""
        return self._firm(self.demand)

    def _firm(self, held: Ints) -> Ints:
        return np.asarray(held.sum(axis=0) - held[SPARE].sum(axis=0) * self.slack[:, None])

    @property
    def shortfall(self) -> Ints:
        """int64[P, B]: by how much the peak of demand exceeds the least capacity of a bin."""
        return np.asarray(np.maximum(self.demand_peak - self.capacity_low, 0))

    @property
    def headroom(self) -> Ints:
        """int64[P, B]: by how much the least capacity of a bin exceeds the peak of demand."""
        return np.asarray(np.maximum(self.capacity_low - self.demand_peak, 0))


def pool_series(plan: Plan, built: Outputs, lifted: Outputs) -> Series:
    """The series of a run, from the two outputs of the engine on the same requests."""
    bins = Bins.of(plan.scenario.duration, plan.scenario.bin)
    pools = len(plan.pools)
    mean, low, high = _capacities(plan, built["events"], bins)
    flow = np.zeros((pools, len(CAUSES), len(bins)), dtype=np.int64)
    np.add.at(flow, by_name(built["accounts"], ACCOUNTS)["pool"], built["flow"])
    return Series(
        bins=bins,
        held=_by_pool(built, pools, len(bins)),
        peak=built["top"],
        demand=_by_pool(lifted, pools, len(bins)),
        demand_peak=lifted["top"],
        tier_peak=built["tier_top"],
        tier_demand_peak=lifted["tier_top"],
        flow=np.moveaxis(flow, 1, 0),
        capacity=mean,
        capacity_low=low,
        capacity_high=high,
        slack=np.array([pool.tier == "hbm" for pool in plan.pools], dtype=np.bool_),
    )


def _by_pool(outputs: Outputs, pools: int, bins: int) -> Ints:
    held = np.zeros((len(CATEGORIES), pools, bins), dtype=np.int64)
    accounts = by_name(outputs["accounts"], ACCOUNTS)
    np.add.at(held, (accounts["category"], accounts["pool"]), outputs["mean"])
    return held


def _capacities(plan: Plan, events: Ints, bins: Bins) -> tuple[Ints, Ints, Ints]:
    """Mean, least and greatest capacity, int64[P, B] each."""
    first = np.array([pool.capacity for pool in plan.pools], dtype=np.int64)
    mean = np.repeat(first[:, None], len(bins), axis=1)
    low, high = mean.copy(), mean.copy()
    kind = by_name(events, CONTROL)["kind"]
    changes = by_name(events[kind == EVENTS.index("capacity")], CONTROL)
    for pool in np.unique(changes["subject"]).tolist():
        mine = changes["subject"] == pool
        times, values = changes["time"][mine], changes["value"][mine]
        steps = _steps(int(first[pool]), times, values, int(bins.end[-1]))
        for row, (start, end) in enumerate(zip(bins.start, bins.end, strict=True)):
            inside = [
                (min(e, end) - max(s, start), c) for s, e, c in steps if s < end and e > start
            ]
            mean[pool, row] = sum(int(width) * c for width, c in inside) // int(end - start)
            low[pool, row] = min(c for _, c in inside)
            high[pool, row] = max(c for _, c in inside)
    return mean, low, high


def _steps(first: int, times: Ints, values: Ints, horizon: int) -> list[tuple[int, int, int]]:
    """Stretches (start, end, capacity) of positive length, in order."""
    starts = [0, *times.tolist()]
    ends = [*times.tolist(), horizon]
    capacities = [first, *values.tolist()]
    stretches = zip(starts, ends, capacities, strict=True)
    return [(start, end, capacity) for start, end, capacity in stretches if end > start]
