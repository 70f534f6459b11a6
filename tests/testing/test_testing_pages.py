"""The properties on the page about testing run, and the page of invariants names real tests."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest

import dcsim.testing

ROOT = Path(__file__).resolve().parent.parent.parent
TESTING = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
INVARIANTS = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_properties_of_the_page_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only defined, as for every page: each `test_...` is run."""
    for folder in ("scenarios", "topologies"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "docs.testing"}
    for block in re.findall(r"^```python\n(.*?)^```", TESTING, re.S | re.M):
        exec(compile(block, "docs/testing.md", "exec"), namespace)
    properties = [each for name, each in namespace.items() if name.startswith("test_")]
    assert len(properties) == 2
    for run in properties:
        run()  # type: ignore[operator]


def test_what_the_page_prints_is_a_scenario() -> None:
    printed = re.search(r'scenario_from_yaml\("""\n(.*?)"""\)', TESTING, re.S)
    assert printed is not None
    scenario = dcsim.testing.scenario_from_yaml(printed[1])
    assert scenario.yaml == printed[1]


def test_the_page_lists_all_that_is_public() -> None:
    named = set(re.findall(r"`(\w+)", TESTING))
    unnamed = (
        set(dcsim.testing.__all__) - named - {"DrawnScenario", "DrawnTrace", "Written", "LAWS"}
    )
    assert not unnamed


def test_the_tests_that_invariants_name_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", INVARIANTS)
    assert len(named) > 20
    missing = [f"{file}::{test}" for file, test in named if test not in _functions(ROOT / file)]
    assert not missing


def test_every_law_is_an_invariant() -> None:
    laws = {name for name in dcsim.testing.__all__ if name.startswith("check_")}
    assert laws - {"check_all"} <= set(re.findall(r"`(check_\w+)`", INVARIANTS))


def test_every_invariant_has_a_test_and_a_place() -> None:
    rows = [line for line in INVARIANTS.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| law", "|---"))]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4, row
        assert all(cells), row
        assert "::test_" in cells[2], row


def _functions(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
