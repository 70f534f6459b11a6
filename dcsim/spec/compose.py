"""Composition by reference and override, on the tree, before anything is validated.

Three steps: files (`extends` of a scenario or topology, `include` of parts), dotted
overrides, parts (a name of the catalogue, or a mapping that `extends` one). An override
below a reference extends it, so `racks.rack0.node.host.dram` can be set where `node` is
only a name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dcsim.spec.errors import Problem, SpecError, did_you_mean, dotted
from dcsim.spec.tree import Mark, Node, locate, read_yaml

CHILD_PARTS: Mapping[str, Mapping[str, str]] = {
    "racks": {"node": "nodes"},
    "nodes": {"gpu": "gpus", "host": "hosts", "nic": "nics", "dpu": "dpus", "ssd": "ssds"},
    "shelves": {"dpu": "dpus", "ssd": "ssds"},
}
"""Keys of a part that name parts of another kind."""

KINDS = ("gpus", "hosts", "nics", "dpus", "ssds", "nodes", "racks", "shelves")
COLLECTIONS = frozenset({"jobs", "racks", "shelves", "what_if", *KINDS})
_REFERENCES = frozenset({"topology", "node", "gpu", "host", "nic", "dpu", "ssd"})
_WHOLE = frozenset({"resolution", "frames", "steps", "prompt", "output", "rate", "script"})
"""Keys whose mappings replace each other whole: half of a distribution makes no sense."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_YAML = (".yaml", ".yml")
_MOST_STEPS = 50


def shipped(folder: str) -> Path:
    """The folder of shipped YAML (`topologies`): beside the package or within it."""
    package = Path(__file__).resolve().parent.parent
    for parent in (package, package.parent):
        if (parent / folder).is_dir():
            return parent / folder
    raise FileNotFoundError(f"the folder {folder!r} that dcsim ships is missing")


def expand_variables(text: str) -> str:
    """`${NAME}` replaced by the environment variable. Raises ValueError where it is not set."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found:
            raise ValueError(f"the environment variable {match[1]} is not set")
        return found

    return _VARIABLE.sub(value, text)


# Merging


def merge(base: Node, over: Node, key: str = "") -> Node:
    """`over` on top of `base`: mappings merge key by key, null takes a key away, all else wins.

    A mapping over a name extends what is named. Distributions, rates and scripts replace
    each other whole, and so do mappings of another `process` or `kind`.
    """
    if over.map is None or key in _WHOLE:
        return over
    if base.text is not None and key in _REFERENCES and "extends" not in over.map:
        return over.with_map({"extends": base, **over.map})
    if base.map is None or "extends" in over.map or _other_kind(base, over):
        return over
    children = dict(base.map)
    for name, value in over.map.items():
        if value.value is None:
            children.pop(name, None)
        elif name in children:
            children[name] = merge(children[name], value, _inner_key(key, name))
        else:
            children[name] = value
    return over.with_map(children)


def _inner_key(parent: str, name: str) -> str:
    """The key that decides how a child merges: members of `racks` and `shelves` are references."""
    return "node" if parent in ("racks", "shelves") else name


def _other_kind(base: Node, over: Node) -> bool:
    for tag in ("process", "kind"):
        a, b = base.child(tag), over.child(tag)
        if a is not None and b is not None and a.value != b.value:
            return True
    return False


# Files


def compose_files(node: Node, file: Path, kind: str, chain: tuple[Path, ...] = ()) -> Node:
    """Resolve `extends` of a scenario or topology (`kind`) to other files, the topology within
    a scenario too. Paths are relative to the file that names them. Raises SpecError."""
    base = node.child("extends")
    if base is not None and node.map is not None:
        below = _referred(base, file, kind, chain)
        rest = {key: value for key, value in node.map.items() if key != "extends"}
        node = merge(below, node.with_map(rest))
    if kind == "topology":
        return _absolute_includes(node, file)
    topology = node.child("topology")
    if topology is None or node.map is None:
        return node
    if topology.text is not None:
        whole = replace(_referred(topology, file, "topology", chain), key=topology.key)
    else:
        whole = compose_files(topology, file, "topology", chain)
    return node.with_map({**node.map, "topology": whole})


def _referred(name: Node, file: Path, kind: str, chain: tuple[Path, ...]) -> Node:
    if name.text is None:
        raise SpecError([name.mark.problem("extends", "the name of a file is due")])
    path = _find(name, name.mark.file or file, kind)
    if path in chain:
        loop = " -> ".join(p.name for p in (*chain, path))
        raise SpecError([name.mark.problem("extends", f"files extend each other: {loop}")])
    try:
        tree = read_yaml(path)
    except SpecError as error:
        if name.mark.line is None or path.exists():
            raise
        message = f"{name.text!r} cannot be read: no such file ({path})"
        raise SpecError([name.mark.problem(kind, message)]) from error
    return compose_files(tree, path, kind, (*chain, path))


def _find(name: Node, home: Path, kind: str) -> Path:
    try:
        text = expand_variables(str(name.text))
        return find_topology(text, home.parent) if kind == "topology" else home.parent / text
    except ValueError as error:
        raise SpecError([name.mark.problem(kind, str(error))]) from error
    except SpecError as error:
        raise SpecError([name.mark.problem(kind, p.message) for p in error.problems]) from error


def find_topology(text: str, folder: Path = Path()) -> Path:
    """The file of a topology: a `.yaml` file relative to `folder`, or a shipped one by name.

    Raises SpecError where there is none of that name.
    """
    return folder / text if text.endswith(_YAML) else shipped_file("topologies", text)


_SINGULAR = {"topologies": "topology", "scenarios": "scenario"}


def shipped_file(folder: str, name: str) -> Path:
    """The shipped file of that name in `scenarios` or `topologies`. Raises SpecError where there
    is none."""
    home = shipped(folder)
    known = sorted(path.stem for path in home.glob("*.yaml"))
    if name not in known:
        kind = _SINGULAR[folder]
        message = f"no shipped {kind} {name!r}, and no .yaml file; {did_you_mean(name, known)}"
        raise SpecError([Problem(None, None, None, kind, message)])
    return home / f"{name}.yaml"


def find_scenario(path: Path) -> Path:
    """A scenario's file, or the shipped one where the path is a bare name and no file."""
    bare = path.suffix not in _YAML and path.name == str(path)
    return shipped_file("scenarios", path.name) if bare and not path.exists() else path


