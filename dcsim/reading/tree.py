"""YAML as a tree that remembers where each value stands.

Reading follows the YAML 1.2 core schema: `1.5e9` is a number, `010` is ten, `12:30` and
`no` are strings, and a key given twice is an error. (PyYAML follows YAML 1.1, where
`1.5e9` is a string, `010` eight, `12:30:45` the number 45045, `no` False, and the last
of two equal keys wins.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError

from dcsim.reading.errors import Problem, SpecError, dotted

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
    partial: bool = False
    """Whether it extends what cannot be read: what is not here may be there."""

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

    def at(self, *keys: str) -> Node | None:
        """What stands at a path below, if there is something."""
        node: Node | None = self
        for key in keys:
            node = None if node is None else step_down(node, key)
        return node

    def with_map(self, children: dict[str, Node]) -> Node:
        """The same place with these children."""
        return replace(self, value=children)

    def without(self, *names: str) -> Node:
        """The mapping without these children."""
        return self.with_map({k: v for k, v in (self.map or {}).items() if k not in names})

    def hollow(self) -> Node:
        """The same, as partial as all below."""
        value = self.value
        if isinstance(value, dict):
            value = {key: child.hollow() for key, child in value.items()}
        elif isinstance(value, tuple):
            value = tuple(child.hollow() for child in value)
        return replace(self, value=value, partial=True)


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
    if node.items is not None and str(step).isdecimal():
        index = int(step)
        return node.items[index] if index < len(node.items) else None
    return node.child(str(step))


def read_yaml(path: Path, problems: list[Problem] | None = None, *, ours: bool = False) -> Node:
    """Read one YAML file. Raises SpecError: not there, not text, not YAML, keys given twice.

    With a list for `problems`, what leaves a readable tree (keys given twice, say) is added
    to that instead, so that it can be reported with the rest. `ours`: a file of the package, which
    is known to be well written and is read by the faster parser, where there is one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise SpecError([Problem(path, None, None, "", f"cannot be read: {reason}")]) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _position(data[: error.start].decode("utf-8"))
        message = f"is not UTF-8 text: byte 0x{data[error.start]:02x}, {error.reason}"
        raise SpecError([Problem(path, line, column, "", message)]) from error
    return parse_yaml(text, path, problems, _FastLoader if ours else _Loader)


def parse_yaml(
    text: str,
    path: Path | None = None,
    problems: list[Problem] | None = None,
    parser: Any = None,
) -> Node:
    """Read YAML from a string; `path` is the file it is said to come from. `problems` as for
    `read_yaml`."""
    try:
        loader = (parser or _Loader)(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise SpecError([_broken(error, path)]) from error
    except ReaderError as error:
        line, column = _position(text[: error.position])
        message = f"is not YAML: the character {text[error.position]!r} is not allowed"
        raise SpecError([Problem(path, line, column, "", message)]) from error
    if root is None:
        raise SpecError([Problem(path, 1, 1, "", "is empty")])
    reader = _Reader(path)
    node = reader.read(root, ())
    if problems is not None:
        problems += reader.problems
    elif reader.problems:
        raise SpecError(reader.problems)
    return node


def _position(before: str) -> tuple[int, int]:
    """Line and column, from 1, of what comes after this text."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


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
    if r"'\t'" in what:
        what += "; use spaces in place of tabs"
    line = mark.line + 1 if mark else None
    column = mark.column + 1 if mark else None
    return Problem(path, line, column, "", f"is not YAML: {what}")


_DEEPEST = 100  # well within what Python's stack holds, here and in all that walks the tree


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with the implicit types of the YAML 1.2 core schema."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.depth > _DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ComposerError(problem=f"nested over {_DEEPEST} deep", problem_mark=mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


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


class _FastLoader(getattr(yaml, "CSafeLoader", _Loader)):  # type: ignore[misc]
    """The same types, by libyaml: it says what is wrong otherwise, and does not mind depth."""


_FastLoader.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

_MOST_NODES = 200_000  # aliases of aliases could otherwise grow without end
_MOST_DIGITS = 100


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
            if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
                self.problems.append(mark.problem(dotted(path), _unsupported(node)))
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
            if not isinstance(key_node, yaml.ScalarNode) or _is_nothing(key_node):
                self.problems.append(at.problem(dotted(path), "a key must be a plain name"))
                continue
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                message = "merge keys are not read (YAML 1.2 has none); use extends"
                self.problems.append(at.problem(dotted((*path, key)), message))
                continue
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
        if kind not in _SCALARS:
            self.problems.append(mark.problem(dotted(path), _unsupported(node)))
            return text
        try:
            return _SCALARS[kind](text)
        except ValueError as error:
            self.problems.append(mark.problem(dotted(path), str(error)))
            return text


_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


def _unsupported(node: yaml.Node) -> str:
    return f"the tag {node.tag!r} is not supported"


def _is_nothing(node: yaml.ScalarNode) -> bool:
    return not node.value and node.style is None


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is not true or false")
    return text.lower() == "true"


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits is too long")
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    try:
        return int(text, base)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


_SCALARS: dict[str, Callable[[str], Scalar]] = {
    "str": str,
    "null": lambda text: None,
    "bool": _boolean,
    "int": _integer,
    "float": _number,
}
