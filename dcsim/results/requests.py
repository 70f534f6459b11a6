"""The table of requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import COLUMNS, OUTCOMES, Rows
from dcsim.results.columns import by_name, names, optional
from dcsim.workload import Requests

__all__ = ["requests_table"]

Ints = NDArray[np.int64]


def requests_table(plan: Plan, requests: Requests, built: Rows) -> Any:
    """One row a request of a window, in order of arrival (of its session's, for a turn); null where
    something has not come or does not apply.

    Times in ns: `arrival_ns`, `start_ns` (first admission), `first_ns` (first token or first
    denoise step), `end_ns`. `artifact_bytes` and `context_bytes` are the sizes of the finished
    clip and of the KV of the finished turn, or of what a streamed clip leaves.
    """
    nothing = pa.nulls(len(requests), pa.int64())
    clips = np.array([len(shapes) > 0 for shapes in requests.shapes], dtype=np.bool_)
    is_clip = clips[requests.klass]
    is_turn = ~is_clip
    columns: dict[str, Any] = {
        "job": names(requests.klass, plan.classes),
        "replica": names(built["replica"], plan.replicas),
        "after": nothing,
    }
    if requests.after is not None:
        columns["after"] = optional(requests.after, requests.after >= 0, nothing)
    moments: Mapping[str, Ints] = {
        "arrival": built["arrived"],
        "start": built["start"],
        "first": built["first"],
        "end": built["end"],
    }
    for name, times in moments.items():
        columns[f"{name}_ns"] = optional(times, times >= 0, nothing)
    columns |= {
        "outcome": names(built["outcome"], OUTCOMES),
        "preemptions": pa.array(built["preemptions"], pa.int32()),
        **({"swaps": pa.array(built["swaps"], pa.int32())} if "swaps" in built else {}),
        "prompt_tokens": optional(requests.prompt, is_turn, nothing),
        "output_tokens": optional(requests.output, is_turn, nothing),
    }
    for name, values in _shapes(requests).items():
        columns[name] = optional(values, is_clip, nothing)
    columns["artifact_bytes"] = optional(_artifacts(plan, requests), is_clip, nothing)
    contexts = _contexts(plan, requests)
    columns["context_bytes"] = optional(contexts, is_turn | (contexts > 0), nothing)
    for tier in ("hbm", "dram", "nand", "again"):  # null where no content is known
        hits = dict(built).get(f"hit_{tier}")
        columns[f"hit_{tier}_tokens"] = nothing if hits is None else pa.array(hits)
    for where in ("hbm", "dram", "nand", "library", "again") if "brought_hbm" in built else ():
        columns[f"adapter_{where}_bytes"] = pa.array(dict(built)[f"brought_{where}"])
    if requests.adapter is not None:
        columns["adapter"] = optional(requests.adapter, requests.adapter >= 0, nothing)
    if "handed" in built:
        columns["handed_ns"] = optional(built["handed"], built["handed"] >= 0, nothing)
    if requests.asked is not None and requests.number is not None:
        columns["asked"] = names(requests.asked, list(plan.scenario.asked))
        columns["number"] = pa.array(requests.number)
    return pa.table(columns)


def _shapes(requests: Requests) -> dict[str, Ints]:
    """Width, height, frames and steps, int64[N]; 0 for a request to an LLM."""
    sides = ("width", "height", "frames", "steps")
    if not any(requests.shapes):
        return dict.fromkeys(sides, np.zeros(len(requests), dtype=np.int64))
    flat: list[tuple[int, ...]] = [(0,) * len(sides)]
    first = []
    for shapes in requests.shapes:
        first.append(len(flat) if shapes else 0)
        flat += [tuple(getattr(shape, side) for side in sides) for shape in shapes]
    rows = np.array(first, dtype=np.int64)[requests.klass] + requests.shape
    values = np.array(flat, dtype=np.int64)
    return {side: values[rows, place] for place, side in enumerate(sides)}


def _artifacts(plan: Plan, requests: Requests) -> Ints:
    """Bytes of the artifact that each request leaves when it completes, int64[N]."""
    works = by_name(plan.fixed["works"], COLUMNS["works"])
    return np.asarray(works["artifact"][plan.works.of(requests)])


def _contexts(plan: Plan, requests: Requests) -> Ints:
    """Bytes of the context that each request leaves when it completes, int64[N]."""
    works = by_name(plan.fixed["works"], COLUMNS["works"])
    live = by_name(plan.fixed["segments"], COLUMNS["segments"])["live"][works["segment"]]
    tokens = requests.prompt + requests.output - 1
    work = plan.works.of(requests)
    return np.asarray(live[work] * np.maximum(tokens, 0) + works["context"][work])
