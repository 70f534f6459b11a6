"""The table of requests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import COLUMNS, OUTCOMES, Outputs
from dcsim.results.columns import names, optional

__all__ = ["requests_table"]

Ints = NDArray[np.int64]


def requests_table(plan: Plan, built: Outputs) -> Any:
    """One row a request, in order of arrival; null where something has not come or does not apply.

    Times in ns: `arrival_ns`, `start_ns` (first admission), `first_ns` (first token or first
    denoise step), `end_ns`. `artifact_bytes` and `context_bytes` are the sizes of the finished
    clip and of the KV of the finished turn.
    """
    requests = plan.requests
    clips = np.array([len(shapes) > 0 for shapes in requests.shapes], dtype=np.bool_)
    is_clip = clips[requests.klass]
    columns: dict[str, Any] = {
        "job": names(requests.klass, plan.classes),
        "replica": names(built["replica"], plan.replicas),
        "arrival_ns": requests.arrival,
    }
    for name in ("start", "first", "end"):
        times: Ints = built[name]
        columns[f"{name}_ns"] = optional(times, times >= 0)
    columns |= {
        "outcome": names(built["outcome"], OUTCOMES),
        "preemptions": pa.array(built["preemptions"], pa.int32()),
        "prompt_tokens": optional(requests.prompt, ~is_clip),
        "output_tokens": optional(requests.output, ~is_clip),
    }
    shape = _shapes(plan)
    for place, name in enumerate(("width", "height", "frames", "steps")):
        columns[name] = optional(shape[:, place], is_clip)
    artifact, context = _object_sizes(plan)
    columns["artifact_bytes"] = optional(artifact, is_clip)
    columns["context_bytes"] = optional(context, ~is_clip)
    return pa.table(columns)


def _shapes(plan: Plan) -> Ints:
    """int64[N, 4]: width, height, frames and steps; 0 for a request to an LLM."""
    flat: list[tuple[int, int, int, int]] = [(0, 0, 0, 0)]
    first = []
    for shapes in plan.requests.shapes:
        first.append(len(flat) if shapes else 0)
        flat += [(s.width, s.height, s.frames, s.steps) for s in shapes]
    rows = np.array(first, dtype=np.int64)[plan.requests.klass] + plan.requests.shape
    return np.asarray(np.array(flat, dtype=np.int64)[rows])


def _object_sizes(plan: Plan) -> tuple[Ints, Ints]:
    """Bytes of the artifact and of the context that each request leaves when it completes."""
    works, segments = plan.tables["works"], plan.tables["segments"]
    work = plan.tables["work"]
    artifact = works[:, COLUMNS["works"].index("artifact")]
    live = segments[works[:, COLUMNS["works"].index("segment")], COLUMNS["segments"].index("live")]
    tokens = plan.requests.prompt + plan.requests.output - 1
    return artifact[work], live[work] * np.maximum(tokens, 0)
