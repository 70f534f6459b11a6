"""What users asked for, of jobs that several requests serve: in stages, or in steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import OUTCOMES, Rows
from dcsim.results.columns import names, optional
from dcsim.results.outcomes import arrived_of, outcome_counts
from dcsim.results.statistics import spread

__all__ = ["asked_figures", "asked_table"]

Ints = NDArray[np.int64]
QUEUED, RUNNING, COMPLETED, REJECTED, AWAITED, ABANDONED = range(len(OUTCOMES))


@dataclass(frozen=True)
class Asked:
    """What was asked of one job, in order: int64[K], times in ns, -1 where something has not come.

    `start` is the first admission of any of its requests, `first` the first result that the user
    sees, `end` the end of the last request.
    """

    arrival: Ints
    start: Ints
    first: Ints
    end: Ints
    outcome: Ints
    output: Ints
    requests: Ints


def asked_of(plan: Plan, outputs: Rows, row: int) -> Asked:
    """What was asked of the job in this row of `plan.scenario.asked`."""
    requests = plan.requests
    assert requests.asked is not None
    assert requests.number is not None
    mine = np.flatnonzero(requests.asked == row)
    mine = mine[np.argsort(requests.number[mine], kind="stable")]
    count = np.bincount(requests.number[mine])
    begin = np.cumsum(count) - count
    last = np.iinfo(np.int64).max
    outcome = outputs["outcome"][mine]

    def over(ufunc: np.ufunc, values: NDArray[Any]) -> Ints:
        return np.asarray(ufunc.reduceat(values.astype(np.int64), begin)) if len(mine) else begin

    def least(values: Ints) -> Ints:
        found = over(np.minimum, np.where(values < 0, last, values))
        return np.where(found == last, -1, found)

    def how_many(*which: int) -> Ints:
        return over(np.add, np.isin(outcome, which))

    done = how_many(COMPLETED) == count
    started = how_many(RUNNING, COMPLETED) > 0
    whole = np.select(
        [how_many(REJECTED) > 0, how_many(ABANDONED) > 0, done, started, how_many(QUEUED) > 0],
        [REJECTED, ABANDONED, COMPLETED, RUNNING, QUEUED],
        AWAITED,
    )
    assert requests.shown is not None
    shown = np.where(requests.shown[mine], outputs["first"][mine], -1)
    return Asked(
        least(outputs["arrived"][mine]),
        least(outputs["start"][mine]),
        least(shown),
        np.where(done, over(np.maximum, outputs["end"][mine]), -1),
        whole,
        over(np.add, requests.output[mine]),
        count,
    )


def _jobs(plan: Plan) -> Iterator[tuple[int, str]]:
    """Rows and names of the jobs that several requests serve."""
    for row, name in enumerate(plan.scenario.asked):
        if name not in plan.scenario.jobs:
            yield row, name


def asked_figures(plan: Plan, built: Rows | None, lifted: Rows | None) -> dict[str, Any]:
    """By job: arrivals, outcomes, latencies (ns) and throughput of what users asked for; none
    where all jobs are served in one request."""
    if built is None or lifted is None:
        return {}
    return {name: _figures(plan, built, lifted, row, name) for row, name in _jobs(plan)}


def _figures(plan: Plan, built: Rows, lifted: Rows, row: int, name: str) -> dict[str, Any]:
    asked = asked_of(plan, built, row)
    counts = outcome_counts(asked.outcome)
    done, begun, started = asked.end >= 0, asked.first >= 0, asked.start >= 0
    figures: dict[str, Any] = {
        "arrived": arrived_of(counts),
        "outcomes": counts,
        "outcomes_lifted": outcome_counts(asked_of(plan, lifted, row).outcome),
        "wait_ns": spread((asked.start - asked.arrival)[started]),
        "first_ns": spread((asked.first - asked.arrival)[begun]),
        "latency_ns": spread((asked.end - asked.arrival)[done]),
    }
    staged = plan.scenario.asked[name].steps is None
    many = staged & done & (asked.output > 1) & begun
    if many.any():
        gaps = (asked.end - asked.first)[many] // (asked.output[many] - 1)
        figures["per_token_ns"] = spread(gaps)
    seconds = plan.scenario.duration / 1e9
    figures["throughput"] = {"requests_per_s": int(done.sum()) / seconds}
    if staged and asked.output.any():
        tokens = int(asked.output[done].sum())
        figures["throughput"]["output_tokens_per_s"] = tokens / seconds
    return figures


def asked_table(plan: Plan, built: Rows | None) -> Any:
    """One row for each that was asked for, job by job in order; None where each is one request."""
    jobs = list(_jobs(plan))
    if built is None or not jobs:
        return None
    words = [name for _, name in jobs]
    parts = []
    for place, (row, _) in enumerate(jobs):
        asked = asked_of(plan, built, row)
        many = len(asked.requests)
        columns: dict[str, Any] = {"job": names(np.full(many, place), words)}
        columns["number"] = pa.array(np.arange(many), pa.int64())
        for name in ("arrival", "start", "first", "end"):
            times = getattr(asked, name)
            columns[f"{name}_ns"] = optional(times, times >= 0)
        columns["outcome"] = names(asked.outcome, OUTCOMES)
        columns["requests"] = pa.array(asked.requests, pa.int64())
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)
