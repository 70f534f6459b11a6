"""One run of an engine as data, and how to play it on the engine or on the oracle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from oracle_work import COLUMNS

Row = dict[str, int]
Control = tuple[Any, ...]
Arrays = dict[str, np.ndarray]


@dataclass
class Case:
    """A run: tables, horizon and bin (ns), and a script of (time, control, arguments)."""

    tables: dict[str, np.ndarray]
    horizon: int
    bin: int
    script: list[Control] = field(default_factory=list)


def table(name: str, rows: list[Row]) -> np.ndarray:
    """An int64 table from rows of named columns."""
    names = COLUMNS[name].split()
    flat = [[row[column] for column in names] for row in rows]
    return np.array(flat, dtype=np.int64).reshape(-1, len(names))


def graph(after: list[list[int]], delay: list[int]) -> dict[str, np.ndarray]:
    """The three arrays of a request graph; none where no request waits."""
    if not any(after):
        return {}
    return {
        "delay": np.array(delay, dtype=np.int64),
        "after_start": np.cumsum([0, *map(len, after)]).astype(np.int64),
        "after": np.array([row for rows in after for row in rows], dtype=np.int64),
    }


def hand_overs(handover: list[list[int]], ahead: list[list[int]], fed: list[int]) -> Arrays:
    """The three arrays of hand-overs, by request a list like its `after`; none without bytes."""
    if not any(map(any, handover)):
        return {}
    flat = {"handover": handover, "ahead": ahead}
    columns = {name: [each for row in rows for each in row] for name, rows in flat.items()}
    return {k: np.array(v, dtype=np.int64) for k, v in (columns | {"fed": fed}).items()}


def content(
    nodes: list[Row],
    reads: list[int],
    leaves: list[int],
    gaps: list[int],
    brought: list[int],
) -> dict[str, np.ndarray]:
    """The tables of a prefix forest; none where there is no node."""
    if not nodes:
        return {}
    edges = {"gaps": np.array(gaps, dtype=np.int64)} if gaps else {}
    if any(brought):
        edges["brought"] = np.array(brought, dtype=np.int64)
    return edges | {
        "nodes": table("nodes", nodes),
        "reads": np.array(reads, dtype=np.int64),
        "leaves": np.array(leaves, dtype=np.int64),
    }


def look(machine: Any, case: Case) -> list[int]:
    """What an engine shows at a stop."""
    replicas = range(len(case.tables["replicas"]))
    below = [i for i, (tier, _) in enumerate(case.tables["pools"].tolist()) if tier > 0]
    return [
        machine.now,
        machine.completed,
        *(show(r) for r in replicas for show in (machine.state, machine.running, machine.waiting)),
        *(machine.used(pool) for pool in below),
        *(machine.stuck() or ()),
    ]


def run(engine: Any, case: Case, lifted: bool) -> dict[str, Any]:
    """Play the case on an engine class: what `finish` gives, and two tables more.

    `refused` are the numbers of the controls that raised ValueError, `looks` what was
    seen at each stop, before its control.
    """
    machine = engine(case.tables, case.horizon, case.bin, lifted)
    refused = []
    looks = []
    for number, (t, kind, *arguments) in enumerate(case.script):
        machine.run_until(t)
        looks.append(look(machine, case))
        try:
            if kind != "stop":
                getattr(machine, kind)(*arguments)
        except ValueError:
            refused.append(number)
    machine.run_until(case.horizon)
    stuck = machine.stuck()
    out: dict[str, Any] = dict(machine.finish())
    out["stuck"] = np.array(stuck or (), dtype=np.int64)
    out["refused"] = np.array(refused, dtype=np.int64)
    most = max(map(len, looks), default=0)
    out["looks"] = np.array([[*each, *[-1] * (most - len(each))] for each in looks], dtype=np.int64)
    return out
