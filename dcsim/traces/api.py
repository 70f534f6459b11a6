"""Tracing by name: what the rest of dcsim calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dcsim.models.catalogue import Model, get
from dcsim.models.options import ModelError
from dcsim.spec import Gpu, Layout
from dcsim.traces.clips import trace_clip
from dcsim.traces.price import Work, price
from dcsim.traces.shapes import DitShape, RequestShape, TokenShape
from dcsim.traces.trace import MemoryTrace
from dcsim.traces.turns import trace_turn


def trace(
    model: str,
    options: Mapping[str, Any] | None = None,
    shape: RequestShape | None = None,
    layout: Layout | None = None,
) -> MemoryTrace:
    """What a request of that shape does to a replica's memory, counted without running it.

    `shape` defaults to `default_shape(model)`, `layout` to one GPU. ModelError names every
    unknown option, impossible shape and layout at once.
    """
    found = get(model)
    layout = layout or Layout()
    shape = default_shape(found) if shape is None else shape
    wanted = DitShape if found.kind == "dit" else TokenShape
    if not isinstance(shape, wanted):
        raise ModelError([("shape", f"{model} takes a {wanted.__name__}")])
    # With the types: 1 and 1.0 are equal, but not the same option.
    resolved = tuple((name, type(v), v) for name, v in found.resolve(options).items())
    return _traced(model, resolved, shape, layout)


@lru_cache(maxsize=64)
def _traced(
    model: str, options: tuple[tuple[str, type, Any], ...], shape: RequestShape, layout: Layout
) -> MemoryTrace:
    """Variants and drawn scenarios ask for the same traces again and again."""
    found = get(model)
    resolved = {name: value for name, _, value in options}
    if isinstance(shape, DitShape):
        return trace_clip(found, resolved, shape, layout)
    return trace_turn(found, resolved, shape, layout)


def default_shape(model: Model) -> RequestShape:
    """A typical request: 256 x 256 in 250 steps (the DiT paper), 480p for 81 frames in 50
    steps (Wan's default), or a turn of 1,024 and 256 tokens."""
    if model.kind == "llm":
        return TokenShape(1024, 256)
    if "text" in model.all_params():
        return DitShape(832, 480, 81, 50)
    return DitShape(256, 256, 1, 250)


def token_work(
    model: str,
    options: Mapping[str, Any] | None,
    layout: Layout,
    gpu: Gpu,
    chunk: int,
    max_batched_tokens: int,
    max_jobs: int | None = None,
) -> Work:
    """A language model's costs a token, for every prompt and output.

    `chunk` is the largest prefill chunk. The reserve holds the activations of a full batch
    (`max_batched_tokens`, of which `max_jobs` may be decodes with logits; None: all), the
    runtime's overhead and the share of HBM above `memory_utilization`.
    """
    counted = trace(model, options, TokenShape(1, 1, chunk), layout)
    work = price(counted, gpu)
    prefill, decode = (row["peak"] for row in work.segments)
    decodes = max_batched_tokens if max_jobs is None else min(max_jobs, max_batched_tokens)
    activations = prefill * max_batched_tokens + max(0, decode - prefill) * decodes
    free = counted.gpus * gpu.hbm
    unused = free - int(free * counted.options["memory_utilization"])
    return replace(work, reserve=work.reserve + activations + unused)
