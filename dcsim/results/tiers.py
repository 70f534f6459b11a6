"""Occupancy, demand, shortfall and wear by tier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import CAUSES, TIERS, Outputs
from dcsim.results.series import Bins, Series, categories
from dcsim.results.statistics import weighted_percentile
from dcsim.results.wear import wear_figures

__all__ = ["tier_figures"]

Ints = NDArray[np.int64]


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
        "occupancy_by_category": _by_category(plan, held, series.bins),
        "demand_by_category": _by_category(plan, demand, series.bins),
        **_shortfall(plan, series, rows),
        "flows": dict(zip(CAUSES, series.flow[:, rows].sum(axis=(1, 2)).tolist(), strict=True)),
    }
    if tier == "nand":
        figures["wear"] = wear_figures(plan, built, series)
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


def _by_category(plan: Plan, held: Ints, bins: Bins) -> dict[str, int]:
    named = zip(categories(plan), held, strict=False)
    return {category: round(_mean(each, bins)) for category, each in named}


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
