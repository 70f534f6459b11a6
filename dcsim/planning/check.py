"""Is a file fit to run? Everything short of running it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dcsim.planning.run import load
from dcsim.spec import Problem, SpecError, check_file, file_kind, load_scenario


def check(path: str | Path) -> list[Problem]:
    """All that is wrong with a scenario, topology or parts file; empty if nothing is.

    Of a scenario also what shows only when it is assembled: replicas that find no GPUs, models
    that do not fit, request logs with broken rows; for its `what_if` variants too.
    """
    problems = check_file(path)
    if problems or file_kind(Path(path)) != "scenario":
        return problems
    for name in (None, *load_scenario(path).what_if):
        try:
            load(path, what_if=name)
        except SpecError as error:
            if name is None:
                return list(error.problems)
            problems += [replace(p, path=f"what_if.{name}: {p.path}") for p in error.problems]
    return problems
