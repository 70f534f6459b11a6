"""The operations that a scenario can ask for, each a SimPy process."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from simpy.events import Event

from dcsim.operations.datacenter import DataCenter
from dcsim.operations.environment import Environment, Process
from dcsim.spec import Capacity, Failures, Outage, Sampler, Scenario, SpecError
from dcsim.workload import stream

Steps = Generator[Event, Any, None]


def processes(scenario: Scenario) -> list[Process]:
    """The processes of all operations of a scenario, fresh: a run consumes them."""
    out: list[Process] = []
    for i, operation in enumerate(scenario.operations):
        match operation:
            case Failures():
                out += _failures(scenario, operation)
            case Capacity():
                out.append(_capacity(scenario, operation, f"operations.{i}"))
            case Sampler():
                out.append(sampler(operation.every))
    return out


def exponential_failures(
    replica: str, mtbf: int, mttr: int, random: np.random.Generator
) -> Process:
    """The replica fails after exponential times of mean `mtbf` ns and is repaired after `mttr` ns
    in the mean (exponential too); the clock of the next failure starts at the repair."""

    def run(env: Environment, datacenter: DataCenter) -> Steps:
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

    def run(env: Environment, datacenter: DataCenter) -> Steps:
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

    def run(env: Environment, datacenter: DataCenter) -> Steps:
        yield env.timeout(at)
        datacenter.set_capacity(pool, to)

    return run


def sampler(every: int) -> Process:
    """Takes a reading of every pool and service now and every `every` ns."""

    def run(env: Environment, datacenter: DataCenter) -> Steps:
        while True:
            datacenter.sample()
            yield env.timeout(every)

    return run


def _failures(scenario: Scenario, operation: Failures) -> list[Process]:
    service = scenario.jobs[operation.job].shares or operation.job
    if operation.script is not None:
        return [_outage(service, outage) for outage in operation.script]
    if operation.mtbf is None or operation.mttr is None:
        return []
    which = operation.replica
    return [_each(scenario, service, operation.mtbf, operation.mttr, which)]


def _capacity(scenario: Scenario, operation: Capacity, path: str) -> Process:
    """The script in order of time; what the engine refuses is a problem of its line."""

    def run(env: Environment, datacenter: DataCenter) -> Steps:
        for i, change in sorted(enumerate(operation.script), key=lambda row: row[1].at):
            yield env.timeout(change.at - env.now)
            try:
                datacenter.set_capacity(f"{change.owner}/{change.tier}", change.to)
            except ValueError as error:
                problem = scenario.problem(f"{path}.script.{i}.2", str(error))
                raise SpecError([problem]) from error

    return run


def _outage(service: str, outage: Outage) -> Process:
    return scripted_outage(f"{service}/{outage.replica}", outage.at, outage.down_for)


def _each(scenario: Scenario, service: str, mtbf: int, mttr: int, which: int | None) -> Process:
    """A process that starts one failure process for each replica: they exist only then."""

    def run(env: Environment, datacenter: DataCenter) -> Steps:
        names = datacenter.replicas(service) if which is None else (f"{service}/{which}",)
        for name in names:
            random = stream(scenario.seed, name, "failures")
            env.process(exponential_failures(name, mtbf, mttr, random)(env, datacenter))
        yield env.timeout(0)

    return run
