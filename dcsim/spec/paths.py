"""The dotted paths of a scenario: what overrides can change, what stands there, what it means."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from dcsim.reading.concept import meaning
from dcsim.reading.forms import NEEDED, Form, Key, MapOf, Text
from dcsim.reading.tree import Node, from_plain, plain
from dcsim.spec.compose import SCENARIO
from dcsim.spec.scenario import Scenario


@dataclass(frozen=True)
class Setting:
    """A path that an override takes."""

    path: str
    value: str
    """As one would write it, on one line; empty where nothing is given."""
    meaning: str


def paths(scenario: Scenario, pattern: str = "") -> list[Setting]:
    """The settings of a loaded scenario whose path has `pattern` in it, or is like it where it has
    wildcards (`*.hbm`); with every key that is not given but could be.

    Below a part all its figures have a path, though the file only names the part.
    """
    tree = scenario.tree if scenario.tree is not None else from_plain(scenario.resolved)
    found = (Setting(*each) for each in _below(tree, SCENARIO, "", ""))
    wild = any(mark in pattern for mark in "*?[")
    return [
        each
        for each in found
        if (fnmatch.fnmatchcase(each.path, pattern) if wild else pattern in each.path)
    ]


def _below(node: Node, form: Form | None, path: str, said: str) -> Iterator[tuple[str, str, str]]:
    """Path, value and meaning of all below a node; `said` is what the node itself means."""
    keys = {} if form is None else form.keys(node)
    given = node.map if node.map is not None else dict(enumerate(node.items or ()))
    for name, child in given.items():
        key = keys.get(str(name))
        if key is None or not key.hidden:
            below = None if form is None else form.below(node, str(name))
            text = said if key is None else meaning(key)
            yield from _setting(child, below, f"{path}{name}", text)
    for key in keys.values():
        if key.name not in given and key.default is not NEEDED and not key.hidden:
            yield from _absent(key, f"{path}{key.name}")


def _setting(node: Node, form: Form | None, path: str, said: str) -> Iterator[tuple[str, str, str]]:
    said = " ".join(said.split())
    texts = isinstance(form, MapOf) and isinstance(form.entry, Text)  # such as sources
    part = node.child("part")
    if part is not None:  # by its name, which can be another
        yield path, str(part.text), said
    elif not node.map or form is None or texts or form.replaces(node, node):
        yield path, _text(plain(node)), said
    if (node.map and not texts) or (node.items and any(each.map for each in node.items)):
        yield from _below(node, form, f"{path}.", said)


def _absent(key: Key, path: str) -> Iterator[tuple[str, str, str]]:
    """A key that is not given; the keys below it where those of a mapping can be set one by one."""
    below = key.form.keys(Node({})).values()
    if not below or any(each.default is NEEDED for each in below) or key.form.concept.like:
        bare = key.default is None or key.default is NEEDED
        default = None if bare else key.form.written(key.default)
        yield path, "" if default is None else _text(default), " ".join(meaning(key).split())
        return
    for each in below:
        yield from _absent(each, f"{path}.{each.name}")


def _text(value: Any) -> str:
    """A value in one line of YAML."""
    text: str = yaml.safe_dump(_lists(value), default_flow_style=True, width=10**9, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(each) for key, each in value.items()}
    return [_lists(each) for each in value] if isinstance(value, tuple) else value
