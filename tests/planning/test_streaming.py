"""A run whose requests come in windows is the run whose requests come at once, byte for byte."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene import scene

import dcsim.results.files
import dcsim.results.spool
from dcsim.assembly import make_plan
from dcsim.engine import COLUMNS, Rows
from dcsim.operations import DataCenter
from dcsim.planning import run, simulate
from dcsim.spec import scenario_from_data
from dcsim.testing import check_all
from dcsim.workload import Requests, Stream

OPERATIONS = [
    {"kind": "failures", "job": "chat", "mtbf": "3 min", "mttr": "20 s"},
    {"kind": "capacity", "script": [["4 min", "rack0/node0/dram", "40 GB"]]},
    {"kind": "sampler", "every": "7 s"},
]


def troubled() -> dict[str, Any]:
    """The scene with failures, a pool that shrinks, a sampler, and clips that come rarely."""
    data = scene(operations=OPERATIONS)
    data["jobs"]["image"]["shape"]["steps"] = {"choice": {"50": 200, "20": 100, "7": 1}}
    return data


def files(folder: Path) -> dict[str, bytes]:
    """What was written, without how long it took."""
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    summary = json.loads(found.pop("summary.json"))
    for engine in (summary["engine"], summary["engine"]["lifted"]):
        del engine["wall_seconds"], engine["requests_per_second"]
    return found | {"summary": json.dumps(summary).encode()}


@pytest.mark.parametrize("window", [1, 60, 500])
def test_any_window_gives_the_same_bytes(
    window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Groups that windows do not fit, so that rows come to a group from several.
    for module in (dcsim.results.files, dcsim.results.spool):
        monkeypatch.setattr(module, "ROW_GROUP", 250)
    scenario = scenario_from_data(troubled())
    whole, plan = make_plan(scenario), make_plan(scenario, window=window)
    assert isinstance(whole.source, Requests)
    assert isinstance(plan.source, Stream)
    results = run(plan)
    results.write(tmp_path / "windows")
    run(whole).write(tmp_path / "whole")
    assert files(tmp_path / "windows") == files(tmp_path / "whole")
    assert len(results.requests()) > 1500
    check_all(results)


def test_any_number_of_threads_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server for each job, which share nothing, in windows and under failures."""
    data = troubled()
    data["topology"] = {"name": "two", "racks": {"rack": {"extends": "hgx-h100", "count": 2}}}
    data["operations"][1]["script"] = [["4 min", "rack0/node0/dram", "40 GB"]]
    for job in ("chat", "image"):
        data["jobs"][job]["replicas"] = 8
    data["jobs"]["image"]["keep"] = {"artifact": {"nand": "5 min"}}
    plan = make_plan(scenario_from_data(data), window=200)
    apart = [COLUMNS["replicas"].index(name) for name in ("dram", "home", "store")]
    chat, image = (plan.fixed["replicas"][row : row + 8, apart] for row in (0, 8))
    assert not set(chat.ravel()) & set(image.ravel())
    for threads in (1, 2):
        monkeypatch.setattr(sys.modules["dcsim.planning.run"], "cores", partial(int, 2 * threads))
        run(plan).write(tmp_path / str(threads))
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_what_is_held_is_what_is_live() -> None:
    """Windows are passed on while the run goes on, and few are under way."""
    plan = make_plan(scenario_from_data(scene()), window=50)
    clock = [0]
    seen: list[tuple[int, int]] = []

    def sink(requests: Requests, rows: Rows) -> None:
        assert len(requests) == len(rows["end"])
        seen.append((len(requests), clock[-1]))

    outputs = DataCenter(plan, progress=clock.append, sink=sink).finish()
    assert len(outputs["end"]) == 0
    assert sum(count for count, _ in seen) == len(plan.requests)
    passed = 0
    for count, now in seen:
        # Of two jobs 50 are drawn at once; the slowest image takes some seconds.
        here = np.count_nonzero(plan.requests.arrival[passed:] < now)
        assert here <= 4 * 50, (passed, now)
        passed += count


def test_without_a_sink_all_requests_come_out() -> None:
    scenario = scenario_from_data(scene())
    whole = simulate(make_plan(scenario)).outputs
    parts = simulate(make_plan(scenario, window=64)).outputs
    assert whole.keys() == parts.keys()
    for name, column in whole.items():
        assert np.array_equal(column, parts[name]) if name != "stats" else column == parts[name]
