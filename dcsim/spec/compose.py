"""Composition by reference and override, on the tree, before anything is read.

In this order: files (`extends` of a scenario or topology, `include` of parts), dotted overrides,
jobs (that `extends` another) and parts (a name of the catalogue, or a mapping that `extends` one).
An override below a reference extends it, so `racks.rack0.node.host.dram` can be set where `node`
is only a name. What cannot be found leaves a partial node, whose missing keys are no news.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dcsim.reading.concept import Fields, form_of, keys_of
from dcsim.reading.errors import Problem, SpecError, did_you_mean, dotted
from dcsim.reading.forms import Form, MapOf, expand_variables
from dcsim.reading.tree import Node, read_yaml
from dcsim.spec.jobs import Job
from dcsim.spec.part import Part
from dcsim.spec.parts import Parts
from dcsim.spec.scenario import Scenario
from dcsim.spec.topology import Built

SCENARIO = Fields(Scenario)
TOPOLOGY = Built()
PARTS = Fields(Parts)
KINDS = {
    key.form.entry.concept: name
    for name, key in keys_of(Parts).items()
    if isinstance(key.form, MapOf)
}
"""The kind of each part, which is its key in a catalogue."""

_YAML = (".yaml", ".yml")
_MOST_STEPS = 50


# Shipped files


def shipped(folder: str) -> Path:
    """The folder of shipped YAML (`topologies`): beside the package or within it."""
    package = Path(__file__).resolve().parent.parent
    for parent in (package, package.parent):
        if (parent / folder).is_dir():
            return parent / folder
    raise FileNotFoundError(f"the folder {folder!r} that dcsim ships is missing")


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


def shipped_files(folder: str) -> dict[str, str]:
    """The names of what is shipped in `scenarios` or `topologies`, with their descriptions."""
    found = {}
    for path in sorted(shipped(folder).glob("*.yaml")):
        description = read_yaml(path).child("description")
        found[path.stem] = " ".join(str(description.value).split()) if description else ""
    return found


def find_scenario(path: Path) -> Path:
    """A scenario's file, or the shipped one where the path is a bare name and no file."""
    bare = path.suffix not in _YAML and path.name == str(path)
    return shipped_file("scenarios", path.name) if bare and not path.exists() else path


def find_named(kind: str, text: str, folder: Path = Path()) -> Path:
    """The file of a topology (kind `topologies`) or a scenario (`scenarios`): a `.yaml` file
    relative to `folder`, or a shipped one by name.

    Raises SpecError where there is none of that name.
    """
    return folder / text if text.endswith(_YAML) else shipped_file(kind, text)


# Merging and overriding


def merge(base: Node, over: Node, form: Form | None) -> Node:
    """`over` on top of `base`: mappings merge key by key, null takes a key away, all else wins.

    A mapping over a name extends what is named. What its form `replaces`, such as a distribution,
    is taken whole.
    """
    if over.map is None or (form is not None and form.replaces(base, over)):
        return over
    if base.text is not None and _named(form) and "extends" not in over.map:
        return over.with_map({"extends": base, **over.map})
    if base.map is None or "extends" in over.map:
        return over
    children = dict(base.map)
    for name, value in over.map.items():
        if value.value is None:
            children.pop(name, None)
        elif name in children:
            below = None if form is None else form.below(base, name)
            children[name] = merge(children[name], value, below)
        else:
            children[name] = value
    merged = over.with_map(children)
    return merged.hollow() if base.partial else merged


def _named(form: Form | None) -> bool:
    """Whether a bare name will do."""
    return form is not None and form.concept is not None and form.concept.named


def override(tree: Node, path: str, value: Node, form: Form) -> Node:
    """The tree with `value` at the dotted `path`; null takes it away. Raises SpecError."""
    steps = path.split(".")
    if not all(steps) or len(steps) > _MOST_STEPS:
        raise SpecError([value.mark.problem(path, "is no dotted path")])
    return _set(tree, steps, value, (), form)


