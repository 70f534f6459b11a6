"""The stages of a clip, each on a replica of its own: encode, denoise, decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dcsim.models.tape import CATEGORIES
from dcsim.traces.residency import LOADING
from dcsim.traces.segments import Segment
from dcsim.traces.trace import MemoryTrace

__all__ = ["handed_over", "part"]

_PHASES = {
    "text": "encode",
    "input": "encode",
    "session": "denoise",
    "denoise": "denoise",
    "audio": "denoise",
    "vae": "decode",
    "waveform": "decode",
}


def _stage(phase: str) -> str:
    """The stage in which a phase runs; those of several text encoders are one."""
    return _PHASES[phase.split()[0]]


def _at(row: Segment) -> str:
    """The phase that a row is of: of a step that brings a network that network's."""
    return row.name.removeprefix(f"{LOADING} ") if row.phase == LOADING else row.phase


def part(trace: MemoryTrace, stages: Sequence[str]) -> MemoryTrace:
    """What a clip does to the replica that runs these stages alone.

    Weights and steps are those of their phases. Raises ValueError where the model has no such
    phase (no text encoder, say).
    """
    rows = [row for row in trace.rows if _stage(_at(row)) in stages]
    needed = {row.phase for row in rows}
    phases = tuple(phase for phase in trace.phases if phase.name in needed)
    lacking = [name for name in stages if name not in {_stage(_at(row)) for row in rows}]
    if lacking == ["encode"] and len(stages) > 1:
        lacking = []  # labels, or what a user encodes: nothing to run
    if lacking:
        raise ValueError(f"{trace.model} has nothing to {' or '.join(lacking)}")
    if trace.stored and "denoise" not in stages:  # a feature cache stays where it was made
        rows = [
            replace(row, live=row.live - trace.stored) if _stage(row.phase) == "decode" else row
            for row in rows
        ]
    if not any(row.first for row in rows):  # what it makes is its first result
        rows[-1] = replace(rows[-1], first=True)
    artifact = trace.artifact if "decode" in stages else 0
    return replace(trace, phases=phases, rows=tuple(rows), artifact=artifact)


def handed_over(trace: MemoryTrace, last: str) -> int:
    """Bytes that the stage after `last` needs: the embeddings, or the latents.

    `trace` is of the whole clip on one GPU, so they are counted once. The embeddings are what is
    held when all is encoded; the latents, those of a soundtrack too, are what is held of that kind
    when the last steps of denoising begin.
    """
    stage = "encode" if last == "encode" else "denoise"
    rows = [row for row in trace.rows if row.phase != LOADING and _stage(row.phase) == stage]
    if last == "encode":
        return trace.records[rows[-1].record].live if rows else 0
    return int(trace.records[rows[-1].record].held[0, CATEGORIES.index("latents")])
