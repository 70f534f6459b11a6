"""JSON Schema of the YAML as it is written, for editors."""

from __future__ import annotations

from typing import Any, Literal

from dcsim.reading.concept import Concept, concept_schema
from dcsim.spec.parts import Parts
from dcsim.spec.scenario import Scenario
from dcsim.spec.topology import TopologyFile

FILES: dict[str, type[Concept]] = {
    "scenario": Scenario,
    "topology": TopologyFile,
    "parts": Parts,
}
"""What each kind of file holds."""


def json_schema(file: Literal["scenario", "topology", "parts"] = "scenario") -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario, topology or parts file.

    It allows what the files allow before references are resolved: a part by its name, or
    `extends` with any of its keys.
    """
    defs: dict[str, Any] = {}
    schema = concept_schema(FILES[file], defs)
    # a file is no name, though what it describes may be one elsewhere
    body = next((form for form in schema.get("anyOf", ()) if form["type"] == "object"), schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"dcsim {file}",
        **body,
        "$defs": defs,
    }
