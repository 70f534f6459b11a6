"""From a factory to a memory trace, under fake tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcsim.models.options import FLOATS, RUNTIME, ModelError, Option, resolve
from dcsim.models.tape import ATTENTION, CONV, DENSE
from dcsim.spec import Layout
from dcsim.traces.record import Record
from dcsim.traces.segments import Phase, Segment
from dcsim.traces.torch import factory as factories
from dcsim.traces.torch.fake import fake, real
from dcsim.traces.torch.recorder import Recorder, stored
from dcsim.traces.torch.stages import Stage, TorchRequest, request
from dcsim.traces.trace import MemoryTrace

OPTIONS = {
    "dtype": Option("bf16", "Default dtype, in which modules and inputs are built.", FLOATS),
    "autocast": Option(
        "none", "Dtype of `torch.autocast` around all stages.", ("none", "bf16", "fp16")
    ),
    "attention": Option(
        "fused",
        "`scaled_dot_product_attention` as one kernel; `math` holds the scores of all pairs.",
        ("fused", "math"),
    ),
    "device": Option(
        "fake",
        "`cuda`: run it on a GPU too, and count as workspace what the allocator's history shows "
        "beyond the lifetimes of tensors.",
        ("fake", "cuda"),
    ),
    "runtime_overhead": RUNTIME,
}
"""Options of tracing; all else is an argument of the factory."""


def trace(
    factory: str | Callable[..., Any],
    options: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> MemoryTrace:
    """The memory trace of what a factory returns, without weights, data or GPU.

    `factory`: a function, or `module:function`. It is called under fake tensors, with
    `arguments`, and returns (module, inputs), a `Stage`, several, or a `TorchRequest`. `options`:
    those of `OPTIONS`. ModelError with what is wrong, the factory's own errors too.
    """
    chosen, given = resolve(OPTIONS, options or {}), dict(arguments or {})
    if clash := sorted(OPTIONS.keys() & given.keys()):
        raise ModelError([(name, "is an option of tracing, no argument") for name in clash])
    if chosen["device"] == "cuda" and not torch.cuda.is_available():
        raise ModelError([("options.device", "cuda, but PyTorch finds no CUDA GPU here")])
    name = factory if isinstance(factory, str) else getattr(factory, "__name__", "factory")
    with fake(chosen["dtype"], chosen["autocast"]):
        make = factories.find(factory) if isinstance(factory, str) else factory
        factories.check_arguments(make, given, OPTIONS)
        with factories.explained(f"{name} raised"):
            made = make(**given)
        found = request(made, name)
        kernel = sdpa_kernel(SDPBackend.MATH) if chosen["attention"] == "math" else nullcontext()
        with kernel:
            passes = [record(stage) for stage in found.stages]
        traced = _assembled(name, {**chosen, **given}, found, passes)
    if chosen["device"] == "cuda":
        inputs = {stage.name: each.inputs for stage, each in zip(found.stages, passes, strict=True)}
        with factories.explained(f"{name} on the GPU"):
            traced = _measured(traced, lambda: request(make(**given), name), inputs)
    return traced


def _measured(
    trace: MemoryTrace, make: Callable[[], TorchRequest], inputs: Mapping[str, int]
) -> MemoryTrace:
    """The trace with the workspaces that a run on a GPU shows, and what was measured as options."""
    from dcsim.traces.torch.cuda import run, with_workspace

    records, facts = dict(trace.records), dict(trace.options)
    kernel = sdpa_kernel(SDPBackend.MATH) if facts["attention"] == "math" else nullcontext()
    with real(facts["dtype"], facts["autocast"]), kernel:
        for stage in make().stages:
            args, kwargs = stage.arguments()
            found = run(partial(stage.run, *args, **kwargs))
            record = with_workspace(records[stage.name], inputs[stage.name], found)
            records[stage.name] = record
            facts |= {f"{stage.name} {key}": value for key, value in vars(found).items()}
    rows = (replace(row, peak=records[row.record].peak) for row in trace.rows)
    return replace(trace, records=records, options=facts, rows=tuple(rows))


@dataclass(frozen=True)
class Pass:
    """One step of a stage, recorded."""

    record: Record
    rows: int
    layers: int
    rates: Mapping[tuple[str, str], int]
    inputs: int
    """Bytes of its inputs, held before it runs."""


def record(stage: Stage) -> Pass:
    """One step of a stage on a tape. ModelError names the stage, module and op that fail."""
    recorder = Recorder(stage.modules)
    args, kwargs = stage.arguments()
    recorder.hold((args, kwargs), "inputs")
    inputs = recorder.tape.live
    try:
        with recorder.watching():
            result = stage.run(*args, **kwargs)
    except (ModelError, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        raise ModelError([(factories.OPTION, _failure(stage, recorder, error))]) from None
    recorder.hold(result, "output")
    found = Record.of(recorder.tape)
    del result
    layers = stage.layers or recorder.layers
    return Pass(found, recorder.rows, layers, recorder.rates, inputs)


_DATA = "a trace has shapes, but no values; compute it from shapes or pass it as an argument"
_READ = {
    "_local_scalar_dense": "a number is read out of a tensor, by .item(), .tolist(), int(), if",
    "nonzero": "its size depends on values, as that of a boolean mask does",
}


def _failure(stage: Stage, recorder: Recorder, error: BaseException) -> str:
    """What went wrong, with the op and the module that were running."""
    op, module = recorder.failed or ("", recorder.module)
    where = f"stage {stage.name!r}"
    where += f", module {module}" if module else ""
    where += f", op {op}" if op else ""
    dynamic = (DataDependentOutputException, DynamicOutputShapeException)
    if isinstance(error, dynamic):
        name = op.split(".")[1] if "." in op else op
        return f"{where}: {_READ.get(name, 'what it puts out depends on values')}; {_DATA}"
    if isinstance(error, UnsupportedFakeTensorException):
        return f"{where}: {factories.said(error)}; replace it by an op that allocates the same"
    if isinstance(error, RuntimeError) and ".numpy()" in str(error):
        return f"{where}: a tensor becomes a numpy array; {_DATA}"
    return f"{where}: {factories.said(error)}{factories.place(error)}"


def _assembled(
    name: str, options: Mapping[str, Any], found: TorchRequest, passes: list[Pass]
) -> MemoryTrace:
    pairs = list(zip(found.stages, passes, strict=True))
    phases, seen = [], set[int]()
    for phase in dict.fromkeys(stage.phase for stage in found.stages):
        mine = [(stage, done) for stage, done in pairs if stage.phase == phase]
        params, exact, held = stored([m for stage, _ in mine for m in stage.modules], seen)
        rates: Counter[tuple[str, str]] = Counter()
        for _, done in mine:
            rates.update(done.rates)
        phases.append(
            Phase(
                phase,
                max(1, *(done.layers for _, done in mine)),
                params,
                held,
                exact,
                max(done.record.total("weights", "dense") for _, done in mine),
                _dtype(rates, (ATTENTION, CONV), options["dtype"]),
                _dtype(rates, (DENSE,), options["dtype"]),
            )
        )
    return MemoryTrace(
        name,
        "torch",
        {
            key: value if isinstance(value, str | int | float) else str(value)
            for key, value in options.items()
        },
        found.shape,
        Layout(),
        tuple(phases),
        tuple(row for pair in _with_first(pairs) for row in pair),
        {stage.name: done.record for stage, done in pairs},
        found.artifact,
        options["runtime_overhead"],
    )


def _dtype(rates: Mapping[tuple[str, str], int], kinds: tuple[str, ...], default: str) -> str:
    """The dtype of most of the FLOPs of some classes."""
    found: Counter[str] = Counter()
    for (kind, dtype), flops in rates.items():
        if kind in kinds:
            found[dtype] += flops
    return max(sorted(found), key=lambda name: found[name]) if found else default


def _with_first(pairs: list[tuple[Stage, Pass]]) -> list[list[Segment]]:
    """Rows of every stage: the first of the steps that repeat, else the last stage, ends in the
    first result."""
    repeats = [i for i, (stage, _) in enumerate(pairs) if stage.steps > 1]
    result = repeats[0] if repeats else len(pairs) - 1
    out = []
    for i, (stage, done) in enumerate(pairs):
        row = Segment.of(done.record, stage.name, stage.name, stage.phase, stage.steps, done.rows)
        if i != result:
            out.append([row])
            continue
        first = replace(row, steps=1, first=True)
        rest = [replace(row, steps=stage.steps - 1)] if stage.steps > 1 else []
        out.append([replace(first, name="first step") if rest else first, *rest])
    return out
