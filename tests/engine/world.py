"""A small world for hand-worked cases: one of everything, changed where a test says so."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from oracle_work import COLUMNS

from engine.case import Case, Control, Row, content, graph, hand_overs, run, table

NS = 65536  # ticks

DEFAULTS: dict[str, list[Row]] = {
    "pools": [
        {"tier": 0, "capacity": 1000},
        {"tier": 1, "capacity": 1000},
        {"tier": 2, "capacity": 1000},
    ],
    "channels": [{"bandwidth": 10**9, "latency": 0}],
    "phases": [{"launch": 10 * NS}],
    "segments": [{"steps": 3}],
    "works": [{"segments": 1}],
    "services": [{"replicas": 1, "max_jobs": 8, "max_tokens": 1000}],
    "classes": [{}],
    "replicas": [{"dram": 1, "home": 2, "store": 2, "library": 2, "start": 1}],
}


def whole(name: str, row: Row) -> Row:
    """A row with 0 in the columns it leaves out."""
    return dict.fromkeys(COLUMNS[name].split(), 0) | row


def world(
    requests: list[dict[str, Any]], paths: list[list[int]] | None = None, **rows: Any
) -> dict[str, Any]:
    """Tables from the defaults, `rows` by table, and requests by column.

    A table given as a dict of columns changes the only row that the default has. A request may
    have `after` (rows it waits for) and `delay`, with them `handover` and `ahead` (a list each, as
    long) and `fed`, with `nodes` also `reads` and `leaves`; a node may be `brought`; `gaps` are
    edges of gaps.
    """
    tables: dict[str, Any] = {}
    for name, default in DEFAULTS.items():
        given = rows.get(name, default)
        if isinstance(given, dict):
            given = [default[0] | given]
        tables[name] = table(name, [whole(name, row) for row in given])
    paths = paths or [[0]]
    tables["path_start"] = np.cumsum([0, *map(len, paths)]).astype(np.int64)
    tables["path_channels"] = np.array([c for path in paths for c in path], dtype=np.int64)
    for name in ("arrival", "klass", "work", "prompt", "output"):
        tables[name] = np.array([r.get(name, 0) for r in requests], dtype=np.int64)
    if "policies" in rows:
        tables["policies"] = table("policies", [whole("policies", row) for row in rows["policies"]])
    given = [dict(row) for row in rows.get("nodes", [])]
    brought = [row.pop("brought", 0) for row in given]
    nodes = [whole("nodes", {"parent": -1} | row) for row in given]
    reads, leaves = ([r.get(name, -1) for r in requests] for name in ("reads", "leaves"))
    tables |= content(nodes, reads, leaves, rows.get("gaps", []), brought)
    after = [list(r.get("after", ())) for r in requests]
    tables |= graph(after, [r.get("delay", 0) for r in requests])
    handed = [
        [list(r.get(name, [0] * len(rows))) for r, rows in zip(requests, after, strict=True)]
        for name in ("handover", "ahead")
    ]
    return tables | hand_overs(*handed, [r.get("fed", 0) for r in requests])


class Play(Protocol):
    """Runs tables on one of the engines (see the fixture `play`)."""

    def __call__(
        self,
        tables: dict[str, Any],
        horizon: int = 1000,
        bin: int = 100,
        script: list[Control] | None = None,
        lifted: bool = False,
    ) -> dict[str, Any]: ...


def player(engine: Any) -> Play:
    """`Play` on an engine class."""

    def play(
        tables: dict[str, Any],
        horizon: int = 1000,
        bin: int = 100,
        script: list[Control] | None = None,
        lifted: bool = False,
    ) -> dict[str, Any]:
        return run(engine, Case(tables, horizon, bin, script or []), lifted)

    return play


def series(out: dict[str, Any], name: str, account: tuple[int, int]) -> list[int]:
    """One account's row of `mean`, by (pool, category), the first that matches."""
    rows = [tuple(row[:2]) for row in out["accounts"].tolist()]
    return list(out[name][rows.index(account)].tolist())


def flows(out: dict[str, Any], account: tuple[int, int]) -> dict[str, int]:
    """Bytes by cause of one account over the whole run, without those that are 0."""
    rows = [tuple(row[:2]) for row in out["accounts"].tolist()]
    total = out["flow"][rows.index(account)].sum(axis=1).tolist()
    causes = ("taken", "moved", "expired", "evicted", "lost", "dropped", "spilled", "read")
    return {cause: amount for cause, amount in zip(causes, total, strict=True) if amount}
