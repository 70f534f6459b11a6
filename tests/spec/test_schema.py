"""The JSON Schema describes the YAML as it is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest

from dcsim.reading.tree import plain, read_yaml
from dcsim.spec import json_schema

ROOT = Path(__file__).resolve().parents[2]
FILES: list[tuple[Path, Literal["scenario", "topology", "parts"]]] = [
    *((file, "scenario") for file in sorted((ROOT / "scenarios").glob("*.yaml"))),
    *((file, "topology") for file in sorted((ROOT / "topologies").glob("*.yaml"))),
    *((file, "parts") for file in sorted((ROOT / "topologies/parts").glob("*.yaml"))),
]


class Checker:
    """As much of JSON Schema as ours uses; anything else in it fails the test."""

    TEXT = ("title", "description", "default", "examples", "$schema", "$defs", "discriminator")
    SHAPE = (
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "prefixItems",
        "patternProperties",
    )
    FORMS = ("anyOf", "oneOf", "$ref", "const", "enum", "propertyNames", "pattern")
    SIZES = ("minItems", "maxItems", "minProperties", "minimum", "maximum")
    OPEN = ("exclusiveMinimum", "exclusiveMaximum")
    KNOWN = frozenset(TEXT + SHAPE + FORMS + SIZES + OPEN)

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root

    def fits(self, value: Any, schema: dict[str, Any]) -> bool:
        assert set(schema) <= self.KNOWN, set(schema) - self.KNOWN
        if "$ref" in schema:
            return self.fits(value, self.root["$defs"][schema["$ref"].rsplit("/", 1)[1]])
        for key in ("anyOf", "oneOf"):
            if key in schema and not any(self.fits(value, form) for form in schema[key]):
                return False
        if "const" in schema and value != schema["const"]:
            return False
        if "enum" in schema and value not in schema["enum"]:
            return False
        return self._fits_type(value, schema)

    def _fits_type(self, value: Any, schema: dict[str, Any]) -> bool:
        match schema.get("type"):
            case "object":
                return isinstance(value, dict) and self._fits_object(value, schema)
            case "array":
                items = schema.get("items")
                heads = schema.get("prefixItems", [items] * len(value))
                return isinstance(value, tuple) and all(
                    form is None or self.fits(item, form)
                    for item, form in zip(value, heads, strict=False)
                )
            case "string":
                return isinstance(value, str) and bool(re.search(schema.get("pattern", ""), value))
            case "integer":
                return type(value) is int and schema.get("minimum", value) <= value
            case "number":
                return type(value) in (int, float) and schema.get("exclusiveMinimum", -1) < value
            case "boolean":
                return isinstance(value, bool)
            case "null":
                return value is None
        return True

    def _fits_object(self, value: dict[str, Any], schema: dict[str, Any]) -> bool:
        known = schema.get("properties", {})
        patterns = schema.get("patternProperties", {})
        more = schema.get("additionalProperties", not patterns)
        if not set(schema.get("required", ())) <= set(value):
            return False
        for key, item in value.items():
            of_pattern = (form for pattern, form in patterns.items() if re.search(pattern, key))
            form = known.get(key, next(of_pattern, more))
            if form is False or (isinstance(form, dict) and not self.fits(item, form)):
                return False
        return True


@pytest.mark.parametrize(("file", "kind"), FILES, ids=[file.name for file, _ in FILES])
def test_shipped_files_fit_the_schema(
    file: Path, kind: Literal["scenario", "topology", "parts"]
) -> None:
    schema = json_schema(kind)
    assert Checker(schema).fits(plain(read_yaml(file)), schema)


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("duration", "2 h", True),
        ("duration", 7200, False),
        ("duration", "2 GB", False),
        ("durration", "2 h", False),
        ("topology", "hgx_h100", True),
        ("topology", {"extends": "hgx_h100", "racks": {"a": {"dram": "1 TB"}}}, True),
        ("topology", {"extends": "hgx_h100", "racks": {"a": {"dram": 5}}}, False),
        ("jobs", {"a": {"arrivals": {"process": "poisson", "rate": "5/s"}}}, True),
        ("jobs", {"a": {"arrivals": {"process": "poison", "rate": "5/s"}}}, False),
        ("jobs", {"a": {"shape": {"prompt": {"choice": {"5": 1}}}}}, True),
        ("jobs", {"a": {"shape": {"prompt": "5"}}}, False),
    ],
)
def test_the_schema_tells_right_from_wrong(key: str, value: Any, fits: bool) -> None:
    schema = json_schema()
    assert Checker(schema).fits({key: value}, schema) is fits


@pytest.mark.parametrize("kind", ["scenario", "topology", "parts"])
def test_every_key_is_described(kind: Literal["scenario", "topology", "parts"]) -> None:
    schema = json_schema(kind)

    def forms(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, list):
            return [form for item in node for form in forms(item)]
        if not isinstance(node, dict):
            return []
        return [node, *(form for item in node.values() for form in forms(item))]

    for form in forms(schema):
        if form.get("type") == "object" and "properties" in form:
            for key, value in form["properties"].items():
                named = schema["$defs"].get(value.get("$ref", "").rsplit("/", 1)[-1], {})
                said = value.get("description") or named.get("description")
                assert said, f"{form.get('title')}.{key}"


def test_defaults_are_written_as_one_would_write_them() -> None:
    schema = json_schema()
    keep = schema["$defs"]["KeepTimes"]["properties"]
    assert schema["properties"]["bin"]["default"] == "1 min"
    assert keep["dram"]["default"] == keep["nand"]["default"] == "0 s"


def test_a_job_is_no_bare_name() -> None:
    """The loader refuses it, so an editor should."""
    forms = json_schema()["$defs"]["Job"]["anyOf"]
    assert [form["type"] for form in forms] == ["object", "null"]


def test_an_example_says_where_zero_is_allowed() -> None:
    gpu = json_schema("parts")["$defs"]["Gpu"]["anyOf"][1]
    assert gpu["properties"]["hbm"]["examples"] == ["80 GB"]
    nic = json_schema("parts")["$defs"]["Nic"]["anyOf"][1]
    assert nic["properties"]["latency"]["examples"] == ["1.5 h", "0 h"]
