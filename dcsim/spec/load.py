"""From files to scenarios and topologies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dcsim.spec import resolve_jobs, resolve_topology
from dcsim.spec.catalogue import expanded, load_parts, shipped_parts
from dcsim.spec.checks import scenario_findings, topology_findings
from dcsim.spec.compose import (
    KINDS,
    compose_files,
    expand_variables,
    find_topology,
    merge,
    override,
)
from dcsim.spec.errors import Problem, SpecError, did_you_mean
from dcsim.spec.scenario import Scenario
from dcsim.spec.topology import Topology
from dcsim.spec.tree import Node, from_plain, locate, parse_value, plain, read_yaml
from dcsim.spec.validate import in_order, located, validated
from dcsim.spec.written_parts import TopologyFile
from dcsim.spec.written_scenario import ScenarioFile


def load_scenario(
    path: str | Path, *, overrides: Sequence[str] = (), what_if: str | None = None
) -> Scenario:
    """Read a scenario file.

    `overrides` are `dotted.path=VALUE`, the value in YAML, applied in order; then those of
    the variant `what_if`. Raises SpecError with all that is wrong.
    """
    file = Path(path)
    tree = compose_files(read_yaml(file), file, "scenario")
    return _from_tree(tree, file, overrides, what_if)


def scenario_from_data(
    data: Mapping[str, Any], *, overrides: Sequence[str] = (), what_if: str | None = None
) -> Scenario:
    """A scenario from plain data as the YAML would hold it; relative paths are from here."""
    file = Path()
    tree = compose_files(from_plain(data), file, "scenario")
    return _from_tree(tree, file, overrides, what_if)


def load_topology(path: str | Path, *, overrides: Sequence[str] = ()) -> Topology:
    """Read a topology file, or a shipped topology by its name.

    `overrides` are `dotted.path=VALUE`, with or without `topology.` before. Raises SpecError.
    """
    file = find_topology(str(path))
    tree = compose_files(read_yaml(file), file, "topology")
    for dotted_path, value in _parse_overrides(overrides):
        tree = override(tree, dotted_path.removeprefix("topology."), value)
        tree = compose_files(tree, file, "topology")
    return _topology_from_tree(tree)


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


def file_kind(file: Path, deep: int = 8) -> Literal["scenario", "topology", "parts"] | None:
    """What a file holds, by its keys, or by those of the file that it extends."""
    tree = read_yaml(file)
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
    return file_kind(file.parent / base.text, deep - 1)


# Scenario


def _from_tree(tree: Node, file: Path, overrides: Sequence[str], what_if: str | None) -> Scenario:
    base = _overridden(tree, file, _parse_overrides(overrides))
    variants = _variants(base)
    if what_if is not None:
        if what_if not in variants:
            message = f"no what_if {what_if!r}; {did_you_mean(what_if, variants)}"
            raise SpecError([Problem(file, None, None, "what_if", message)])
        return _build(_overridden(base, file, variants[what_if]), file)
    problems: list[Problem] = []
    scenario = _collect(problems, lambda: _build(base, file))
    if scenario is None:
        raise in_order(problems)
    for name, changes in variants.items():
        found: list[Problem] = []
        _collect(found, lambda c=changes: _build(_overridden(base, file, c), file))  # type: ignore[misc]
        problems += [_of_variant(problem, name, base) for problem in found]
    if problems:
        raise in_order(problems)
    return scenario


def _collect(problems: list[Problem], make: Callable[[], Scenario]) -> Scenario | None:
    try:
        return make()
    except SpecError as error:
        problems.extend(error.problems)
        return None


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


def _parse_overrides(overrides: Sequence[str]) -> list[tuple[str, Node]]:
    parsed: list[tuple[str, Node]] = []
    problems: list[Problem] = []
    for text in overrides:
        path, equals, value = text.partition("=")
        path = path.strip()
        if not equals or not path:
            problems.append(
                Problem(None, None, None, text, "an override is written dotted.path=value")
            )
            continue
        try:
            parsed.append((path, parse_value(value)))
        except SpecError as error:
            problems += [Problem(None, None, None, path, p.message) for p in error.problems]
    if problems:
        raise SpecError(problems)
    return parsed


def _overridden(tree: Node, file: Path, changes: Iterable[tuple[str, Node]]) -> Node:
    problems: list[Problem] = []
    for path, value in changes:
        try:
            tree = compose_files(override(tree, path, value), file, "scenario")
        except SpecError as error:
            problems.extend(error.problems)
    if problems:
        raise SpecError(problems)
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
    find = _FileFinder(tree, problems)
    if problems:
        _find_all(written, find)  # so that a missing log is reported with the rest
        raise in_order(problems)
    jobs = resolve_jobs.jobs(written.jobs, written.topology.racks, find)
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
        topology=resolve_topology.topology(written.topology, catalogue),
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
    return resolve_topology.topology(written, catalogue)
