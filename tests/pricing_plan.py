"""The plan of docs/pricing.md, 6: a scenario and its requests as the engine's tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pricing_oracle as slow
from pricing_traces import clip_trace, turn_trace

Row = dict[str, int]
NO_LIMIT = 2**62


@dataclass
class Tables:
    """Rows by table; `paths` are tuples of channels."""

    pools: list[Row] = field(default_factory=list)
    channels: list[Row] = field(default_factory=list)
    paths: list[tuple[int, ...]] = field(default_factory=list)
    phases: list[Row] = field(default_factory=list)
    segments: list[Row] = field(default_factory=list)
    works: list[Row] = field(default_factory=list)
    services: list[Row] = field(default_factory=list)
    classes: list[Row] = field(default_factory=list)
    replicas: list[Row] = field(default_factory=list)
    requests: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class OneTurn:
    """A turn of which only the chunk counts."""

    chunk: int


def layout_of(job: Any, default: Any) -> Any:
    return default if job.layout is None else job.layout


class Planner:
    def __init__(self, scenario: Any, requests: Any, models: Any, lora: Any, defaults: Any) -> None:
        """`models(name)` has `network`, `resolve` and `built`; `lora(job, rank, targets)` bytes of
        an adapter; `defaults` has `layout` and `scheduler` for jobs that say nothing."""
        self.lora = lora
        self.scenario, self.requests, self.models = scenario, requests, models
        self.layout, self.scheduler = defaults
        self.jobs = list(scenario.jobs.values())
        self.domains = {d.name: d for d in scenario.topology.domains}
        self.pool: dict[str, int] = {}
        self.channel: dict[str, int] = {}
        self.tables = Tables()
        self.placed: dict[str, list[tuple[Any, int]]] = {}
        self.work_of: dict[tuple[int, int], int] = {}

    def plan(self) -> Tables:
        self.free = self.place()
        for domain in self.scenario.topology.domains:
            self.add_domain(domain)
        for shelf in self.scenario.topology.shelves:
            self.add_shelf(shelf)
        served = [job for job in self.jobs if job.replicas is not None]
        for service, job in enumerate(served):
            self.serve(service, job)
        names = [job.name for job in served]
        for job in self.jobs:
            keep = job.keep
            self.tables.classes.append(
                {
                    "service": names.index(job.shares or job.name),
                    "artifact_dram": keep.artifact.dram,
                    "artifact_nand": keep.artifact.nand,
                    "context_dram": keep.context.dram,
                    "context_nand": keep.context.nand,
                }
            )
        r = self.requests
        for i in range(len(r)):
            klass = int(r.klass[i])
            self.tables.requests.append(
                {
                    "arrival": int(r.arrival[i]),
                    "klass": klass,
                    "work": self.work_of[klass, int(r.shape[i])],
                    "prompt": int(r.prompt[i]),
                    "output": int(r.output[i]),
                }
            )
        return self.tables

    # Places

    def place(self) -> dict[str, int]:
        """GPUs that stay free, by domain; fills `placed` with (domain, GPUs)."""
        taken: dict[str, set[int]] = {name: set() for name in self.domains}
        served = [job for job in self.jobs if job.replicas is not None]
        for job in served:
            for place in job.replicas.place or ():
                taken[place.domain] |= set(place.gpus)
                where = (self.domains[place.domain], len(place.gpus))
                self.placed.setdefault(job.name, []).append(where)
        for job in served:
            if job.replicas.place is not None:
                continue
            layout = layout_of(job, self.layout)
            need = layout.tp * layout.sp * layout.cfg * layout.pp * layout.dp * layout.cp
            for _ in range(job.replicas.count):
                for domain in self.domains.values():
                    rest = [g for g in range(domain.gpus) if g not in taken[domain.name]]
                    allowed = not job.replicas.on or domain.name in job.replicas.on
                    if allowed and len(rest) >= need:
                        taken[domain.name] |= set(rest[:need])
                        self.placed.setdefault(job.name, []).append((domain, need))
                        break
        return {name: d.gpus - len(taken[name]) for name, d in self.domains.items()}

    # Pools and channels

    def add_pool(self, name: str, tier: int, capacity: int) -> None:
        self.pool[name] = len(self.tables.pools)
        self.tables.pools.append({"tier": tier, "capacity": capacity})

    def add_channel(self, name: str, bandwidth: int, latency: int) -> None:
        self.channel[name] = len(self.tables.channels)
        self.tables.channels.append({"bandwidth": bandwidth, "latency": latency})

    def add_domain(self, d: Any) -> None:
        if self.free[d.name]:
            self.add_pool(f"{d.name} hbm", 0, self.free[d.name] * d.gpu.hbm)
        self.add_pool(f"{d.name} dram", 1, d.dram)
        self.add_pool(f"{d.name} nand", 2, d.nand)
        if d.nand:
            self.add_channel(f"{d.name} read", d.nand_read, d.nand_latency_read)
            self.add_channel(f"{d.name} write", d.nand_write, d.nand_latency_write)
        if d.nic:
            self.add_channel(f"{d.name} in", d.nic, d.nic_latency)
            self.add_channel(f"{d.name} out", d.nic, d.nic_latency)

    def add_shelf(self, s: Any) -> None:
        self.add_pool(f"{s.name} nand", 2, s.capacity)
        self.add_channel(f"{s.name} in", s.network, s.latency)
        self.add_channel(f"{s.name} out", s.network, s.latency)
        self.add_channel(f"{s.name} read", s.read, 0)
        self.add_channel(f"{s.name} write", s.write, 0)

    def nand(self, domain: Any, wanted: str) -> str:
        """The domain or shelf whose NAND is used."""
        if wanted == "local" and domain.nand:
            return str(domain.name)
        for shelf in self.scenario.topology.shelves:
            if domain.rack in shelf.racks and wanted in ("local", shelf.name):
                return str(shelf.name)
        raise AssertionError(wanted)

    def path(self, *names: str) -> int:
        path = tuple(self.channel[name] for name in names)
        if path not in self.tables.paths:
            self.tables.paths.append(path)
        return self.tables.paths.index(path)

    # Services

    def serve(self, service: int, job: Any) -> None:
        model, layout = self.models(job.model), layout_of(job, self.layout)
        options = model.resolve(job.options)
        scheduler = job.scheduler or self.scheduler
        gpu = self.placed[job.name][0][0].gpu
        turns = model.kind == "llm"
        if turns:
            trace = turn_trace(model.network, options, OneTurn(scheduler.prefill_chunk), layout)
            kept = slow.reserve(trace, gpu, options, scheduler)
            work = self.add_work(service, trace, gpu)
            for klass, other in enumerate(self.jobs):
                if job.name in (other.name, other.shares):
                    self.work_of[klass, 0] = work
        else:
            rows: dict[Any, int] = {}
            trace = clip_trace(model.built(options), options, model.request, layout)
            kept = trace.overhead
            for klass, other in enumerate(self.jobs):
                if job.name not in (other.name, other.shares):
                    continue
                for row, clip in enumerate(self.requests.shapes[klass]):
                    if clip not in rows:
                        this = clip_trace(model.built(options), options, clip, layout)
                        rows[clip] = self.add_work(service, this, gpu)
                    self.work_of[klass, row] = rows[clip]
        first = len(self.tables.replicas)
        for index, (domain, gpus) in enumerate(self.placed[job.name]):
            self.add_replica(service, job, index, domain, gpus)
        hbm = min(gpus * domain.gpu.hbm for domain, gpus in self.placed[job.name])
        limit = scheduler.max_batched_tokens if turns else None
        same = scheduler.same_shape
        self.tables.services.append(
            {
                "router": ["least_loaded", "round_robin", "session_sticky", "prefix_aware"].index(
                    scheduler.router
                ),
                "replica": first,
                "replicas": len(self.placed[job.name]),
                "max_jobs": scheduler.max_jobs,
                "max_tokens": NO_LIMIT if limit is None else limit,
                "same_shape": int(not turns if same is None else same),
                "weights": trace.weights,
                "reserve": kept,
                "watermark": (hbm - trace.weights - kept) // 100 if turns else 0,
                "checkpoint": trace.checkpoint,
                "library": self.library(job),
                "keep": int(job.keep.weights_in_dram),
                "swap": int(scheduler.preemption == "swap"),
                "order": int(scheduler.order == "prefill_first"),
                **self.cache(job.keep),
            }
        )

    @staticmethod
    def cache(keep: Any) -> dict[str, int]:
        if keep.reuse is None:
            own = {"cache_dram": keep.adapters.dram, "cache_nand": keep.adapters.nand}
            return {"cache_hbm": 0, **own, "cache_least": 0}
        times = {"cache_dram": keep.context.dram, "cache_nand": keep.context.nand}
        return {"cache_hbm": int(keep.reuse.hbm), **times, "cache_least": keep.reuse.least}

    def library(self, server: Any) -> int:
        """Bytes of the adapters of all classes of a service."""
        asked = [job.adapters for job in self.jobs if server.name in (job.name, job.shares)]
        return sum(
            each.count * (each.bytes or self.lora(server, each.rank, each.targets))
            for each in asked
            if each is not None
        )

    def add_work(self, service: int, trace: slow.Trace, gpu: Any) -> int:
        phases, segments = slow.price(trace, gpu)
        known = self.__dict__.setdefault("phase_rows", {})
        numbers = []
        for figures, row in zip(trace.phases, phases, strict=True):
            key = (service, figures.name, row["launch"], row["weights"])
            if key not in known:
                known[key] = len(self.tables.phases)
                self.tables.phases.append(row)
            numbers.append(known[key])
        first = len(self.tables.segments)
        self.tables.segments += [row | {"phase": numbers[row["phase"]]} for row in segments]
        work = {"segment": first, "segments": len(segments), "artifact": trace.artifact}
        work["context"] = 0
        self.tables.works.append(work)
        return len(self.tables.works) - 1

    def add_replica(self, service: int, job: Any, index: int, domain: Any, gpus: int) -> None:
        name = f"{job.name}/{index}"
        self.add_pool(f"{name} hbm", 0, gpus * domain.gpu.hbm)
        for way in ("onboard", "offload"):
            self.add_channel(f"{name} {way}", gpus * domain.gpu.host_link, 0)
        home, store = self.nand(domain, "local"), self.nand(domain, job.keep.store)
        load = [f"{home} read"]
        if home != domain.name:
            load += [f"{home} out", f"{domain.name} in"]
        spill = [f"{store} write"]
        if store != domain.name:
            spill = [f"{domain.name} out", f"{store} in", *spill]
        fetch = [f"{store} read"]
        if store != domain.name:
            fetch += [f"{store} out", f"{domain.name} in"]
        self.tables.replicas.append(
            {
                "service": service,
                "hbm": self.pool[f"{name} hbm"],
                "dram": self.pool[f"{domain.name} dram"],
                "home": self.pool[f"{home} nand"],
                "store": self.pool[f"{store} nand"],
                "load": self.path(*load),
                "onboard": self.path(f"{name} onboard"),
                "offload": self.path(f"{name} offload"),
                "spill": self.path(*spill),
                "fetch": self.path(*fetch),
                "library": self.pool[f"{home} nand"],
                "bring": self.path(*load, f"{name} onboard"),
                "start": int(not self.scenario.start_cold),
                **dict.fromkeys(("domain", "near_out", "near_in", "far_out", "far_in"), 0),
            }
        )
