"""Tracing by name: what the rest of dcsim calls."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dcsim.models.catalogue import get, stamp
from dcsim.models.llm import LlmConfig
from dcsim.models.options import ModelError, wrong_options
from dcsim.models.pipeline import Networks
from dcsim.models.shapes import Clip, RequestShape, Turn
from dcsim.reading.errors import did_you_mean
from dcsim.spec import Layout, is_trace
from dcsim.traces.checks import check_clip
from dcsim.traces.clips import trace_clip
from dcsim.traces.files import load
from dcsim.traces.trace import MemoryTrace
from dcsim.traces.turns import check_turn, trace_turn


def trace(
    model: str,
    options: Mapping[str, Any] | None = None,
    shape: RequestShape | None = None,
    layout: Layout | None = None,
) -> MemoryTrace:
    """What a request of that shape does to a replica's memory, counted without running it.

    `shape` defaults to the model's typical `request`, `layout` to one GPU. ModelError names
    every unknown option, impossible shape and layout at once. A model may be a trace file, which
    has the shape, options and layout that it was recorded with; of a diffusion model the steps
    are free.
    """
    if is_trace(model):
        return _recorded(model, options or {}, shape, layout)
    found = get(model)
    layout = layout or Layout()
    shape = found.request if shape is None else shape
    if wrong_options(found.options, options or {}) or type(shape) is not type(found.request):
        raise ModelError(list(wrong(model, options, shape, layout)))
    if isinstance(shape, Clip) and not shape.given and found.needs_image:
        shape = replace(shape, given=1)
    # With the types: 1 and 1.0 are equal, but not the same option.
    resolved = tuple((name, type(v), v) for name, v in found.resolve(options).items())
    return _traced(found.name, stamp(found.name), resolved, shape, layout)


def wrong(
    model: str,
    options: Mapping[str, Any] | None = None,
    shape: RequestShape | None = None,
    layout: Layout | None = None,
) -> Iterator[tuple[str, str]]:
    """Why a model cannot be traced so, as (path, message), with every reason; none where it can.

    What depends on an option that is wrong is looked at under its default.
    """
    options = options or {}
    try:
        if is_trace(model):
            _recorded(model, options, shape, layout)
            return
        found = get(model)
    except ModelError as error:
        yield from error.problems
        return
    bad = wrong_options(found.options, options)
    yield from ((f"options.{name}", message) for name, message in bad.items())
    right = found.resolve({name: value for name, value in options.items() if name not in bad})
    network, shape, layout = found.built(right), shape or found.request, layout or Layout()
    if type(shape) is not type(found.request):
        yield _takes(model, found.request)
    elif isinstance(network, LlmConfig):
        assert isinstance(shape, Turn)
        yield from check_turn(network, shape, layout)
    else:
        assert isinstance(shape, Clip)
        yield from check_clip(network, right, shape, layout)


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


def streams(model: str) -> bool:
    """Whether a model makes clips chunk by chunk, and leaves what the next can go on from."""
    try:
        if is_trace(model):
            return recorded(model).context > 0
        network = get(model).network
    except ModelError:
        return False  # that has been said
    return isinstance(network, Networks) and network.denoiser.chunk > 0


def request_of(model: str) -> RequestShape:
    """A typical request of a model; of a trace file the one that was recorded."""
    return recorded(model).shape if is_trace(model) else get(model).request


def options_of(model: str) -> Collection[str]:
    """Names of a model's options; of a trace file those it was recorded with."""
    return recorded(model).options if is_trace(model) else get(model).options


def recorded(file: str) -> MemoryTrace:
    """The trace of a file. ModelError where there is none."""
    try:
        return _loaded(file, Path(file).stat().st_mtime_ns)
    except OSError as error:
        raise ModelError([("model", f"{file}: {error.strerror or error}")]) from None
    except ValueError as error:
        raise ModelError([("model", str(error))]) from None


@lru_cache(maxsize=16)
def _loaded(file: str, changed: int) -> MemoryTrace:
    return load(file)


def _recorded(
    file: str, options: Mapping[str, Any], shape: RequestShape | None, layout: Layout | None
) -> MemoryTrace:
    """The trace of a file as a request asks for it. ModelError where it was not recorded so."""
    found = recorded(file)
    shape = found.shape if shape is None else shape
    problems = []
    for name, value in options.items():
        if name not in found.options:
            known = did_you_mean(name, sorted(found.options))
            problems.append((f"options.{name}", f"{file} was not traced with it; {known}"))
        elif value != found.options[name]:
            problems.append((f"options.{name}", _fixed(file, found.options[name], value)))
    for name, own in vars(found.layout).items():
        if layout is not None and getattr(layout, name) != own:
            problems.append((f"layout.{name}", _fixed(file, own, getattr(layout, name))))
    free = ("steps",) if isinstance(found.shape, Clip) else ("prompt", "output")
    if type(shape) is not type(found.shape):
        problems.append(_takes(file, found.shape))
    elif (alike := replace(found.shape, **{n: getattr(shape, n) for n in free})) != shape:
        for name, value in vars(alike).items():
            if getattr(shape, name) != value:
                problems.append((f"shape.{name}", _fixed(file, value, getattr(shape, name))))
    if problems:
        raise ModelError(problems)
    return found.with_steps(shape.steps) if isinstance(shape, Clip) else replace(found, shape=shape)


def _takes(model: str, request: RequestShape) -> tuple[str, str]:
    keys = "resolution, frames, steps" if isinstance(request, Clip) else "prompt, output"
    return "shape", f"{model} takes {keys}"


def _fixed(file: str, have: object, asked: object) -> str:
    return f"{asked!r}, but {file} was traced with {have!r}; trace it again"
