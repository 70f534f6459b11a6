"""One run: a scenario simulated as built, and once more with the capacities lifted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dcsim.assembly import Plan, make_plan
from dcsim.engine import Outputs
from dcsim.operations import DataCenter, Process, Sample, operate, processes
from dcsim.results import Results, collect
from dcsim.spec import load_scenario

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done, 0 to 1."""


@dataclass(frozen=True)
class Run:
    """What one pass of the engine gave."""

    outputs: Outputs
    samples: tuple[Sample, ...]
    seconds: float
    """Wall time of the engine and the processes that command it."""


def load(path: str | Path, *, overrides: Sequence[str] = (), what_if: str | None = None) -> Plan:
    """The plan of a scenario file, checked throughout.

    Raises:
        SpecError: with every problem of the files, the models, the placement and the logs.
    """
    return make_plan(load_scenario(path, overrides=overrides, what_if=what_if))


def simulate(
    plan: Plan,
    *,
    lifted: bool = False,
    commands: Iterable[Process] = (),
    progress: Callable[[int], None] | None = None,
) -> Run:
    """One pass over the plan, under the scenario's operations and the `commands`."""
    begun = time.perf_counter()
    datacenter = DataCenter(plan, lifted=lifted, progress=progress)
    operate(datacenter, [*processes(plan.scenario), *commands])
    outputs = datacenter.finish()
    return Run(outputs, tuple(datacenter.samples), time.perf_counter() - begun)


def run(
    plan: Plan, *, commands: Sequence[Process] = (), progress: Progress | None = None
) -> Results:
    """The results of a plan: occupancy as built, demand with capacities lifted, same arrivals.

    `commands`: SimPy processes of the caller's, beside the scenario's operations. They are
    called once for each of the two passes, so they must keep no state outside.
    """
    passes = []
    for name, lifted in (("as built", False), ("capacities lifted", True)):
        report = _share(progress, name, plan.scenario.duration)
        passes.append(simulate(plan, lifted=lifted, commands=commands, progress=report))
    built, lifted_run = passes
    return collect(
        plan,
        built.outputs,
        lifted_run.outputs,
        seconds=built.seconds,
        lifted_seconds=lifted_run.seconds,
        extra={"samples": _samples(built.samples)} if built.samples else None,
    )


def _share(progress: Progress | None, name: str, horizon: int) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda now: progress(name, now / horizon)


def _samples(samples: Sequence[Sample]) -> pa.Table:
    return pa.table(
        {
            "time_ns": pa.array([s.time for s in samples], pa.int64()),
            "subject": pa.array([s.subject for s in samples]).dictionary_encode(),
            "quantity": pa.array([s.quantity for s in samples]).dictionary_encode(),
            "value": pa.array([s.value for s in samples], pa.int64()),
        }
    )
