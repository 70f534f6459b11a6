"""Which GPUs each replica runs on."""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.spec import Domain, Job, Place, Problem, Scenario, did_you_mean


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


class Placement:
    """Explicit places first, then the rest in file order on the first free GPUs."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.problems: list[Problem] = []
        self.domains = {domain.name: domain for domain in scenario.topology.domains}
        self._owner: dict[tuple[str, int], str] = {}
        self._placed: dict[str, list[Placed]] = {}
        served = [job for job in scenario.jobs.values() if job.shares is None]
        for job in served:
            if job.replicas is not None and job.replicas.place is not None:
                self._explicit(job, job.replicas.place)
        for job in served:
            if job.replicas is not None and job.replicas.place is None:
                self._automatic(job)

    def of(self, job: str) -> list[Placed]:
        """The replicas of a job; fewer than asked for where there are problems."""
        return self._placed.get(job, [])

    def free(self, domain: Domain) -> int:
        """GPUs of a domain that no replica has."""
        return sum((domain.name, gpu) not in self._owner for gpu in range(domain.gpus))

    def _problem(self, path: str, message: str) -> None:
        self.problems.append(self.scenario.problem(path, message))

    def _explicit(self, job: Job, places: tuple[Place, ...]) -> None:
        need = job.layout.gpus if job.layout is not None else 1
        for index, place in enumerate(places):
            path = f"jobs.{job.name}.replicas.place.{index}"
            domain = self.domains.get(place.domain)
            if domain is None:
                known = did_you_mean(place.domain, self.domains)
                self._problem(f"{path}.domain", f"there is no domain {place.domain!r}; {known}")
                continue
            if len(place.gpus) != need:
                self._problem(
                    f"{path}.gpus", f"{len(place.gpus)} GPUs; the layout of {job.name!r} takes {need}"
                )
            self._take(job, index, domain, place.gpus, f"{path}.gpus")

    def _take(
        self, job: Job, index: int, domain: Domain, gpus: tuple[int, ...], path: str
    ) -> None:
        for gpu in gpus:
            if gpu >= domain.gpus:
                self._problem(path, f"GPU {gpu} of {domain.name!r}, which has 0..{domain.gpus - 1}")
                continue
            owner = self._owner.get((domain.name, gpu))
            if owner is not None:
                self._problem(path, f"GPU {gpu} of {domain.name!r} is taken by {owner} already")
                continue
            self._owner[domain.name, gpu] = f"{job.name}/{index}"
        self._placed.setdefault(job.name, []).append(Placed(job.name, index, domain, gpus))

    def _automatic(self, job: Job) -> None:
        assert job.replicas is not None
        need = job.layout.gpus if job.layout is not None else 1
        allowed = [d for d in self.domains.values() if self._allows(job, d)]
        if not allowed:
            return
        widest = max(d.gpus for d in allowed)
        if need > widest:
            self._problem(
                f"jobs.{job.name}.layout",
                f"a replica takes {need} GPUs, more than a scale-up domain has ({widest})",
            )
            return
        placed = 0
        for domain in allowed:
            free = [g for g in range(domain.gpus) if (domain.name, g) not in self._owner]
            while placed < job.replicas.count and len(free) >= need:
                gpus, free = tuple(free[:need]), free[need:]
                self._take(job, placed, domain, gpus, f"jobs.{job.name}.replicas")
                placed += 1
        if placed < job.replicas.count:
            self._problem(
                f"jobs.{job.name}.replicas.count",
                f"{job.replicas.count} replicas of {need} GPUs; only {placed} fit on the free GPUs of "
                + ", ".join(d.name for d in allowed),
            )

    def _allows(self, job: Job, domain: Domain) -> bool:
        assert job.replicas is not None
        return not job.replicas.on or domain.name in job.replicas.on or domain.rack in job.replicas.on
