"""Latency and throughput by job class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import COLUMNS, OUTCOMES, Outputs
from dcsim.results.statistics import spread

__all__ = ["job_figures", "outcome_counts"]

COMPLETED = OUTCOMES.index("completed")


def job_figures(plan: Plan, built: Outputs, lifted: Outputs) -> dict[str, Any]:
    """By job class: arrivals, outcomes, latencies (ns) and throughput (per second)."""
    order = np.argsort(plan.requests.klass, kind="stable")
    ends = np.cumsum(np.bincount(plan.requests.klass, minlength=len(plan.classes)))
    members = np.split(order, ends[:-1])
    return {
        name: _figures(plan, built, lifted, row, members[row])
        for row, name in enumerate(plan.classes)
    }


def outcome_counts(outcomes: NDArray[Any]) -> dict[str, int]:
    """How many requests ended in each outcome, all outcomes named."""
    counts = np.bincount(outcomes, minlength=len(OUTCOMES))
    return dict(zip(OUTCOMES, counts.tolist(), strict=True))


def _figures(
    plan: Plan, built: Outputs, lifted: Outputs, klass: int, mine: NDArray[np.int64]
) -> dict[str, Any]:
    outcome = built["outcome"][mine]
    requests, seconds = plan.requests, plan.scenario.duration / 1e9
    arrival, start = requests.arrival[mine], built["start"][mine]
    first, end = built["first"][mine], built["end"][mine]
    done = outcome == COMPLETED
    figures: dict[str, Any] = {
        "service": plan.services[
            int(plan.tables["classes"][klass, COLUMNS["classes"].index("service")])
        ],
        "arrived": len(mine),
        "outcomes": outcome_counts(outcome),
        "outcomes_lifted": outcome_counts(lifted["outcome"][mine]),
        "preemptions": int(built["preemptions"][mine].sum()),
        "wait_ns": spread((start - arrival)[start >= 0]),
        "first_ns": spread((first - arrival)[first >= 0]),
        "latency_ns": spread((end - arrival)[done]),
    }
    throughput = {"requests_per_s": int(done.sum()) / seconds}
    if requests.shapes[klass]:
        frames = np.array([shape.frames for shape in requests.shapes[klass]])
        throughput["frames_per_s"] = int(frames[requests.shape[mine][done]].sum()) / seconds
    else:
        prompt, output = requests.prompt[mine][done], requests.output[mine][done]
        throughput["prompt_tokens_per_s"] = int(prompt.sum()) / seconds
        throughput["output_tokens_per_s"] = int(output.sum()) / seconds
        more = output > 1
        gaps = (end - first)[done][more] // np.maximum(output[more] - 1, 1)
        figures["per_token_ns"] = spread(gaps)
    return figures | {"throughput": throughput}
