"""What if: variants of a scenario on the same arrivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dcsim.assembly import Plan
from dcsim.planning.run import Progress, Routers, load, read, run_all
from dcsim.results import Results
from dcsim.spec import Problem, Scenario, SpecError, did_you_mean

BASE = "base"
CHANGED = "changed"


def variants(
    path: str | Path, *, what_if: Sequence[str] | None = None, overrides: Sequence[str] = ()
) -> dict[str, Plan]:
    """The plans to compare: the base, then the variants in the order asked for.

    `what_if` names variants of the file's `what_if:` block (None: all of them). `overrides` make
    one more variant, `changed`; those that mend what is wrong with the base itself, such as a
    request log that is not there, hold for all. Requests come from streams named by job class, so
    every variant sees the same arrivals unless it changes the arrivals themselves.

    Raises:
        SpecError: with the problems of the files and of every variant, those of the base once.
    """
    problems: list[Problem] = []
    names: list[str] = []
    mending = _mending(path, overrides)
    changes = [each for each in overrides if each not in mending]
    try:
        base = read(path, overrides=mending)
        names = _chosen(base, what_if, bool(changes), problems)
    except SpecError as error:
        problems += error.problems
    plans = plans_of(path, names, problems, mending)
    if changes:
        try:
            plans[CHANGED] = load(path, overrides=overrides)
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    return plans


def _mending(path: str | Path, overrides: Sequence[str]) -> list[str]:
    """The overrides of what is wrong with the base as it is written."""
    try:
        if overrides:
            read(path)
    except SpecError as error:
        wrong = {problem.path for problem in error.problems}
        return [each for each in overrides if each.partition("=")[0].strip() in wrong]
    return []


def _chosen(
    scenario: Scenario, what_if: Sequence[str] | None, changed: bool, problems: list[Problem]
) -> list[str]:
    """Names of the variants to compare; one that the scenario does not have is a problem."""
    known = scenario.what_if
    names = ([] if changed else list(known)) if what_if is None else list(dict.fromkeys(what_if))
    for name in names:
        if name not in known:
            problems.append(
                scenario.problem("what_if", f"no variant {name!r}; {did_you_mean(name, known)}")
            )
    if not names and not changed:
        message = "nothing to compare: no variants, no --set"
        problems.append(Problem(scenario.file, None, None, "what_if", message))
    return [name for name in names if name in known]


def plans_of(
    path: str | Path,
    names: Sequence[str],
    problems: list[Problem],
    overrides: Sequence[str] = (),
) -> dict[str, Plan]:
    """The plans of the base and of the named variants, as far as they can be made.

    What is wrong is added to the problems, under `what_if.NAME` where the base has it not too.
    """
    plans: dict[str, Plan] = {}
    wrong: set[str] = set()
    for name in (None, *names):
        try:
            plans[name or BASE] = load(path, overrides=overrides, what_if=name)
        except SpecError as error:
            news = [each for each in error.problems if each.path not in wrong]
            if name is None:
                wrong = {each.path for each in news}
            else:
                news = [replace(each, path=f"what_if.{name}: {each.path}") for each in news]
            problems += news
    return plans


def compare(
    plans: dict[str, Plan], *, routers: Routers | None = None, progress: Progress | None = None
) -> dict[str, Results]:
    """The results of every variant, in the same order; they run side by side. `routers`: as in
    `run`, for all of them."""
    return dict(run_all(plans, routers=routers, progress=progress))
