"""What a factory returns to be traced: the stages of one request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from dcsim.models.options import ModelError
from dcsim.models.shapes import Clip

NO_PIXELS = Clip(0, 0, 0, 1)
"""The shape of a request that makes no clip."""


@dataclass(frozen=True)
class Stage:
    """A run of equal steps of a request: one call, `steps` times over.

    A stage holds its inputs while it runs, and what the call returns until its end.
    """

    name: str
    run: Callable[..., Any]
    """A module, a method of one, or a function."""
    inputs: Any = ()
    """What the call is given: a tensor, a tuple of arguments, or a mapping by name."""
    steps: int = 1
    phase: str = ""
    """Stages of one phase need the same weights. Default: the stage's name."""
    modules: Sequence[torch.nn.Module] = ()
    """Whose weights the phase needs. Default: `run`, or the module whose method it is."""
    layers: int = 0
    """Layers a step runs, each with a launch. Default: entries of its outermost `ModuleList`s
    that are called."""

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional ones and those by name."""
        if isinstance(self.inputs, Mapping):
            return (), dict(self.inputs)
        if isinstance(self.inputs, tuple | list):
            return tuple(self.inputs), {}
        return (self.inputs,), {}


@dataclass(frozen=True)
class TorchRequest:
    """One request: its stages, and what a scenario wants to know of it besides."""

    stages: Sequence[Stage]
    shape: Clip = field(default=NO_PIXELS)
    """Pixels and frames of what it makes; its steps are those of the stage that repeats."""
    artifact: int = 0
    """Bytes of the finished clip."""


def request(made: Any, origin: str) -> TorchRequest:
    """What a factory made, as a request. ModelError says all that is wrong with it."""
    match made:
        case TorchRequest():
            found = made
        case Stage():
            found = TorchRequest([made])
        case (torch.nn.Module() as module, inputs):
            found = TorchRequest([Stage("forward", module, inputs)])
        case [*stages] if stages and all(isinstance(stage, Stage) for stage in stages):
            found = TorchRequest(stages)
        case _:
            message = (
                f"{origin} returned {_said(made)}; return (module, inputs), a Stage, a list of "
                "Stages or a TorchRequest (dcsim.traces.torch)"
            )
            raise ModelError([("--torch", message)])
    if problems := [("--torch", f"{origin}: {text}") for text in _wrong(found)]:
        raise ModelError(problems)
    stages = [_completed(stage) for stage in found.stages]
    steps = next((stage.steps for stage in stages if stage.steps > 1), 1)
    return replace(found, stages=stages, shape=replace(found.shape, steps=steps))


def _said(made: Any) -> str:
    if isinstance(made, torch.nn.Module):
        return f"{type(made).__name__} without example inputs"
    if isinstance(made, tuple | list):
        return f"a {type(made).__name__} of {', '.join(type(each).__name__ for each in made)}"
    return f"a {type(made).__name__}" if made is not None else "None"


def _wrong(found: TorchRequest) -> Iterator[str]:
    names = [stage.name for stage in found.stages]
    if not names:
        yield "no stages"
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"two stages are called {name!r}"
    for stage in found.stages:
        if not stage.name or "." in stage.name:
            yield f"stage {stage.name!r}: a name is text without dots"
        run: Any = stage.run
        if not callable(run):
            yield f"stage {stage.name!r}: {_said(run)} cannot be called"
        elif not _modules(stage):
            yield f"stage {stage.name!r}: whose weights does it need? Say modules=[...]"
        for name, least in (("steps", 1), ("layers", 0)):
            value = getattr(stage, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                yield f"stage {stage.name!r}: {name} is {value!r}; a whole number from {least} on"
    if sum(stage.steps > 1 for stage in found.stages if isinstance(stage.steps, int)) > 1:
        yield "several stages have steps; one may repeat"


def _modules(stage: Stage) -> list[torch.nn.Module]:
    given: list[Any] = list(stage.modules)
    given = given or [stage.run, getattr(stage.run, "__self__", None)]
    return [each for each in given if isinstance(each, torch.nn.Module)]


def _completed(stage: Stage) -> Stage:
    return replace(stage, phase=stage.phase or stage.name, modules=_modules(stage))
