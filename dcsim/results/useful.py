"""What kept context is used again, by how long it waits for that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import CATEGORIES, Outputs
from dcsim.engine.border import ACCOUNTS
from dcsim.results.columns import by_name, names
from dcsim.results.series import Bins

__all__ = ["kept_and_useful", "useful_table"]

Ints = NDArray[np.int64]


def useful_table(plan: Plan, built: Outputs, lifted: Outputs) -> Any:
    """One row a job, class of gaps and bin, of those that occur in the run.

    `useful` is a mean over the bin of bytes between two uses, `reused` what was asked for again in
    it; `..._demand_bytes` are those with capacities lifted.
    """
    bins = Bins.of(plan.scenario.duration, plan.scenario.bin)
    columns = {
        "useful_bytes": built["useful"],
        "useful_demand_bytes": lifted["useful"],
        "reused_bytes": built["reused"],
        "reused_demand_bytes": lifted["reused"],
    }
    used = np.any([column.any(axis=2) for column in columns.values()], axis=0)
    job, gap = np.nonzero(used)
    edges = np.array([0, *plan.fixed["gaps"].tolist(), 0], dtype=np.int64)
    row = np.repeat(np.arange(len(job)), len(bins))
    last = gap[row] == len(edges) - 2
    return pa.table(
        {
            "start_ns": np.tile(bins.start, len(job)),
            "end_ns": np.tile(bins.end, len(job)),
            "job": names(job[row], list(plan.classes)),
            "gap_from_ns": edges[gap[row]],
            "gap_to_ns": pa.array(edges[gap[row] + 1], mask=last),
            **{name: column[used].ravel() for name, column in columns.items()},
        }
    )


def kept_and_useful(plan: Plan, built: Outputs, klass: int) -> dict[str, int]:
    """Mean bytes of a job's context over the run: kept below HBM, and useful."""
    length = Bins.of(plan.scenario.duration, plan.scenario.bin).length
    accounts = by_name(built["accounts"], ACCOUNTS)
    below = np.array([pool.tier != "hbm" for pool in plan.pools])[accounts["pool"]]
    mine = (
        below & (accounts["category"] == CATEGORIES.index("cache")) & (accounts["class"] == klass)
    )
    kept, useful = built["mean"][mine].sum(axis=0), built["useful"][klass].sum(axis=0)
    means = (np.average(each.astype(np.float64), weights=length) for each in (kept, useful))
    return dict(zip(("kept_bytes", "useful_bytes"), map(round, means), strict=True))
