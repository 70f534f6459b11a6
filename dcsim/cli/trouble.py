"""What goes wrong, told without a traceback; and how far it has come, where a person looks on."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from dcsim.planning import Progress
    from dcsim.spec import Problem

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT
MOST_SHOWN = 100
"""Problems printed: a log of the wrong kind has one in every row."""
LONGEST = 2000

Made = TypeVar("Made")


def checked(target: Path, make: Callable[[], Made]) -> Made:
    """What `make` gives, if results can be written to the target too.

    Raises SpecError with what is wrong with either, before anything is run.
    """
    from dcsim.spec import SpecError

    problems = place_problems(target)
    try:
        made = make()
    except SpecError as error:
        raise SpecError([*problems, *error.problems]) from None
    if problems:
        raise SpecError(problems)
    return made


def place_problems(target: Path) -> list[Problem]:
    """What keeps a directory of results from being written; tried out, nothing is left there."""
    from dcsim.results import check_target
    from dcsim.spec import Problem

    try:
        check_target(target)
        above = Path(os.path.abspath(target)).parent
        while not above.exists():
            above = above.parent
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=above):
            return []
    except OSError as error:
        text = f"cannot write to {target}: {error.strerror}" if error.strerror else str(error)
        return [Problem(None, None, None, "--out", text)]


@contextmanager
def explained(*, writes: bool = False) -> Iterator[None]:
    """Turns what goes wrong into a message and an exit code, never a traceback.

    2: the input or the place for the output is wrong. 1: disk or memory run out, or a run is stuck.
    130: Ctrl-C.
    """
    from dcsim.models import ModelError
    from dcsim.reading.errors import StuckError
    from dcsim.spec import SpecError

    try:
        yield
    except SpecError as error:
        complain(error.problems, writes=writes)
    except ModelError as error:
        complain([f"{path}: {message}" for path, message in error.problems], writes=writes)
    except BrokenPipeError:
        raise
    except OSError as error:
        wrong = FileExistsError | FileNotFoundError | IsADirectoryError | NotADirectoryError
        place = isinstance(error, wrong | PermissionError)
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        complain([_noted(text, error)], code=WRONG_INPUT if place else FAILED)
    except StuckError as error:
        complain([_noted(str(error), error)], code=FAILED)
    except MemoryError as error:
        complain([_noted(f"not enough memory: {error}", error)], code=FAILED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _noted(text: str, error: Exception) -> str:
    """With what was noted of an error: in which variant."""
    return ", ".join([text, *getattr(error, "__notes__", ())])


def complain(
    problems: Iterable[object], *, writes: bool = False, code: int = WRONG_INPUT
) -> NoReturn:
    """Prints every problem on stderr and exits."""
    texts = [printable(str(problem)) for problem in problems]
    for text in texts[:MOST_SHOWN]:
        print(f"error: {text}", file=sys.stderr)
    if len(texts) > MOST_SHOWN:
        print(f"... and {len(texts) - MOST_SHOWN:,} more", file=sys.stderr)
    if len(texts) > 1:
        end = "; nothing was written" if writes else ""
        print(f"{len(texts):,} problems{end}", file=sys.stderr)
    raise typer.Exit(code)


def printable(text: str) -> str:
    """The text with what would steer a terminal written out: `\\x1b`."""
    text = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """A bar on stderr where that is a terminal; elsewhere nothing is shown.

    Told of progress the engine stops often, so that Ctrl-C is heard soon: hence always.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda what, share: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def update(what: str, share: float) -> None:
            """Of what is wholly begun nobody knows how long it takes: the bar pulses."""
            bar.update(task, description=what, completed=share, total=None if share == 1.0 else 1.0)

        yield update