def _set(
    node: Node,
    steps: list[str],
    value: Node,
    done: tuple[str, ...],
    form: Form | None,
    extends: bool = False,
) -> Node:
    """`extends`: whether what stands above extends something, which may bring more entries."""
    head, rest = steps[0], steps[1:]
    path = dotted((*done, *steps))
    if node.items is not None:
        return _set_item(node, steps, value, done, form)
    if node.text is not None and _named(form):
        node = Node({"extends": replace(node, key=None)}, node.mark, node.key)
    if node.map is None:
        message = f"{dotted(done)} holds a single value here, so it has no {head!r} below it"
        raise SpecError([value.mark.problem(path, message)])
    entries = isinstance(form, MapOf) and form.closed
    name = _at_position(node.map, head) if entries else head
    child = node.map.get(name)
    extends = extends or "extends" in node.map
    if child is None and entries and not extends and (rest or value.value is None):
        message = f"no {head!r} in {dotted(done)}; {did_you_mean(head, node.map)}"
        raise SpecError([value.mark.problem(path, message)])
    if not rest:
        return (
            node.without(name) if value.value is None else node.with_map({**node.map, name: value})
        )
    if child is None and value.value is None:
        return node  # nothing there to take away
    below = child if child is not None else Node({}, value.mark, value.key)
    inner = None if form is None else form.below(node, name)
    return node.with_map(
        {**node.map, name: _set(below, rest, value, (*done, head), inner, extends)}
    )


def _at_position(children: Mapping[str, Node], head: str) -> str:
    """Among entries a number stands for the one at that position, if none has that name."""
    names = list(children)
    place = head not in children and head.isdecimal() and int(head) < len(names)
    return names[int(head)] if place else head


def _set_item(
    node: Node, steps: list[str], value: Node, done: tuple[str, ...], form: Form | None
) -> Node:
    items = list(node.items or ())
    head, rest = steps[0], steps[1:]
    if not head.isdecimal() or int(head) >= len(items):
        message = f"{head!r} is no position in a list of {len(items)}"
        raise SpecError([value.mark.problem(dotted((*done, *steps)), message)])
    inner = None if form is None else form.below(node, head)
    old = items[int(head)]
    items[int(head)] = _set(old, rest, value, (*done, head), inner) if rest else value
    return replace(node, value=tuple(items))


# References


