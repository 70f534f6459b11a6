"""The catalogue against figures that others published: memory, counts and time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from dcsim.models import ModelError
from dcsim.spec import SpecError, did_you_mean
from dcsim.validation import clips, memory, serving
from dcsim.validation.page import as_data, markdown
from dcsim.validation.rows import UNITS, Row, Settings, read, shipped

__all__ = ["CHECKS", "Row", "as_data", "held", "markdown", "validate"]

CHECKS = {**memory.CHECKS, **clips.CHECKS, **serving.CHECKS}


def validate(csv: str | PathLike[str] | None = None) -> list[Row]:
    """Every row of a file of published figures, or of the shipped one, with ours beside it.

    A row that cannot be expressed has none, and its `note` says why.

    Raises:
        SpecError: with every row of the file that cannot be read.
    """
    return list(_told(shipped() if csv is None else read(Path(csv))))


def _told(rows: Sequence[Row]) -> Iterable[Row]:
    for row in rows:
        if not row.check:
            yield replace(row, note=row.note or "no check is named")
        elif row.check not in CHECKS:
            known = did_you_mean(row.check, CHECKS)
            yield replace(row, note=f"no check {row.check!r}; {known}")
        elif row.unit not in UNITS:
            yield replace(row, note=f"no unit {row.unit!r}; {did_you_mean(row.unit, UNITS)}")
        else:
            yield held(row)


def held(row: Row) -> Row:
    """The row with ours beside it; its check and its unit are known ones."""
    quantity, check = CHECKS[row.check]
    try:
        ours = check(Settings(row.settings)) / UNITS[row.unit]
    except ModelError as error:
        why = "; ".join(f"{path}: {message}" for path, message in error.problems)
    except SpecError as error:
        why = "; ".join(problem.message for problem in error.problems)
    else:
        return replace(row, quantity=quantity, ours=ours)
    return replace(row, quantity=quantity, note=why)
