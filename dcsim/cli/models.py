"""`dcsim models`: the catalogue, as a table or as data."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from dcsim import models
from dcsim.models.catalogue import aliases
from dcsim.models.shapes import Clip

__all__ = ["catalogue", "models_text"]


def catalogue() -> list[dict[str, Any]]:
    """A row a model, as the JSON of `dcsim models` has it."""
    return [_row(name) for name in models.names()]


def _row(name: str) -> dict[str, Any]:
    found = models.get(name)
    return {
        "name": name,
        "aliases": sorted(alias for alias, of in aliases().items() if of == name),
        "kind": found.kind,
        "makes": _makes(found.request),
        "description": found.description,
        "parameters": found.all_params(),
        "request": asdict(found.request),
        "options": {key: option.default for key, option in found.options.items()},
        "source": found.source,
    }


def _makes(request: object) -> str:
    """What a typical request is for."""
    if isinstance(request, Clip):
        return "image" if request.frames == 1 else "video"
    return "text"


def models_text(*, as_json: bool) -> str:
    """The text of `dcsim models`."""
    rows = catalogue()
    if as_json:
        return json.dumps(rows, indent=2)
    lines = [("name", "makes", "parameters", "of all networks", "request")]
    for row in rows:
        params = row["parameters"]
        lines.append(
            (
                row["name"],
                row["makes"],
                _billions(params["transformer"]),
                _billions(sum(params.values())),
                ", ".join(f"{key} {value}" for key, value in row["request"].items()),
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _billions(count: int) -> str:
    return f"{count / 1e9:.3f} B"
