"""Occupancy, demand, shortfall and wear by tier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import CATEGORIES, CAUSES, TIERS, Outputs
from dcsim.results.series import Bins, Series
from dcsim.results.statistics import weighted_percentile

__all__ = ["DAY", "WARRANTY_YEARS", "tier_figures"]

Ints = NDArray[np.int64]

DAY = 86_400 * 10**9
"""ns."""

WARRANTY_YEARS = 5
"""Years over which rated drive writes per day hold. A 25.6 TB Micron 9550 MAX is rated at 3 drive
writes per day and at 140,160 TB written: 5 years (storagesserver.com review of the drive)."""


def tier_figures(plan: Plan, built: Outputs, series: Series) -> dict[str, Any]:
    """By tier: capacity, occupancy, demand, shortfall, flows; for NAND also wear. Bytes and ns.

    Means and the 95th percentile are over time, of the bins' means. Pools of a tier are added up.
    `peak` is the most that all hold together at any time, `pools_peak` the sum of each pool's own
    peak, whenever it comes. A shortfall is that of a pool, since none can use the room of another.
    What is cached in HBM makes room for anything, so it is told by category alone.
    """
    return {tier: _figures(plan, built, series, tier) for tier in TIERS}


def _figures(plan: Plan, built: Outputs, series: Series, tier: str) -> dict[str, Any]:
    row = TIERS.index(tier)
    rows = [pool for pool, each in enumerate(plan.pools) if each.tier == tier]
    capacity = series.capacity[rows].sum(axis=0)
    held, demand = series.held[:, rows].sum(axis=1), series.demand[:, rows].sum(axis=1)
    occupied, demanded = series.occupied[rows].sum(axis=0), series.demanded[rows].sum(axis=0)
    figures: dict[str, Any] = {
        "pools": len(rows),
        "capacity": sum(plan.pools[row].capacity for row in rows),
        "capacity_least": int(series.capacity_low[rows].sum(axis=0).min()),
        "occupancy": _over_time(occupied, series.tier_peak[row], series.peak[rows], series.bins),
        "demand": _over_time(
            demanded, series.tier_demand_peak[row], series.demand_peak[rows], series.bins
        ),
        "utilisation": _ratio(_mean(occupied, series.bins), _mean(capacity, series.bins)),
        "occupancy_by_category": _by_category(held, series.bins),
        "demand_by_category": _by_category(demand, series.bins),
        **_shortfall(plan, series, rows),
        "flows": dict(zip(CAUSES, series.flow[:, rows].sum(axis=(1, 2)).tolist(), strict=True)),
    }
    if tier == "nand":
        figures["wear"] = _wear(plan, built, series, rows)
    return figures


def _mean(values: Ints, bins: Bins) -> float:
    return float(np.average(values.astype(np.float64), weights=bins.length.astype(np.float64)))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _over_time(mean: Ints, peak: Ints, pools: Ints, bins: Bins) -> dict[str, int]:
    """Of a tier's means and peaks int64[B] and those of its pools int64[P, B]."""
    return {
        "mean": round(_mean(mean, bins)),
        "p95": weighted_percentile(mean, bins.length, 95),
        "peak": int(peak.max()),
        "pools_peak": int(pools.max(axis=1, initial=0).sum()),
    }


def _by_category(held: Ints, bins: Bins) -> dict[str, int]:
    return {
        category: round(_mean(each, bins)) for category, each in zip(CATEGORIES, held, strict=True)
    }


def _shortfall(plan: Plan, series: Series, rows: list[int]) -> dict[str, Any]:
    short = series.shortfall[rows]
    figures: dict[str, Any] = {
        "shortfall_peak": int(short.sum(axis=0).max()),
        "first_shortfall_ns": None,
        "first_shortfall_pool": None,
        "first_shortfall_pool_peak": None,
        "first_shortfall_pool_ns": None,
    }
    if short.any():
        first = int(np.argmax(short.any(axis=0)))
        pool = int(np.argmax(short[:, first]))
        figures["first_shortfall_ns"] = int(series.bins.start[first])
        figures["first_shortfall_pool"] = plan.pools[rows[pool]].name
        figures["first_shortfall_pool_peak"] = int(short[pool].max())
        figures["first_shortfall_pool_ns"] = int(series.bins.length[short[pool] > 0].sum())
    return figures


def _wear(plan: Plan, built: Outputs, series: Series, rows: list[int]) -> dict[str, Any]:
    """NAND bytes written, as drive writes per day of the capacity, and years until worn out.

    Lifetime is `WARRANTY_YEARS * rated / actual` drive writes per day, as if the run went on for
    ever; None where the rating is unknown or nothing is written.
    """
    written = dict.fromkeys(rows, 0)
    for channel, moved in zip(plan.channels, built["moved"].sum(axis=1).tolist(), strict=True):
        if channel.nand_pool is not None:
            written[channel.nand_pool] += moved
    days = plan.scenario.duration / DAY
    pools = {
        plan.pools[row].name: _pool_wear(
            written[row], int(series.capacity_high[row].max()), days, plan.pools[row].dwpd
        )
        | {"bytes_taken": _taken(built, row)}
        for row in rows
        if series.capacity_high[row].any()
    }
    lives = {name: wear["lifetime_years"] for name, wear in pools.items()}
    known = {name: years for name, years in lives.items() if years is not None}
    capacity = int(series.capacity_high[rows].max(axis=1, initial=0).sum())
    return {
        "bytes_written": sum(written.values()),
        "drive_writes_per_day": _ratio(sum(written.values()) / days, capacity),
        "lifetime_years": min(known.values(), default=None),
        "first_worn_out": min(known, key=lambda name: known[name], default=None),
        "pools": pools,
    }


def _taken(built: Outputs, pool: int) -> dict[str, int]:
    """Bytes that a pool took, by category: written, or under way to it when the run ended."""
    mine = built["accounts"][:, 0] == pool
    total = built["flow"][:, CAUSES.index("taken")].sum(axis=1)
    return {
        category: int(total[mine & (built["accounts"][:, 1] == CATEGORIES.index(category))].sum())
        for category in ("cache", "artifacts")
    }


def _pool_wear(written: int, capacity: int, days: float, rated: float | None) -> dict[str, Any]:
    actual = written / days / capacity
    known = rated is not None and actual > 0
    return {
        "bytes_written": written,
        "drive_writes_per_day": actual,
        "rated_drive_writes_per_day": rated,
        "lifetime_years": WARRANTY_YEARS * rated / actual if known and rated else None,
    }