def shipped_files(folder: str) -> dict[str, str]:
    """The names of what is shipped in `scenarios` or `topologies`, with their descriptions."""
    found = {}
    for path in sorted(shipped(folder).glob("*.yaml")):
        description = read_yaml(path).child("description")
        found[path.stem] = " ".join(str(description.value).split()) if description else ""
    return found


def _absolute_includes(node: Node, file: Path) -> Node:
    includes = node.child("include")
    if includes is None or includes.items is None or node.map is None:
        return node
    paths = []
    for entry in includes.items:
        home = entry.mark.file or file
        text = entry.text
        paths.append(
            entry if text is None else replace(entry, value=str((home.parent / text).resolve()))
        )
    return node.with_map({**node.map, "include": replace(includes, value=tuple(paths))})


# Overrides


def override(tree: Node, path: str, value: Node) -> Node:
    """The tree with `value` at the dotted `path`; null takes it away. Raises SpecError."""
    steps = path.split(".")
    if not all(steps) or len(steps) > _MOST_STEPS:
        raise SpecError([value.mark.problem(path, "is no dotted path")])
    return _set(tree, steps, value, (), "")


def _set(node: Node, steps: list[str], value: Node, done: tuple[str, ...], key: str) -> Node:
    head, rest = steps[0], steps[1:]
    here = (*done, head)
    if node.items is not None:
        return _set_item(node, steps, value, here)
    if node.text is not None and key in _REFERENCES:
        node = Node({"extends": replace(node, key=None)}, node.mark, node.key)
    if node.map is None:
        at = dotted(done)
        message = f"{at} holds a single value here, so it has no {head!r} below it"
        raise SpecError([value.mark.problem(dotted((*here, *rest)), message)])
    name = _name_in(node.map, head, key)
    child = node.map.get(name)
    if child is None and key in COLLECTIONS and (rest or value.value is None):
        message = f"no {head!r} in {dotted(done)}; {did_you_mean(head, node.map)}"
        raise SpecError([value.mark.problem(dotted((*here, *rest)), message)])
    if rest:
        below = child if child is not None else Node({}, value.mark, value.key)
        new = _set(below, rest, value, here, _inner_key(key, name))
    elif value.value is None:
        return node.with_map({k: v for k, v in node.map.items() if k != name})
    else:
        new = value
    return node.with_map({**node.map, name: new})


def _name_in(children: Mapping[str, Node], head: str, key: str) -> str:
    """In a collection a number stands for the entry at that position, if none has that name."""
    if key in COLLECTIONS and head not in children and head.isdigit():
        names = list(children)
        if int(head) < len(names):
            return names[int(head)]
    return head


