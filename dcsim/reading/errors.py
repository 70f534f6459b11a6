"""Problems with what a user wrote: where, what, and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Finding = tuple[str, str]
"""A dotted path, and what is wrong there."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, with its place.

    `line` and `column` count from 1; they are None where the value came from no file
    (an override on the command line, an object built in Python).
    """

    file: Path | None
    line: int | None
    column: int | None
    path: str
    message: str

    def __str__(self) -> str:
        place = str(self.file or "<input>") if self.file or self.line is not None else ""
        if self.line is not None:
            place += f":{self.line}:{self.column}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class StuckError(RuntimeError):
    """A run in which work is left that will never go on: replica, requests and why."""


class SpecError(Exception):
    """The input cannot be used. `problems` holds all that is wrong with it, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(dict.fromkeys(problems))
        if not self.problems:
            raise ValueError("a SpecError needs at least one problem")
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


_MOST_LISTED = 24


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `word`: the nearest known one, and what is allowed."""
    choices = list(known)
    if not choices:
        return "none is defined"
    near = difflib.get_close_matches(word.lower(), [c.lower() for c in choices], n=1, cutoff=0.6)
    listed = ", ".join(choices[:_MOST_LISTED]) + (", ..." if len(choices) > _MOST_LISTED else "")
    if near:
        best = next(c for c in choices if c.lower() == near[0])
        return f"did you mean {best!r}? (known: {listed})"
    return f"known: {listed}"


def dotted(path: Sequence[str | int]) -> str:
    """A path of keys and indices as one dotted string."""
    return ".".join(str(part) for part in path)


_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_+-]*$")
_LONGEST_NAME = 64


def bad_names(where: str, names: Iterable[str]) -> Iterator[Finding]:
    """The names of the entries at a path that are none."""
    for name in names:
        if not _NAME.match(name):
            message = "a name has letters, digits, '_', '-', '+', and starts with a letter or digit"
            yield f"{where}.{name}", message
        elif len(name) > _LONGEST_NAME:
            yield f"{where}.{name}", f"a name has at most {_LONGEST_NAME} characters"


def in_order(problems: Iterable[Problem]) -> SpecError:
    """The error with these problems in file order."""
    return SpecError(
        sorted(problems, key=lambda p: (str(p.file or ""), p.line or 0, p.column or 0))
    )
