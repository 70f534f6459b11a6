"""A run in which everything happens, and ways to falsify it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dcsim.assembly import Plan
from dcsim.planning import load, run
from dcsim.results import Results

Where = Callable[[dict[str, Any]], bool]
Forge = Callable[..., Results]


@pytest.fixture(scope="session")
def storm() -> Plan:
    return load(Path(__file__).parent / "storm.yaml")


@pytest.fixture(scope="session")
def stormy(storm: Plan) -> Results:
    return run(storm)


@pytest.fixture(scope="session")
def forge() -> Forge:
    """Results with one cell changed, rows left out, or one figure of the summary changed."""

    def forged(results: Results, what: str, **changes: Any) -> Results:
        if what == "summary":
            return replace(results, summary=_figure(results.summary, **changes))
        table = results.tables[what]
        fresh = _without(table, **changes) if "drop" in changes else _cell(table, **changes)
        return replace(results, tables={**results.tables, what: fresh})

    return forged


def _cell(table: Any, column: str, to: Any, where: Where = lambda row: True, skip: int = 0) -> Any:
    """`to`: the new value, or what makes it from the row."""
    rows = table.to_pylist()
    row = [i for i, each in enumerate(rows) if where(each)][skip]
    rows[row][column] = to(rows[row]) if callable(to) else to
    values = pa.array([each[column] for each in rows], table.schema.field(column).type)
    return table.set_column(table.schema.get_field_index(column), column, values)


def _without(table: Any, drop: Where) -> Any:
    """Without the first row for which `drop` holds."""
    row = next(i for i, each in enumerate(table.to_pylist()) if drop(each))
    return pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def _figure(summary: dict[str, Any], path: str, to: Callable[[Any], Any]) -> dict[str, Any]:
    fresh = copy.deepcopy(summary)
    at = fresh
    *parents, last = path.split(".")
    for key in parents:
        at = at[key]
    at[last] = to(at[last])
    return fresh
