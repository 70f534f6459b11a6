"""Models as data: the concepts in the YAML files of a folder, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
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


Entry = tuple[Path, str]
"""The file that an entry stands in, and its name there."""

_NAME = re.compile(r"^  ([^\s#:][^:]*):\s*(?:#.*)?$")
_ALIASES = re.compile(r"^    aliases: \[([^]]*)\]")


@cache
def index(folder: str) -> Mapping[str, Entry]:
    """Where each entry of a folder of the package stands, by its name and its aliases.

    Found line by line, as the shipped files are laid out, so that a run reads only the files that
    it needs; a test holds it equal to what the files say.
    """
    found: dict[str, Entry] = {}
    for path in _files(folder):
        name = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if begin := _NAME.match(line):
                name = begin[1]
                found[name] = (path, name)
            elif also := _ALIASES.match(line):
                found |= {alias.strip(): (path, name) for alias in also[1].split(",")}
    return found


def _files(folder: str) -> list[Path]:
    entries = files("dcsim.models").joinpath(folder).iterdir()
    return sorted(Path(str(each)) for each in entries if each.name.endswith(".yaml"))


_OURS: dict[Path, Any] = {}


def ours(path: Path, concept: type[Found]) -> Found:
    """What a file of the package holds, read once."""
    if path not in _OURS:
        _OURS[path] = read(path, concept, ours=True)
    found: Found = _OURS[path]
    return found


def shipped(
    folder: str, concept: type[Found], entries: Callable[[Found], Mapping[str, Any]]
) -> Any:
    """The entries of all files of a folder of the package, in order of the files and within."""
    found: dict[str, Any] = {}
    for path in _files(folder):
        found |= entries(ours(path, concept))
    return found


def named(
    folder: str,
    name: str,
    what: str,
    concept: type[Found],
    entries: Callable[[Found], Mapping[str, Any]],
) -> Any:
    """The entry of that name or alias; ModelError with the nearest name where there is none."""
    known = index(folder)
    if name not in known:
        raise ModelError([("model", f"no {what} {name!r}: {did_you_mean(name, known)}")])
    path, own = known[name]
    return entries(ours(path, concept))[own]
