"""Is a file fit to run? Everything short of running it."""

from __future__ import annotations

from pathlib import Path

from dcsim.assembly import model_findings
from dcsim.planning.compare import plans_of
from dcsim.spec import Problem, SpecError, check_file, file_kind, find_scenario, load_scenario


def check(path: str | Path) -> list[Problem]:
    """All that is wrong with a scenario, topology or parts file; empty if nothing is.

    Of a scenario also what shows only when it is assembled: replicas that find no GPUs, models
    that do not fit, request logs with broken rows; for its `what_if` variants too.
    """
    try:
        path = find_scenario(Path(path))
    except SpecError as error:
        return list(error.problems)
    problems = check_file(path)
    if problems:
        problems = check_file(path, also=(model_findings,))
    elif file_kind(Path(path)) == "scenario":
        plans_of(path, list(load_scenario(path).what_if), problems)
    return problems
