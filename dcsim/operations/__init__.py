"""Operations: SimPy processes that act on the data center while it runs."""

from dcsim.operations.datacenter import DataCenter, Sample, Sink
from dcsim.operations.environment import Environment, Process, operate, processes
from dcsim.operations.routing import Arriving, Candidate, Route
from dcsim.reading.errors import StuckError
from dcsim.spec.operations import (
    capacity_change,
    exponential_failures,
    sampler,
    scripted_outage,
)

__all__ = [
    "Arriving",
    "Candidate",
    "DataCenter",
    "Environment",
    "Process",
    "Route",
    "Sample",
    "Sink",
    "StuckError",
    "capacity_change",
    "exponential_failures",
    "operate",
    "processes",
    "sampler",
    "scripted_outage",
]
