"""JSON Schema of the YAML as it is written, for editors."""

from __future__ import annotations

from typing import Any, Literal

from dcsim.spec import units
from dcsim.spec.fields import Written
from dcsim.spec.written_parts import Catalogue, TopologyFile
from dcsim.spec.written_scenario import ScenarioFile

_FILES: dict[str, type[Written]] = {
    "scenario": ScenarioFile,
    "topology": TopologyFile,
    "parts": Catalogue,
}


def json_schema(file: Literal["scenario", "topology", "parts"] = "scenario") -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario, topology or parts file.

    It allows what the files allow before references are resolved: a part by its name, or
    `extends` with any of its keys.
    """
    model = _FILES[file]
    schema = model.model_json_schema(by_alias=True)
    if "anyOf" in schema:  # a file is no name, as what it describes may be elsewhere
        schema |= next(form for form in schema.pop("anyOf") if form.get("type") == "object")
    _write_defaults(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"dcsim {file}",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _write_defaults(node: Any) -> None:
    """Defaults as one would write them: `1 min` for its nanoseconds; a mapping has its own."""
    if isinstance(node, dict):
        default = node.get("default")
        if isinstance(default, int) and node.get("pattern") == units.TIME.pattern:
            node["default"] = units.time_as_written(default)
        elif isinstance(default, dict) and "$ref" in node:
            del node["default"]
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            _write_defaults(child)
