"""What can be counted: figures so large that a run could not hold them, or never end.

Findings as in `checks`: (dotted path, message). Each limit is far above what a plan asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dcsim.spec.resolve_jobs import rate
from dcsim.spec.topology import Domain, Shelf, Topology
from dcsim.spec.units import INT64, shown
from dcsim.spec.written_draws import NumberDraw, SizeDraw
from dcsim.spec.written_jobs import GammaProcess, JobFields, ReplayArrivals
from dcsim.spec.written_operations import FailuresFields, SamplerFields
from dcsim.spec.written_scenario import ScenarioFile

Finding = tuple[str, str]

MOST_NUMBER = 2**31 - 1
"""Tokens, frames or steps, as in request logs."""
MOST_CHUNK = 2**20
MOST_WEIGHT = 1e15
MOST_REQUESTS = 10**9
MOST_EVENTS = 10**6
YEAR = 365 * 86_400 * 10**9
MOST_YEARS = 50
"""Of a run, and of what is kept after it: 64 bits hold 292 years of ns."""
LEAST_BANDWIDTH = 10**6
"""Bytes/s: what crosses a slower link would take longer than 64 bits of ns hold."""
MOST_LATENCY = 3600 * 10**9
CV = (0.001, 1000.0)
SPEED = (0.001, 1e6)


def scenario_limits(scenario: ScenarioFile) -> Iterator[Finding]:
    """What of a scenario is more than can be counted."""
    yield from _not_over_years("duration", scenario.duration)
    for name, job in scenario.jobs.items():
        for path, message in _job(job, scenario.duration):
            yield f"jobs.{name}.{path}", message
    yield from _operations(scenario)


def topology_limits(topology: Topology) -> Iterator[Finding]:
    """Sums over racks and shelves that 64 bits do not hold."""
    for tier, total in (("HBM", topology.hbm), ("DRAM", topology.dram), ("NAND", topology.nand)):
        if total > INT64:
            yield "racks", f"{total:.3g} B of {tier} in all: more than 64 bits hold"
    for domain in topology.domains:
        links = ("nand_read", "nand_write", "nic")
        yield from _links("racks", domain, [name for name in links if getattr(domain, name)])
        for name in ("host_link", "scale_up", "hbm_bandwidth"):
            yield from _bandwidth(
                "racks", f"{name} of {domain.gpu.name}", getattr(domain.gpu, name)
            )
    for shelf in topology.shelves:
        yield from _links(f"shelves.{shelf.name}", shelf, ("read", "write", "network"))


def _links(path: str, owner: Domain | Shelf, names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        yield from _bandwidth(path, f"{name} of {owner.name}", getattr(owner, name))
    for name in ("nand_latency_read", "nand_latency_write", "nic_latency", "latency"):
        if getattr(owner, name, 0) > MOST_LATENCY:
            yield path, f"{name} of {owner.name} must be 1 h or less"


def _bandwidth(path: str, what: str, rate: int) -> Iterator[Finding]:
    if not LEAST_BANDWIDTH <= rate <= INT64:
        yield path, f"{what} must be from 1 MB/s to what 64 bits hold, not {rate:.3g} B/s"


def _not_over_years(path: str, time: int) -> Iterator[Finding]:
    if time > MOST_YEARS * YEAR:
        yield path, f"{time / YEAR:.3g} years must be {MOST_YEARS} or less"


def _job(job: JobFields, duration: int) -> Iterator[Finding]:
    yield from _arrivals(job, duration)
    yield from _shape(job)
    for what in ("artifact", "context"):
        for tier in ("dram", "nand"):
            path = f"keep.{what}.{tier}"
            yield from _not_over_years(path, getattr(getattr(job.keep, what), tier))
    limits = {"prefill_chunk": MOST_CHUNK, "max_batched_tokens": MOST_NUMBER}
    for key, most in {**limits, "max_jobs": MOST_NUMBER}.items():
        given = getattr(job.scheduler, key, None)
        if given is not None and given > most:
            yield f"scheduler.{key}", f"{given} must be {most} or less"
    for key, value in (job.options or {}).items():
        if isinstance(value, float) and not math.isfinite(value):
            yield f"options.{key}", f"{shown(value)} is not a finite number"


def _arrivals(job: JobFields, duration: int) -> Iterator[Finding]:
    arrivals = job.arrivals
    if isinstance(arrivals, ReplayArrivals):
        yield from _between("arrivals.speed", arrivals.speed, SPEED)
        return
    if isinstance(arrivals, GammaProcess):
        yield from _between("arrivals.cv", arrivals.cv, CV)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = float(rate(arrivals.rate).integral(np.array([duration]))[0])
    if not expected <= MOST_REQUESTS:
        message = f"makes {expected:.3g} requests in the run; at most {MOST_REQUESTS:.0e} are held"
        yield "arrivals.rate", message


def _between(path: str, value: float, bounds: tuple[float, float]) -> Iterator[Finding]:
    low, high = bounds
    if not low <= value <= high:
        yield path, f"{shown(value)} must be from {low:g} to {high:g}"


def _shape(job: JobFields) -> Iterator[Finding]:
    for name in ("resolution", "frames", "steps", "prompt", "output"):
        draw = getattr(job.shape, name, None)
        path = f"shape.{name}"
        weights: Mapping[str, float] = {}
        if isinstance(draw, SizeDraw | NumberDraw):
            weights = draw.choice or {}
        for value, weight in weights.items():
            if weight > MOST_WEIGHT:
                yield f"{path}.choice.{value}", f"{weight} must be {MOST_WEIGHT:g} or less"
        if isinstance(draw, int | NumberDraw):
            for where, number in _numbers(draw):
                if number > MOST_NUMBER:
                    yield f"{path}{where}", f"{number} must be {MOST_NUMBER} or less"


def _numbers(draw: int | NumberDraw) -> Iterator[tuple[str, float]]:
    """The numbers that bound what is drawn, with the path below the draw."""
    if isinstance(draw, int):
        yield "", draw
        return
    for value in draw.choice or {}:
        yield f".choice.{value}", int(value)
    if draw.uniform is not None:
        yield ".uniform.max", draw.uniform.max
    if draw.lognormal is not None:
        yield ".lognormal.max", draw.lognormal.max
        yield ".lognormal.median", draw.lognormal.median
    if draw.empirical is not None:
        for i, number in enumerate(draw.empirical.values or ()):
            yield f".empirical.values.{i}", number


def _operations(scenario: ScenarioFile) -> Iterator[Finding]:
    for i, operation in enumerate(scenario.operations):
        key, every = "", scenario.duration
        if isinstance(operation, SamplerFields):
            key, every = "every", operation.every
        elif isinstance(operation, FailuresFields) and operation.mtbf and operation.mttr:
            key, every = "mtbf", operation.mtbf + operation.mttr
        events = scenario.duration // every
        if events > MOST_EVENTS:
            message = f"makes {events} events in the run; at most {MOST_EVENTS} are allowed"
            yield f"operations.{i}.{key}", message