def _set_item(node: Node, steps: list[str], value: Node, here: tuple[str, ...]) -> Node:
    items = list(node.items or ())
    head, rest = steps[0], steps[1:]
    if not head.isdigit() or int(head) >= len(items):
        message = f"{head!r} is no position in a list of {len(items)}"
        raise SpecError([value.mark.problem(dotted((*here, *rest)), message)])
    index = int(head)
    items[index] = _set(items[index], rest, value, here, head) if rest else value
    return replace(node, value=tuple(items))


# Parts


class PartExpander:
    """Replaces references to parts by the parts, and collects what is wrong with them."""

    def __init__(self, catalogue: Node) -> None:
        self.catalogue = catalogue
        self.problems: list[Problem] = []
        self.broken: list[str] = []
        """Paths of what could not be found: whatever is missing there is no news."""

    def topology(self, node: Node, path: tuple[str, ...]) -> Node:
        """The topology with every part in place and without `include` and `parts`."""
        if node.map is None:
            return node
        children = {k: v for k, v in node.map.items() if k not in ("include", "parts")}
        for kind in ("racks", "shelves"):
            entries = children.get(kind)
            if entries is None or entries.map is None:
                continue
            expanded = {
                name: self.part(kind, entry, (*path, kind, name))
                for name, entry in entries.map.items()
            }
            children[kind] = entries.with_map(expanded)
        return node.with_map(children)

    def part(self, kind: str, node: Node, path: tuple[str, ...]) -> Node:
        """One part of a kind (`gpus`, ...), complete with the parts within it."""
        whole = self._extended(kind, node, path, ())
        if whole is None:
            self.broken.append(dotted(path))
            whole = node.with_map({k: v for k, v in (node.map or {}).items() if k != "extends"})
        if whole.map is None:
            return whole
        children = dict(whole.map)
        for key, child_kind in CHILD_PARTS.get(kind, {}).items():
            child = children.get(key)
            if child is not None and child.value is not None:
                children[key] = self.part(child_kind, child, (*path, key))
        return whole.with_map(children)

    def _extended(
        self, kind: str, node: Node, path: tuple[str, ...], chain: tuple[str, ...]
    ) -> Node | None:
        if node.text is not None:
            return self._named(kind, node, path, chain)
        extends = node.child("extends")
        if extends is None or node.map is None:
            return node
        below = path if path[-1] == "extends" else (*path, "extends")
        base = self._named(kind, extends, below, chain)
        if base is None:
            return None
        rest = {key: value for key, value in node.map.items() if key != "extends"}
        return merge(base, node.with_map(rest))

    def _named(
        self, kind: str, name: Node, path: tuple[str, ...], chain: tuple[str, ...]
    ) -> Node | None:
        entries = self.catalogue.child(kind)
        known = entries.map if entries is not None and entries.map is not None else {}
        text = name.text
        if text is None or text not in known:
            what = f"no {text!r} among the {kind} of the catalogue"
            message = f"{what}; {did_you_mean(str(text), known)}"
            self.problems.append(name.mark.problem(dotted(path), message))
            return None
        if text in chain:
            message = "parts extend each other: " + " -> ".join((*chain, text))
            self.problems.append(name.mark.problem(dotted(path), message))
            return None
        found = self._extended(kind, known[text], path, (*chain, text))
        if found is None or found.map is None:
            return found
        rest = {key: value for key, value in found.map.items() if key != "part"}
        return replace(found.with_map({"part": Node(text, name.mark), **rest}), key=name.key)


def read_catalogue(paths: list[Path]) -> Node:
    """Parts of several files in one tree, later ones over earlier ones. Raises SpecError."""
    tree = Node({})
    problems: list[Problem] = []
    for path in paths:
        try:
            tree = merge_catalogue(tree, read_yaml(path))
        except SpecError as error:
            problems.extend(error.problems)
    if problems:
        raise SpecError(problems)
    return tree


def merge_catalogue(base: Node, over: Node) -> Node:
    """Parts of `over` added to `base`; a part that both have is changed where `over` says."""
    if over.map is None or base.map is None:
        mark: Mark = locate(over, ())
        raise SpecError([mark.problem("", "parts are mappings: gpus, hosts, nics, ...")])
    children = dict(base.map)
    for kind, entries in over.map.items():
        if kind not in KINDS:
            mark = entries.key or entries.mark
            message = f"unknown kind of parts; {did_you_mean(kind, KINDS)}"
            raise SpecError([mark.problem(kind, message)])
        children[kind] = merge(children[kind], entries, kind) if kind in children else entries
    return over.with_map(children)
