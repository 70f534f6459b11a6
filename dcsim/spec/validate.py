"""From trees to models: validation with each finding at its place in the files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import ValidationError

from dcsim.spec.errors import Problem, SpecError, dotted
from dcsim.spec.fields import Written
from dcsim.spec.tree import Node, locate, plain, step_down

Model = TypeVar("Model", bound=Written)
Finding = tuple[str, str]

_TAGS = frozenset({"constant", "poisson", "gamma", "replay", "failures", "capacity", "sampler"})
"""Steps of a validator's path that are no keys: which member of a union it is."""


def in_order(problems: Iterable[Problem]) -> SpecError:
    return SpecError(
        sorted(problems, key=lambda p: (str(p.file or ""), p.line or 0, p.column or 0))
    )


def validated(
    model: type[Model], tree: Node, problems: list[Problem], broken: Sequence[str]
) -> Model | None:
    """The tree as a model; None where it does not fit, with what is wrong added (but for
    what is missing where a part was not found: `broken`)."""
    try:
        return model.model_validate(plain(tree))
    except ValidationError as error:
        for line in error.errors(include_url=False):
            problem = _problem(tree, line["loc"], line["msg"])
            parent = problem.path.rpartition(".")[0]
            if not (parent in broken and problem.message.startswith("is required")):
                problems.append(problem)
        return None


def _problem(tree: Node, loc: Sequence[str | int], message: str) -> Problem:
    """A validator's finding at its place in the file."""
    steps: list[str | int] = []
    node = tree
    unknown = message.startswith("unknown key")
    mark = tree.place
    for step in loc:
        below = step_down(node, step)
        if below is not None:
            node = below
            mark = node.key if unknown and node.key is not None else node.place
        elif str(step).startswith("(") or step in _TAGS:
            continue
        steps.append(step)
    return mark.problem(dotted(steps), message)


def located(tree: Node, findings: Iterable[Finding]) -> list[Problem]:
    return [locate(tree, path.split(".")).problem(path, message) for path, message in findings]
