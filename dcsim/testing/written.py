"""What the strategies draw: plain data, and scenarios made of it, that print as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from dcsim.reading.tree import parse_yaml, plain
from dcsim.spec import Scenario, load_scenario, scenario_from_data

__all__ = ["DrawnScenario", "Written", "from_yaml", "scenario_from_yaml"]


class Written(dict[str, Any]):
    """A part of a scenario as its YAML would hold it; prints as that YAML, ready to paste."""

    @property
    def yaml(self) -> str:
        """The YAML text."""
        return to_yaml(self)

    def __repr__(self) -> str:
        return f'from_yaml("""\n{self.yaml}""")'


@dataclass(frozen=True, repr=False)
class DrawnScenario(Scenario):
    """A scenario that knows how it was written, and prints as its YAML, ready to paste."""

    written: Written = field(default_factory=Written, compare=False)

    @property
    def yaml(self) -> str:
        """The YAML text."""
        return self.written.yaml

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Hypothesis would else print a dataclass field by field."""
        printer.text(repr(self))

    def __repr__(self) -> str:
        if "extends" in self.written:
            return f"{self.written['extends']} with\n{to_yaml(self.written['with'])}"
        return f'scenario_from_yaml("""\n{self.yaml}""")'


def from_yaml(text: str) -> Written:
    """A topology or a job mix from its YAML. Raises SpecError for what is not YAML."""
    return Written(_lists(plain(parse_yaml(text))))


def scenario_from_yaml(text: str) -> DrawnScenario:
    """A scenario from its YAML; relative paths are from here. Raises SpecError."""
    return drawn_scenario(from_yaml(text))


def drawn_scenario(data: Mapping[str, Any]) -> DrawnScenario:
    """The scenario of plain data. Raises SpecError."""
    return _drawn(scenario_from_data(data), Written(data))


def varied_scenario(file: Path, changes: Mapping[str, Any]) -> DrawnScenario:
    """The scenario of a file under dotted overrides, given as plain data. Raises SpecError."""
    overrides = [f"{path}={_inline(value)}" for path, value in changes.items()]
    scenario = load_scenario(file, overrides=overrides)
    block = {"what_if": {"drawn": dict(changes)}}
    return _drawn(scenario, Written({"extends": file.as_posix(), "with": block}))


def to_yaml(data: Mapping[str, Any]) -> str:
    """Plain data as YAML, keys in their order."""
    text: str = yaml.safe_dump(
        _lists(data), sort_keys=False, default_flow_style=None, allow_unicode=True, width=96
    )
    return text


def _inline(value: Any) -> str:
    text: str = yaml.safe_dump(_lists(value), sort_keys=False, default_flow_style=True, width=10**9)
    return text.removesuffix("...\n").strip()


def _drawn(scenario: Scenario, written: Written) -> DrawnScenario:
    parts = {each.name: getattr(scenario, each.name) for each in fields(Scenario)}
    return DrawnScenario(**parts, written=written)


def _lists(value: Any) -> Any:
    """The same in dicts and lists, which the YAML writer knows."""
    match value:
        case Mapping():
            return {key: _lists(each) for key, each in value.items()}
        case list() | tuple():
            return [_lists(each) for each in value]
        case _:
            return value
