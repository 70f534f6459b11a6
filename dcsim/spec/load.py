"""From files to scenarios and topologies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from dcsim.reading.concept import keys_of
from dcsim.reading.errors import Finding, Problem, SpecError, did_you_mean, in_order
from dcsim.reading.forms import HOLE, Reading, Unknown
from dcsim.reading.tree import Node, from_plain, locate, parse_value, plain, read_yaml
from dcsim.spec.checks import checks
from dcsim.spec.compose import (
    KINDS,
    PARTS,
    SCENARIO,
    TOPOLOGY,
    Composer,
    find_named,
    find_scenario,
    merge_catalogue,
    shipped,
)
from dcsim.spec.jobs import Job
from dcsim.spec.parts import Parts
from dcsim.spec.scenario import Scenario
from dcsim.spec.stages import served
from dcsim.spec.topology import Topology, TopologyFile

Kind = Literal["scenario", "topology", "parts"]
Changes = list[tuple[str, Node]]
"""Dotted paths, and what comes there."""
More = Callable[[Scenario], Iterator[Iterable[Finding]]]
"""What others look for in a scenario as it is written, which may have holes."""


def load_scenario(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    what_if: str | None = None,
    also: Sequence[More] = (),
) -> Scenario:
    """Read a scenario file, or a shipped scenario by its name.

    `overrides` are `dotted.path=VALUE`, the value in YAML, applied in order; then those of
    the variant `what_if`. Raises SpecError with all that is wrong, and all that `also` finds.
    """
    file = find_scenario(Path(path))
    problems: list[Problem] = []
    tree = _read(file, "scenario", problems)
    return _scenario(tree, file, overrides, what_if, problems, also)


def scenario_from_data(
    data: Mapping[str, Any], *, overrides: Sequence[str] = (), what_if: str | None = None
) -> Scenario:
    """A scenario from plain data as the YAML would hold it; relative paths are from here."""
    problems: list[Problem] = []
    tree = Composer(problems).files(from_plain(data), Path(), SCENARIO)
    return _scenario(tree, Path(), overrides, what_if, problems)


def load_topology(path: str | Path, *, overrides: Sequence[str] = ()) -> Topology:
    """Read a topology file, or a shipped topology by its name.

    `overrides` are `dotted.path=VALUE`, with or without `topology.` before. Raises SpecError.
    """
    file = find_named("topologies", str(path))
    problems: list[Problem] = []
    tree = _read(file, "topology", problems)
    changes = [(p.removeprefix("topology."), v) for p, v in _parsed(overrides, problems)]
    tree = Composer(problems).changed(tree, file, TOPOLOGY, changes)
    reading = Reading()
    tree, parts, _ = _with_parts(tree, (), reading)
    topology: Topology = TOPOLOGY.read(tree, (), reading)
    problems += _news(reading.problems, problems)
    if problems:
        raise in_order(problems)
    return replace(topology, parts=parts)


def load_parts(path: str | Path | None = None) -> Parts:
    """The parts that dcsim ships, with those of a file added or changed. Raises SpecError."""
    tree, parts = shipped_parts()
    if path is None:
        return parts
    reading = Reading()
    parts = _catalogue(merge_catalogue(tree, read_yaml(Path(path)), reading.problems), reading)
    if reading.problems:
        raise in_order(reading.problems)
    return parts


def check_file(path: str | Path, *, also: Sequence[More] = ()) -> list[Problem]:
    """All that is wrong with a scenario, topology or parts file, of a scenario also what `also`
    finds; empty if nothing is."""
    file = Path(path)
    try:
        match file_kind(file):
            case "scenario":
                load_scenario(file, also=also)
            case "topology":
                load_topology(file)
            case "parts":
                load_parts(file)
            case None:
                message = "is no scenario (jobs), topology (racks) or parts file (gpus, ssds, ...)"
                return [Problem(file, 1, 1, "", message)]
    except SpecError as error:
        return list(error.problems)
    return []


def file_kind(file: Path, deep: int = 8) -> Kind | None:
    """What a file holds, by its keys, or by those of the file that it extends."""
    return _kind_of(read_yaml(file, []), file, deep)


def _kind_of(tree: Node, file: Path, deep: int = 8) -> Kind | None:
    keys = set(tree.map or {})
    if keys & (keys_of(Scenario).keys() - keys_of(TopologyFile).keys()):
        return "scenario"
    if keys and keys <= set(KINDS.values()):
        return "parts"
    if keys & {"racks", "shelves", "include", "parts"}:
        return "topology"
    base = tree.child("extends")
    if base is None or base.text is None or deep == 0:
        return None
    if not base.text.endswith((".yaml", ".yml")):
        ours = shipped("scenarios") / f"{base.text}.yaml"
        return "scenario" if ours.is_file() else "topology"
    below = file.parent / base.text
    return file_kind(below, deep - 1) if below.is_file() else None


_WHAT: Mapping[Kind, str] = {
    "scenario": "a scenario (jobs on a topology)",
    "topology": "a topology (racks)",
    "parts": "parts of the catalogue",
}


def _read(file: Path, kind: Kind, problems: list[Problem]) -> Node:
    """The tree of a file of that kind, with the files that it refers to in place; what leaves a
    tree to go on with is added to the problems. Raises SpecError where there is none."""
    tree = read_yaml(file, problems)
    found = _kind_of(tree, file)
    if found == "parts" and tree.child("racks") is not None:
        found = "topology"  # without its name
    if found is not None and found != kind:
        message = f"holds {_WHAT[found]}; {_WHAT[kind]} is due here"
        raise in_order([*problems, Problem(file, 1, 1, "", message)])
    form = SCENARIO if kind == "scenario" else TOPOLOGY
    return Composer(problems).files(tree, file, form)


# Scenario


def _scenario(
    tree: Node,
    file: Path,
    overrides: Sequence[str],
    what_if: str | None,
    problems: list[Problem],
    also: Sequence[More] = (),
) -> Scenario:
    """The scenario, with its variants checked where none is asked for; `problems` are those
    found on the way here. Raises SpecError with all of them and what else is wrong."""
    composer = Composer(problems)
    base = composer.changed(tree, file, SCENARIO, _parsed(overrides, problems))
    variants = _variants(base)
    if what_if is not None:
        if what_if not in variants:
            message = f"no what_if {what_if!r}; {did_you_mean(what_if, variants)}"
            problems.append(Problem(file, None, None, "what_if", message))
        base = composer.changed(base, file, SCENARIO, variants.pop(what_if, []))
    scenario = _built(base, file, problems, also)
    if what_if is None:
        for name, changes in variants.items():
            found: list[Problem] = []
            tree = Composer(found).changed(base, file, SCENARIO, changes)
            if found and scenario is None:
                continue  # what it changes may be what the base lacks
            _built(tree, file, found, also)
            news = [problem for problem in found if problem not in problems]
            problems += [_of_variant(problem, name, base) for problem in news]
    if scenario is None or problems:
        raise in_order(problems)
    return scenario


def _built(
    tree: Node, file: Path, problems: list[Problem], also: Sequence[More]
) -> Scenario | None:
    """The scenario of a tree whose files are in place; None where something new is wrong, which
    is added to the problems."""
    reading = Reading()
    tree = Composer(reading.problems).jobs(tree)
    topology, parts = tree.child("topology"), Parts()
    if topology is not None and tree.map is not None:
        topology, parts, catalogue = _with_parts(topology, ("topology",), reading)
        tree = tree.with_map({**tree.map, "topology": topology})
        tree = Composer(reading.problems).parts_of(tree, "jobs", SCENARIO, catalogue)
    scenario: Scenario = SCENARIO.read(tree, (), reading)
    beyond = Reading()
    if scenario is not HOLE and not tree.partial:
        with suppress(Unknown):
            for findings in checks(scenario, tree):
                reading.found(tree, (), findings)
        with suppress(Unknown):
            for findings in chain.from_iterable(more(scenario) for more in also):
                beyond.found(tree, (), findings)
    problems += _news([*reading.problems, *beyond.problems], problems)
    if reading.problems or scenario is HOLE or scenario.topology is HOLE or tree.partial:
        return None
    return replace(
        scenario,
        topology=replace(scenario.topology, parts=parts),
        jobs=_linked(served(scenario.jobs), scenario),
        as_written={
            name: job
            for name, job in _linked(scenario.jobs, scenario).items()
            if job.arrivals is not None
        },
        file=file,
        resolved=plain(tree),
        tree=tree,
    )


def _linked(jobs: Mapping[str, Job], scenario: Scenario) -> dict[str, Job]:
    groups = scenario.topology.groups
    return {
        name: job.served_by(jobs[job.shares] if job.shares else job, groups)
        for name, job in jobs.items()
    }


def _news(found: Iterable[Problem], problems: list[Problem]) -> list[Problem]:
    """What is found where nothing was wrong yet: a value that is not YAML is no number either."""
    said = {(p.file, p.line, p.column) for p in problems if p.line is not None}
    return [p for p in found if (p.file, p.line, p.column) not in said]


def _variants(tree: Node) -> dict[str, Changes]:
    """The what_if blocks as overrides; what has another form is wrong, and reading says so."""
    blocks = tree.child("what_if")
    found = {} if blocks is None or blocks.map is None else blocks.map
    return {name: list(block.map.items()) for name, block in found.items() if block.map is not None}


def _of_variant(problem: Problem, name: str, tree: Node) -> Problem:
    path = f"what_if.{name}: {problem.path}"
    if problem.line is None:
        return locate(tree, ["what_if", name]).problem(path, problem.message)
    return replace(problem, path=path)


def _parsed(overrides: Sequence[str], problems: list[Problem]) -> Changes:
    """Overrides as paths and values; what is wrong with their form is added to the problems."""
    parsed: Changes = []
    for text in overrides:
        path, equals, value = text.partition("=")
        path = path.strip()
        if not equals or not path:
            message = "an override is written dotted.path=value"
            problems.append(Problem(None, None, None, text, message))
            continue
        try:
            parsed.append((path, parse_value(value)))
        except SpecError as error:
            problems += [Problem(None, None, None, path, p.message) for p in error.problems]
    return parsed


# Parts


def shipped_parts() -> tuple[Node, Parts]:
    """The shipped catalogue, as it is written and read."""
    paths = sorted((shipped("topologies") / "parts").glob("*.yaml"))
    return _parts_of(tuple((path, path.stat().st_mtime_ns) for path in paths))


@lru_cache(maxsize=4)
def _parts_of(paths: tuple[tuple[Path, int], ...]) -> tuple[Node, Parts]:
    tree, reading = Node({}), Reading()
    for path, _ in paths:
        tree = merge_catalogue(tree, read_yaml(path, ours=True), reading.problems)
    parts = _catalogue(tree, reading)
    if reading.problems:
        raise in_order(reading.problems)
    return tree, parts


def _catalogue(tree: Node, reading: Reading) -> Parts:
    """Every part of a catalogue as it is written."""
    whole = Composer(reading.problems).parts(tree, PARTS, (), tree)
    parts: Parts = PARTS.read(whole, (), reading)
    return parts


def _with_parts(node: Node, path: tuple[str, ...], reading: Reading) -> tuple[Node, Parts, Node]:
    """A topology with its parts in place, and the catalogue that they come from, also as it is
    written."""
    tree, parts = shipped_parts()
    own = _included(node, reading)
    inline = node.child("parts")
    for more in own if inline is None else [*own, inline]:
        tree = merge_catalogue(tree, more, reading.problems)
    if own or inline is not None:
        parts = _catalogue(tree, reading)
    if node.map is None:
        return node, parts, tree
    bare = node.without("include", "parts")
    return Composer(reading.problems).parts(bare, TOPOLOGY, path, tree), parts, tree


def _included(node: Node, reading: Reading) -> list[Node]:
    include = node.child("include")
    found = []
    for path in (include.items or ()) if include is not None else ():
        try:
            found += [] if path.text is None else [read_yaml(Path(path.text), reading.problems)]
        except SpecError as error:
            reading.problems += error.problems
    return found
