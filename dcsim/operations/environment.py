"""SimPy in command: an environment whose clock is the engine's."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeAlias

import simpy
from simpy.events import NORMAL, Event

from dcsim.operations.datacenter import DataCenter
from dcsim.spec import Scenario

Process: TypeAlias = Callable[["Environment", DataCenter], Generator[Event, Any, Any]]
"""A process of an operator: `def process(env, datacenter): ... yield env.timeout(ns) ...`."""


class Environment(simpy.Environment):
    """A `simpy.Environment` in integer ns, in step with a data center.

    Before a SimPy event is handled the engine has handled everything up to and at its time, so a
    process sees, and acts on, the data center as it is at `now`. Between two SimPy events the
    compiled loop runs alone. Delays are rounded to whole ns.
    """

    def __init__(self, datacenter: DataCenter) -> None:
        super().__init__(initial_time=datacenter.now)
        self.datacenter = datacenter

    def schedule(self, event: Event, priority: Any = NORMAL, delay: float = 0) -> None:
        """As SimPy's, with the delay (ns) rounded to whole ns."""
        super().schedule(event, priority, round(delay))

    def step(self) -> None:
        """Brings the engine to the time of the next SimPy event and handles that."""
        time = self.peek()
        if time <= self.datacenter.horizon:
            self.datacenter.run_until(int(time))
        super().step()


def processes(scenario: Scenario) -> list[Process]:
    """The processes of all operations of a scenario, fresh: a run consumes them."""
    return [
        process
        for i, operation in enumerate(scenario.operations)
        for process in operation.processes(scenario.jobs, f"operations.{i}")
    ]


def operate(datacenter: DataCenter, processes: Iterable[Process]) -> None:
    """Runs the data center to its horizon under the command of the processes.

    They see the horizon's own instant too: it comes after all that happens there.
    """
    environment = Environment(datacenter)
    for process in processes:
        environment.process(process(environment, datacenter))
    while environment.peek() <= datacenter.horizon:
        environment.step()
    datacenter.run_until(datacenter.horizon)
