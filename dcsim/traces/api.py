"""Tracing by name: what the rest of dcsim calls."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dcsim.models.catalogue import get, stamp
from dcsim.models.options import ModelError
from dcsim.models.shapes import Clip, RequestShape
from dcsim.spec import Layout
from dcsim.traces.clips import trace_clip
from dcsim.traces.trace import MemoryTrace
from dcsim.traces.turns import trace_turn


def trace(
    model: str,
    options: Mapping[str, Any] | None = None,
    shape: RequestShape | None = None,
    layout: Layout | None = None,
) -> MemoryTrace:
    """What a request of that shape does to a replica's memory, counted without running it.

    `shape` defaults to the model's typical `request`, `layout` to one GPU. ModelError names
    every unknown option, impossible shape and layout at once.
    """
    found = get(model)
    layout = layout or Layout()
    shape = found.request if shape is None else shape
    wanted = type(found.request)
    if not isinstance(shape, wanted):
        raise ModelError([("shape", f"{model} takes a {wanted.__name__}")])
    # With the types: 1 and 1.0 are equal, but not the same option.
    resolved = tuple((name, type(v), v) for name, v in found.resolve(options).items())
    return _traced(found.name, stamp(found.name), resolved, shape, layout)


@lru_cache(maxsize=64)
def _traced(
    model: str,
    changed: int,
    options: tuple[tuple[str, type, Any], ...],
    shape: RequestShape,
    layout: Layout,
) -> MemoryTrace:
    """Variants and drawn scenarios ask for the same traces again and again."""
    found = get(model)
    resolved = {name: value for name, _, value in options}
    if isinstance(shape, Clip):
        return trace_clip(found, resolved, shape, layout)
    return trace_turn(found, resolved, shape, layout)
