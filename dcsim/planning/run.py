"""One run: a scenario simulated as built, and once more with the capacities lifted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dcsim.assembly import Plan, make_plan, model_findings
from dcsim.cores import cores
from dcsim.engine import Outputs
from dcsim.operations import DataCenter, Process, Route, Sample, Sink, operate, processes
from dcsim.results import Pass, Record, Results, results_of
from dcsim.spec import Scenario, SpecError, load_scenario

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done, 0 to 1."""

Routers = Mapping[str, Route]
"""Functions that route, by the names of services."""

_SECONDS_BETWEEN = 0.1
"""Between two words of progress while the passes are waited for."""


@dataclass(frozen=True)
class Run:
    """What one pass of the engine gave."""

    outputs: Outputs
    samples: tuple[Sample, ...]
    seconds: float
    """Wall time of the engine and the processes that command it."""


def read(
    path: str | Path, *, overrides: Sequence[str] = (), what_if: str | None = None
) -> Scenario:
    """A scenario file as `load_scenario` reads it. Where it has problems, they are told together
    with those of its models, which else show when it is assembled."""
    try:
        return load_scenario(path, overrides=overrides, what_if=what_if)
    except SpecError:
        return load_scenario(path, overrides=overrides, what_if=what_if, also=(model_findings,))


def load(path: str | Path, *, overrides: Sequence[str] = (), what_if: str | None = None) -> Plan:
    """The plan of a scenario file, checked throughout.

    Raises:
        SpecError: with every problem of the files, the models, the placement and the logs.
    """
    return make_plan(read(path, overrides=overrides, what_if=what_if))


def simulate(
    plan: Plan,
    *,
    lifted: bool = False,
    commands: Iterable[Process] = (),
    progress: Callable[[int], None] | None = None,
    sink: Sink | None = None,
    threads: int = 1,
    routers: Routers | None = None,
) -> Run:
    """One pass over the plan, under the scenario's operations and the `commands`. A `sink` takes
    the requests window by window; without one they are all in the outputs. `threads`: at the most,
    for components that share nothing; they change no result. `routers`: as in `run`."""
    begun = time.perf_counter()
    datacenter = DataCenter(
        plan, lifted=lifted, progress=progress, sink=sink, threads=threads, routers=routers or {}
    )
    operate(datacenter, [*processes(plan.scenario), *commands])
    outputs = datacenter.finish()
    return Run(outputs, tuple(datacenter.samples), time.perf_counter() - begun)


def run(
    plan: Plan,
    *,
    commands: Sequence[Process] = (),
    routers: Routers | None = None,
    progress: Progress | None = None,
) -> Results:
    """The results of a plan: occupancy as built, demand with capacities lifted, same arrivals.

    `commands`: SimPy processes of the caller's, beside the scenario's operations. They are
    called once for each of the two passes, which run at once on two threads, so they must keep
    no state outside.

    `routers`: by name of a service a function that says which replica gets a request, in place of
    the scenario's router. It is called from both passes, so it must keep no state either, and
    costs Python's time a request. An error in it ends the run.
    """
    ((_, results),) = run_all({"": plan}, commands=commands, routers=routers, progress=progress)
    return results


def run_all(
    plans: Mapping[str, Plan],
    *,
    commands: Sequence[Process] = (),
    routers: Routers | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[str, Results]]:
    """The results of some plans by name, in their order, each as soon as it is there.

    Their passes run side by side on the cores at hand, at least two at once, and know nothing of
    each other: the results are those of one after another. The first error in the order of the
    plans is raised, with a note of the name where there is one.
    """
    with _Passes(plans, commands, routers, progress) as passes:
        for name, plan in plans.items():
            built, lifted = passes.wait(name)
            samples = built[1]
            extra = {"samples": _samples(samples)} if samples else None
            yield name, results_of(plan, built[0], lifted[0], extra=extra)


_Simulated = tuple[Pass, tuple[Sample, ...]]


class _Stopped(Exception):
    """An earlier pass has failed, or the user has had enough."""


class _Passes:
    """Two passes of each plan, as built and lifted, on threads.

    This thread waits, so that Ctrl-C reaches it, and tells the progress.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        commands: Sequence[Process],
        routers: Routers | None,
        progress: Progress | None,
    ) -> None:
        self._progress, self._routers = progress, routers
        self._horizons = [plan.scenario.duration for plan in plans.values() for _ in range(2)]
        self._done = [0] * len(self._horizons)
        """ns of each pass."""
        self._failed: list[int] = []
        """Passes that have: those after them stop, those before them go on."""
        self._threads = max(1, cores() // len(self._horizons))
        """Of each pass."""
        self._pool = ThreadPoolExecutor(max(2, cores()), thread_name_prefix="dcsim-pass")
        self._futures: dict[str, list[Future[_Simulated]]] = {}
        for row, (name, plan) in enumerate(plans.items()):
            self._futures[name] = [
                self._pool.submit(self._simulate, 2 * row + lifted, plan, bool(lifted), commands)
                for lifted in (0, 1)
            ]

    def _simulate(
        self, row: int, plan: Plan, lifted: bool, commands: Sequence[Process]
    ) -> _Simulated:
        def is_at(now: int) -> None:
            self._done[row] = now
            if min(self._failed, default=row) < row:
                raise _Stopped

        try:
            is_at(0)
            record = Record(plan, lifted=lifted)
            made = simulate(
                plan,
                lifted=lifted,
                commands=commands,
                progress=is_at,
                sink=record.add,
                threads=self._threads,
                routers=self._routers,
            )
            return Pass(made.outputs, record, made.seconds - record.seconds), made.samples
        except BaseException:
            self._failed.append(row)
            raise

    def wait(self, name: str) -> tuple[_Simulated, _Simulated]:
        """What the two passes of a plan gave; kept here no longer."""
        futures = self._futures.pop(name)
        while wait(futures, timeout=_SECONDS_BETWEEN, return_when=FIRST_EXCEPTION).not_done:
            self._tell()
            if any(each.done() and each.exception() for each in futures):
                break
        self._tell()
        try:
            built, lifted = (each.result() for each in futures)
        except Exception as error:
            if name:
                error.add_note(f"in variant {name}")
            raise
        return built, lifted

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress("simulating", sum(self._done) / sum(self._horizons))

    def __enter__(self) -> _Passes:
        return self

    def __exit__(self, *_: object) -> None:
        self._failed.append(-1)
        self._pool.shutdown(cancel_futures=True)


def _samples(samples: Sequence[Sample]) -> pa.Table:
    return pa.table(
        {
            "time_ns": pa.array([s.time for s in samples], pa.int64()),
            "subject": pa.array([s.subject for s in samples]).dictionary_encode(),
            "quantity": pa.array([s.quantity for s in samples]).dictionary_encode(),
            "value": pa.array([s.value for s in samples], pa.int64()),
        }
    )
