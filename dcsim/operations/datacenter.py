"""The data center as an operator sees it: by name, at one instant, through a small API."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np

from dcsim.assembly import Plan
from dcsim.engine.border import STATES, Outputs, Rows, cut, joined
from dcsim.operations.routing import Route, by_service
from dcsim.reading.errors import StuckError
from dcsim.spec import did_you_mean
from dcsim.workload import Requests, stream

State = Literal["down", "loading", "up"]
Sink = Callable[[Requests, Rows], None]
"""Called with a window of requests and what came of them, in order."""


@dataclass(frozen=True)
class Sample:
    """One reading: what was measured of whom, and when."""

    time: int
    """ns."""
    subject: str
    """A pool (`used`) or a service (`running`, `waiting`, `up`)."""
    quantity: Literal["used", "running", "waiting", "up"]
    value: int
    """Bytes, jobs or replicas."""


@dataclass
class DataCenter:
    """A running engine with names. Times are ns, sizes bytes.

    What it does happens at `now`, after every event of that instant. Raises `LookupError` for a
    name that does not exist and `ValueError` for what cannot be done.
    """

    plan: Plan
    lifted: bool = False
    samples: list[Sample] = field(default_factory=list)
    progress: Callable[[int], None] | None = None
    sink: Sink | None = None
    """Takes the requests, once they are over; absent: `finish` gives them all."""

    threads: int = 1
    """On which components run that share nothing, at the most; the same comes out for any."""

    routers: Mapping[str, Route] = field(default_factory=dict)
    """Functions that decide in place of a service's router, by its name."""

    def __post_init__(self) -> None:
        self._windows: Iterator[Requests] = self.plan.source.windows()
        first = next(self._windows)
        self._engine = self.plan.engine(
            lifted=self.lifted,
            first=first,
            threads=self.threads,
            routers=by_service(self.plan, self.routers),
        )
        self._under_way = deque([first])
        self._next = next(self._windows, None)
        self._gathered: list[Rows] = []
        self._replicas = {name: row for row, name in enumerate(self.plan.replicas)}
        self._pools = {
            name: row
            for row, pool in enumerate(self.plan.pools)
            for name in (pool.name, *pool.also)
        }

    @property
    def now(self) -> int:
        """The present, ns."""
        return self._engine.now

    @property
    def horizon(self) -> int:
        """The end of the run, ns."""
        return self.plan.scenario.duration

    @property
    def arrived(self) -> int:
        """Requests that have arrived."""
        return self._engine.arrived

    @property
    def completed(self) -> int:
        """Requests that are completed."""
        return self._engine.completed

    def services(self) -> tuple[str, ...]:
        """Names of the services: the job classes that have replicas."""
        return self.plan.services

    def replicas(self, service: str) -> tuple[str, ...]:
        """Names of the replicas of a service (`chat/0`, `chat/1`, ...)."""
        if service not in self.plan.services:
            raise LookupError(
                f"no service {service!r}: {did_you_mean(service, self.plan.services)}"
            )
        return tuple(self.plan.replicas[row] for row in self.plan.replicas_of(service))

    def pools(self) -> tuple[str, ...]:
        """Names of the pools (`chat/0/hbm`, `rack0/node0/dram`, ...)."""
        return tuple(pool.name for pool in self.plan.pools)

    def state(self, replica: str) -> State:
        """Is it down, loading its weights, or up?"""
        state: State = STATES[self._engine.state(self._replica(replica))]  # type: ignore[assignment]
        return state

    def running(self, replica: str) -> int:
        """Jobs in its batch."""
        return self._engine.running(self._replica(replica))

    def waiting(self, replica: str) -> int:
        """Jobs in its queue."""
        return self._engine.waiting(self._replica(replica))

    def used(self, pool: str) -> int:
        """Bytes held in a pool now."""
        return self._engine.used(self._pool(pool))

    def capacity(self, pool: str) -> int:
        """Bytes that a pool can hold now."""
        return self._engine.capacity(self._pool(pool))

    def fail(self, replica: str) -> None:
        """The replica dies: its jobs start over elsewhere, its HBM is empty."""
        self._engine.fail(self._replica(replica))

    def repair(self, replica: str) -> None:
        """A replica that is down starts cold: weights come from NAND through DRAM."""
        self._engine.start(self._replica(replica))

    def set_capacity(self, pool: str, capacity: int) -> None:
        """A DRAM or NAND pool comes to hold `capacity` bytes; what no longer fits is lost."""
        row = self._pool(pool)
        try:
            self._engine.set_capacity(row, capacity)
        except ValueError as error:
            raise ValueError(f"{pool}: {error}") from error

    def stream(self, *names: str) -> np.random.Generator:
        """A random stream of the scenario by name (`workload.stream`): others change nothing."""
        return stream(self.plan.scenario.seed, *names)

    def sample(self) -> None:
        """Takes one reading of every pool and service."""
        now = self.now
        for name in self.pools():
            self.samples.append(Sample(now, name, "used", self.used(name)))
        for service in self.plan.services:
            names = self.replicas(service)
            up = sum(self.state(name) == "up" for name in names)
            self.samples.append(Sample(now, service, "running", sum(map(self.running, names))))
            self.samples.append(Sample(now, service, "waiting", sum(map(self.waiting, names))))
            self.samples.append(Sample(now, service, "up", up))

    def run_until(self, time: int) -> None:
        """Lets the engine handle everything up to and at `time` (at most the horizon)."""
        time = min(time, self.horizon)
        if self.progress is None:
            self._come_to(time)
            return
        slices = max(1, -(-100 * (time - self.now) // self.horizon))
        start = self.now
        for i in range(1, slices + 1):
            self._come_to(start + (time - start) * i // slices)
            self.progress(self.now)

    def finish(self) -> Outputs:
        """Runs to the horizon; what the engine wrote down. The engine is gone afterwards.

        With a sink the columns of the requests are left empty.

        Raises:
            StuckError: a replica will never go on.
        """
        self.run_until(self.horizon)
        self._check_progress()
        engine = self._engine
        del self._engine  # SimPy's processes hold on to this data center for long
        outputs = engine.finish()
        first = 0
        for window in self._under_way:
            self._pass_on(window, cut(outputs, first, first + len(window)))
            first += len(window)
        rows = joined(self._gathered) if self.sink is None else cut(outputs, 0, 0)
        return cast(Outputs, {**outputs, **rows})

    def _check_progress(self) -> None:
        found = self._engine.stuck()
        if found is None:
            return
        replica, *rows = found
        # Who hands over is known whole beforehand, so rows are those of the first window.
        klass, names = self._under_way[0].klass, self.plan.classes
        head, giver, taker = (f"request {row} of {names[klass[row]]!r}" for row in rows)
        raise StuckError(
            f"stuck: {self.plan.replicas[replica]} runs nothing. {head} needs room in its HBM "
            f"beside what {giver} keeps there to hand over to {taker}, and that waits for the "
            "first. Give it more HBM or more replicas, or let less be handed over"
        )

    def _drain(self) -> None:
        """Passes on the windows whose requests are over."""
        while (rows := self._engine.take()) is not None:
            self._pass_on(self._under_way.popleft(), rows)

    def _pass_on(self, window: Requests, rows: Rows) -> None:
        if self.sink is None:
            self._gathered.append(rows)
        else:
            self.sink(window, rows)

    def _come_to(self, time: int) -> None:
        """Lets the engine run, and gives it each window as late as it may."""
        while self._next is not None and self._next.arrival[0] <= time:
            window = self._next
            if window.arrival[0] > self._engine.now:
                self._engine.run_until(int(window.arrival[0]) - 1)
            self._engine.give(self.plan.columns(window))
            self._under_way.append(window)
            self._next = next(self._windows, None)
            self._drain()
        self._engine.run_until(time)

    def _replica(self, name: str) -> int:
        if name not in self._replicas:
            raise LookupError(f"no replica {name!r}: {did_you_mean(name, self._replicas)}")
        return self._replicas[name]

    def _pool(self, name: str) -> int:
        if name not in self._pools:
            raise LookupError(f"no pool {name!r}: {did_you_mean(name, self._pools)}")
        return self._pools[name]
