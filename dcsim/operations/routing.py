"""Routers of the caller's: Python functions that say which replica gets a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dcsim.assembly import Plan
from dcsim.engine import RouteFunction
from dcsim.spec import did_you_mean


class Arriving(NamedTuple):
    """A request that is to be routed."""

    time: int
    """ns."""
    job: str
    """Its job class; of a job in stages `job/stage`."""
    prompt: int
    """Tokens; 0 for a diffusion model."""
    output: int
    """Tokens."""
    before: str | None
    """The replica of the request that it waited for: of a turn the one before."""


class Candidate(NamedTuple):
    """A replica that it can go to: up, or loading its weights."""

    replica: str
    """Name."""
    requests: int
    """That are there, waiting or running."""
    prompt_tokens: int
    """Of those requests."""
    saved: float
    """Tokens of the request's prompt that what is kept there saves, as `prefix_aware` weighs them:
    all that is in HBM, 3/4 of DRAM's, 1/4 of NAND's."""


Route = Callable[[Arriving, Sequence[Candidate]], str]
"""Gives the name of one of the candidates."""


def by_service(plan: Plan, routers: Mapping[str, Route]) -> dict[int, RouteFunction]:
    """The routers for the engine. LookupError for a service that there is not."""
    for name in routers:
        if name not in plan.services:
            raise LookupError(f"no service {name!r}: {did_you_mean(name, plan.services)}")
    return {plan.services.index(name): _function(plan, routers[name]) for name in routers}


def _function(plan: Plan, route: Route) -> RouteFunction:
    names, jobs = plan.replicas, plan.classes
    rows = {name: row for row, name in enumerate(names)}

    def choose(
        now: int,
        klass: int,
        prompt: int,
        output: int,
        before: int,
        options: list[tuple[int, int, int, int]],
    ) -> int:
        arriving = Arriving(
            now, jobs[klass], prompt, output, names[before] if before >= 0 else None
        )
        candidates = [
            Candidate(names[row], n, asked, saved / 4) for row, n, asked, saved in options
        ]
        found = route(arriving, candidates)
        if found not in [each.replica for each in candidates]:
            known = did_you_mean(str(found), [each.replica for each in candidates])
            raise ValueError(f"a router gave {found!r}, which is no candidate; {known}")
        return rows[found]

    return choose
