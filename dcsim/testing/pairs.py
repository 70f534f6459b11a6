"""The laws of two results: what must be equal, and what may only grow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsim.assembly import Plan
from dcsim.engine import CATEGORIES, CAUSES, TIERS
from dcsim.planning import run
from dcsim.results import Results
from dcsim.testing.grid import Grid
from dcsim.testing.rows import Rows, fail, must_equal

__all__ = [
    "check_bins",
    "check_deterministic",
    "check_longer",
    "check_more_hbm",
    "check_room",
    "check_same",
    "check_same_requests",
]

CLOCKS = ("wall_seconds", "requests_per_second")
ASKED = ("after", "prompt_tokens", "output_tokens", "width", "height", "frames", "steps")
TIMES = ("arrival_ns", "start_ns", "first_ns", "end_ns")


def check_same(first: Results, second: Results) -> None:
    """Two results are equal to the last byte: tables, summary (but for wall time), manifest."""
    must_equal("the tables are the same", "the results",
               first=sorted(first.tables), second=sorted(second.tables))  # fmt: skip
    for name in sorted(first.tables):
        _same_table(name, first.tables[name], second.tables[name])
    _same_tree("summary", _without_clocks(first.summary), _without_clocks(second.summary))
    _same_tree("manifest", first.manifest, second.manifest)


def check_deterministic(plan: Plan) -> Results:
    """The same input gives the same bytes: runs the plan twice. Returns one of the results."""
    first, second = run(plan), run(plan)
    check_same(first, second)
    return first


def check_same_requests(
    first: Results, second: Results, *, jobs: Iterable[str] | None = None
) -> None:
    """Two variants see the same requests (common random numbers), all or those of some `jobs`.

    True of variants that change neither the arrivals nor the shapes of those jobs, nor the seed
    and the duration; whatever else they change, add or take away.
    """
    left, right = Rows(first, "requests"), Rows(second, "requests")
    names = set(first.summary["jobs"]) & set(second.summary["jobs"]) if jobs is None else set(jobs)
    if jobs is None:
        must_equal("the job classes are the same", "the summaries",
                   first=sorted(first.summary["jobs"]),
                   second=sorted(second.summary["jobs"]))  # fmt: skip
    for name in sorted(names):
        mine = [np.nonzero(rows.words("job") == name)[0] for rows in (left, right)]
        must_equal("variants see the same requests", f"job {name}",
                   first=len(mine[0]), second=len(mine[1]))  # fmt: skip
        alone = ~left.there("after")[mine[0]]  # a turn comes when the one before it has ended
        for column in (*ASKED, "arrival_ns"):
            a, b = left.ints(column)[mine[0]], right.ints(column)[mine[1]]
            if column == "after":  # rows of the class, whatever other classes there are
                a, b = (np.searchsorted(of, each) for of, each in zip(mine, (a, b), strict=True))
            wrong = np.nonzero((a != b) & (alone if column == "arrival_ns" else True))[0]
            if len(wrong):
                at = int(wrong[0])
                fail("variants see the same requests", f"request {at} of job {name}, {column}",
                     {"first": a[at], "second": b[at]})  # fmt: skip


def check_longer(short: Results, long: Results) -> None:
    """The future does not change the past: a longer run repeats a shorter one.

    `long` is the same scenario with a greater duration (bins of the same width). What has
    happened before the end of `short` is the same in both: arrivals, times, outcomes of what has
    ended, and all bins but the last. True where neither rate curves nor operations refer to the
    duration, as none do when written with times.
    """
    end = int(short.summary["duration_ns"])
    must_equal("bins are of one width", "the summaries",
               short=short.summary["bin_ns"], long=long.summary["bin_ns"])  # fmt: skip
    rows, later = Rows(short, "requests"), Rows(long, "requests")
    came = _begun(later) < end
    law = "a longer run repeats a shorter one"
    must_equal(law, "the requests", short=len(rows), long=int(came.sum()))
    rows.hold(law, rows.words("job") == later.words("job")[came], long=later.words("job")[came])
    for column in (*ASKED, *TIMES):
        mine, theirs = rows.ints(column), later.ints(column)[came]
        there, known = rows.there(column), later.there(column)[came]
        if column in TIMES:
            known &= theirs <= end
        rows.hold(f"{law}, {column}", there == known, long_known=known)
        rows.hold(f"{law}, {column}", ~there | (mine == theirs), short=mine, long=theirs)
    ended = np.isin(rows.words("outcome"), ("completed", "rejected", "abandoned"))
    for column in ("outcome", "replica"):
        theirs = later.words(column)[came]
        rows.hold(f"{law}, {column}", ~ended | (rows.words(column) == theirs), long=theirs)
    _same_start(law, Grid(short), Grid(long))


def _begun(rows: Rows) -> NDArray[np.int64]:
    """When each request, or the session of which it is a turn, arrives."""
    first = np.where(rows.there("after"), rows.ints("after"), np.arange(len(rows)))
    while not np.array_equal(first, first[first]):
        first = first[first]
    return np.asarray(rows.ints("arrival_ns")[first])


def _same_start(law: str, short: Grid, long: Grid) -> None:
    must_equal(law, "the pools", short=short.pool, long=long.pool)
    whole = short.shape[1] - 1
    columns = [*CATEGORIES, *CAUSES, "capacity", "peak", "demand", "demand_peak", "shortfall"]
    for column in columns:
        mine, theirs = short[column].copy(), short[column].copy()
        theirs[:, :whole] = long[column][:, :whole]
        short.hold(f"{law}, {column}", mine == theirs, short=mine, long=theirs)


def check_bins(fine: Results, coarse: Results) -> None:
    """The width of the bins changes nothing but the timeline, which only gets coarser.

    `coarse` is the same scenario as `fine` with bins that are each some whole bins of it. The
    requests are equal; flows add up; the greatest of the peaks is the peak; the mean of the means
    is the mean, but for the rounding of each. Raises ValueError where the bins do not nest.
    """
    _same_table("requests", fine.tables["requests"], coarse.tables["requests"])
    a, b = Grid(fine), Grid(coarse)
    must_equal("the pools are the same", "the timelines", fine=a.pool, coarse=b.pool)
    if not np.isin(b.start, a.start).all():
        raise ValueError("the coarse bins are not made of whole fine ones")
    first = np.searchsorted(a.start, b.start)
    for cause in CAUSES:
        added = np.add.reduceat(a[cause], first, axis=1)
        b.hold(f"flows add up over bins, {cause}", b[cause] == added, coarse=b[cause], fine=added)
    for peak in ("peak", "demand_peak", "capacity_high"):
        top = np.maximum.reduceat(a[peak], first, axis=1)
        b.hold(f"the peak is the greatest of the peaks, {peak}", b[peak] == top,
               coarse=b[peak], fine=top)  # fmt: skip
    one, other = Rows(fine, "tiers"), Rows(coarse, "tiers")
    for peak in ("peak", "demand_peak"):
        tops = one.ints(peak).reshape(len(TIERS), -1)
        top = np.maximum.reduceat(tops, first, axis=1).ravel()
        other.hold(f"the peak of a tier is the greatest of its peaks, {peak}",
                   other.ints(peak) == top, coarse=other.ints(peak), fine=top)  # fmt: skip
    width = (a.end - a.start).astype(object)
    accounts = 4 * (len(fine.summary["jobs"]) + 1)  # each is rounded down, in fine and in coarse
    for column in (*CATEGORIES, "demand"):
        total = np.add.reduceat(a[column].astype(object) * width, first, axis=1)
        mean = total // (b.end - b.start).astype(object)
        gap = b[column].astype(object) - mean
        b.hold(f"the mean of the means is the mean, {column}",
               np.asarray(np.abs(gap) <= accounts, dtype=np.bool_),
               coarse=b[column], fine=mean)  # fmt: skip


def check_more_hbm(less: Results, more: Results) -> None:
    """A request that fits a replica fits one with more HBM.

    `more` is `less` with more HBM in some GPUs, or larger replicas' pools otherwise, and the same
    requests: what it rejects is rejected by `less` too, or does not come there.

    That more memory delays or spills less is no law: a request let in earlier takes the room of
    the next ones.
    """
    check_same_requests(less, more)
    rows = Rows(less, "requests")
    before, after = rows.words("outcome"), Rows(more, "requests").words("outcome")
    refused = np.isin(before, ("rejected", "abandoned", "awaited"))
    rows.hold("more HBM rejects no more", (after != "rejected") | refused,
              less=before, more=after)  # fmt: skip


def check_room(results: Results) -> None:
    """Where no capacity ever binds, demand is occupancy, in every pool and bin.

    A law for plans with room to spare everywhere: HBM for all jobs that come at once, DRAM and
    NAND for all that is kept. Elsewhere neither is above the other at all times.
    """
    grid = Grid(results)
    grid.hold("demand is occupancy where there is room", grid["demand"] == grid.firm,
              demand=grid["demand"], held=grid.firm)  # fmt: skip
    grid.hold("peaks are equal where there is room", grid["demand_peak"] == grid["peak"],
              demand_peak=grid["demand_peak"], peak=grid["peak"])  # fmt: skip
    rows = Rows(results, "tiers")
    rows.hold("peaks of tiers are equal where there is room",
              rows.ints("demand_peak") == rows.ints("peak"))  # fmt: skip
    for name, figures in results.summary["jobs"].items():
        must_equal("outcomes are equal where there is room", f"job {name}",
                   built=figures["outcomes"], lifted=figures["outcomes_lifted"])  # fmt: skip


def _same_table(name: str, first: Any, second: Any) -> None:
    law = "the same input gives the same output"
    must_equal(law, f"the columns of {name}", first=first.schema.names, second=second.schema.names)
    must_equal(law, f"the rows of {name}", first=first.num_rows, second=second.num_rows)
    if first.equals(second):
        return
    for column in first.schema.names:
        same = _equal(first[column], second[column])
        if not same.all():
            row = int(np.argmin(same))
            fail(law, f"{name} row {row}, column {column}",
                 {"first": first[column][row].as_py(),
                  "second": second[column][row].as_py()})  # fmt: skip
    must_equal(law, f"the types of {name}", first=first.schema, second=second.schema)


def _equal(first: Any, second: Any) -> NDArray[np.bool_]:
    """Where two columns are equal; nulls are equal to nulls."""
    plain = pa.string() if pa.types.is_dictionary(first.type) else first.type
    a, b = first.cast(plain), second.cast(plain)
    both = pc.fill_null(pc.equal(a, b), False)
    neither = pc.and_(pc.is_null(a), pc.is_null(b))
    return np.asarray(pc.or_(both, neither).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_clocks(each) for k, each in value.items() if k not in CLOCKS}
    return value


def _same_tree(path: str, first: Any, second: Any) -> None:
    if isinstance(first, dict) and isinstance(second, dict):
        must_equal("the same input gives the same output", f"the keys of {path}",
                   first=list(first), second=list(second))  # fmt: skip
        for key in first:
            _same_tree(f"{path}.{key}", first[key], second[key])
        return
    must_equal("the same input gives the same output", path, first=first, second=second)
