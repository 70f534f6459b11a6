"""What 64 bits hold: requests too large to be counted, steps too long for the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcsim.assembly.rows import phase_row, segment_row
from dcsim.models import ModelError
from dcsim.models.shapes import Clip, RequestShape, Turn, figures
from dcsim.reading.units import INT64
from dcsim.spec import Layout
from dcsim.traces import MemoryTrace, Work, trace

__all__ = ["check_size", "counted_trace", "is_countable"]

MOST_PIXELS = 2**40
MOST_TOKENS = 2**31 - 1
MOST_CHUNK = 2**20
MOST_STEPS = 100_000


def counted_trace(
    model: str, options: Mapping[str, Any], shape: RequestShape, layout: Layout
) -> MemoryTrace:
    """The trace of a request. Raises ModelError, for one that is too large too."""
    check_size(shape)
    try:
        return trace(model, options, shape, layout)
    except OverflowError:
        said = ", ".join(f"{name} {value}" for name, value in figures(shape).items())
        message = f"{said}: an operation has more FLOPs or bytes than 64 bits hold"
        raise ModelError([("shape", message)]) from None


def check_size(shape: RequestShape) -> None:
    """Raises ModelError where a request is larger than can be counted."""
    if isinstance(shape, Turn):
        limits = {"prompt": MOST_TOKENS, "output": MOST_TOKENS, "chunk": MOST_CHUNK}
    else:
        limits = {"width": 10**6, "height": 10**6, "frames": 10**6, "steps": MOST_STEPS}
    problems = [
        (f"shape.{name}", f"{getattr(shape, name)} must be {most} or less")
        for name, most in limits.items()
        if getattr(shape, name) > most
    ]
    if isinstance(shape, Clip) and not problems:
        pixels = shape.width * shape.height * shape.frames
        if pixels > MOST_PIXELS:
            text = f"{shape.width}x{shape.height} in {shape.frames} frames are {pixels:.3g} pixels"
            problems.append(("shape", f"{text}; at most {MOST_PIXELS:.2g} are counted"))
    if problems:
        raise ModelError(problems)


def is_countable(work: Work) -> bool:
    """Whether the engine's tables hold it: time is counted in 2^-16 ns, so 39 h a step."""
    rows = [*map(phase_row, work.phases), *map(segment_row, work.segments)]
    return max(value for row in rows for value in row.values()) <= INT64
