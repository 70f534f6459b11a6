"""The laws of two results hold, and each can fail; and what is no law is not."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dcsim.assembly import make_plan
from dcsim.planning import run, simulate
from dcsim.results import Results
from dcsim.spec import scenario_from_data
from dcsim.testing import (
    DrawnScenario,
    check_bins,
    check_deterministic,
    check_longer,
    check_more_hbm,
    check_outputs,
    check_room,
    check_same,
    check_same_requests,
    scenarios,
    topologies,
)

FEW = settings(max_examples=max(1, settings().max_examples // 3))
"""Each example is two runs or more."""
QUICK = ("llama-3.1-8b", "dit-s-8")
ROOMY = topologies(hbm="10 TB", dram="1 PB", nand="100 PB", shelf="100 PB")


def result(scenario: DrawnScenario, **changes: Any) -> Results:
    """Of the scenario with top-level values of its YAML replaced."""
    return run(make_plan(scenario_from_data({**scenario.written, **changes})))


@FEW
@given(scenarios(models=QUICK))
def test_the_same_input_gives_the_same_output(scenario: DrawnScenario) -> None:
    check_deterministic(make_plan(scenario))


@pytest.mark.slow
@FEW
@given(scenarios(models=QUICK), st.integers(1, 50))
def test_a_longer_run_repeats_a_shorter_one(scenario: DrawnScenario, more: int) -> None:
    longer = f"{scenario.duration + scenario.duration * more // 17} ns"
    check_longer(result(scenario), result(scenario, duration=longer))


@FEW
@given(scenarios(models=QUICK), st.integers(2, 7))
def test_bins_change_nothing_else(scenario: DrawnScenario, times: int) -> None:
    coarse = min(scenario.bin * times, scenario.duration)
    check_bins(result(scenario), result(scenario, bin=f"{coarse} ns"))


@FEW
@given(scenarios(models=QUICK), st.integers(1, 20))
def test_more_hbm_rejects_no_more(scenario: DrawnScenario, tenths: int) -> None:
    check_more_hbm(result(scenario), result(scenario, topology=_more_hbm(scenario, tenths)))


def _more_hbm(scenario: DrawnScenario, tenths: int) -> dict[str, Any]:
    topology = copy.deepcopy(scenario.written["topology"])
    for domain in scenario.topology.domains:
        hbm = domain.gpu.hbm * (10 + tenths) // 10
        node = topology["racks"][domain.rack]["node"]
        node["gpu"] = {"extends": domain.gpu.name, "hbm": f"{hbm} B"}
    return dict(topology)


@FEW
@given(scenarios(models=QUICK, topology=ROOMY, operations=False))
def test_where_there_is_room_demand_is_occupancy(scenario: DrawnScenario) -> None:
    check_room(result(scenario))


@FEW
@given(scenarios(models=QUICK, classes=(2, 3)), st.data())
def test_another_job_changes_no_request(scenario: DrawnScenario, data: st.DataObject) -> None:
    jobs = scenario.written["jobs"]
    gone = data.draw(st.sampled_from(sorted(jobs)))
    kept = {k: job for k, job in jobs.items() if gone not in (k, job.get("shares"))}
    assume(kept)
    check_same_requests(result(scenario), result(scenario, jobs=kept, operations=[]), jobs=kept)


# Each can fail


def test_any_difference_is_found(stormy: Results, forge: Any) -> None:
    check_same(stormy, stormy)
    cell = forge(stormy, "timeline", column="live", to=lambda row: row["live"] + 1, skip=50)
    with pytest.raises(AssertionError, match=r"timeline row 50, column live"):
        check_same(stormy, cell)
    null = forge(stormy, "requests", column="start_ns", to=None, skip=3)
    with pytest.raises(AssertionError, match=r"second=None; in requests row 3, column start_ns"):
        check_same(stormy, null)
    word = forge(stormy, "events", column="subject", to="images/0")
    with pytest.raises(AssertionError, match=r"events row 0, column subject"):
        check_same(stormy, word)
    with pytest.raises(AssertionError, match=r"the rows of events"):
        check_same(stormy, forge(stormy, "events", drop=lambda row: row["kind"] == "down"))
    figure = forge(stormy, "summary", path="tiers.dram.capacity", to=lambda n: n + 1)
    with pytest.raises(AssertionError, match=r"summary\.tiers\.dram\.capacity"):
        check_same(stormy, figure)
    clock = forge(stormy, "summary", path="engine.wall_seconds", to=lambda n: n + 1)
    check_same(stormy, clock)
    with pytest.raises(AssertionError, match=r"manifest\.seed"):
        check_same(stormy, replace(stormy, manifest={**stormy.manifest, "seed": 8}))


def test_other_requests_are_found(stormy: Results, forge: Any) -> None:
    moved = forge(stormy, "requests", column="arrival_ns", to=1, skip=2)
    with pytest.raises(AssertionError, match=r"variants see the same requests"):
        check_same_requests(stormy, moved)
    fewer = forge(stormy, "requests", drop=lambda row: row["job"] == "agents")
    with pytest.raises(AssertionError, match=r"first=59, second=58|job agents"):
        check_same_requests(stormy, fewer)
    check_same_requests(stormy, fewer, jobs=["chat", "images"])


def test_a_change_of_the_past_is_found(storm: Any, stormy: Results, forge: Any) -> None:
    short = _with_duration(storm, "31 s")
    check_longer(short, stormy)
    later = forge(stormy, "requests", column="end_ns", to=lambda row: row["end_ns"] + 1)
    with pytest.raises(AssertionError, match=r"end_ns"):
        check_longer(short, later)
    rejected = {"column": "outcome", "where": lambda row: row["outcome"] == "rejected"}
    with pytest.raises(AssertionError, match=r"outcome"):
        check_longer(short, forge(stormy, "requests", to="queued", **rejected))
    other = forge(stormy, "timeline", column="taken", to=5, skip=4)
    with pytest.raises(AssertionError, match=r"taken"):
        check_longer(short, other)


def _with_duration(plan: Any, duration: str) -> Results:
    data = {**plan.scenario.resolved, "duration": duration}
    return run(make_plan(scenario_from_data(data)))


def test_bins_that_do_not_add_up_are_found(storm: Any, stormy: Results, forge: Any) -> None:
    coarse = run(make_plan(scenario_from_data({**storm.scenario.resolved, "bin": "6 s"})))
    check_bins(stormy, coarse)
    for column, by in (("taken", 1), ("peak", 1), ("live", 10**4)):
        wrong = forge(coarse, "timeline", column=column, skip=25,
                      to=lambda row, c=column, n=by: row[c] + n)  # fmt: skip
        with pytest.raises(AssertionError, match=column):
            check_bins(stormy, wrong)
    with pytest.raises(ValueError, match="not made of whole"):
        check_bins(coarse, stormy)


def test_a_new_rejection_is_found(stormy: Results, forge: Any) -> None:
    where = {"column": "outcome", "where": lambda row: row["outcome"] == "completed"}
    with pytest.raises(AssertionError, match="rejects no more"):
        check_more_hbm(stormy, forge(stormy, "requests", to="rejected", **where))


def test_a_plan_without_room_is_found(stormy: Results) -> None:
    with pytest.raises(AssertionError, match="where there is room"):
        check_room(stormy)


def test_chance_is_found(storm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that is run twice with other requests is not deterministic."""
    other = make_plan(scenario_from_data({**storm.scenario.resolved, "seed": 8}))
    plans = iter([storm, other])
    monkeypatch.setattr("dcsim.testing.pairs.run", lambda plan: run(next(plans)))
    with pytest.raises(AssertionError, match="the same input gives the same output"):
        check_deterministic(storm)


