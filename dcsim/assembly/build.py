"""From a scenario to a plan: placed, wired, priced; every problem found on the way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from dcsim.assembly.content import GAPS, content_of
from dcsim.assembly.handover import (
    graph_columns,
    hand_over_columns,
    handing_classes,
    held_at_end,
)
from dcsim.assembly.placement import Placed, Placement
from dcsim.assembly.plan import Plan, WorkRows
from dcsim.assembly.plant import LOCAL, Nand, Plant
from dcsim.assembly.services import (
    Catalogue,
    Pricer,
    Served,
    adapter_sizes,
    gigabytes,
    policy_row,
    service_row,
)
from dcsim.engine import Tables, table
from dcsim.engine.border import STARTS
from dcsim.models.shapes import Clip
from dcsim.spec import Adapters, Job, Problem, Scenario, SpecError
from dcsim.workload import WINDOW, Graph, Requests, Stream, stream_of


def make_plan(scenario: Scenario, *, window: int = WINDOW) -> Plan:
    """The plan of a scenario. Of more requests than a `window` holds one window is held at once.

    Raises:
        SpecError: with all problems at once: placement, models that do not fit, broken logs.
    """
    placement = Placement(scenario)
    problems = list(placement.problems)
    try:
        source: Requests | Stream = stream_of(scenario, window)
    except SpecError as error:
        problems += error.problems
        source = _no_requests(scenario)  # what does not fit is found all the same
    builder = _Builder(scenario, placement, source)
    problems += builder.problems
    if problems:
        raise SpecError(problems)
    return builder.plan()


def _no_requests(scenario: Scenario) -> Requests:
    none = np.empty(0, dtype=np.int64)
    return Requests(none, none, none, none, none, tuple(() for _ in scenario.jobs))


class _Builder:
    def __init__(self, scenario: Scenario, placement: Placement, source: Requests | Stream) -> None:
        self.scenario = scenario
        self.placement = placement
        self.source = source
        self.whole = source if isinstance(source, Requests) else None
        self.catalogue = Catalogue()
        self.plant = Plant(scenario.topology, placement)
        self.shelves = {shelf.name: shelf for shelf in scenario.topology.shelves}
        self.problems: list[Problem] = []
        self.hands_over = bool(handing_classes(list(scenario.jobs.values()), self.whole))
        self.services = self._serve()
        self.replica_rows = [row for served in self.services for row in self._replicas(served)]
        if not self.problems:
            self._check_homes()
        if self.hands_over:
            self._check_network()

    def plan(self) -> Plan:
        classes = tuple(self.scenario.jobs)
        plan = Plan(
            scenario=self.scenario,
            source=self.source,
            fixed=self._tables(works := self._work_rows()),
            works=works,
            pools=tuple(self.plant.pools),
            channels=tuple(self.plant.channels),
            services=tuple(served.job.name for served in self.services),
            classes=classes,
            replicas=tuple(p.name for s in self.services for p in self.placement.of(s.job.name)),
        )
        if self.whole is not None and self.whole.graph is not None:
            self._check_hand_overs(plan.tables, self.whole, self.whole.graph)
        return plan

    def _serve(self) -> list[Served]:
        pricer = Pricer(self.scenario, self.catalogue)
        shapes = dict(zip(self.scenario.jobs, self.source.shapes, strict=True))
        services = []
        for job in self.scenario.jobs.values():
            placed = self.placement.of(job.name)
            if job.shares is not None or not placed:
                continue
            gpu = placed[0].domain.gpu
            others = [p.domain for p in placed if p.domain.gpu != gpu]
            if others:
                self._problem(
                    f"jobs.{job.name}.replicas",
                    f"on different GPUs ({gpu.name} in {placed[0].domain.name}, "
                    f"{others[0].gpu.name} in {others[0].name}); give each kind a job of its own",
                )
                continue
            clips: dict[str, Sequence[Clip]] = {
                name: shapes[name]
                for name, other in self.scenario.jobs.items()
                if name == job.name or other.shares == job.name
            }
            served = pricer.serve(job, gpu, clips)
            if served is not None:
                services.append(served)
        self.problems += pricer.problems
        return services

    def _replicas(self, served: Served) -> list[dict[str, int]]:
        rows = []
        service = self.services.index(served)
        for placed in self.placement.of(served.job.name):
            home = self._nand(served.job, placed, LOCAL)
            store = self._nand(served.job, placed, served.job.keep.store)
            library = home
            if self._adapters(served):
                library = self._nand(
                    served.job, placed, served.job.keep.adapters.home, "adapters.home"
                )
            if home is None or store is None or library is None:
                continue
            wiring = self.plant.wire(placed, store, home, library, hands_over=self.hands_over)
            start = "cold" if self.scenario.start_cold else "warm"
            rows.append({"service": service, **vars(wiring), "start": STARTS.index(start)})
        return rows

    def _adapters(self, served: Served) -> dict[str, Adapters]:
        """The adapters that a service has to have, by job class."""
        jobs = ((name, self.scenario.jobs[name]) for name in served.works)
        return {name: job.adapters for name, job in jobs if job.adapters is not None}

    def _nand(self, job: Job, placed: Placed, wanted: str, what: str = "store") -> Nand | None:
        """The NAND to use; without drives of its own a domain uses a shelf. None: a problem."""
        domain = placed.domain
        if wanted == LOCAL and domain.nand:
            return LOCAL
        reachable = [s for s in self.shelves.values() if domain.rack in s.racks]
        for shelf in reachable:
            if wanted in (LOCAL, shelf.name) and domain.nic:
                return shelf
        path = f"jobs.{job.name}.keep.{what}"
        if wanted == LOCAL:
            message = f"{domain.name!r} has no drives and reaches no shelf: no NAND for weights"
        elif not domain.nic:
            message = f"{placed.name} runs in {domain.name!r}, which has no network to {wanted!r}"
        else:
            message = f"shelf {wanted!r} does not serve {domain.rack!r}, where {placed.name} runs"
        self._problem(path, message)
        return None

    def _check_homes(self) -> None:
        """Checkpoints lie in NAND for the whole run, so they must fit there."""
        held: dict[int, int] = {}
        homes = [(row["service"], row["home"], "model", "checkpoints") for row in self.replica_rows]
        homes += [
            (row["service"], row["library"], "adapters", "checkpoints and adapters")
            for row in self.replica_rows
        ]
        for service, home, key, what in dict.fromkeys(homes):
            served, pool = self.services[service], self.plant.pools[home]
            held[home] = held.get(home, 0) + (
                served.checkpoint if key == "model" else self._library(served)
            )
            if held[home] > pool.capacity:
                self._problem(
                    f"jobs.{served.job.name}.{key}",
                    f"{what} of {gigabytes(held[home])} in {pool.name}, which holds "
                    f"{gigabytes(pool.capacity)}",
                )

    def _library(self, served: Served) -> int:
        """Bytes of all adapters of a service, each once."""
        found = self._adapters(served).values()
        return sum(each.count * adapter_sizes(served.job, each)[0] for each in found)

    def _check_network(self) -> None:
        """What is handed over from one domain to another needs a port at both ends."""
        jobs = list(self.scenario.jobs.values())
        for giver, taker in handing_classes(jobs, self.whole):
            ends = [self.placement.of(jobs[k].shares or jobs[k].name) for k in (giver, taker)]
            apart = [
                (one.domain, other.domain)
                for one, other in product(*ends)
                if one.domain.name != other.domain.name
            ]
            bare = [domain.name for pair in apart for domain in pair if not domain.nic]
            if bare:
                message = f"hands over to {jobs[taker].name!r}, but {bare[0]!r} has no network"
                self._problem(f"jobs.{jobs[giver].name}.replicas", message)

    def _check_hand_overs(self, tables: Tables, requests: Requests, graph: Graph) -> None:
        """Raises SpecError where more is handed over than is held at the end."""
        if not graph.handover.any():
            return
        held, jobs = held_at_end(tables)[graph.after], list(self.scenario.jobs)
        wrong = np.flatnonzero(graph.handover > held)
        if len(wrong):
            at = wrong[np.argmin(held[wrong])]
            giver = jobs[requests.klass[graph.after[at]]]
            message = (
                f"a request of {giver!r} holds {held[at] / 1e6:,.2f} MB at its end, less than the "
                f"{graph.handover[at] / 1e6:,.2f} MB that it hands over"
            )
            assert requests.asked is not None
            name = list(self.scenario.asked)[requests.asked[graph.waiting[at]]]
            raise SpecError([self.scenario.problem(f"jobs.{name}.steps", message)])

    def _tables(self, works: WorkRows) -> Tables:
        rows, first = [], 0
        for served in self.services:
            count = len(self.placement.of(served.job.name))
            # Replicas of a service run on equal GPUs, as many each.
            hbm = self.plant.pools[self.replica_rows[first]["hbm"]].capacity
            library = self._library(served)
            rows.append(service_row(served, first, count, hbm) | {"library": library})
            first += count
        return {
            **self.plant.tables(),
            **self.catalogue.tables(),
            "services": table("services", rows),
            "policies": table("policies", [policy_row(s.job) for s in self.services]),
            "classes": table("classes", [self._class(job) for job in self.scenario.jobs.values()]),
            "replicas": table("replicas", self.replica_rows),
            **({} if self.whole is None else self._relations(self.whole, works)),
        }

    def _class(self, job: Job) -> dict[str, int]:
        names = [served.job.name for served in self.services]
        keep = job.keep
        return {
            "service": names.index(job.shares or job.name),
            "artifact_dram": keep.artifact.dram,
            "artifact_nand": keep.artifact.nand,
            "context_dram": keep.context.dram,
            "context_nand": keep.context.nand,
        }

    def _work_rows(self) -> WorkRows:
        works = [
            served.works[job]
            for job in self.scenario.jobs
            for served in self.services
            if job in served.works
        ]
        first = np.cumsum([0, *(len(rows) for rows in works)], dtype=np.int64)
        return WorkRows(first, np.array([row for rows in works for row in rows], dtype=np.int64))

    def _relations(self, r: Requests, works: WorkRows) -> Tables:
        """Who waits for whom, and what requests have in common; nothing where nobody does."""
        out = Tables()
        kv = [self._kv(job) for job in self.scenario.jobs]
        if r.graph is not None:
            out |= graph_columns(r.graph)
        if r.graph is not None and self.hands_over:
            made = {work: count for s in self.services for work, count in s.made.items()}
            jobs = list(self.scenario.jobs.values())
            layers = [self._server(job).layers for job in self.scenario.jobs]
            out |= hand_over_columns(r.graph, r.klass, works.of(r), jobs, kv, layers, made)
        adapters = {
            list(self.scenario.jobs).index(name): (each.count, adapter_sizes(served.job, each)[1])
            for served in self.services
            for name, each in self._adapters(served).items()
        }
        found = content_of(r, {klass: count for klass, (count, _) in sorted(adapters.items())})
        if found is not None:
            live = np.array(kv, dtype=np.int64)
            size = found.tokens * live[found.klass]
            if found.brought is not None:
                brought = np.zeros(len(kv), dtype=np.int64)
                for klass, (_, amount) in adapters.items():
                    brought[klass] = amount
                size = np.where(found.brought == 1, brought[found.klass], size)
                out["brought"] = found.brought
            rows = (found.parent, found.tokens, size, found.klass)
            out["nodes"] = np.ascontiguousarray(np.stack(rows, axis=1), dtype=np.int64)
            out["reads"], out["leaves"] = found.reads, found.leaves
            out["gaps"] = np.array(GAPS, dtype=np.int64)
        return out

    def _kv(self, name: str) -> int:
        """Bytes of KV a token of the model that serves a job; 0 for a diffusion model."""
        served = self._server(name)
        return self.catalogue.kv(served.works[name][0]) if served.token else 0

    def _server(self, name: str) -> Served:
        job = self.scenario.jobs[name]
        return next(s for s in self.services if s.job.name == (job.shares or name))

    def _problem(self, path: str, message: str) -> None:
        self.problems.append(self.scenario.problem(path, message))
