"""The tables over time: pools, contents by job, channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import CATEGORIES, CAUSES, TIERS, Outputs
from dcsim.engine.border import ACCOUNTS
from dcsim.results.columns import by_name, names
from dcsim.results.series import SPARE, Bins, Series, categories

__all__ = ["channels_table", "contents_table", "tiers_table", "timeline_table"]

Ints = NDArray[np.int64]


def timeline_table(plan: Plan, series: Series) -> Any:
    """One row a pool and bin, in the order of the pools. Bytes, unless a name says otherwise.

    `weights` to `artifacts`, and `adapters` where jobs have any, are time-weighted means, which
    with `free` add up to `capacity`; `peak` is the most at any time of the bin; `demand` and
    `demand_peak` are mean and most with capacities lifted, but for what is cached in HBM, which
    makes room for anything; `taken` to `spilled` are the bytes of objects that came and went.
    """
    bins, pools = series.bins, len(plan.pools)
    row = np.repeat(np.arange(pools), len(bins))
    tier = np.array([TIERS.index(pool.tier) for pool in plan.pools], dtype=np.int64)
    columns: dict[str, Any] = {
        **_times(bins, pools),
        "pool": names(row, [pool.name for pool in plan.pools]),
        "tier": names(tier[row], TIERS),
        "capacity": series.capacity.ravel(),
        "capacity_low": series.capacity_low.ravel(),
        "capacity_high": series.capacity_high.ravel(),
    }
    for category, held in zip(categories(plan), series.held, strict=False):
        columns[category] = held.ravel()
    columns |= {
        "free": (series.capacity - series.held.sum(axis=0)).ravel(),
        "peak": series.peak.ravel(),
        "demand": series.demanded.ravel(),
        "demand_peak": series.demand_peak.ravel(),
        "shortfall": series.shortfall.ravel(),
        "headroom": series.headroom.ravel(),
    }
    for cause, flow in zip(CAUSES, series.flow, strict=True):
        columns[cause] = flow.ravel()
    return pa.table(columns)


def tiers_table(series: Series) -> Any:
    """One row a tier and bin: the most that all its pools hold together, as built and lifted."""
    row = np.repeat(np.arange(len(TIERS)), len(series.bins))
    return pa.table(
        {
            **_times(series.bins, len(TIERS)),
            "tier": names(row, TIERS),
            "peak": series.tier_peak.ravel(),
            "demand_peak": series.tier_demand_peak.ravel(),
        }
    )


def contents_table(plan: Plan, built: Outputs, lifted: Outputs) -> Any:
    """Whose bytes: one row a tier, category, job and bin that holds or demands any over the run.

    `mean_bytes` is the time-weighted mean as built, `demand_bytes` with capacities lifted; no
    demand is what is cached in HBM. Weights, live, transient and cached bytes of HBM go to the job
    whose replicas hold them.
    """
    bins = Bins.of(plan.scenario.duration, plan.scenario.bin)
    owners = list(dict.fromkeys([*plan.classes, *plan.services]))
    keys = _owner_keys(plan, built["accounts"], owners)
    groups, group = np.unique(keys, axis=0, return_inverse=True)
    sums = np.zeros((2, len(groups), len(bins)), dtype=np.int64)
    for total, outputs in zip(sums, (built, lifted), strict=True):
        np.add.at(total, group.ravel(), outputs["mean"])
    spare = (groups[:, 0] == TIERS.index("hbm")) & np.isin(groups[:, 1], SPARE)
    sums[1, spare] = 0
    used = sums.any(axis=(0, 2))
    row = np.repeat(np.arange(int(used.sum())), len(bins))
    tier, category, owner = groups[used].T
    return pa.table(
        {
            **_times(bins, int(used.sum())),
            "tier": names(tier[row], TIERS),
            "category": names(category[row], CATEGORIES),
            "job": names(owner[row], owners),
            "mean_bytes": sums[0, used].ravel(),
            "demand_bytes": sums[1, used].ravel(),
        }
    )


def _owner_keys(plan: Plan, accounts: Ints, owners: list[str]) -> Ints:
    """int64[A, 3]: tier, category and owner of each account."""
    tier = np.array([TIERS.index(pool.tier) for pool in plan.pools], dtype=np.int64)
    of_service = np.array([owners.index(name) for name in plan.services], dtype=np.int64)
    of_class = np.array([owners.index(name) for name in plan.classes], dtype=np.int64)
    of = by_name(accounts, ACCOUNTS)
    klass = of["class"]
    owner = np.where(klass >= 0, of_class[klass], of_service[of["service"]])
    return np.stack([tier[of["pool"]], of["category"], owner], axis=1)


def channels_table(plan: Plan, built: Outputs) -> Any:
    """One row a channel and bin: its bandwidth (bytes/s) and the bytes that it moved."""
    bins = Bins.of(plan.scenario.duration, plan.scenario.bin)
    row = np.repeat(np.arange(len(plan.channels)), len(bins))
    bandwidth = np.array([each.bandwidth for each in plan.channels], dtype=np.int64)
    return pa.table(
        {
            **_times(bins, len(plan.channels)),
            "channel": names(row, [channel.name for channel in plan.channels]),
            "bandwidth": bandwidth[row],
            "bytes": built["moved"].ravel(),
        }
    )


def _times(bins: Bins, repeats: int) -> dict[str, Ints]:
    return {"start_ns": np.tile(bins.start, repeats), "end_ns": np.tile(bins.end, repeats)}
