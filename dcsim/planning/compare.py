"""What if: variants of a scenario on the same arrivals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dcsim.assembly import Plan
from dcsim.planning.run import Progress, load, run
from dcsim.results import Results
from dcsim.spec import Problem, SpecError, did_you_mean, load_scenario

BASE = "base"
CHANGED = "changed"


def variants(
    path: str | Path, *, what_if: Sequence[str] | None = None, overrides: Sequence[str] = ()
) -> dict[str, Plan]:
    """The plans to compare: the base, then the variants in the order asked for.

    `what_if` names variants of the file's `what_if:` block (None: all of them). `overrides` make
    one more variant, `changed`. Requests come from streams named by job class, so every variant
    sees the same arrivals unless it changes the arrivals themselves.

    Raises:
        SpecError: with the problems of the files and of every variant.
    """
    known = load_scenario(path).what_if
    names = list(known) if what_if is None else list(dict.fromkeys(what_if))
    if what_if is None and overrides:
        names = []
    problems = [
        Problem(
            Path(path), None, None, "what_if", f"no variant {name!r}; {did_you_mean(name, known)}"
        )
        for name in names
        if name not in known
    ]
    if not names and not overrides:
        problems.append(
            Problem(Path(path), None, None, "what_if", "nothing to compare: no variants, no --set")
        )
    if problems:
        raise SpecError(problems)
    plans: dict[str, Plan] = {}
    for name in (BASE, *names, *([CHANGED] if overrides else [])):
        try:
            if name == CHANGED:
                plans[name] = load(path, overrides=overrides)
            else:
                plans[name] = load(path, what_if=None if name == BASE else name)
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    return plans


def compare(plans: dict[str, Plan], *, progress: Progress | None = None) -> dict[str, Results]:
    """The results of every variant, in the same order."""
    out = {}
    for name, plan in plans.items():
        out[name] = run(plan, progress=_named(progress, name))
    return out


def _named(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda what, share: progress(f"{name}, {what}", share)
