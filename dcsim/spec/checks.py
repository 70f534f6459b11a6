"""What must hold between the parts of a scenario: small functions, each yields what is wrong.

A check that comes upon a value which could not be read says nothing more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from dcsim.reading.errors import Finding, bad_names, did_you_mean
from dcsim.reading.forms import sure
from dcsim.reading.tree import Node
from dcsim.reading.units import shown
from dcsim.spec.adapters import adapter_findings
from dcsim.spec.draws import FromLog
from dcsim.spec.jobs import Closed, Job, Replay
from dcsim.spec.operations import Operation
from dcsim.spec.scenario import Scenario
from dcsim.spec.stages import place_of, served, stage_findings, step_findings

_RESERVED = ("base", "changed")
"""What a comparison calls the scenario itself, and the variant of the command line."""
_MOST_BINS = 1_000_000
_MOST_REQUESTS = 10**9
_MOST_EVENTS = 10**6


def checks(scenario: Scenario, tree: Node) -> Iterator[Iterable[Finding]]:
    """All checks of a scenario that was read from this tree."""
    yield _time(scenario)
    yield _names(scenario)
    taken: dict[tuple[str, int], str] = {}
    for name, job in scenario.jobs.items():
        for check in (_shares, _from_log, _session, _keep, _reuse, _adapters, _options):
            yield _below(f"jobs.{name}", check(scenario, job))
        yield _below(f"jobs.{name}", stage_findings(job))
        yield _below(f"jobs.{name}", step_findings(job, scenario.jobs))
        yield _below(f"jobs.{name}", _arrivals(scenario, job, tree))
    for name, job in served(scenario.jobs).items():
        place = place_of(f"jobs.{name}")
        for check in (_layout, _chunk):
            yield _below(place, check(scenario, job))
        yield _below(place, _places(scenario, job, taken))
    yield _gpus(scenario)
    for i, operation in enumerate(scenario.operations):
        yield _below(f"operations.{i}", _referred(scenario, operation))
        yield _below(f"operations.{i}", _events(scenario, operation))


def _below(path: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    for below, message in findings:
        yield f"{path}.{below}", message


def _time(scenario: Scenario) -> Iterator[Finding]:
    if scenario.bin > scenario.duration:
        bin_, duration = scenario.bin / 1e9, scenario.duration / 1e9
        yield "bin", f"is longer than the duration: {bin_:g} s of {duration:g} s"
    elif -(-scenario.duration // scenario.bin) > _MOST_BINS:
        bins = -(-scenario.duration // scenario.bin)
        yield "bin", f"makes {bins} bins of the duration; at most {_MOST_BINS} are allowed"


def _names(scenario: Scenario) -> Iterator[Finding]:
    yield from bad_names("jobs", scenario.jobs)
    yield from bad_names("what_if", scenario.what_if)
    for name in _RESERVED:
        if name in scenario.what_if:
            yield f"what_if.{name}", f"{name!r} is taken by dcsim compare; give it another name"


# A job


def _shares(scenario: Scenario, job: Job) -> Iterator[Finding]:
    if job.shares is None:
        return
    server = scenario.jobs.get(job.shares)
    if server is None:
        others = [other for other in scenario.jobs if other != job.name]
        yield "shares", f"no job {job.shares!r}; {did_you_mean(job.shares, others)}"
    elif job.shares == job.name:
        yield "shares", "a job cannot share its own replicas"
    elif server.shares is not None:
        yield "shares", f"{job.shares!r} has no replicas of its own; share {server.shares!r}"
    elif job.is_clip != server.is_clip:
        both = f"{job.name}, {job.shares}"
        yield "shares", f"one is a diffusion job and the other an LLM's: {both}"
    elif job.keep.store not in (None, server.keep.store or "local"):
        yield "keep.store", f"must be that of {job.shares!r}: {server.keep.store or 'local'!r}"
    elif job.keep.weights_in_dram is not None:
        yield "keep.weights_in_dram", f"is for {job.shares!r} to say"


def _from_log(scenario: Scenario, job: Job) -> Iterator[Finding]:
    if job.as_traced or job.steps is not None:
        return
    for name, draw in vars(sure(job.shape)).items():
        if isinstance(sure(draw), FromLog) and not isinstance(sure(job.arrivals), Replay):
            yield f"shape.{name}", "from_log needs arrivals with process: replay"


def _session(scenario: Scenario, job: Job) -> Iterator[Finding]:
    session = sure(job.session)
    if session is None:
        return
    if job.is_clip:
        yield "session", "a diffusion job has no turns"
    elif isinstance(sure(job.arrivals), Replay):
        yield "session", "a request log says when each request comes; leave session out"
    elif isinstance(sure(job.arrivals), Closed):
        yield "session", "clients send one request after the other; leave session out"
    if isinstance(sure(session.turns), FromLog):
        yield "session.turns", "no request log has it"


def _adapters(scenario: Scenario, job: Job) -> Iterator[Finding]:
    server = None if job.shares is None else scenario.jobs.get(job.shares)
    yield from adapter_findings(job, server, [shelf.name for shelf in scenario.topology.shelves])


def _reuse(scenario: Scenario, job: Job) -> Iterator[Finding]:
    reuse = sure(job.keep.reuse)
    if reuse is None:
        return
    if job.is_clip:
        yield "keep.reuse", "a diffusion job leaves no context"
    elif job.shares is not None:
        yield "keep.reuse", f"is for {job.shares!r} to say"
    elif not (job.keep.context.dram or job.keep.context.nand or sure(reuse.hbm)):
        yield "keep.reuse", "needs hbm: true, or keep.context: for how long it stays, and where"


def _arrivals(scenario: Scenario, job: Job, tree: Node) -> Iterator[Finding]:
    arrivals = sure(job.arrivals)
    if arrivals is None:
        others = [sure(other.steps) or {} for other in scenario.jobs.values()]
        if not any(sure(step).job == job.name for steps in others for step in steps.values()):
            yield "arrivals", "is required and not given"
        return
    if isinstance(arrivals, Replay):
        if arrivals.until is not None and (arrivals.start or 0) >= arrivals.until:
            yield "arrivals.until", "must be after from"
        return
    if isinstance(arrivals, Closed):
        if arrivals.requests > _MOST_REQUESTS:
            yield "arrivals.requests", f"must be {_MOST_REQUESTS:.0e} or less"
        return
    points = tree.at("jobs", job.name, "arrivals", "rate", "piecewise")
    if points is not None and arrivals.rate.times[-2:][0] >= scenario.duration:
        yield "arrivals.rate.piecewise", "points lie after the end of the run"
    with np.errstate(over="ignore", invalid="ignore"):
        expected = float(arrivals.rate.integral(np.array([int(scenario.duration)]))[0])
    if not expected <= _MOST_REQUESTS:
        message = f"makes {expected:.3g} requests in the run; at most {_MOST_REQUESTS:.0e} are held"
        yield "arrivals.rate", message


def _keep(scenario: Scenario, job: Job) -> Iterator[Finding]:
    times, other = job.keep.context, job.keep.artifact
    if (other.dram or other.nand) and not job.is_clip:
        yield "keep.artifact", "an LLM job leaves no artifact"
    store, topology = sure(job.keep.store) or "local", scenario.topology
    known = ["local", *(shelf.name for shelf in topology.shelves)]
    if store not in known:
        yield "keep.store", f"no shelf {store!r}; {did_you_mean(store, known)}"
    elif (
        store == "local"
        and (times.nand or other.nand)
        and not any(d.nand for d in topology.domains)
    ):
        yield "keep", "objects are kept in NAND, but no node has local drives; name a shelf"


def _layout(scenario: Scenario, job: Job) -> Iterator[Finding]:
    if job.replicas is None:
        return
    groups = scenario.topology.groups
    for i, name in enumerate(job.replicas.on):
        if name not in groups:
            near = did_you_mean(name, groups)
            yield f"replicas.on.{i}", f"no rack or domain {name!r}; {near}"
    may = {d for name in job.replicas.on or groups for d in groups.get(name, ())}
    most = max((d.gpus for d in scenario.topology.domains if d.name in may), default=0)
    if most and job.gpus > most:
        message = f"takes {job.gpus} GPUs a replica; the largest domain it may use has {most}"
        yield "layout", message


def _places(scenario: Scenario, job: Job, taken: dict[tuple[str, int], str]) -> Iterator[Finding]:
    """`taken`: who has a GPU of a domain, over all jobs."""
    sizes = {domain.name: domain.gpus for domain in scenario.topology.domains}
    places = None if job.replicas is None else job.replicas.place
    for i, place in enumerate(places or ()):
        path = f"replicas.place.{i}"
        if place.domain not in sizes:
            near = did_you_mean(place.domain, sizes)
            yield f"{path}.domain", f"no domain {place.domain!r}; {near}"
            continue
        if len(place.gpus) != job.gpus:
            yield f"{path}.gpus", f"{len(place.gpus)} GPUs, but the layout takes {job.gpus}"
        for gpu, times in Counter(place.gpus).items():
            where = f"GPU {gpu} of {place.domain}"
            if gpu >= sizes[place.domain]:
                yield f"{path}.gpus", f"no {where}: it has {sizes[place.domain]}, from 0"
            elif times > 1:
                yield f"{path}.gpus", f"{where} is named {times} times"
            elif (place.domain, gpu) in taken:
                other = taken[place.domain, gpu]
                yield f"{path}.gpus", f"{where} is already given to {other}"
            else:
                taken[place.domain, gpu] = f"replica {i} of {job.name}"


def _chunk(scenario: Scenario, job: Job) -> Iterator[Finding]:
    given = job.scheduler
    if given is None or given.prefill_chunk is None or job.is_clip:
        return
    most = given.of(job.shape).max_batched_tokens
    if most is not None and given.prefill_chunk > most:
        message = f"{given.prefill_chunk} is more than max_batched_tokens, {most}"
        yield "scheduler.prefill_chunk", message


def _options(scenario: Scenario, job: Job) -> Iterator[Finding]:
    for key, value in job.options.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield f"options.{key}", f"{shown(value)} is not a finite number"


def _gpus(scenario: Scenario) -> Iterator[Finding]:
    own = [job for job in served(scenario.jobs).values() if job.replicas is not None]
    total = sum(job.gpus * job.replicas.count for job in own if job.replicas is not None)
    have = scenario.topology.gpus
    if total > have:
        yield "jobs", f"all replicas together take {total} GPUs; the topology has {have}"


# An operation


def _referred(scenario: Scenario, operation: Operation) -> Iterator[Finding]:
    yield from operation.findings(served(scenario.jobs), scenario.topology)


def _events(scenario: Scenario, operation: Operation) -> Iterator[Finding]:
    key, every = operation.pace() or ("", 0)
    if every and scenario.duration // every > _MOST_EVENTS:
        events = scenario.duration // every
        yield key, f"makes {events} events in the run; at most {_MOST_EVENTS} are allowed"
