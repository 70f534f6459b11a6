"""From files to scenarios and topologies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dcsim.spec import resolve_jobs, resolve_topology
from dcsim.spec.catalogue import expanded, load_parts, shipped_parts
from dcsim.spec.checks import scenario_findings, topology_findings
from dcsim.spec.compose import (
    KINDS,
    compose_files,
    expand_variables,
    find_scenario,
    find_topology,
    merge,
    override,
)
from dcsim.spec.errors import Problem, SpecError, did_you_mean
from dcsim.spec.limits import scenario_limits, topology_limits
from dcsim.spec.scenario import Scenario
from dcsim.spec.topology import Topology
from dcsim.spec.tree import Node, from_plain, locate, parse_value, plain, read_yaml
from dcsim.spec.validate import in_order, located, validated
from dcsim.spec.written_parts import TopologyFile
from dcsim.spec.written_scenario import ScenarioFile

Kind = Literal["scenario", "topology", "parts"]


def load_scenario(
    path: str | Path, *, overrides: Sequence[str] = (), what_if: str | None = None
) -> Scenario:
    """Read a scenario file, or a shipped scenario by its name.

    `overrides` are `dotted.path=VALUE`, the value in YAML, applied in order; then those of
    the variant `what_if`. Raises SpecError with all that is wrong.
    """
    file = find_scenario(Path(path))
    problems: list[Problem] = []
    tree = _read(file, "scenario", problems)
    return _from_tree(tree, file, overrides, what_if, problems)


def scenario_from_data(
    data: Mapping[str, Any], *, overrides: Sequence[str] = (), what_if: str | None = None
) -> Scenario:
    """A scenario from plain data as the YAML would hold it; relative paths are from here."""
    file = Path()
    tree = compose_files(from_plain(data), file, "scenario")
    return _from_tree(tree, file, overrides, what_if, [])


def load_topology(path: str | Path, *, overrides: Sequence[str] = ()) -> Topology:
    """Read a topology file, or a shipped topology by its name.

    `overrides` are `dotted.path=VALUE`, with or without `topology.` before. Raises SpecError.
    """
    file = find_topology(str(path))
    problems: list[Problem] = []
    tree = _read(file, "topology", problems)
    changes = [(p.removeprefix("topology."), v) for p, v in _parsed(overrides, problems)]
    tree = _overridden(tree, file, "topology", changes, problems)
    try:
        topology = _topology_from_tree(tree)
    except SpecError as error:
        raise in_order([*problems, *_news(error.problems, problems)]) from None
    if problems:
        raise in_order(problems)
    return topology


def check_file(path: str | Path) -> list[Problem]:
    """All that is wrong with a scenario, topology or parts file; empty if nothing is."""
    file = Path(path)
    try:
        match file_kind(file):
            case "scenario":
                load_scenario(file)
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
    tree = read_yaml(file, [])
    return _kind_of(tree, file, deep)


def _kind_of(tree: Node, file: Path, deep: int = 8) -> Kind | None:
    """What a tree read from a file holds."""
    keys = set(tree.map or {})
    if keys & (set(ScenarioFile.keys()) - set(TopologyFile.keys())):
        return "scenario"
    if keys and keys <= set(KINDS):
        return "parts"
    if keys & {"racks", "shelves", "include", "parts"}:
        return "topology"
    base = tree.child("extends")
    if base is None or base.text is None or deep == 0:
        return None
    if not base.text.endswith((".yaml", ".yml")):
        return "topology"
    below = file.parent / base.text
    return file_kind(below, deep - 1) if below.is_file() else None


def _read(file: Path, kind: Kind, problems: list[Problem]) -> Node:
    """The tree of a file of that kind with those it extends; what leaves a tree to go on with
    is added to the problems. Raises SpecError with all of them where there is none."""
    tree = read_yaml(file, problems)
    try:
        found = _kind_of(tree, file)
        if found == "parts" and tree.child("racks") is not None:
            found = "topology"  # without its name
        if found is not None and found != kind:
            message = f"holds {_WHAT[found]}; {_WHAT[kind]} is due here"
            raise SpecError([Problem(file, 1, 1, "", message)])
        try:
            return compose_files(tree, file, kind)
        except SpecError as error:
            rest = _beside_topology(tree) if kind == "scenario" else []
            raise SpecError([*error.problems, *rest]) from error
    except SpecError as error:
        raise in_order([*problems, *error.problems]) from error


def _beside_topology(tree: Node) -> list[Problem]:
    """What is wrong with the rest of a scenario whose topology cannot be read."""
    if tree.map is None or tree.child("extends") is not None:
        return []
    found: list[Problem] = []
    rest = {key: node for key, node in tree.map.items() if key != "topology"}
    validated(ScenarioFile, _extended_jobs(tree.with_map(rest), found), found, [])
    return [problem for problem in found if problem.path != "topology"]


_WHAT: Mapping[Kind, str] = {
    "scenario": "a scenario (jobs on a topology)",
    "topology": "a topology (racks)",
    "parts": "parts of the catalogue",
}


# Scenario


def _from_tree(
    tree: Node,
    file: Path,
    overrides: Sequence[str],
    what_if: str | None,
    problems: list[Problem],
) -> Scenario:
    """The scenario, with its variants checked where none is asked for; `problems` are those
    found on the way here. Raises SpecError with all of them and what else is wrong."""
    base = _overridden(tree, file, "scenario", _parsed(overrides, problems), problems)
    variants = _variants(base)
    if what_if is not None and what_if not in variants:
        message = f"no what_if {what_if!r}; {did_you_mean(what_if, variants)}"
        problems.append(Problem(file, None, None, "what_if", message))
    chosen = variants.get(what_if or "", [])
    if what_if is not None:
        base = _overridden(base, file, "scenario", chosen, problems)
    scenario = _built(base, file, problems)
    if scenario is not None and what_if is None:
        for name, changes in variants.items():
            found: list[Problem] = []
            _built(_overridden(base, file, "scenario", changes, found), file, found)
            problems += [_of_variant(problem, name, base) for problem in found]
    if scenario is None or problems:
        raise in_order(problems)
    return scenario


def _built(tree: Node, file: Path, problems: list[Problem]) -> Scenario | None:
    try:
        return _build(tree, file)
    except SpecError as error:
        problems += _news(error.problems, problems)
        return None


def _news(found: Iterable[Problem], problems: list[Problem]) -> list[Problem]:
    """What is found where nothing was wrong yet: a value that is not YAML is no number either."""
    said = {(p.file, p.line, p.column) for p in problems if p.line is not None}
    return [p for p in found if (p.file, p.line, p.column) not in said]


def _variants(tree: Node) -> dict[str, list[tuple[str, Node]]]:
    """The what_if blocks as overrides; what has another form the model reports."""
    blocks = tree.child("what_if")
    if blocks is None or blocks.map is None:
        return {}
    return {
        name: list(block.map.items()) for name, block in blocks.map.items() if block.map is not None
    }


def _of_variant(problem: Problem, name: str, tree: Node) -> Problem:
    mark = locate(tree, ["what_if", name]) if problem.line is None else None
    path = f"what_if.{name}: {problem.path}"
    if mark is None:
        return Problem(problem.file, problem.line, problem.column, path, problem.message)
    return Problem(mark.file, mark.line, mark.column, path, problem.message)


def _parsed(overrides: Sequence[str], problems: list[Problem]) -> list[tuple[str, Node]]:
    """Overrides as paths and values; what is wrong with their form is added to the problems."""
    parsed: list[tuple[str, Node]] = []
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


def _overridden(
    tree: Node,
    file: Path,
    kind: str,
    changes: Iterable[tuple[str, Node]],
    problems: list[Problem],
) -> Node:
    """The tree under the changes that can be made; the others are added to the problems."""
    for path, value in changes:
        try:
            tree = compose_files(override(tree, path, value), file, kind)
        except SpecError as error:
            problems.extend(error.problems)
    return tree


def _build(tree: Node, file: Path) -> Scenario:
    """Expand, validate, check and resolve. Raises SpecError with all that each stage found."""
    problems: list[Problem] = []
    tree = _extended_jobs(tree, problems)
    topology_node = tree.child("topology")
    catalogue = shipped_parts()[1]
    broken: list[str] = []
    if topology_node is not None and tree.map is not None:
        whole, catalogue, broken = expanded(topology_node, ("topology",), problems)
        tree = tree.with_map({**tree.map, "topology": whole})
    written = validated(ScenarioFile, tree, problems, broken)
    if written is None:
        raise in_order(problems)
    problems += located(tree, scenario_findings(written))
    problems += located(tree, scenario_limits(written))
    find = _FileFinder(tree, problems)
    if problems:
        _find_all(written, find)  # so that a missing log is reported with the rest
        raise in_order(problems)
    jobs = resolve_jobs.jobs(written.jobs, written.topology.racks, find)
    topology = resolve_topology.topology(written.topology, catalogue)
    problems += located(tree, ((f"topology.{p}", m) for p, m in topology_limits(topology)))
    if problems:
        raise in_order(problems)
    operations = tuple(
        resolve_jobs.operation(o, written.topology.shelves) for o in written.operations
    )
    return Scenario(
        name=written.name,
        description=written.description,
        seed=written.seed,
        duration=written.duration,
        bin=written.bin,
        start_cold=written.start_cold,
        topology=topology,
        jobs=jobs,
        operations=operations,
        what_if=written.what_if,
        file=file,
        resolved=plain(tree),
        tree=tree,
    )


def _extended_jobs(tree: Node, problems: list[Problem]) -> Node:
    """Jobs that `extends` another job of the same scenario, merged onto it."""
    jobs = tree.child("jobs")
    if jobs is None or jobs.map is None or tree.map is None:
        return tree
    known = jobs.map

    def whole(name: str, chain: tuple[str, ...]) -> Node:
        job = known[name]
        extends = job.child("extends")
        if extends is None or job.map is None:
            return job
        rest = job.with_map({key: value for key, value in job.map.items() if key != "extends"})
        base = str(extends.text)
        if base not in known or base in chain:
            others = [other for other in known if other not in chain]
            message = f"no job {base!r} to extend; {did_you_mean(base, others)}"
            problems.append(extends.mark.problem(f"jobs.{name}.extends", message))
            return rest
        return merge(whole(base, (*chain, base)), rest)

    merged = {name: whole(name, (name,)) for name in known}
    return tree.with_map({**tree.map, "jobs": jobs.with_map(merged)})


class _FileFinder:
    """Finds the files that a scenario names, and collects those that are missing."""

    def __init__(self, tree: Node, problems: list[Problem]) -> None:
        self.tree = tree
        self.problems = problems

    def __call__(self, text: str, path: str) -> Path:
        mark = locate(self.tree, path.split("."))
        hint = f"give it with --set {path}=PATH"
        try:
            text = expand_variables(text)
        except ValueError as error:
            self.problems.append(mark.problem(path, f"{error}; set it, or {hint}"))
            return Path(text)
        found = (Path.cwd() if mark.file is None else mark.file.parent) / text
        if not found.is_file():
            self.problems.append(mark.problem(path, f"no such file: {found}; {hint}"))
        return found.resolve()


def _find_all(written: ScenarioFile, find: _FileFinder) -> None:
    for name, job in written.jobs.items():
        resolve_jobs.arrivals(job.arrivals, find, f"jobs.{name}.arrivals")
        resolve_jobs.shape(job.shape, find, f"jobs.{name}.shape")


# Topology


def _topology_from_tree(tree: Node) -> Topology:
    problems: list[Problem] = []
    whole, catalogue, broken = expanded(tree, (), problems)
    written = validated(TopologyFile, whole, problems, broken)
    if written is None:
        raise in_order(problems)
    problems += located(whole, topology_findings(written))
    if problems:
        raise in_order(problems)
    topology = resolve_topology.topology(written, catalogue)
    problems += located(whole, topology_limits(topology))
    if problems:
        raise in_order(problems)
    return topology