@dataclass
class Composer:
    """Puts in place what a tree refers to, and collects what is wrong with the references."""

    problems: list[Problem] = field(default_factory=list)

    def _wrong(self, name: Node, path: str, message: str) -> Node | None:
        """Notes a problem with a reference, which then leads nowhere."""
        self.problems.append(name.mark.problem(path, message))
        return None

    def _whole(self, node: Node, form: Form, base: Callable[[Node], Node | None]) -> Node:
        """A node on top of what it `extends`; partial where `base` does not find that."""
        name = node if node.text is not None else node.child("extends")
        if name is None:
            return node
        below = base(name)
        if node is name:
            return below or Node({}, node.mark, node.key, partial=True)
        rest = node.without("extends")
        return rest.hollow() if below is None else merge(below, rest, form)

    # Files

    def files(self, node: Node, file: Path, form: Form, chain: tuple[Path, ...] = ()) -> Node:
        """Puts in place the files that a scenario or topology (`form`) extends, and the topology
        that a scenario names. Paths are relative to the file that names them."""
        if node.text is None or form is TOPOLOGY:
            node = self._whole(node, form, lambda name: self._file(name, file, form, chain))
        if form is TOPOLOGY:
            return self._absolute_includes(node, file)
        topology = node.child("topology")
        if topology is None or node.map is None:
            return node
        whole = replace(self.files(topology, file, TOPOLOGY, chain), key=topology.key)
        return node.with_map({**node.map, "topology": whole})

    def _file(self, name: Node, file: Path, form: Form, chain: tuple[Path, ...]) -> Node | None:
        kind = "topology" if form is TOPOLOGY else "extends"
        if name.text is None:
            return self._wrong(name, "extends", "the name of a file is due")
        home = (name.mark.file or file).parent
        try:
            text = expand_variables(name.text)
            path = find_named("topologies" if form is TOPOLOGY else "scenarios", text, home)
        except ValueError as error:
            return self._wrong(name, kind, str(error))
        except SpecError as error:
            return self._wrong(name, kind, error.problems[0].message)
        if path in chain:
            loop = " -> ".join(p.name for p in (*chain, path))
            return self._wrong(name, "extends", f"files extend each other: {loop}")
        if name.mark.line is not None and not path.exists():
            message = f"{name.text!r} cannot be read: no such file ({path})"
            return self._wrong(name, kind, message)
        try:
            tree = read_yaml(path, self.problems)
        except SpecError as error:
            self.problems += error.problems
            return None
        return self.files(tree, path, form, (*chain, path))

    def _absolute_includes(self, node: Node, file: Path) -> Node:
        includes = node.child("include")
        if includes is None or includes.items is None or node.map is None:
            return node
        paths = tuple(
            replace(each, value=str(((each.mark.file or file).parent / each.text).resolve()))
            if each.text is not None
            else each
            for each in includes.items
        )
        return node.with_map({**node.map, "include": replace(includes, value=paths)})

    def changed(
        self, tree: Node, file: Path, form: Form, changes: Iterable[tuple[str, Node]]
    ) -> Node:
        """The tree under the overrides that can be made, one after the other."""
        for path, value in changes:
            try:
                tree = self.files(override(tree, path, value, form), file, form)
            except SpecError as error:
                self.problems += error.problems
        return tree

    # Jobs

    def jobs(self, tree: Node) -> Node:
        """Puts in place the jobs that others of the same scenario extend."""
        jobs = tree.child("jobs")
        if jobs is None or jobs.map is None or tree.map is None:
            return tree
        known, form = jobs.map, form_of(Job)

        def whole(name: str, chain: tuple[str, ...]) -> Node:
            def base(extends: Node) -> Node | None:
                other = str(extends.text)
                if other in known and other not in chain:
                    return whole(other, (*chain, other))
                if tree.partial:  # it may be in the file that is not there
                    return None
                others = [other for other in known if other not in chain]
                message = f"no job {other!r} to extend; {did_you_mean(other, others)}"
                return self._wrong(extends, f"jobs.{name}.extends", message)

            job = known[name]
            return job if job.map is None else self._whole(job, form, base)

        merged = {name: whole(name, (name,)) for name in known}
        return tree.with_map({**tree.map, "jobs": jobs.with_map(merged)})

    # Parts

    def parts(self, node: Node, form: Form | None, path: tuple[str, ...], catalogue: Node) -> Node:
        """Puts in place every part of the catalogue that is named or extended below."""
        concept = None if form is None else form.concept
        if concept is not None and issubclass(concept, Part) and node.value is not None:
            node = self._part(node, concept, path, catalogue, ())
        if node.map is None or form is None:
            return node
        children = {
            key: self.parts(child, form.below(node, key), (*path, key), catalogue)
            for key, child in node.map.items()
        }
        return node.with_map(children)

    def parts_of(self, tree: Node, key: str, form: Form, catalogue: Node) -> Node:
        """The same below one key of a tree."""
        node = tree.child(key)
        if node is None or tree.map is None:
            return tree
        whole = self.parts(node, form.below(tree, key), (key,), catalogue)
        return tree.with_map({**tree.map, key: whole})

    def _part(
        self,
        node: Node,
        concept: type[Part],
        path: tuple[str, ...],
        catalogue: Node,
        chain: tuple[str, ...],
    ) -> Node:
        kind = KINDS[concept]
        at = path if node.text is not None or path[-1] == "extends" else (*path, "extends")

        def base(name: Node) -> Node | None:
            entries = catalogue.child(kind)
            known = entries.map if entries is not None and entries.map is not None else {}
            text = str(name.text)
            if text not in known:
                what = f"no {name.text!r} among the {kind} of the catalogue"
                return self._wrong(name, dotted(at), f"{what}; {did_you_mean(text, known)}")
            if text in chain:
                loop = " -> ".join((*chain, text))
                return self._wrong(name, dotted(at), f"parts extend each other: {loop}")
            found = self._part(known[text], concept, at, catalogue, (*chain, text))
            if found.map is None:
                return found
            rest = {key: child for key, child in found.map.items() if key != "part"}
            return replace(found.with_map({"part": Node(text, name.mark), **rest}), key=name.key)

        return self._whole(node, Fields(concept), base)


def merge_catalogue(base: Node, over: Node, problems: list[Problem]) -> Node:
    """Parts of `over` added to `base`; a part that both have is changed where `over` says."""
    if over.map is None:
        problems.append(over.place.problem("", "parts are mappings: gpus, hosts, nics, ..."))
        return base
    children = dict(base.map or {})
    for kind, entries in over.map.items():
        form = PARTS.below(over, kind)
        if form is None:
            message = f"unknown kind of parts; {did_you_mean(kind, KINDS.values())}"
            problems.append((entries.key or entries.mark).problem(kind, message))
        else:
            children[kind] = merge(children[kind], entries, form) if kind in children else entries
    return over.with_map(children)
