"""The summary of a run: plain figures, bytes and ns unless a name says otherwise."""

from __future__ import annotations

from typing import Any

from dcsim.assembly.plan import Plan
from dcsim.engine import COLUMNS, Outputs
from dcsim.results.asked import asked_figures
from dcsim.results.columns import by_name
from dcsim.results.links import link_figures
from dcsim.results.outcomes import arrived_of, counted
from dcsim.results.record import Record
from dcsim.results.series import Series
from dcsim.results.tiers import tier_figures

__all__ = ["summarise"]


def summarise(
    plan: Plan,
    built: Outputs,
    records: tuple[Record, Record],
    lifted: Outputs,
    series: Series,
    seconds: tuple[float, float],
) -> dict[str, Any]:
    """The summary; of the two passes the `records` of requests and the wall times of the engine."""
    scenario = plan.scenario
    record, beside = records
    outcomes = counted(record.outcomes.sum(axis=0))
    asked = asked_figures(plan, record.rows, beside.rows)
    services = by_name(plan.fixed["classes"], COLUMNS["classes"])["service"].tolist()
    jobs = {
        name: {
            "service": plan.services[services[row]],
            **record.jobs[row].figures(built, beside.outcomes[row]),
        }
        for row, name in enumerate(plan.classes)
    }
    requests = sum(outcomes.values())
    return {
        "scenario": scenario.name,
        "seed": scenario.seed,
        "duration_ns": scenario.duration,
        "bin_ns": scenario.bin,
        "requests": {
            "arrived": arrived_of(outcomes),
            "outcomes": outcomes,
            "outcomes_lifted": counted(beside.outcomes.sum(axis=0)),
            "preemptions": sum(job["preemptions"] for job in jobs.values()),
        },
        "tiers": tier_figures(plan, built, series),
        "links": link_figures(plan, built),
        **({"asked": asked} if asked else {}),
        "jobs": jobs,
        "engine": _engine(requests, built, seconds[0])
        | {"lifted": _engine(requests, lifted, seconds[1])},
    }


def _engine(requests: int, outputs: Outputs, seconds: float) -> dict[str, Any]:
    stats = outputs["stats"]
    return {
        "events": stats["events"],
        "boundaries": stats["boundaries"],
        "steps": stats["steps"],
        "iterations": stats["iterations"],
        "wall_seconds": seconds,
        "requests_per_second": requests / seconds if seconds > 0 else None,
    }
