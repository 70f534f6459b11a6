"""Operations: what happens to the data center during a run.

An operation is one class: how it is written, what may be wrong with it, and what it does, as SimPy
processes. Those act on the environment and the data center that `operations/` hands them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from dcsim.reading.concept import (
    BytesOrZero,
    Concept,
    CountOrZero,
    Duration,
    Instant,
    Least,
    form_of,
)
from dcsim.reading.errors import Finding, SpecError, did_you_mean
from dcsim.reading.forms import ListOf, Row, Text
from dcsim.spec.jobs import Job
from dcsim.spec.topology import Topology

Steps = Generator[Any, Any, None]
Process = Callable[[Any, Any], Steps]
"""From (environment, data center) to a SimPy process."""


class Operation(Concept, ABC):
    """What happens to the data center during the run."""

    by = "kind"

    def findings(self, jobs: Mapping[str, Job], topology: Topology) -> Iterator[Finding]:
        """What is wrong with its names."""
        yield from ()

    def pace(self) -> tuple[str, int] | None:
        """The key that says how often it acts, and the time between two acts, ns."""
        return None

    @abstractmethod
    def processes(self, jobs: Mapping[str, Job], path: str) -> list[Process]:
        """What it does, fresh: a run consumes them. `path`: where it stands in the scenario."""


@dataclass(frozen=True)
class Outage(Concept):
    """A replica of the job goes down at `at` for `down_for` (ns)."""

    row = True

    at: Instant
    replica: CountOrZero
    down_for: Duration


@dataclass(frozen=True)
class Failures(Operation):
    """Replicas fail and are repaired: exponential times, or a script."""

    tag = "failures"

    job: str
    """Whose replicas."""
    replica: CountOrZero | None = None
    """Only this one, from 0; absent: each on its own."""
    mtbf: Duration | None = None
    """Mean time between failures; with `mttr`."""
    mttr: Duration | None = None
    """Mean time to repair; with `mtbf`."""
    script: Annotated[tuple[Outage, ...], Least(1)] | None = None
    """In place of `mtbf` and `mttr`: entries `[at, replica, down for]`."""

    def check(self) -> None:
        times = (self.mtbf, self.mttr)
        if self.script is None and None in times:
            raise ValueError("mtbf and mttr are required, or a script")
        if self.script is not None and (*times, self.replica) != (None, None, None):
            raise ValueError("script stands alone: no mtbf, mttr or replica beside it")

    def findings(self, jobs: Mapping[str, Job], topology: Topology) -> Iterator[Finding]:
        job = jobs.get(self.job)
        served = [name for name, job in jobs.items() if job.shares is None]
        if job is None or job.shares is not None:
            what = "no job" if job is None else "no replicas of its own has"
            yield "job", f"{what} {self.job!r}; {did_you_mean(self.job, served)}"
            return
        count = 0 if job.replicas is None else job.replicas.count
        named = [("replica", self.replica)]
        named += [(f"script.{i}.1", entry.replica) for i, entry in enumerate(self.script or ())]
        for place, replica in named:
            if replica is not None and replica >= count:
                yield place, f"no replica {replica} of {self.job!r}: it has {count}, from 0"

    def pace(self) -> tuple[str, int] | None:
        return ("mtbf", self.mtbf + self.mttr) if self.mtbf and self.mttr else None

    def processes(self, jobs: Mapping[str, Job], path: str) -> list[Process]:
        service = jobs[self.job].shares or self.job
        outages = self.script or ()
        return [scripted_outage(f"{service}/{o.replica}", o.at, o.down_for) for o in outages] or [
            self._each_of(service)
        ]

    def _each_of(self, service: str) -> Process:
        """A process that starts one failure process for each replica: they exist only then."""
        mtbf, mttr = self.mtbf or 0, self.mttr or 0

        def run(env: Any, datacenter: Any) -> Steps:
            every = datacenter.replicas(service)
            for name in every if self.replica is None else (f"{service}/{self.replica}",):
                random = datacenter.stream(name, "failures")
                env.process(exponential_failures(name, mtbf, mttr, random)(env, datacenter))
            yield env.timeout(0)

        return run


@dataclass(frozen=True)
class CapacityChange:
    """At `at` (ns) a pool comes to hold `to` bytes."""

    at: int
    tier: str
    """`dram` or `nand`."""
    owner: str
    """The domain, node, rack or shelf whose pool it is."""
    to: int

    @classmethod
    def of(cls, at: int, pool: str, to: int) -> CapacityChange:
        """Of a pool by its name: a shelf, or `DOMAIN/dram`, `DOMAIN/nand`."""
        owner, _, tier = pool.rpartition("/")
        return cls(at, tier, owner, to) if owner else cls(at, "nand", pool, to)


_CHANGE = Row((form_of(Instant), Text(), form_of(BytesOrZero)), CapacityChange.of)


@dataclass(frozen=True)
class Capacity(Operation):
    """A shelf arrives, a shelf dies: capacities change by script."""

    tag = "capacity"

    script: Annotated[tuple[CapacityChange, ...], ListOf(_CHANGE, 1)]
    """Entries `[at, pool, bytes]`; a pool is the name of a shelf, or `DOMAIN/dram`,
    `DOMAIN/nand`. Where nodes are apart it is `DOMAIN/node0/dram`, with all nodes that replicas
    join to this one; of racks that pool theirs `RACK/dram`."""

    def findings(self, jobs: Mapping[str, Job], topology: Topology) -> Iterator[Finding]:
        known = {shelf.name: (shelf.name, "nand") for shelf in topology.shelves}
        for owner in topology.memories():
            known |= {f"{owner}/{tier}": (owner, tier) for tier in ("dram", "nand")}
        for i, change in enumerate(self.script):
            if (change.owner, change.tier) not in known.values():
                bare = change.tier == "nand" and "/" not in change.owner
                pool = change.owner if bare else f"{change.owner}/{change.tier}"
                yield f"script.{i}.1", f"no pool {pool!r}; {did_you_mean(pool, known)}"

    def processes(self, jobs: Mapping[str, Job], path: str) -> list[Process]:
        def run(env: Any, datacenter: Any) -> Steps:
            """In order of time; what the engine refuses is a problem of its line."""
            for i, change in sorted(enumerate(self.script), key=lambda row: row[1].at):
                yield env.timeout(change.at - env.now)
                try:
                    datacenter.set_capacity(f"{change.owner}/{change.tier}", change.to)
                except ValueError as error:
                    scenario = datacenter.plan.scenario
                    problem = scenario.problem(f"{path}.script.{i}.2", str(error))
                    raise SpecError([problem]) from error

        return [run]


@dataclass(frozen=True)
class Sampler(Operation):
    """The state is written down again and again."""

    tag = "sampler"

    every: Duration
    """How often."""

    def pace(self) -> tuple[str, int] | None:
        return "every", self.every

    def processes(self, jobs: Mapping[str, Job], path: str) -> list[Process]:
        return [sampler(self.every)]


# Processes for programs of one's own too


def exponential_failures(
    replica: str, mtbf: int, mttr: int, random: np.random.Generator
) -> Process:
    """The replica fails after exponential times of mean `mtbf` ns and is repaired after `mttr` ns
    in the mean (exponential too); the clock of the next failure starts at the repair."""

    def run(env: Any, datacenter: Any) -> Steps:
        while True:
            yield env.timeout(random.exponential(mtbf))
            if datacenter.state(replica) != "down":
                datacenter.fail(replica)
            yield env.timeout(random.exponential(mttr))
            if datacenter.state(replica) == "down":
                datacenter.repair(replica)

    return run


def scripted_outage(replica: str, at: int, down_for: int) -> Process:
    """The replica is down from `at` for `down_for` ns; one that is down already stays as it is."""

    def run(env: Any, datacenter: Any) -> Steps:
        yield env.timeout(at)
        if datacenter.state(replica) == "down":
            return
        datacenter.fail(replica)
        yield env.timeout(down_for)
        if datacenter.state(replica) == "down":
            datacenter.repair(replica)

    return run


def capacity_change(pool: str, at: int, to: int) -> Process:
    """A DRAM or NAND pool comes to hold `to` bytes at `at` ns: a shelf arrives, a shelf dies."""

    def run(env: Any, datacenter: Any) -> Steps:
        yield env.timeout(at)
        datacenter.set_capacity(pool, to)

    return run


def sampler(every: int) -> Process:
    """Takes a reading of every pool and service now and every `every` ns."""

    def run(env: Any, datacenter: Any) -> Steps:
        while True:
            datacenter.sample()
            yield env.timeout(every)

    return run
