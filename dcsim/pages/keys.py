"""The keys of the YAML as Markdown tables, from the JSON Schema and the models behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dcsim.reading import units
from dcsim.reading.concept import Concept, keys_of
from dcsim.reading.forms import NEEDED
from dcsim.spec import json_schema
from dcsim.spec.compose import KINDS, shipped
from dcsim.spec.load import shipped_parts
from dcsim.spec.logs import FORMATS
from dcsim.spec.part import Part
from dcsim.spec.parts import Device
from dcsim.spec.schema import FILES

__all__ = ["anchor", "keys_markdown"]

Schema = Mapping[str, Any]
File = Literal["scenario", "topology", "parts"]

TITLES: Mapping[File, str] = {
    "scenario": "Keys of a scenario",
    "topology": "Keys of a topology",
    "parts": "Keys of a parts file",
}
ORDER: tuple[File, ...] = ("parts", "topology", "scenario")
"""What others contain comes before them."""
EVERY_PART = "Every part"

_DIMENSIONS = {each.pattern: each for each in units.DIMENSIONS}


@dataclass
class Walk:
    """Finds where in a file each mapping is described: the first place that has it."""

    schemas: dict[str, Schema] = field(default_factory=dict)
    """By the name of the model."""
    headings: dict[str, str] = field(default_factory=dict)
    order: list[tuple[File, str]] = field(default_factory=list)

    def file(self, file: File) -> None:
        root = json_schema(file)
        name = FILES[file].__name__
        self.schemas |= root["$defs"] | {name: root}
        self.headings[name] = TITLES[file]
        self.order.append((file, name))
        self._within(name, "", file)

    def _within(self, name: str, path: str, file: File) -> None:
        for key, value in body(self.schemas[name])["properties"].items():
            found = [*_references(value, f"{path}.{key}" if path else key)]
            new = [each for each in found if each[2] not in self.headings]
            for below, said, other in new:  # those that stand for each other before those within
                self.headings[other] = f"`{below}`{said}"
                self.order.append((file, other))
            for below, _, other in new:
                self._within(other, below, file)


def _references(schema: Schema, path: str) -> Iterator[tuple[str, str, str]]:
    """(path, what tells it from others there, model) of each mapping within a value."""
    if "discriminator" in schema:
        for tag, target in _tagged(schema):
            yield path, f" with {schema['discriminator']['propertyName']}: {tag}", target
        return
    if "$ref" in schema:
        yield path, "", _name(schema["$ref"])
    for form in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _references(form, path)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _references(schema["additionalProperties"], f"{path}.NAME")
    if isinstance(schema.get("items"), dict):
        yield from _references(schema["items"], f"{path}.N")


def _tagged(schema: Schema) -> list[tuple[str, str]]:
    """(tag, model) of mappings that one of their keys tells apart, in order."""
    tags = {target: tag for tag, target in schema["discriminator"]["mapping"].items()}
    return [(tags[form["$ref"]], _name(form["$ref"])) for form in schema["oneOf"]]


def _name(reference: str) -> str:
    return reference.rsplit("/", 1)[1]


def body(schema: Schema) -> Schema:
    """The mapping itself, of a schema that also allows a name in its place."""
    forms = schema.get("anyOf", ())
    return next((form for form in forms if form.get("type") == "object"), schema)


def anchor(heading: str) -> str:
    """The fragment under which GitHub shows a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def keys_markdown() -> str:
    """Units, then every key of the three files, then the formats of request logs."""
    walk = Walk()
    for file in ORDER:
        walk.file(file)
    lines = [*_units(), ""]
    for file in TITLES:
        for owner, name in walk.order:
            if owner == file:
                lines += _section(walk, name)
        if file == "topology":
            lines += [f"Shipped topologies: {_listed(_shipped_topologies())}.", ""]
        if file == "parts":
            lines += [*_every_part(walk), *_shipped_parts(), ""]
    return "\n".join([*lines, *_formats()]) + "\n"


def _concepts(base: type[Concept]) -> Iterator[type[Concept]]:
    for each in base.__subclasses__():
        yield each
        yield from _concepts(each)


_CONCEPTS = {each.__name__: each for each in _concepts(Concept)}


def _section(walk: Walk, name: str) -> list[str]:
    heading = walk.headings[name]
    level = "##" if heading in TITLES.values() else "###"
    schema = body(walk.schemas[name])
    text = [f"{level} {heading}", "", _line(schema["description"]), ""]
    own = dict(schema["properties"])
    concept = _CONCEPTS.get(name, Concept)
    if issubclass(concept, Part):
        text[2] += f" Also the keys of [every part](#{anchor(EVERY_PART)})."
        own = {k: v for k, v in own.items() if k not in keys_of(Device) and k != "extends"}
    return [*text, *_table(walk, concept, own), ""]


def _every_part(walk: Walk) -> list[str]:
    found = body(walk.schemas["Gpu"])["properties"]
    common = {k: v for k, v in found.items() if k in keys_of(Device) or k == "extends"}
    return [
        f"### {EVERY_PART}",
        "",
        "These keys all parts have.",
        "",
        *_table(walk, Device, common),
        "",
    ]