# What is no law


def test_demand_may_be_below_occupancy() -> None:
    """Ten turns come at once and fit one after the other: with HBM lifted they run together and
    are soon done, as built they still run when demand has gone."""
    turns = {
        "model": "llama-3.1-8b",
        "replicas": 1,
        "options": {"memory_utilization": 1.0},
        "arrivals": {
            "process": "constant",
            "rate": {"piecewise": [["0 s", "1000/s"], ["10 ms", "0/s"]], "interpolate": "step"},
        },
        "shape": {"prompt": 1000, "output": 100},
    }
    node = {"extends": "hgx-h100", "gpu": {"extends": "h100", "hbm": "17.6 GB"}}
    data = {
        "name": "burst",
        "duration": "20 s",
        "bin": "1 s",
        "topology": {"name": "one", "racks": {"rack0": {"node": node}}},
        "jobs": {"chat": turns},
    }
    timeline = run(make_plan(scenario_from_data(data))).arrays("timeline")
    hbm = timeline["pool"] == "chat/0/hbm"
    assert timeline["weights"][hbm].min() > 0
    below = timeline["demand_peak"][hbm] < timeline["peak"][hbm]
    assert below.any()
    assert (timeline["demand_peak"][hbm] > timeline["peak"][hbm]).any()


def test_more_dram_may_spill_more() -> None:
    """One large and lasting context fits only the larger DRAM, where it then keeps out many
    small ones that the smaller DRAM takes in, one after the other."""
    spilled = {}
    for dram in ("300 MB", "400 MB"):
        node = {"extends": "hgx-h100", "host": {"extends": "x86-2s-2tb", "dram": dram}}
        once = {"piecewise": [["0 s", "1/s"], ["1 s", "0/s"]], "interpolate": "step"}
        data = {
            "name": "tetris",
            "duration": "60 s",
            "topology": {"name": "one", "racks": {"rack0": {"node": node}}},
            "jobs": {
                "large": {
                    "model": "llama-3.1-8b",
                    "replicas": 1,
                    "arrivals": {"process": "constant", "rate": once},
                    "shape": {"prompt": 2999, "output": 2},
                    "keep": {"context": {"dram": "1 h"}},
                },
                "small": {
                    "shares": "large",
                    "arrivals": {"process": "constant", "rate": "1/s"},
                    "shape": {"prompt": 999, "output": 2},
                    "keep": {"context": {"dram": "500 ms"}},
                },
            },
        }
        results = run(make_plan(scenario_from_data(data)))
        spilled[dram] = results.summary["tiers"]["dram"]["flows"]["spilled"]
    assert spilled["400 MB"] > spilled["300 MB"] > 0


def test_check_outputs_takes_both_passes(storm: Any) -> None:
    built, lifted = simulate(storm).outputs, simulate(storm, lifted=True).outputs
    check_outputs(storm, built)
    check_outputs(storm, lifted)
    assert not np.array_equal(built["end"], lifted["end"])
