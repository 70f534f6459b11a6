"""Where the weights of a diffusion model lie while a request is served.

A trace is counted with everything resident; here it is changed into one whose networks come from
host memory when they are needed, or whose weights are shared out over the GPUs. What comes and
goes with a request is its own: live bytes, and bytes over the host's link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dcsim.models.shapes import Clip
from dcsim.models.tape import CATEGORIES
from dcsim.traces.record import Record
from dcsim.traces.segments import Phase, Segment
from dcsim.traces.trace import MemoryTrace

CODERS = ("input", "vae", "waveform")
"""Phases whose weights every GPU has whole."""
OFFLOADS = ("none", "model", "group", "sequential")
GROUPS = 2
"""Groups that a streamed offload holds at once: one computes while the next is loaded."""


def placed(trace: MemoryTrace, options: Mapping[str, Any]) -> MemoryTrace:
    """The trace under the options `text_encoders`, `fsdp`, `experts` and `offload`."""
    if options["text_encoders"] == "cpu":
        trace = _elsewhere(trace)
    if options["fsdp"]:
        trace = _shared_out(trace)
    if options.get("experts") == "switched":
        return _switched(trace)
    how = options["offload"]
    return trace if how == "none" else _offloaded(trace, how)


def _elsewhere(trace: MemoryTrace) -> MemoryTrace:
    """Without the text encoders: the host's CPU runs them, in a time that is not priced."""
    gone = {phase.name for phase in trace.phases if _is_text(phase)}
    return replace(
        trace,
        phases=tuple(phase for phase in trace.phases if phase.name not in gone),
        rows=tuple(row for row in trace.rows if row.phase not in gone),
    )


def _is_text(phase: Phase) -> bool:
    return phase.name.partition(" ")[0] == "text"


def _shared_out(trace: MemoryTrace) -> MemoryTrace:
    """Text encoders and denoiser cut into equal shares, one a GPU (FSDP).

    Before a block computes, its weights are gathered: every GPU is sent all shares but its own,
    and holds a block's weights more, and the next block's, which is on its way.
    """
    gpus, phases, rows = trace.gpus, [], []
    for phase in trace.phases:
        if phase.name in CODERS:
            phases.append(phase)
            continue
        share = -(-phase.weights // gpus)
        collectives = phase.collectives + phase.launches
        phases.append(replace(phase, weights=share, collectives=collectives))
    for row in trace.rows:
        phase = _phase_of(trace, row)
        if phase.name not in CODERS:
            gathered = phase.weights // phase.experts // gpus
            held = GROUPS * -(-gathered // phase.layers) * gpus
            row = replace(
                row,
                comm_bytes=row.comm_bytes + phase.passes * (gpus - 1) * gathered,
                live=row.live + held,
            )
        rows.append(row)
    return replace(trace, phases=tuple(phases), rows=tuple(rows))


def _offloaded(trace: MemoryTrace, how: str) -> MemoryTrace:
    """With the weights in host memory.

    `model`: a network is loaded whole before its phase and gone after it (diffusers'
    `enable_model_cpu_offload`), of two experts each before its steps. `sequential`: each layer is
    loaded for each of its uses and nothing else is held (`enable_sequential_cpu_offload`).
    `group`: as that, but the next layer is loaded while one computes (`enable_group_offload` with a
    stream).
    """
    phases = [replace(phase, weights=0) for phase in trace.phases]
    rows: list[Segment] = []
    switch, before = None, 0
    for row in trace.rows:
        phase = _phase_of(trace, row)
        needed = -(-phase.weights // phase.experts)
        if how == "model":
            if not rows or rows[-1].phase != phase.name:
                rows.append(_loading(phase, before + needed))
            rows.append(replace(row, live=row.live + needed))
            if phase.experts > 1:
                switch = replace(_loading(phase, row.live + needed), name=f"load {phase.name} 2")
            before = row.live
            continue
        layer = -(-needed // phase.layers)
        count = GROUPS if how == "group" else 1
        rows.append(
            replace(
                row,
                live=row.live + count * layer,
                host_bytes=row.host_bytes + phase.passes * needed,
                overlapped=how == "group",
            )
        )
    changed = replace(trace, phases=tuple(phases), rows=tuple(rows), offloaded=True)
    return _with_loads(changed, switch) if how == "model" else changed


def _switched(trace: MemoryTrace) -> MemoryTrace:
    """With one of two experts in HBM: a request has the first brought in place of the second, which
    those before have left there, and the second when it is past the boundary."""
    rows: list[Segment] = []
    switch = None
    phases = [replace(p, weights=-(-p.weights // p.experts)) for p in trace.phases]
    for row in trace.rows:
        phase = _phase_of(trace, row)
        if phase.experts > 1 and switch is None:
            rows.append(_loading(phase, rows[-1].live if rows else 0))
            switch = replace(_loading(phase, row.live), name=f"load {phase.name} 2")
        rows.append(row)
    changed = replace(trace, phases=tuple(phases), rows=tuple(rows), offloaded=True)
    return _with_loads(changed, switch)


def _with_loads(trace: MemoryTrace, switch: Segment | None) -> MemoryTrace:
    """With the phase and the record of steps that bring a network, and the second expert's."""
    changed = replace(
        trace,
        phases=(*trace.phases, _loader()),
        records={**trace.records, LOADING: nothing()},
        switch=switch,
    )
    assert isinstance(trace.shape, Clip)
    return changed if switch is None else changed.spread(trace.shape.steps)


LOADING = "load"


def _loading(phase: Phase, live: int) -> Segment:
    """The step that brings a network, or one of its experts, with what the request holds then."""
    return Segment(
        f"load {phase.name}",
        LOADING,
        1,
        0,
        host_bytes=-(-phase.weights // phase.experts),
        live=live,
        record=LOADING,
    )


def _loader() -> Phase:
    """The phase of loading: it computes nothing, and one launch stands for the call."""
    return Phase(LOADING, 1, 0, 0, 0, 0, "bf16", "bf16")


def nothing() -> Record:
    """The record of a step that computes nothing."""
    none = np.zeros(0, dtype=np.int64)
    held = np.zeros((0, len(CATEGORIES)), dtype=np.int64)
    return Record((), none, none, none, none, none, held, 0)


def _phase_of(trace: MemoryTrace, row: Segment) -> Phase:
    return next(phase for phase in trace.phases if phase.name == row.phase)
