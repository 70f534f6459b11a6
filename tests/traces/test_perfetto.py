"""The timeline of a trace: loadable, whole and as long as the request."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from trace_scenes import GPU

from dcsim import traces
from dcsim.traces import Clip, MemoryTrace, Turn, report
from dcsim.traces.perfetto import MOST_STEPS, OPS, PHASES, STEPS, timeline, write_timeline

CASES = {
    "clip": ("video-dit-xl", {}, Clip(256, 192, 17, 4)),
    "in turn": ("dit-xl-2", {"cfg": "sequential"}, Clip(256, 256, 1, 3)),
    "turn": ("llama-3.1-8b", {}, Turn(700, 20, 256)),
}


def made(name: str) -> tuple[MemoryTrace, list[dict[str, Any]]]:
    model, options, shape = CASES[name]
    trace = traces.trace(model, options, shape)
    return trace, timeline(trace, GPU)["traceEvents"]


def row(events: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    return [e for e in events if e["ph"] == "X" and e["tid"] == number]


@pytest.mark.parametrize("name", CASES)
def test_rows_follow_each_other_and_fill_the_request(name: str) -> None:
    trace, events = made(name)
    seconds = report(trace, GPU)["seconds"]
    for number in (PHASES, STEPS):
        mine = row(events, number)
        assert sum(e["dur"] for e in mine) == pytest.approx(seconds * 1e6)
        for one, other in pairwise(mine):
            assert one["ts"] + one["dur"] == pytest.approx(other["ts"])
    assert len(row(events, PHASES)) == len(trace.segments)
    assert len(row(events, STEPS)) == sum(s.steps for s in trace.segments)
    ops = row(events, OPS)
    assert len(ops) == sum(len(trace.records[s.record].names) for s in trace.segments)
    # Ops lie within the step that they are of.
    first = next(e for e in row(events, STEPS))
    inside = [e for e in ops if e["ts"] < first["dur"]]
    assert sum(e["dur"] for e in inside) == pytest.approx(first["dur"], rel=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_counters_reach_the_peaks(name: str) -> None:
    trace, events = made(name)
    replica = [e for e in events if e["ph"] == "C" and e["name"] == "memory of the replica"]
    assert max(sum(e["args"].values()) for e in replica) == trace.peak_bytes
    assert sum(replica[-1]["args"].values()) == 0
    for phase in trace.phases:
        mine = [e for e in events if e["name"] == f"{phase.name}: one GPU"]
        records = {s.record for s in trace.segments if s.phase == phase.name}
        most = max(trace.records[r].held.sum(axis=1).max() for r in records)
        assert max(sum(e["args"].values()) for e in mine) == most


def test_the_file_is_json_and_long_runs_are_cut(tmp_path: Path) -> None:
    trace = traces.trace("llama-3.1-8b", None, Turn(16, 3000))
    write_timeline(trace, GPU, tmp_path / "t.json")
    read = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    steps = row(read["traceEvents"], STEPS)
    assert len(steps) == 1 + MOST_STEPS
    assert steps[-1]["name"] == f"decode {MOST_STEPS} to 2999"
    seconds = report(trace, GPU)["seconds"]
    assert sum(e["dur"] for e in steps) == pytest.approx(seconds * 1e6)
