"""Models as data: the concepts in the YAML files of a folder, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from dcsim.models.options import ModelError
from dcsim.reading.concept import Concept, Fields
from dcsim.reading.errors import Problem, SpecError, did_you_mean
from dcsim.reading.forms import Reading
from dcsim.reading.tree import read_yaml

Found = TypeVar("Found", bound=Concept)


def read(path: Path, concept: type[Found], *, ours: bool = False) -> Found:
    """The concept that a file holds, one of the package (`ours`) or a user's. ModelError has all
    that is wrong, with places in the file."""
    reading = Reading()
    try:
        tree = read_yaml(path, reading.problems, ours=ours)
        found: Found = Fields(concept).read(tree, (), reading)
    except SpecError as error:
        raise _wrong(list(error.problems)) from None
    if reading.problems:
        raise _wrong(reading.problems)
    return found


def _wrong(problems: list[Problem]) -> ModelError:
    ordered = sorted(problems, key=lambda p: (p.line or 0, p.column or 0))
    return ModelError([("model", str(problem)) for problem in dict.fromkeys(ordered)])


def shipped(
    folder: str, concept: type[Found], entries: Callable[[Found], Mapping[str, Any]]
) -> Any:
    """The entries of all files of a folder of the package, in order of the files and within."""
    found: dict[str, Any] = {}
    for entry in sorted(files("dcsim.models").joinpath(folder).iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            found |= entries(read(Path(str(entry)), concept, ours=True))
    return found


def named(name: str, known: Mapping[str, Any], what: str) -> Any:
    """The entry of that name or alias; ModelError with the nearest name where there is none."""
    for entry in known.values():
        if name == entry.name or name in entry.aliases:
            return entry
    names = [each for entry in known.values() for each in (entry.name, *entry.aliases)]
    raise ModelError([("model", f"no {what} {name!r}: {did_you_mean(name, names)}")])
