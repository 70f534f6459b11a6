"""Which GPUs each replica runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcsim.spec import Domain, Job, Layout, Place, Problem, Scenario


@dataclass(frozen=True)
class Placed:
    """One replica of a job and the GPUs (numbers within the domain) that it has."""

    job: str
    index: int
    domain: Domain
    gpus: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.job}/{self.index}"


def layout_of(job: Job) -> Layout:
    """The layout of a job that has replicas."""
    return job.layout if job.layout is not None else Layout()


class Placement:
    """Explicit places first, then the rest in file order on the first free GPUs; where nodes have
    memories of their own, those of one node, or of whole ones, before others.

    That places exist and do not overlap the spec has checked; what shows only here is that free
    GPUs are too few or too scattered.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.problems: list[Problem] = []
        self.domains = {domain.name: domain for domain in scenario.topology.domains}
        self._taken: set[tuple[str, int]] = set()
        self._placed: dict[str, list[Placed]] = {}
        served = [(job, job.replicas) for job in scenario.jobs.values() if job.replicas]
        for job, replicas in served:
            if replicas.place is not None:
                self._explicit(job, replicas.place)
        for job, replicas in served:
            if replicas.place is None:
                self._automatic(job, replicas.count, replicas.on)

    def of(self, job: str) -> list[Placed]:
        """The replicas of a job; fewer than asked for where there are problems."""
        return self._placed.get(job, [])

    def replicas(self) -> list[Placed]:
        """All of them, job by job."""
        return [placed for replicas in self._placed.values() for placed in replicas]

    def free(self, domain: Domain) -> int:
        """GPUs of a domain that no replica has."""
        return sum((domain.name, gpu) not in self._taken for gpu in range(domain.gpus))

    def _explicit(self, job: Job, places: tuple[Place, ...]) -> None:
        for index, place in enumerate(places):
            self._take(job, index, self.domains[place.domain], place.gpus)

    def _automatic(self, job: Job, count: int, on: tuple[str, ...]) -> None:
        need = layout_of(job).gpus
        allowed = [d for d in self.domains.values() if not on or d.name in on]
        placed = 0
        for domain in allowed:
            free = [g for g in range(domain.gpus) if (domain.name, g) not in self._taken]
            while placed < count and len(free) >= need:
                gpus = _chosen(domain, free, need)
                free = [gpu for gpu in free if gpu not in gpus]
                self._take(job, placed, domain, gpus)
                placed += 1
        if placed < count:
            where = ", ".join(d.name for d in allowed)
            message = f"{count} replicas of {need} GPUs; {placed} fit on the free GPUs of {where}"
            self.problems.append(self.scenario.problem(f"jobs.{job.name}.replicas.count", message))

    def _take(self, job: Job, index: int, domain: Domain, gpus: tuple[int, ...]) -> None:
        self._taken.update((domain.name, gpu) for gpu in gpus)
        self._placed.setdefault(job.name, []).append(Placed(job.name, index, domain, gpus))


def _chosen(domain: Domain, free: Sequence[int], need: int) -> tuple[int, ...]:
    """The GPUs that the next replica takes."""
    if not domain.apart:
        return tuple(free[:need])
    nodes: dict[int, list[int]] = {}
    for gpu in free:
        nodes.setdefault(domain.node_of(gpu), []).append(gpu)
    for gpus in nodes.values():
        if len(gpus) >= need:
            return tuple(gpus[:need])
    size = domain.gpus // domain.nodes
    whole_first = sorted(nodes.values(), key=lambda gpus: len(gpus) < size)
    return tuple(sorted([gpu for gpus in whole_first for gpu in gpus][:need]))
