"""The parts catalogue: the shipped one, and what a topology adds to it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from dcsim.spec import resolve_topology
from dcsim.spec.compose import PartExpander, merge_catalogue, read_catalogue, shipped
from dcsim.spec.errors import Problem, SpecError
from dcsim.spec.topology import Parts
from dcsim.spec.tree import Node
from dcsim.spec.validate import in_order, validated
from dcsim.spec.written_parts import Catalogue


def load_parts(path: str | Path | None = None) -> Parts:
    """The parts that dcsim ships, with those of a file added or changed. Raises SpecError."""
    if path is None:
        return resolve_topology.parts(shipped_parts()[1])
    tree = merge_catalogue(shipped_parts()[0], read_catalogue([Path(path)]))
    return resolve_topology.parts(_validated_parts(tree))


def expanded(
    node: Node, path: tuple[str, ...], problems: list[Problem]
) -> tuple[Node, Catalogue, list[str]]:
    """A topology with its parts in place, the catalogue they come from, and the paths where
    a part could not be found."""
    tree, catalogue = shipped_parts()
    inline = node.child("parts")
    try:
        own = _included(node) if inline is None else [*_included(node), inline]
        for parts in own:
            tree = merge_catalogue(tree, parts)
        if own:
            catalogue = _validated_parts(tree)
    except SpecError as error:
        problems.extend(error.problems)
    expander = PartExpander(tree)
    whole = expander.topology(node, path)
    problems.extend(expander.problems)
    return whole, catalogue, expander.broken


def _included(node: Node) -> list[Node]:
    include = node.child("include")
    paths = [] if include is None or include.items is None else include.items
    return [read_catalogue([Path(path.text)]) for path in paths if path.text is not None]


def shipped_parts() -> tuple[Node, Catalogue]:
    """The shipped catalogue, as it is written and validated."""
    paths = sorted((shipped("topologies") / "parts").glob("*.yaml"))
    return _parts_of(tuple((path, path.stat().st_mtime_ns) for path in paths))


@lru_cache(maxsize=4)
def _parts_of(paths: tuple[tuple[Path, int], ...]) -> tuple[Node, Catalogue]:
    tree = read_catalogue([path for path, _ in paths])
    return tree, _validated_parts(tree)


def _validated_parts(tree: Node) -> Catalogue:
    """Every part of a catalogue, expanded and validated. Raises SpecError."""
    expander = PartExpander(tree)
    kinds = {
        kind: entries.with_map(
            {n: expander.part(kind, part, (kind, n)) for n, part in (entries.map or {}).items()}
        )
        for kind, entries in (tree.map or {}).items()
    }
    problems = expander.problems
    catalogue = validated(Catalogue, tree.with_map(kinds), problems, expander.broken)
    if problems or catalogue is None:
        raise in_order(problems)
    return catalogue
