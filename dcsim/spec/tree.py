"""YAML as a tree that remembers where each value stands.

Reading follows the YAML 1.2 core schema: `1.5e9` is a number, `010` is ten, `12:30` and
`no` are strings, and a key given twice is an error. (PyYAML follows YAML 1.1, where
`1.5e9` is a string, `010` eight, `12:30:45` the number 45045, `no` False, and the last
of two equal keys wins.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml

from dcsim.spec.errors import Problem, SpecError, dotted

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Mark:
    """A place in a file; None where there is none. Lines and columns count from 1."""

    file: Path | None = None
    line: int | None = None
    column: int | None = None

    def problem(self, path: str, message: str) -> Problem:
        """A problem at this place."""
        return Problem(self.file, self.line, self.column, path, message)


@dataclass(frozen=True)
class Node:
    """A value and its place. `value` is a scalar, a tuple of nodes, or a dict of nodes."""

    value: Scalar | tuple[Node, ...] | dict[str, Node]
    mark: Mark = Mark()
    key: Mark | None = None
    """Where the key of this value stands, in a mapping."""

    @property
    def map(self) -> dict[str, Node] | None:
        """The children by key, or None where this is no mapping."""
        return self.value if isinstance(self.value, dict) else None

    @property
    def items(self) -> tuple[Node, ...] | None:
        """The children of a list, or None where this is no list."""
        return self.value if isinstance(self.value, tuple) else None

    @property
    def text(self) -> str | None:
        """The string, or None where this is none."""
        return self.value if isinstance(self.value, str) else None

    @property
    def place(self) -> Mark:
        """Where to point: the key of a mapping or list, else the value."""
        if self.key is not None and isinstance(self.value, dict | tuple):
            return self.key
        return self.mark

    def child(self, name: str) -> Node | None:
        """The child of a mapping under this key, if there is one."""
        return self.map.get(name) if self.map is not None else None

    def with_map(self, children: dict[str, Node]) -> Node:
        """The same place with these children."""
        return replace(self, value=children)


def plain(node: Node) -> Any:
    """The tree as plain data: dicts, tuples and scalars."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, tuple):
        return tuple(plain(child) for child in node.value)
    return node.value


def from_plain(value: Any, mark: Mark = Mark()) -> Node:
    """Plain data as a tree, every node at the same place.

    Raises SpecError for what has no place in YAML (an object, a key that is no string).
    """
    problems: list[Problem] = []
    node = _from_plain(value, mark, (), problems)
    if problems:
        raise SpecError(problems)
    return node


def _from_plain(value: Any, mark: Mark, path: tuple[str, ...], problems: list[Problem]) -> Node:
    if isinstance(value, Node):
        return value
    if isinstance(value, dict) or hasattr(value, "items"):
        children = {
            str(key): _from_plain(child, mark, (*path, str(key)), problems)
            for key, child in value.items()
        }
        return Node(children, mark, mark)
    if isinstance(value, list | tuple):
        parts = (_from_plain(v, mark, (*path, str(i)), problems) for i, v in enumerate(value))
        return Node(tuple(parts), mark)
    if isinstance(value, Path):
        return Node(str(value), mark)
    if value is None or isinstance(value, str | int | float | bool):
        return Node(value, mark)
    problems.append(mark.problem(dotted(path), f"{value!r} is no value YAML can hold"))
    return Node(None, mark)


def locate(node: Node, path: Sequence[str | int]) -> Mark:
    """The place of the value at `path`, or of its nearest parent that is there.

    Steps of the path that the tree does not have (such as the tag of a union in a
    validator's path) are passed over.
    """
    for step in path:
        below = step_down(node, step)
        node = node if below is None else below
    return node.place


def step_down(node: Node, step: str | int) -> Node | None:
    """The child under a key or at a position, or None."""
    if node.items is not None and str(step).isdigit():
        index = int(step)
        return node.items[index] if index < len(node.items) else None
    return node.child(str(step))


def read_yaml(path: Path) -> Node:
    """Read one YAML file. Raises SpecError: not there, not text, not YAML, keys given twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise SpecError([Problem(path, None, None, "", f"cannot be read: {reason}")]) from error
    except UnicodeDecodeError as error:
        raise SpecError([Problem(path, None, None, "", f"is not UTF-8 text: {error}")]) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path | None = None) -> Node:
    """Read YAML from a string; `path` is the file it is said to come from."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise SpecError([_broken(error, path)]) from error
    except yaml.YAMLError as error:
        raise SpecError([Problem(path, None, None, "", f"is not YAML: {error}")]) from error
    finally:
        loader.dispose()
    if root is None:
        raise SpecError([Problem(path, 1, 1, "", "is empty")])
    reader = _Reader(path)
    node = reader.read(root, ())
    if reader.problems:
        raise SpecError(reader.problems)
    return node


def parse_value(text: str) -> Node:
    """A value given on the command line (`--set path=VALUE`): one YAML value, no place."""
    if not text.strip():
        return Node(None)
    return _without_place(parse_yaml(text))


def _without_place(node: Node) -> Node:
    return from_plain(plain(node))


def _broken(error: yaml.MarkedYAMLError, path: Path | None) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = ", ".join(part for part in (error.context, error.problem) if part)
    line = mark.line + 1 if mark else None
    column = mark.column + 1 if mark else None
    return Problem(path, line, column, "", f"is not YAML: {what}")


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with the implicit types of the YAML 1.2 core schema."""


_Loader.yaml_implicit_resolvers = {}
_CORE: tuple[tuple[str, str, str], ...] = (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN"),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
)

for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])


_MOST_NODES = 200_000  # aliases of aliases could otherwise grow without end


class _Reader:
    """Turns PyYAML's nodes into ours and collects what is wrong with them."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.open: set[int] = set()
        self.nodes = 0

    def mark(self, node: yaml.Node) -> Mark:
        start = node.start_mark
        return Mark(self.path, start.line + 1, start.column + 1)

    def read(self, node: yaml.Node, path: tuple[str, ...]) -> Node:
        mark = self.mark(node)
        if id(node) in self.open:
            self.problems.append(mark.problem(dotted(path), "an alias to what contains it"))
            return Node(None, mark)
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise SpecError([mark.problem("", f"has more than {_MOST_NODES} values, by aliases")])
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return Node(self.mapping(node, path), mark)
            if isinstance(node, yaml.SequenceNode):
                parts = (self.read(n, (*path, str(i))) for i, n in enumerate(node.value))
                return Node(tuple(parts), mark)
            return Node(self.scalar(cast(yaml.ScalarNode, node), mark, path), mark)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, Node]:
        children: dict[str, Node] = {}
        for key_node, value_node in node.value:
            at = self.mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(at.problem(dotted(path), "a key must be a plain name"))
                continue
            key = str(key_node.value)
            if key in children:
                first = children[key].key
                line = first.line if first is not None else None
                self.problems.append(
                    at.problem(dotted((*path, key)), f"given twice, first in line {line}")
                )
                continue
            children[key] = replace(self.read(value_node, (*path, key)), key=at)
        return children

    def scalar(self, node: yaml.ScalarNode, mark: Mark, path: tuple[str, ...]) -> Scalar:
        text = str(node.value)
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return _integer(text)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        self.problems.append(mark.problem(dotted(path), f"the tag {node.tag!r} is not supported"))
        return None


def _integer(text: str) -> int:
    if text.startswith("0o"):
        return int(text[2:], 8)
    if text.startswith("0x"):
        return int(text[2:], 16)
    return int(text, 10)
