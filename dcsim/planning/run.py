"""One run: a scenario simulated as built, and once more with the capacities lifted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
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

_SECONDS_BETWEEN = 0.2
"""Between two words of progress while the passes are waited for."""


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
    called once for each of the two passes, which run at once on two threads, so they must keep
    no state outside.
    """
    built, lifted_run = _both_passes(plan, commands, progress)
    return collect(
        plan,
        built.outputs,
        lifted_run.outputs,
        seconds=built.seconds,
        lifted_seconds=lifted_run.seconds,
        extra={"samples": _samples(built.samples)} if built.samples else None,
    )


class _Stopped(Exception):
    """The other pass has failed, or the user has had enough."""


def _both_passes(
    plan: Plan, commands: Sequence[Process], progress: Progress | None
) -> tuple[Run, Run]:
    """As built on this thread, which Ctrl-C reaches, and lifted on another. An error of the
    first goes before one of the second; progress is told from this thread alone."""
    stop = threading.Event()
    done = {"built": 0, "lifted": 0}  # ns

    def tell() -> None:
        if progress is not None:
            progress("simulating", sum(done.values()) / (2 * plan.scenario.duration))

    def built_is_at(now: int) -> None:
        done["built"] = now
        tell()

    def lifted_is_at(now: int) -> None:
        done["lifted"] = now
        if stop.is_set():
            raise _Stopped

    with ThreadPoolExecutor(1, thread_name_prefix="dcsim-lifted") as pool:
        other = pool.submit(simulate, plan, lifted=True, commands=commands, progress=lifted_is_at)
        try:
            built = simulate(plan, commands=commands, progress=built_is_at if progress else None)
            while not wait([other], timeout=_SECONDS_BETWEEN).done:
                tell()
            lifted = other.result()
            tell()
            return built, lifted
        except BaseException:
            stop.set()
            raise


def _samples(samples: Sequence[Sample]) -> pa.Table:
    return pa.table(
        {
            "time_ns": pa.array([s.time for s in samples], pa.int64()),
            "subject": pa.array([s.subject for s in samples]).dictionary_encode(),
            "quantity": pa.array([s.quantity for s in samples]).dictionary_encode(),
            "value": pa.array([s.value for s in samples], pa.int64()),
        }
    )
