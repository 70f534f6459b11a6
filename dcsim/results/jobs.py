"""Latency and throughput by job class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import COLUMNS, OUTCOMES, Outputs
from dcsim.results.columns import by_name
from dcsim.results.outcomes import NEVER_CAME, arrived_of, outcome_counts
from dcsim.results.queue import queue_figures
from dcsim.results.statistics import spread
from dcsim.results.useful import kept_and_useful

__all__ = ["job_figures"]

COMPLETED = OUTCOMES.index("completed")
REJECTED = OUTCOMES.index("rejected")

Members = NDArray[np.int64] | slice
"""Some requests, as numpy takes them."""


def job_figures(plan: Plan, built: Outputs, lifted: Outputs) -> dict[str, Any]:
    """By job class: arrivals, outcomes, latencies (ns), throughput (per second) and its queue."""
    services = by_name(plan.tables["classes"], COLUMNS["classes"])["service"]
    return {
        name: {"service": plan.services[int(service)], **_figures(plan, built, lifted, row, mine)}
        for row, (name, service, mine) in enumerate(
            zip(plan.classes, services, _members(plan), strict=True)
        )
    }


def _members(plan: Plan) -> list[Members]:
    """The requests of each class, in order of arrival; of a single class all, not one by one."""
    if len(plan.classes) == 1:
        return [slice(None)]
    order = np.argsort(plan.requests.klass.astype(np.int16), kind="stable")  # a radix sort
    ends = np.cumsum(np.bincount(plan.requests.klass, minlength=len(plan.classes)))
    return list(np.split(order, ends[:-1]))


def _figures(
    plan: Plan, built: Outputs, lifted: Outputs, klass: int, mine: Members
) -> dict[str, Any]:
    outcome = built["outcome"][mine]
    requests, seconds = plan.requests, plan.scenario.duration / 1e9
    arrival, start = built["arrived"][mine], built["start"][mine]
    first, end = built["first"][mine], built["end"][mine]
    done = _which(outcome == COMPLETED)
    served = _which(~np.isin(outcome, (REJECTED, *NEVER_CAME)))
    started, begun = _which(start >= 0), _which(first >= 0)
    latency = end[done] - arrival[done]
    counts = outcome_counts(outcome)
    figures: dict[str, Any] = {
        "arrived": arrived_of(counts),
        "outcomes": counts,
        "outcomes_lifted": outcome_counts(lifted["outcome"][mine]),
        "preemptions": int(built["preemptions"][mine].sum()),
        "wait_ns": spread(start[started] - arrival[started]),
        "first_ns": spread(first[begun] - arrival[begun]),
        "latency_ns": spread(latency),
        "queue": queue_figures(arrival[served], start[served], plan.scenario.duration),
    }
    if "handed" in built:
        handed = built["handed"][mine]
        came = _which(handed >= 0)
        if (handed >= 0).any():
            figures["handed_ns"] = spread(handed[came] - start[came])
    throughput = {"requests_per_s": len(latency) / seconds}
    if requests.shapes[klass]:
        frames = np.array([shape.frames for shape in requests.shapes[klass]])
        throughput["frames_per_s"] = int(frames[requests.shape[mine][done]].sum()) / seconds
    else:
        prompt, output = requests.prompt[mine][done], requests.output[mine][done]
        throughput["prompt_tokens_per_s"] = int(prompt.sum()) / seconds
        throughput["output_tokens_per_s"] = int(output.sum()) / seconds
        more = _which(output > 1)
        gaps = (end[done] - first[done])[more] // (output[more] - 1)
        if not plan.classes[klass].endswith("/prefill"):  # which puts out one token
            figures["per_token_ns"] = spread(gaps)
        if "hit_dram" in built:
            figures["reuse"] = _reuse(built, requests.prompt, mine)
            figures["reuse"] |= kept_and_useful(plan, built, klass)
    return figures | {"throughput": throughput}


def _reuse(built: Outputs, prompt: NDArray[np.int64], mine: Members) -> dict[str, Any]:
    """What of the prompts was found in HBM or loaded, instead of computed."""
    admitted = built["start"][mine] >= 0
    tokens = int(prompt[mine][admitted].sum())
    hits = (built["hit_hbm"], built["hit_dram"], built["hit_nand"], built["hit_again"])
    hbm, dram, nand, again = (int(each[mine].sum()) for each in hits)
    found = {"share": hbm + dram + nand, "hbm_share": hbm, "dram_share": dram, "nand_share": nand}
    return {
        "prompt_tokens": tokens,
        "hbm_tokens": hbm,
        "dram_tokens": dram,
        "nand_tokens": nand,
        "again_tokens": again,
        **{share: part / tokens if tokens else None for share, part in found.items()},
    }


def _which(condition: NDArray[np.bool_]) -> Members:
    """Where it holds; everything costs nothing."""
    return slice(None) if condition.all() else np.flatnonzero(condition)
