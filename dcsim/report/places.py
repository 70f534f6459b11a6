"""Files that a command is told to write: whether it can, and that they come whole."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["place_problems", "whole"]


def place_problems(
    option: str, path: Path | None, formats: Collection[str] = ()
) -> list[tuple[str, str]]:
    """What keeps a file from being written, as (option, message); none where none is asked for.

    `formats` are the ends that its name may have.
    """
    if path is None:
        return []
    problems = []
    if formats and path.suffix.lower() not in formats:
        kinds = ("one of " if len(formats) > 1 else "") + ", ".join(formats)
        message = f"{path} is written as {kinds}, by the end of its name"
        problems.append((option, message))
    try:
        if path.is_dir():
            problems.append((option, f"{path} is a directory; name a file"))
        elif not path.parent.is_dir():
            problems.append((option, f"there is no directory {path.parent}"))
        elif not os.access(path.parent, os.W_OK | os.X_OK):
            problems.append((option, f"{path.parent} cannot be written to"))
        path.exists()
    except OSError as error:
        problems.append((option, f"{path}: {error.strerror}"))
    return problems


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` when all is written and goes when it is not."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
