"""`dcsim validate`: the catalogue against published figures, as a page or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from dcsim.models import ModelError
from dcsim.report.places import place_problems, whole
from dcsim.validation import as_data, markdown, validate

__all__ = ["validate_command"]


def validate_command(csv: Path | None, *, as_json: bool, out: Path | None) -> str:
    """The page, or the rows as JSON; with `out` the page is there and its place is told.

    Raises SpecError with every row that cannot be read, ModelError where nothing can be written.
    """
    problems = place_problems("--out", out)
    if problems:
        raise ModelError(problems)
    rows = validate(csv)
    if out is not None:
        with whole(out) as part:
            part.write_text(markdown(rows), encoding="utf-8")
    if as_json:
        return json.dumps(as_data(rows), indent=2)
    return markdown(rows) if out is None else f"{len(rows)} rows: {out}"
