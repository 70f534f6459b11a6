"""The summary of a run: plain figures, bytes and ns unless a name says otherwise."""

from __future__ import annotations

from typing import Any

from dcsim.assembly.plan import Plan
from dcsim.engine import Outputs
from dcsim.results.asked import asked_figures
from dcsim.results.jobs import job_figures
from dcsim.results.links import link_figures
from dcsim.results.outcomes import arrived_of, outcome_counts
from dcsim.results.series import Series
from dcsim.results.tiers import tier_figures

__all__ = ["summarise"]


def summarise(
    plan: Plan, built: Outputs, lifted: Outputs, series: Series, seconds: tuple[float, float]
) -> dict[str, Any]:
    """The summary; `seconds` are the wall times of the engine, as built and lifted."""
    scenario = plan.scenario
    outcomes = outcome_counts(built["outcome"])
    asked = asked_figures(plan, built, lifted)
    return {
        "scenario": scenario.name,
        "seed": scenario.seed,
        "duration_ns": scenario.duration,
        "bin_ns": scenario.bin,
        "requests": {
            "arrived": arrived_of(outcomes),
            "outcomes": outcomes,
            "outcomes_lifted": outcome_counts(lifted["outcome"]),
            "preemptions": int(built["preemptions"].sum()),
        },
        "tiers": tier_figures(plan, built, series),
        "links": link_figures(plan, built),
        **({"asked": asked} if asked else {}),
        "jobs": job_figures(plan, built, lifted),
        "engine": _engine(len(plan.requests), built, seconds[0])
        | {"lifted": _engine(len(plan.requests), lifted, seconds[1])},
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
