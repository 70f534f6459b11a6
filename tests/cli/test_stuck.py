"""A run that will never go on is an error of its own, with names and without a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_scenes import Dcsim

from dcsim.operations import StuckError
from dcsim.planning import load, run

# KV of 3,249 tokens fits: that of one at a time, and not beside 262 MB that are kept of another.
SCENE = """
name: stuck
duration: 1 min
topology:
  name: one
  racks:
    rack0:
      node: {extends: hgx-h100, gpu: {extends: h100, hbm: 19.6 GB}, gpus: 2}
jobs:
  search: {model: llama-3.1-8b, replicas: 1, shape: {prompt: 2000, output: 10}}
  answer: {model: llama-3.1-8b, replicas: 1, shape: {prompt: 2000, output: 10}}
  agent:
    arrivals: {process: constant, rate: 4/min}
    steps:
      look: {job: search, count: 2}
      say: {job: answer, after: [look], hand_over: 262 MB}
"""


def test_a_stuck_run_names_who_waits_for_whom(dcsim: Dcsim, tmp_path: Path) -> None:
    scenario = tmp_path / "stuck.yaml"
    scenario.write_text(SCENE, encoding="utf-8")
    done = dcsim("run", scenario, "--out", tmp_path / "out", "--no-plots")
    assert done.code == 1
    (error,) = done.errors
    assert error.startswith(
        "stuck: search/0 runs nothing. request 1 of 'search' needs room in its HBM beside what "
        "request 0 of 'search' keeps there to hand over to request 2 of 'answer'"
    )
    assert not (tmp_path / "out").exists()


def test_with_less_handed_over_it_goes_on(tmp_path: Path) -> None:
    scenario = tmp_path / "stuck.yaml"
    scenario.write_text(SCENE, encoding="utf-8")
    with pytest.raises(StuckError, match="search/0 runs nothing"):
        run(load(scenario))
    fine = run(load(scenario, overrides=["jobs.agent.steps.say.hand_over=150 MB"]))
    assert fine.summary["requests"]["outcomes"]["completed"] == 3 * 4
