"""How fast the engine is with context that is used again: the Mooncake log through DRAM and NAND,
and through HBM too, repeated with content of its own each round, beside the same requests without
content."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dcsim.assembly import Plan, make_plan
from dcsim.engine import COLUMNS, Engine, Int64, Outputs, Tables
from dcsim.spec import find_scenario, load_scenario

__all__ = ["tiers_figures", "tiers_rows"]

LOG = "mooncake_fast25_synthetic.jsonl.gz"
SCENARIO = "mooncake_three_tiers"
BINS = 300
CONTENT = ("nodes", "reads", "leaves", "gaps")


def tiers_figures(requests: int, repeats: int) -> dict[str, Any]:
    """Requests a second with reuse and without, the best of a few repeats in turn."""
    folder = os.environ.get("DCSIM_TRACES")
    if folder is None or not Path(folder, LOG).is_file():
        return {"available": False, "why": f"set DCSIM_TRACES to a folder with {LOG}"}
    plan = make_plan(load_scenario(find_scenario(Path(SCENARIO))))
    rounds = -(-requests // len(plan.requests))
    tables, horizon = _repeated(plan, rounds)
    plain = {name: table for name, table in tables.items() if name not in CONTENT}
    cached = tables | {"services": tables["services"].copy()}
    cached["services"][:, COLUMNS["services"].index("cache_hbm")] = 1
    runs = {"with": tables, "without": plain, "hbm": cached}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, given in runs.items():
            engine = Engine(given, horizon, horizon // BINS)
            begun = time.perf_counter()
            outputs = engine.finish()
            seconds[name].append(time.perf_counter() - begun)
            if name == "with":
                found = outputs
    count = len(tables["arrival"])
    rates = {name: count / min(each) for name, each in seconds.items()}
    return {
        "available": True,
        "requests": count,
        "requests_per_second": rates["with"],
        "requests_per_second_without": rates["without"],
        "requests_per_second_hbm": rates["hbm"],
        "share_of_that_rate": rates["with"] / rates["without"],
        "share_of_that_rate_hbm": rates["hbm"] / rates["without"],
        "loaded_share": _loaded(found, tables),
    }


def _repeated(plan: Plan, rounds: int) -> tuple[Tables, int]:
    """The requests over and over, each round with nodes of its own; and the end of the run, ns."""
    tables, span = plan.tables, plan.scenario.duration
    one, nodes = len(plan.requests), len(tables["nodes"])
    times = np.arange(rounds, dtype=np.int64)
    out = dict(tables)
    for name in ("klass", "work", "prompt", "output"):
        out[name] = np.tile(tables[name], rounds)
    out["arrival"] = np.tile(tables["arrival"], rounds) + np.repeat(times * span, one)
    out["nodes"] = np.tile(tables["nodes"], (rounds, 1))
    out["nodes"][:, 0] = _moved(out["nodes"][:, 0], np.repeat(times * nodes, nodes))
    for name in ("reads", "leaves"):
        out[name] = _moved(np.tile(tables[name], rounds), np.repeat(times * nodes, one))
    return out, span * rounds


def _moved(rows: Int64, by: Int64) -> Int64:
    """Rows further down a table; -1 stays."""
    return np.where(rows < 0, -1, rows + by)


def _loaded(outputs: Outputs, tables: Tables) -> float:
    hits = int(outputs["hit_dram"].sum()) + int(outputs["hit_nand"].sum())
    return hits / int(tables["prompt"].sum())


def tiers_rows(f: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures as rows of text."""
    if not f["available"]:
        return [("tiers", f["why"])]
    return [
        (
            "tiers",
            f"{f['requests_per_second']:,.0f} requests/s of the Mooncake log through 3 tiers",
        ),
        (
            "",
            f"{f['share_of_that_rate']:.2f} of the rate without reuse; "
            f"{100 * f['loaded_share']:.1f} % of the prompt tokens loaded",
        ),
        (
            "",
            f"{f['requests_per_second_hbm']:,.0f} with HBM too, "
            f"{f['share_of_that_rate_hbm']:.2f} of the rate without reuse",
        ),
    ]