def _table(walk: Walk, concept: type[Concept], keys: Mapping[str, Schema]) -> list[str]:
    known = keys_of(concept)
    rows = ["| key | written as | default | meaning |", "|---|---|---|---|"]
    for key, schema in keys.items():
        needed = key in known and known[key].default is NEEDED
        default = "*needed*" if needed else _default(schema.get("default"))
        cells = (
            f"`{key}`",
            written_as(schema, walk.headings),
            default,
            _line(schema["description"]),
        )
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return rows


def _line(text: str) -> str:
    return " ".join(text.split())


def _default(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def written_as(schema: Schema, headings: Mapping[str, str]) -> str:
    """How a value is written, with its unit and bounds; mappings as links to their keys."""
    if "$ref" in schema:
        return _link(_name(schema["$ref"]), headings)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return _listed(schema["enum"])
    if "discriminator" in schema:
        links = (f"[{tag}](#{anchor(headings[model])})" for tag, model in _tagged(schema))
        return f"mapping by `{schema['discriminator']['propertyName']}`: {', '.join(links)}"
    forms = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if forms:
        words = [written_as(form, headings) for form in forms if form.get("type") != "null"]
        return ", or ".join(words)
    match schema["type"]:
        case "string":
            return _text(schema)
        case "integer" | "number":
            return _number(schema)
        case "array":
            return _list(schema, headings)
        case "object":
            return _mapping(schema, headings)
    return "`true` or `false`"


def _link(model: str, headings: Mapping[str, str]) -> str:
    heading = headings[model]
    link = f"[{heading}](#{anchor(heading)})"
    return f"a name, or {link}" if model in _NAMED else link


_NAMED = {name for name, concept in _CONCEPTS.items() if concept.named}


def _text(schema: Schema) -> str:
    examples = schema.get("examples", ())
    dimension = _DIMENSIONS.get(schema.get("pattern", ""))
    if dimension is None:
        return f"resolution, `{examples[0]}`" if examples else "text"
    return f"{_plain_name(dimension)}, {' or '.join(f'`{each}`' for each in examples)}"


def _plain_name(dimension: units.Dimension) -> str:
    return dimension.name.removeprefix("a ")


def _number(schema: Schema) -> str:
    kind = "whole number" if schema["type"] == "integer" else "number"
    above, low, high = (schema.get(k) for k in ("exclusiveMinimum", "minimum", "maximum"))
    high = None if high is not None and high >= units.INT64 else high
    bounds = ((">", above), ("≥", low), ("≤", high))
    return " ".join([kind, *(f"{sign} {value:g}" for sign, value in bounds if value is not None)])


def _list(schema: Schema, headings: Mapping[str, str]) -> str:
    items = schema["items"]
    if "discriminator" in items:
        return f"list, each {written_as(items, headings)}"
    if "prefixItems" not in items:
        return f"list of {written_as(items, headings)}"
    entries = (written_as(each, headings).split(",")[0] for each in items["prefixItems"])
    return f"list of `[{', '.join(entries)}]`"


def _mapping(schema: Schema, headings: Mapping[str, str]) -> str:
    values = schema.get("additionalProperties")
    patterns = schema.get("patternProperties")
    if patterns:
        values = next(iter(patterns.values()))
    if not isinstance(values, dict) or not values:
        return "mapping"
    value = written_as(values, headings)
    return "mapping to mappings" if value == "mapping" else f"mapping to {value}"


# Beside the keys


def _units() -> list[str]:
    rows = ["## Units", "", "| quantity | units | such as |", "|---|---|---|"]
    for each in units.DIMENSIONS:
        rows.append(f"| {_plain_name(each)} | {each.allowed} | `{each.example}` |")
    return rows


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _shipped_topologies() -> list[str]:
    return sorted(path.stem for path in shipped("topologies").glob("*.yaml"))


def _shipped_parts() -> list[str]:
    catalogue = shipped_parts()[1]
    rows = ["### The shipped catalogue", "", "| kind | parts |", "|---|---|"]
    return rows + [
        f"| `{kind}` | {_listed(list(getattr(catalogue, kind)))} |" for kind in KINDS.values()
    ]


def _formats() -> list[str]:
    rows = [
        "## Formats of request logs",
        "",
        "CSV with a header or JSON lines, plain or gzipped, in any order; other columns are passed "
        "over.",
        "",
        "| format | of | kind | arrival | prompt tokens | output tokens |",
        "|---|---|---|---|---|---|",
    ]
    for name, each in FORMATS.items():
        clock = {None: "date and time; the first is time 0", 1.0: "s", 1e3: "ms"}[each.per_second]
        optional = ", only for `from_log`" if each.tokens_optional else ""
        rows.append(
            f"| `{name}` | {each.source} | {'JSON lines' if each.json else 'CSV'} "
            f"| `{each.time}` ({clock}) | `{each.prompt}`{optional} | `{each.output}`{optional} |"
        )
    return rows
