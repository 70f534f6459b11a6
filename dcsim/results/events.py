"""The table of events: what control did, and what went wrong when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import CAUSES, EVENTS, Outputs
from dcsim.engine.border import ACCOUNTS
from dcsim.results.columns import by_name, names, optional
from dcsim.results.series import Series

__all__ = ["KINDS", "events_table"]

Ints = NDArray[np.int64]

_NOTED = ("evicted", "lost", "dropped", "spilled")
KINDS = (*EVENTS, *_NOTED, "shortfall")
"""The kinds of events."""


def events_table(plan: Plan, built: Outputs, series: Series) -> Any:
    """Events in order of time, then of kind, then of subject.

    - `loading`, `up`, `down` of a replica and `capacity` of a pool (`bytes`: the new one), at an
      instant (`end_ns` null);
    - `evicted`, `lost`, `dropped`, `spilled`: bytes of a job's objects at a pool within a bin;
    - `shortfall`: a stretch of bins in which the demand for a pool exceeds its capacity; `bytes`
      is the most by which it does.
    """
    subjects = [*plan.replicas, *(pool.name for pool in plan.pools)]
    blocks = [
        _control(built["events"], len(plan.replicas)),
        _flows(built, series, len(plan.replicas)),
        _shortfalls(series, len(plan.replicas)),
    ]
    rows = np.concatenate(blocks)
    rows = rows[np.lexsort((np.arange(len(rows)), rows[:, 3], rows[:, 2], rows[:, 0]))]
    start, end, kind, subject, klass, size = rows.T
    sized = kind != EVENTS.index("loading")
    sized &= (kind != EVENTS.index("up")) & (kind != EVENTS.index("down"))
    return pa.table(
        {
            "time_ns": start,
            "end_ns": optional(end, end >= 0),
            "kind": names(kind, KINDS),
            "subject": names(subject, subjects),
            "job": names(klass, plan.classes),
            "bytes": optional(size, sized),
        }
    )


def _control(events: Ints, replicas: int) -> Ints:
    """Rows of (start, end, kind, subject, class, bytes); -1 where there is none."""
    time, kind, subject, value = events.T  # as `CONTROL`
    none = np.full(len(events), -1, dtype=np.int64)
    at_pool = kind == EVENTS.index("capacity")
    return np.stack([time, none, kind, subject + replicas * at_pool, none, value], axis=1)


def _flows(built: Outputs, series: Series, replicas: int) -> Ints:
    noted = built["flow"][:, [CAUSES.index(cause) for cause in _NOTED]]
    account, cause, row = np.nonzero(noted)
    owners = by_name(built["accounts"][account], ACCOUNTS)
    pool, klass = owners["pool"], owners["class"]
    times = series.bins.start[row], series.bins.end[row]
    kind = cause + len(EVENTS)
    return np.stack([*times, kind, pool + replicas, klass, noted[account, cause, row]], axis=1)


def _shortfalls(series: Series, replicas: int) -> Ints:
    short = series.shortfall
    edges = np.diff(np.pad(short > 0, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    pool, first = np.nonzero(edges == 1)
    last = np.nonzero(edges == -1)[1] - 1
    worst = [int(short[p, a : b + 1].max()) for p, a, b in zip(pool, first, last, strict=True)]
    count = len(pool)
    return np.stack(
        [
            series.bins.start[first],
            series.bins.end[last],
            np.full(count, KINDS.index("shortfall")),
            pool + replicas,
            np.full(count, -1),
            np.array(worst, dtype=np.int64),
        ],
        axis=1,
    )
