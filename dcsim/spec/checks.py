"""What must hold between the parts of a scenario: small functions, each yields what is wrong.

A finding is (dotted path, message). They run on what each part's own model has accepted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from dcsim.spec.errors import did_you_mean
from dcsim.spec.resolve_topology import domain_names, expand_names, rack_names
from dcsim.spec.written_draws import Curve
from dcsim.spec.written_jobs import (
    JobFields,
    ReplayArrivals,
    ReplicaFields,
)
from dcsim.spec.written_operations import CapacityFields, FailuresFields
from dcsim.spec.written_parts import TopologyFile
from dcsim.spec.written_scenario import ScenarioFile

Finding = tuple[str, str]

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_+-]*$")
_LONGEST_NAME = 64
_RESERVED = ("base", "changed")
"""What a comparison calls the scenario itself, and the variant of the command line."""
_MOST_BINS = 1_000_000
_MOST_DOMAINS = 1_000_000


def topology_findings(topology: TopologyFile, prefix: str = "") -> Iterator[Finding]:
    """What is wrong with a topology as a whole; `prefix` goes before each path."""
    for check in _TOPOLOGY:
        for path, message in check(topology):
            yield prefix + path, message


def scenario_findings(scenario: ScenarioFile) -> Iterator[Finding]:
    """What is wrong with a scenario as a whole."""
    found = list(topology_findings(scenario.topology, "topology."))
    yield from found
    if found:
        return  # names of racks and shelves mean little then
    for check in _SCENARIO:
        yield from check(scenario)


# Topology


def _names(topology: TopologyFile) -> Iterator[Finding]:
    yield from _bad_names("racks", topology.racks)
    yield from _bad_names("shelves", topology.shelves)
    if not topology.racks:
        yield "racks", "needs at least one rack"
    if "local" in topology.shelves:
        yield "shelves.local", "'local' means a domain's own drives; give the shelf another name"


def _size(topology: TopologyFile) -> Iterator[Finding]:
    for key, rack in topology.racks.items():
        if rack.count * rack.nodes > _MOST_DOMAINS:
            yield f"racks.{key}", f"{rack.count} x {rack.nodes} nodes are over {_MOST_DOMAINS}"


def _rack_names_differ(topology: TopologyFile) -> Iterator[Finding]:
    if any(_size(topology)):
        return
    owner: dict[str, str] = {}
    for key, rack in topology.racks.items():
        for name in rack_names(key, rack):
            if name in owner:
                yield f"racks.{key}", f"the rack {name!r} is also one of racks.{owner[name]}"
            owner[name] = key


def _shelves_serve(topology: TopologyFile) -> Iterator[Finding]:
    if any(_size(topology)):
        return
    for key, shelf in topology.shelves.items():
        path = f"shelves.{key}"
        numbered = (name for k, rack in topology.racks.items() for name in rack_names(k, rack))
        known = dict.fromkeys([*topology.racks, *numbered])
        for i, name in enumerate(shelf.serves or ()):
            if name not in known:
                yield f"{path}.serves.{i}", f"no rack {name!r}; {did_you_mean(name, known)}"
        if shelf.pod_gpus is None:
            continue
        gpus = sum(
            rack.nodes * rack.node.gpus
            for k, rack in topology.racks.items()
            for name in rack_names(k, rack)
            if shelf.serves is None or name in shelf.serves or k in shelf.serves
        )
        if gpus > shelf.pod_gpus:
            message = f"{shelf.pod_gpus} is less than the {gpus} GPUs of the racks it serves here"
            yield f"{path}.pod_gpus", message


_TOPOLOGY: tuple[Callable[[TopologyFile], Iterator[Finding]], ...] = (
    _names,
    _size,
    _rack_names_differ,
    _shelves_serve,
)


# Scenario


def _time(scenario: ScenarioFile) -> Iterator[Finding]:
    if scenario.bin > scenario.duration:
        bin_, duration = scenario.bin / 1e9, scenario.duration / 1e9
        yield "bin", f"is longer than the duration: {bin_:g} s of {duration:g} s"
    elif -(-scenario.duration // scenario.bin) > _MOST_BINS:
        bins = -(-scenario.duration // scenario.bin)
        yield "bin", f"makes {bins} bins of the duration; at most {_MOST_BINS} are allowed"


def _job_names(scenario: ScenarioFile) -> Iterator[Finding]:
    yield from _bad_names("jobs", scenario.jobs)
    yield from _bad_names("what_if", scenario.what_if)
    for name in _RESERVED:
        if name in scenario.what_if:
            yield f"what_if.{name}", f"{name!r} is taken by dcsim compare; give it another name"


def _shares(scenario: ScenarioFile) -> Iterator[Finding]:
    for name, job in scenario.jobs.items():
        path = f"jobs.{name}.shares"
        if job.shares is None:
            continue
        server = scenario.jobs.get(job.shares)
        if server is None:
            others = [other for other in scenario.jobs if other != name]
            yield path, f"no job {job.shares!r}; {did_you_mean(job.shares, others)}"
        elif job.shares == name:
            yield path, "a job cannot share its own replicas"
        elif server.shares is not None:
            yield path, f"{job.shares!r} has no replicas of its own; share {server.shares!r}"
        elif _is_clip(job) != _is_clip(server):
            yield path, f"one is a diffusion job and the other an LLM's: {name}, {job.shares}"
        elif job.keep.store not in (None, server.keep.store or "local"):
            where = server.keep.store or "local"
            yield f"jobs.{name}.keep.store", f"must be that of {job.shares!r}: {where!r}"
        elif job.keep.weights_in_dram is not None:
            yield f"jobs.{name}.keep.weights_in_dram", f"is for {job.shares!r} to say"


def _is_clip(job: JobFields) -> bool:
    return job.shape is not None and job.shape.resolution is not None


def _from_log(scenario: ScenarioFile) -> Iterator[Finding]:
    for name, job in scenario.jobs.items():
        if job.shape is None or isinstance(job.arrivals, ReplayArrivals):
            continue
        for field in type(job.shape).model_fields:
            if getattr(job.shape, field) == "from_log":
                yield f"jobs.{name}.shape.{field}", "from_log needs arrivals with process: replay"


def _rates(scenario: ScenarioFile) -> Iterator[Finding]:
    for name, job in scenario.jobs.items():
        path = f"jobs.{name}.arrivals"
        if isinstance(job.arrivals, ReplayArrivals):
            start, until = job.arrivals.start, job.arrivals.until
            if until is not None and start is not None and start >= until:
                yield f"{path}.until", "must be after from"
        elif isinstance(job.arrivals.rate, Curve):
            points = job.arrivals.rate.piecewise or ()
            if len(points) > 1 and points[-2][0] >= scenario.duration:
                yield f"{path}.rate.piecewise", "points lie after the end of the run"


def _keep_fits(scenario: ScenarioFile) -> Iterator[Finding]:
    racks = scenario.topology.racks
    for name, job in scenario.jobs.items():
        path = f"jobs.{name}.keep"
        times, other = job.keep.context, job.keep.artifact
        if _is_clip(job):
            times, other = other, times
        if other.dram or other.nand:
            kind, of = ("context", "a diffusion") if _is_clip(job) else ("artifact", "an LLM")
            yield f"{path}.{kind}", f"{of} job leaves no {kind}"
        store = job.keep.store or "local"
        shelves = scenario.topology.shelves
        if store != "local" and store not in shelves:
            known = ["local", *shelves]
            yield f"{path}.store", f"no shelf {store!r}; {did_you_mean(store, known)}"
        elif store == "local" and times.nand and not any(r.node.ssds for r in racks.values()):
            yield path, "objects are kept in NAND, but no node has local drives; name a shelf"


def _layouts_fit(scenario: ScenarioFile) -> Iterator[Finding]:
    sizes = {d: n for _, d, n in _domains(scenario.topology)}
    total = 0
    for name, job in scenario.jobs.items():
        if job.replicas is None:
            continue
        path = f"jobs.{name}"
        gpus = _layout_gpus(job)
        candidates = sizes
        if isinstance(job.replicas, ReplicaFields) and job.replicas.on is not None:
            members = expand_names(job.replicas.on, scenario.topology.racks)
            for i, wanted in enumerate(job.replicas.on):
                if wanted not in members:
                    known = [*scenario.topology.racks, *sizes]
                    message = f"no rack or domain {wanted!r}; {did_you_mean(wanted, known)}"
                    yield f"{path}.replicas.on.{i}", message
            candidates = {d: sizes[d] for names in members.values() for d in names}
        most = max(candidates.values(), default=0)
        if candidates and gpus > most:
            message = f"takes {gpus} GPUs a replica; the largest domain it may use has {most}"
            yield f"{path}.layout", message
        total += gpus * _replica_count(job)
    have = sum(sizes.values())
    if total > have:
        yield "jobs", f"all replicas together take {total} GPUs; the topology has {have}"


def _layout_gpus(job: JobFields) -> int:
    layout = job.layout
    return 1 if layout is None else layout.tp * layout.sp * layout.cfg


def _replica_count(job: JobFields) -> int:
    replicas = job.replicas
    if isinstance(replicas, ReplicaFields):
        return len(replicas.place) if replicas.place is not None else (replicas.count or 0)
    return replicas or 0


def _domains(topology: TopologyFile) -> Iterator[tuple[str, str, int]]:
    """(rack, domain, GPUs) of every domain."""
    for key, part in topology.racks.items():
        gpus = part.node.gpus * (part.nodes if part.domain == "rack" else 1)
        for rack in rack_names(key, part):
            for domain in domain_names(rack, part):
                yield rack, domain, gpus


def _places(scenario: ScenarioFile) -> Iterator[Finding]:
    sizes = {d: n for _, d, n in _domains(scenario.topology)}
    taken: dict[tuple[str, int], str] = {}
    for name, job in scenario.jobs.items():
        if not isinstance(job.replicas, ReplicaFields) or job.replicas.place is None:
            continue
        for i, place in enumerate(job.replicas.place):
            path = f"jobs.{name}.replicas.place.{i}"
            if place.domain not in sizes:
                message = f"no domain {place.domain!r}; {did_you_mean(place.domain, sizes)}"
                yield f"{path}.domain", message
                continue
            need = _layout_gpus(job)
            if len(place.gpus) != need:
                yield f"{path}.gpus", f"{len(place.gpus)} GPUs, but the layout takes {need}"
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
                    taken[place.domain, gpu] = f"replica {i} of {name}"


def _chunks(scenario: ScenarioFile) -> Iterator[Finding]:
    for name, job in scenario.jobs.items():
        given = job.scheduler
        if given is None or given.prefill_chunk is None or _is_clip(job):
            continue
        most = given.max_batched_tokens or 8192
        if given.prefill_chunk > most:
            message = f"{given.prefill_chunk} is more than max_batched_tokens, {most}"
            yield f"jobs.{name}.scheduler.prefill_chunk", message


def _operations(scenario: ScenarioFile) -> Iterator[Finding]:
    for i, operation in enumerate(scenario.operations):
        path = f"operations.{i}"
        if isinstance(operation, FailuresFields):
            yield from _failures(operation, scenario.jobs, path)
        elif isinstance(operation, CapacityFields):
            yield from _capacity(operation, scenario.topology, path)


def _failures(
    operation: FailuresFields, jobs: Mapping[str, JobFields], path: str
) -> Iterator[Finding]:
    job = jobs.get(operation.job)
    served = [name for name, job in jobs.items() if job.shares is None]
    if job is None or job.shares is not None:
        what = "no job" if job is None else "no replicas of its own has"
        yield f"{path}.job", f"{what} {operation.job!r}; {did_you_mean(operation.job, served)}"
        return
    count = _replica_count(job)
    named = [(f"{path}.replica", operation.replica)]
    named += [(f"{path}.script.{i}.1", entry[1]) for i, entry in enumerate(operation.script or ())]
    for place, replica in named:
        if replica is not None and replica >= count:
            yield place, f"no replica {replica} of {operation.job!r}: it has {count}, from 0"


def _capacity(operation: CapacityFields, topology: TopologyFile, path: str) -> Iterator[Finding]:
    pools = list(topology.shelves)
    for _, domain, _ in _domains(topology):
        pools += [f"{domain}/dram", f"{domain}/nand"]
    for i, (_, pool, _) in enumerate(operation.script):
        if pool not in pools:
            yield f"{path}.script.{i}.1", f"no pool {pool!r}; {did_you_mean(pool, pools)}"


def _bad_names(where: str, names: Mapping[str, object]) -> Iterator[Finding]:
    for name in names:
        if not _NAME.match(name):
            message = "a name has letters, digits, '_', '-', '+', and starts with a letter or digit"
            yield f"{where}.{name}", message
        elif len(name) > _LONGEST_NAME:
            yield f"{where}.{name}", f"a name has at most {_LONGEST_NAME} characters"


_SCENARIO: tuple[Callable[[ScenarioFile], Iterator[Finding]], ...] = (
    _time,
    _job_names,
    _shares,
    _from_log,
    _rates,
    _keep_fits,
    _layouts_fit,
    _places,
    _chunks,
    _operations,
)
