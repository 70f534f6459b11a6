"""What a trace says, as plain data for a terminal table or JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from dcsim.models.shapes import figures
from dcsim.spec import Gpu
from dcsim.traces.price import Rates, price_phase, price_segment
from dcsim.traces.segments import Phase, Segment
from dcsim.traces.trace import CACHED, MemoryTrace


def step_seconds(s: Segment, phase: Phase, gpu: Gpu, count: int) -> np.ndarray[Any, Any]:
    """Seconds of every step of a fixed segment when the replica runs this request alone."""
    once = price_phase(phase, gpu, count)
    c = price_segment(s, Rates(gpu, phase, count), once)
    k = np.arange(s.steps, dtype=np.float64)
    computing = float(c.attention) + float(c.attention_slope) * k
    reading = float(c.reading) + float(c.reading_slope) * k
    alike = once.launch + max(once.weights, c.dense) + c.other
    return np.asarray(float(alike) + np.maximum(computing, reading))


def report(trace: MemoryTrace, gpu: Gpu | None = None) -> dict[str, Any]:
    """The trace summed up; bytes and FLOPs of the replica, seconds with a GPU only.

    A phase's `flops` are those of all its steps, `peak_bytes` what it holds beyond weights and
    live bytes, `live_bytes` the most it leaves held, `seconds` of all its steps run alone.
    `host_bytes` come from the host's memory for a request.
    `peaks` say which tensors one GPU holds when a recorded step is fullest, the largest first.
    """
    phases = []
    total = 0.0
    for phase in trace.phases:
        mine = [s for s in trace.segments if s.phase == phase.name]
        row: dict[str, Any] = {
            "name": phase.name,
            "steps": sum(s.steps for s in mine),
            "tokens": max((s.tokens for s in mine), default=0),
            "params": phase.params,
            "weights_bytes": phase.weights,
            "flops": sum(_flops(s) for s in mine),
            "live_bytes": trace.state + max((s.most_live for s in mine), default=0),
            "peak_bytes": max((s.peak for s in mine), default=0),
        }
        if gpu is not None:
            row["seconds"] = float(sum(step_seconds(s, phase, gpu, trace.gpus).sum() for s in mine))
            total += row["seconds"]
        phases.append(row)
    out: dict[str, Any] = {
        "model": trace.model,
        "kind": trace.kind,
        "options": dict(trace.options),
        "shape": figures(trace.shape),
        "layout": {**asdict(trace.layout), "gpus": trace.gpus},
        "params": trace.params,
        "weights_bytes": trace.weights_bytes,
        "checkpoint_bytes": trace.checkpoint_bytes,
        "residency_bytes": trace.residency_bytes,
        "peak_bytes": trace.peak_bytes,
        "peak_phase": trace.peak_phase,
        "artifact_bytes": trace.artifact,
        "host_bytes": sum(s.steps * s.host_bytes for s in trace.segments),
        "overhead_bytes": trace.overhead,
        "phases": phases,
        "peaks": [_peak(trace, name) for name in trace.records if name != CACHED],
    }
    if gpu is not None:
        out |= {"gpu": gpu.name, "seconds": total}
        out["fits"] = trace.peak_bytes + trace.overhead <= trace.gpus * gpu.hbm
    return out


def _peak(trace: MemoryTrace, name: str) -> dict[str, Any]:
    """What one GPU holds, beside weights, at the fullest moment of a recorded step."""
    record = trace.records[name]
    return {
        "step": name,
        "phase": next(row.phase for row in trace.rows if row.record == name),
        "bytes": sum(each.bytes for each in record.holdings),
        "holdings": [asdict(each) for each in record.holdings],
    }


def _flops(s: Segment) -> int:
    return s.steps * s.flops + s.attn_flops_slope * (s.steps * (s.steps - 1) // 2)
