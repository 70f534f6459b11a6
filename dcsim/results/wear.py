"""What is written to NAND, what for, and how long the drives stand it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan, PoolInfo
from dcsim.engine import CATEGORIES, CAUSES, Outputs
from dcsim.engine.border import ACCOUNTS
from dcsim.results.columns import by_name, names
from dcsim.results.series import Bins, Series

__all__ = ["DAY", "WRITTEN", "YEAR_DAYS", "wear_figures", "wear_table"]

Ints = NDArray[np.int64]

DAY = 86_400 * 10**9
"""ns."""
YEAR_DAYS = 365
"""Days of a year of warranty. A 25.6 TB Micron 9550 MAX is rated at 3 drive writes a day and at
140,160 TB: 5 years of 365 days (storagesserver.com review of the drive)."""

WRITTEN = ("artifacts", "contexts", "reused")
"""What is written: finished clips; contexts of jobs that only keep them; those of jobs with
`keep.reuse`, written through or back, and adapters. Weights are not: their checkpoints lie there
when a run begins."""


def wear_figures(plan: Plan, built: Outputs, series: Series) -> dict[str, Any]:
    """The wear of all NAND pools, and of each that has drives.

    What the flash takes is what is written times the write amplification. It stands
    `capacity * dwpd * rated amplification` a day for the years of the warranty; a lifetime is that
    endurance over the pace of this run, as if it went on for ever, None where the rating is unknown
    or nothing is written.
    """
    rows = _rows(plan, series)
    written = _written(plan, built).sum(axis=1)
    taken = _taken(plan, built).sum(axis=2)
    days = plan.scenario.duration / DAY
    capacity = {row: int(series.capacity_high[row].max()) for row in rows}
    pools = {
        plan.pools[row].name: _pool(plan.pools[row], int(written[row]), capacity[row], days)
        | {"bytes_taken": dict(zip(WRITTEN, taken[:, row].tolist(), strict=True))}
        for row in rows
    }
    lives = {name: wear["lifetime_years"] for name, wear in pools.items()}
    known = {name: years for name, years in lives.items() if years is not None}
    total, whole = int(written[rows].sum()), sum(capacity.values())
    return {
        "bytes_written": total,
        "flash_bytes_written": sum(wear["flash_bytes_written"] for wear in pools.values()),
        "drive_writes_per_day": total / days / whole if whole else None,
        "lifetime_years": min(known.values(), default=None),
        "first_worn_out": min(known, key=lambda name: known[name], default=None),
        "pools": pools,
    }


def _pool(pool: PoolInfo, written: int, capacity: int, days: float) -> dict[str, Any]:
    actual, wear = written / days / capacity, pool.wear
    sustained = None if wear is None else wear.sustained
    used = None
    if wear is not None and sustained:
        used = actual * days / (sustained * wear.years * YEAR_DAYS)
    return {
        "bytes_written": written,
        "flash_bytes_written": written if wear is None else round(written * wear.amplification),
        "drive_writes_per_day": actual,
        "rated_drive_writes_per_day": None if wear is None else wear.dwpd,
        "sustained_drive_writes_per_day": sustained,
        "budget_drive_writes_per_day": None if wear is None else wear.budget,
        "endurance_used": used,
        "lifetime_years": days / YEAR_DAYS / used if used else None,
    }


def wear_table(plan: Plan, built: Outputs, series: Series) -> Any:
    """One row a NAND pool that has drives and bin, bytes.

    `artifacts` to `reused`: taken, to be written; `written` by then; `flash`: what the flash took;
    `rated` and `budget`: what the rating and the write budget allow in the bin, null without any.
    """
    rows, bins = _rows(plan, series), series.bins
    written, taken = _written(plan, built), _taken(plan, built)
    wear = [plan.pools[row].wear for row in rows]
    days = bins.length / DAY
    paces = {
        "rated": [None if each is None else each.sustained for each in wear],
        "budget": [None if each is None else each.budget for each in wear],
    }
    flash = [
        written[row] if each is None else np.rint(written[row] * each.amplification)
        for row, each in zip(rows, wear, strict=True)
    ]
    return pa.table(
        {
            "start_ns": np.tile(bins.start, len(rows)),
            "end_ns": np.tile(bins.end, len(rows)),
            "pool": names(np.repeat(rows, len(bins)), [pool.name for pool in plan.pools]),
            **{name: taken[row, rows].ravel() for row, name in enumerate(WRITTEN)},
            "written": written[rows].ravel(),
            "flash": _joined(flash),
            **{name: _allowed(series, rows, pace, days) for name, pace in paces.items()},
        }
    )


def _allowed(series: Series, rows: Ints, pace: list[float | None], days: NDArray[Any]) -> Any:
    """Bytes within each bin at so many drive writes a day, null where there is no such pace."""
    columns = []
    for row, each in zip(rows.tolist(), pace, strict=True):
        if each is None:
            columns.append(pa.nulls(len(days), pa.int64()))
        else:
            allowed = np.rint(series.capacity_high[row].max() * each * days)
            columns.append(pa.array(allowed.astype(np.int64)))
    return pa.chunked_array(columns, pa.int64()).combine_chunks()


def _joined(parts: list[NDArray[Any]]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)


def _rows(plan: Plan, series: Series) -> Ints:
    """Rows of the NAND pools that have drives."""
    nand = np.array([pool.tier == "nand" for pool in plan.pools], dtype=np.bool_)
    return np.flatnonzero(nand & (series.capacity_high > 0).any(axis=1))


def _written(plan: Plan, built: Outputs) -> Ints:
    """Bytes that have come over the channels of each pool that write it, int64[P, B]."""
    moved = built["moved"]
    written = np.zeros((len(plan.pools), moved.shape[1]), dtype=np.int64)
    for channel, row in zip(plan.channels, moved, strict=True):
        if channel.nand_pool is not None:
            written[channel.nand_pool] += row
    return written


def _taken(plan: Plan, built: Outputs) -> Ints:
    """Bytes that each pool took, by what they are for, int64[3, P, B]: written since, or on their
    way there."""
    of = by_name(built["accounts"], ACCOUNTS)
    reuses = [plan.scenario.jobs[name].keep.reuse is not None for name in plan.classes]
    again = np.array([*reuses, False])[of["class"]]
    again |= of["category"] == CATEGORIES.index("adapters")
    contexts = np.where(again, 2, 1)
    kind = np.where(of["category"] == CATEGORIES.index("artifacts"), 0, contexts)
    flow = built["flow"][:, CAUSES.index("taken")]
    bins = len(Bins.of(plan.scenario.duration, plan.scenario.bin))
    taken = np.zeros((len(WRITTEN), len(plan.pools), bins), dtype=np.int64)
    np.add.at(taken, (kind, of["pool"]), flow)
    return taken
