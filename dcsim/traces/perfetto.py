"""A memory trace as a timeline that Perfetto (ui.perfetto.dev) and chrome://tracing load.

The format is Chrome's Trace Event JSON: complete events (`X`) with their start and length in
microseconds, counters (`C`), and names (`M`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dcsim.models.tape import CATEGORIES, COMM, KINDS
from dcsim.spec import Gpu
from dcsim.traces.price import Rates
from dcsim.traces.record import Record
from dcsim.traces.report import step_seconds
from dcsim.traces.segments import Segment
from dcsim.traces.trace import MemoryTrace

Event = dict[str, Any]

MOST_STEPS = 1000
"""Steps of a segment that are drawn one by one; of more the rest is one slice."""
MICRO = 1e6
REQUEST, PHASES, STEPS, OPS = 1, 1, 2, 3
"""The process, and its rows."""


def timeline(trace: MemoryTrace, gpu: Gpu) -> dict[str, Any]:
    """The request alone on its replica: phases, their steps, and the ops of the first step of each
    segment, with what is held.

    A step takes as long as it is priced; its ops share that by the roofline of each. Counters:
    memory of the replica by step, and of one GPU by phase, category and op.
    """
    return {"traceEvents": list(_events(trace, gpu)), "displayTimeUnit": "ms"}


def write_timeline(trace: MemoryTrace, gpu: Gpu, path: Path | str) -> None:
    """Write `timeline` to a file."""
    text = json.dumps(timeline(trace, gpu), separators=(",", ":"))
    Path(path).write_text(text, encoding="utf-8")


def _events(trace: MemoryTrace, gpu: Gpu) -> Iterator[Event]:
    title = f"{trace.model} on {trace.gpus} x {gpu.name}"
    yield {"ph": "M", "name": "process_name", "pid": REQUEST, "args": {"name": title}}
    for row, name in ((PHASES, "phases"), (STEPS, "steps"), (OPS, "ops of a first step")):
        named = {"pid": REQUEST, "tid": row, "args": {"name": name}}
        yield {"ph": "M", "name": "thread_name", **named}
    phases = {phase.name: phase for phase in trace.phases}
    now = 0.0
    for segment in trace.segments:
        phase = phases[segment.phase]
        seconds = step_seconds(segment, phase, gpu, trace.gpus)
        length = float(seconds.sum())
        yield _slice(f"{segment.phase}: {segment.name}", PHASES, now, length, _facts(segment))
        yield from _steps(trace, segment, seconds, now)
        rates = Rates(gpu, phase, trace.gpus)
        record = trace.records[segment.record]
        yield from _ops(record, segment, rates, now, float(seconds[0]))
        now += length
    yield _counter("memory of the replica", now, dict.fromkeys(("weights", "live", "transient"), 0))


def _slice(name: str, row: int, start: float, length: float, args: Event) -> Event:
    at = {"ts": start * MICRO, "dur": length * MICRO, "pid": REQUEST, "tid": row}
    return {"ph": "X", "name": name, **at, "args": args}


def _counter(name: str, at: float, values: dict[str, int]) -> Event:
    return {"ph": "C", "name": name, "ts": at * MICRO, "pid": REQUEST, "args": values}


def _facts(s: Segment) -> Event:
    return {"steps": s.steps, "flops of a step": s.flops, "tokens": s.tokens}


def _steps(trace: MemoryTrace, s: Segment, seconds: Any, start: float) -> Iterator[Event]:
    starts = start + np.concatenate([[0.0], np.cumsum(seconds)[:-1]])
    for k in range(min(s.steps, MOST_STEPS)):
        last = k == MOST_STEPS - 1 and s.steps > MOST_STEPS
        name = f"{s.name} {k + 1}" + (f" to {s.steps}" if last else "")
        length = float(seconds[k:].sum() if last else seconds[k])
        live = trace.state + s.live + s.live_slope * k
        held = {"weights": trace.weights_bytes, "live": live, "transient": s.peak}
        yield _slice(name, STEPS, float(starts[k]), length, {"peak_bytes": sum(held.values())})
        yield _counter("memory of the replica", float(starts[k]), held)


def _ops(record: Record, s: Segment, rates: Rates, start: float, length: float) -> Iterator[Event]:
    times = op_seconds(record, rates)
    total = float(times.sum())
    if not total:
        return
    ends = start + np.cumsum(times) * (length / total)
    name = f"{s.phase}: one GPU"
    shown = [i for i, _ in enumerate(CATEGORIES) if record.held[:, i].any()]
    modules = record.modules or ("",) * len(record.names)
    begin = start
    for i, end in enumerate(map(float, ends)):
        args = {
            "module": modules[i],
            "class": KINDS[record.kind[i]],
            "flops": int(record.flops[i]),
            "weights_bytes": int(record.weights[i]),
            "moved_bytes": int(record.moved[i]),
            "comm_bytes": int(record.comm[i]),
        }
        yield _slice(record.names[i], OPS, begin, end - begin, args)
        yield _counter(name, begin, {CATEGORIES[c]: int(record.held[i, c]) for c in shown})
        begin = end
    yield _counter(name, begin, {CATEGORIES[c]: 0 for c in shown})


def op_seconds(record: Record, rates: Rates) -> Any:
    """Seconds of every op by its roofline, on one of the GPUs that `rates` are of, but for a
    factor that all have in common."""
    traffic = record.weights / float(rates.weights) + record.moved / float(rates.bytes)
    slow = {KINDS.index(kind): float(rate) for kind, rate in rates.flops.items()}
    compute = np.zeros(len(traffic))
    for kind, rate in slow.items():
        compute += np.where(record.kind == kind, record.flops / rate, 0.0)
    sent = record.kind == KINDS.index(COMM)
    comm = record.comm / float(rates.comm) if rates.comm else np.zeros(len(traffic))
    return np.where(sent, comm, np.maximum(traffic, compute))
