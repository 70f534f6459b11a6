"""The laws hold of everything that can be drawn, and each can fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from scene import scene

from dcsim.assembly import make_plan
from dcsim.engine import CAUSES, OUTCOMES, Outputs
from dcsim.planning import run, simulate
from dcsim.results import Results
from dcsim.results.events import KINDS
from dcsim.spec import scenario_from_data
from dcsim.testing import (
    LAWS,
    DrawnScenario,
    check_all,
    check_capacity,
    check_causality,
    check_contents,
    check_demand,
    check_events,
    check_flows,
    check_lifted,
    check_outcomes,
    check_outputs,
    check_samples,
    check_summary,
    check_tiers,
    check_transfers,
    check_wear,
    scenarios,
)

CHAT = ("llama-3.1-8b",)


def hold(scenario: DrawnScenario) -> None:
    plan = make_plan(scenario)
    check_all(run(plan))
    check_outputs(plan, simulate(plan).outputs)
    lifted = simulate(plan, lifted=True).outputs
    check_outputs(plan, lifted)
    check_lifted(plan, lifted)


@pytest.mark.slow
@given(scenarios())
def test_laws_hold(scenario: DrawnScenario) -> None:
    hold(scenario)


@pytest.mark.slow
@given(scenarios(models=CHAT, duration="20 s", rate=("1/s", "20/s"), keep=("1 s", "10 s")))
def test_laws_hold_of_chat(scenario: DrawnScenario) -> None:
    """Language models alone, under load: preemption, full pools, evictions."""
    hold(scenario)


def test_laws_hold_of_a_storm(storm: Any, stormy: Results, tmp_path: Path) -> None:
    """And of its results as they were written and read."""
    check_all(stormy)
    check_outputs(storm, simulate(storm).outputs)
    stormy.write(tmp_path / "out")
    check_all(Results.read(tmp_path / "out"))


def test_the_storm_has_everything(stormy: Results) -> None:
    """What the tests below falsify is there."""
    outcomes = stormy.summary["requests"]["outcomes"]
    alone = set(OUTCOMES) - {"awaited", "abandoned"}  # no request of the storm waits for others
    assert all(outcomes[name] for name in alone)
    assert stormy.summary["requests"]["preemptions"]
    tiers = stormy.summary["tiers"]
    assert all(tiers["dram"]["flows"][c] for c in CAUSES if c not in ("evicted", "read"))
    assert all(tiers["nand"]["flows"][c] for c in CAUSES if c not in ("moved", "spilled", "read"))
    assert set(stormy.events()["kind"].to_pylist()) == set(KINDS)


def more(column: str, by: int = 1) -> Callable[[dict[str, Any]], int]:
    return lambda row: row[column] + by


def held(tier: str, column: str = "taken") -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["tier"] == tier and row[column] > 0


def is_(column: str, value: Any) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row[column] == value


END = 60 * 10**9
FORGERIES: list[tuple[Any, str, str, dict[str, Any]]] = [
    # outcomes
    (check_outcomes, "exactly one outcome", "requests", {"column": "outcome", "to": None}),
    (check_outcomes, "counted as in the table", "requests",
     {"column": "outcome", "to": "queued", "where": is_("outcome", "completed")}),
    (check_outcomes, "counted as in the table", "requests", {"drop": is_("outcome", "rejected")}),
    (check_outcomes, "has arrived", "summary",
     {"path": "requests.arrived", "to": lambda n: n + 1}),
    (check_outcomes, "jobs' arrivals add up", "summary",
     {"path": "jobs", "to": lambda jobs: {k: jobs[k] for k in ("chat", "agents")}}),
    (check_outcomes, "nothing is rejected", "summary",
     {"path": "requests.outcomes_lifted",
      "to": lambda o: {**o, "completed": o["completed"] - 1, "rejected": 1}}),
    (check_outcomes, "times of a request", "requests",
     {"column": "start_ns", "to": None, "where": is_("outcome", "running")}),
    (check_outcomes, "times of a request", "requests",
     {"column": "first_ns", "to": None, "where": is_("outcome", "completed")}),
    (check_outcomes, "times of a request", "requests",
     {"column": "end_ns", "to": END, "where": is_("outcome", "queued")}),
    (check_outcomes, "preemptions are 0 or more", "requests",
     {"column": "preemptions", "to": -1, "where": is_("outcome", "completed")}),
    # wear
    (check_wear, "adds up to what was taken", "wear",
     {"column": "contexts", "to": more("contexts"), "where": lambda row: row["contexts"] > 0}),
    (check_wear, "no more is written than was taken", "wear",
     {"column": "written", "to": 10**15, "where": lambda row: row["written"] > 0}),
    (check_wear, "a write budget holds", "wear",
     {"column": "budget", "to": 0, "where": lambda row: row["written"] > 2}),
    (check_wear, "adds up what is written", "summary",
     {"path": "tiers.nand.wear.pools",
      "to": lambda pools: {k: {**v, "bytes_written": v["bytes_written"] + 1}
                           for k, v in pools.items()}}),
    (check_wear, "adds up what is taken", "summary",
     {"path": "tiers.nand.wear.pools",
      "to": lambda pools: {k: {**v, "bytes_taken": dict.fromkeys(v["bytes_taken"], -1)}
                           for k, v in pools.items()}}),
    (check_wear, "the pools' writes add up", "summary",
     {"path": "tiers.nand.wear.bytes_written", "to": lambda n: n + 1}),
    (check_wear, "has every bin", "wear", {"drop": lambda row: True}),
    # causality
    (check_causality, "in order of arrival", "requests",
     {"column": "arrival_ns", "to": 0, "where": is_("outcome", "rejected")}),
    (check_causality, "arrivals are within the run", "requests",
     {"column": "arrival_ns", "to": END, "where": is_("outcome", "queued"), "skip": -1}),
    (check_causality, "arrival <= start", "requests",
     {"column": "start_ns", "to": more("arrival_ns", -1), "where": is_("outcome", "running")}),
    (check_causality, "start <= first", "requests",
     {"column": "first_ns", "to": more("start_ns", -1), "where": is_("outcome", "completed")}),
    (check_causality, "first <= end", "requests",
     {"column": "end_ns", "to": more("first_ns", -1), "where": is_("outcome", "completed")}),
    (check_causality, "<= end of the run", "requests",
     {"column": "end_ns", "to": END + 1, "where": is_("outcome", "completed")}),
    (check_causality, "events are within the run", "events",
     {"column": "time_ns", "to": END + 1, "where": is_("kind", "down")}),
    (check_causality, "events are in order", "events",
     {"column": "time_ns", "to": 0, "where": is_("kind", "down")}),
    (check_causality, "a stretch has a length", "events",
     {"column": "end_ns", "to": more("time_ns", 0), "where": is_("kind", "shortfall")}),
    # capacity
    (check_capacity, "bins of every pool tile", "timeline",
     {"column": "end_ns", "to": more("end_ns"), "skip": 3}),
    (check_capacity, "bins of every pool tile", "timeline", {"drop": is_("start_ns", 3 * 10**9)}),
    (check_capacity, "every part is 0 or more", "timeline", {"column": "cache", "to": -1}),
    (check_capacity, "parts \\+ free = capacity", "timeline",
     {"column": "cache", "to": more("cache"), "where": held("dram", "cache")}),
    (check_capacity, "parts \\+ free = capacity", "timeline", {"column": "free", "to": 0}),
    (check_capacity, r"never above capacity \(peak\)", "timeline",
     {"column": "peak", "to": more("capacity_high"), "where": held("hbm", "live")}),
    (check_capacity, "mean is not above the peak", "timeline",
     {"column": "peak", "to": 0, "where": held("hbm", "weights")}),
    (check_capacity, "between its extremes", "timeline",
     {"column": "capacity_low", "to": more("capacity"), "where": held("dram")}),
    (check_capacity, "HBM does not change", "timeline",
     {"column": "capacity_high", "to": more("capacity"), "where": held("hbm", "live")}),
    # demand
    (check_demand, "mean not above its peak", "timeline",
     {"column": "demand", "to": more("demand_peak")}),
    (check_demand, "shortfall = demand - capacity", "timeline",
     {"column": "shortfall", "to": more("shortfall")}),
    (check_demand, "headroom = capacity - demand", "timeline",
     {"column": "headroom", "to": more("headroom")}),
    # flows
    (check_flows, "flows are 0 or more", "timeline", {"column": "evicted", "to": -1}),
    (check_flows, "no more is freed than was allocated", "timeline",
     {"column": "expired", "to": 10**12, "where": held("nand")}),
    (check_flows, "allocated = freed \\+ held", "timeline",
     {"column": "taken", "to": 0, "where": held("nand")}),
    (check_flows, "allocated = freed \\+ held", "timeline",
     {"column": "cache", "to": more("cache", 10**10), "where": held("dram"), "skip": 3}),
    (check_flows, "objects are in DRAM and NAND only", "timeline",
     {"column": "artifacts", "to": 1, "where": held("hbm", "live")}),
    # tiers
    (check_tiers, "one row a tier and bin", "tiers", {"column": "tier", "to": "nand"}),
    (check_tiers, "peak of a tier is between its bounds", "tiers",
     {"column": "peak", "to": more("peak", 10**12)}),
    (check_tiers, "demand_peak of a tier is between its bounds", "tiers",
     {"column": "demand_peak", "to": 0}),
    # transfers
    (check_transfers, "taken there or spilled", "timeline",
     {"column": "spilled", "to": more("spilled"), "where": held("dram", "spilled")}),
    (check_transfers, "taken there or spilled", "requests",
     {"column": "outcome", "to": "running", "where": is_("job", "agents")}),
    (check_transfers, "arrives in NAND or is dropped", "timeline",
     {"column": "dropped", "to": 0, "where": held("nand", "dropped")}),
    (check_transfers, "arrives in NAND or is dropped", "timeline",
     {"column": "dropped", "to": more("dropped", 10**10), "where": held("nand", "dropped")}),
    (check_transfers, "nothing moves on from NAND", "timeline",
     {"column": "moved", "to": 1, "where": held("nand")}),
    (check_transfers, "at most its bandwidth", "channels",
     {"column": "bytes", "to": lambda row: row["bandwidth"] * 4}),
    # contents
    (check_contents, "contents by job add up", "contents",
     {"column": "mean_bytes", "to": more("mean_bytes")}),
    (check_contents, "contents by job add up", "contents",
     {"column": "demand_bytes", "to": more("demand_bytes")}),
    (check_contents, "contents by job add up", "contents", {"drop": held("nand", "mean_bytes")}),
    # samples
    (check_samples, "0 or more", "samples", {"column": "value", "to": -1}),
    (check_samples, "those taken less those freed", "samples",
     {"column": "value", "to": 10**9, "where": is_("subject", "rack0/node0/nand")}),
    (check_samples, "those taken less those freed", "samples",
     {"column": "value", "to": 2 * 10**9, "where": is_("subject", "rack0/node0/dram")}),
    (check_samples, "runs or waits until it ends", "samples",
     {"column": "value", "to": more("value"), "where": is_("quantity", "waiting")}),
    (check_samples, "runs or waits until it ends", "samples",
     {"column": "value", "to": more("value", -1),
      "where": lambda row: row["quantity"] == "running" and row["value"] > 0, "skip": 5}),
    # events
    (check_events, "events tell what was evicted", "events", {"drop": is_("kind", "evicted")}),
    (check_events, "events tell what was lost", "events",
     {"column": "bytes", "to": more("bytes"), "where": is_("kind", "lost")}),
    (check_events, "loads, comes up, goes down", "events",
     {"column": "kind", "to": "loading", "where": is_("kind", "down")}),
    (check_events, "loads before it is up", "events",
     {"drop": lambda row: row["kind"] == "loading" and row["subject"] == "images/0"}),
    (check_events, "tells its worst", "events",
     {"column": "bytes", "to": more("bytes"), "where": is_("kind", "shortfall")}),
    (check_events, "cover the bins with a shortfall", "events",
     {"drop": is_("kind", "shortfall")}),
    # summary
    (check_summary, "peak occupancy", "summary",
     {"path": "tiers.hbm.occupancy.peak", "to": lambda n: n + 1}),
    (check_summary, "peak demand", "tiers",
     {"column": "demand_peak", "to": more("demand_peak", 10**12), "where": is_("tier", "dram")}),
    (check_summary, "mean demand", "summary",
     {"path": "tiers.dram.demand.mean", "to": lambda n: n * 1.001}),
    (check_summary, "bytes evicted", "summary",
     {"path": "tiers.nand.flows.evicted", "to": lambda n: n - 1}),
    (check_summary, "greatest shortfall", "summary",
     {"path": "tiers.nand.shortfall_peak", "to": lambda n: 0}),
    (check_summary, "first shortfall", "summary",
     {"path": "tiers.dram.first_shortfall_ns", "to": lambda n: None}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("law", "says", "what", "changes"),
    FORGERIES,
    ids=[f"{law.__name__}-{what}-{i}" for i, (law, _, what, _) in enumerate(FORGERIES)],
)
def test_laws_can_fail(
    stormy: Results, forge: Any, law: Any, says: str, what: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(AssertionError, match=says):
        law(forge(stormy, what, **changes))


def test_every_law_is_tried() -> None:
    assert {law for law, *_ in FORGERIES} == set(LAWS)


TALK = {"session": {"turns": 3, "think": "2 s"}, "arrivals": {"process": "constant", "rate": "1/s"}}
"""Changes to the chat of the scene: three turns, a few seconds apart."""


def test_the_law_of_turns_can_fail(forge: Any) -> None:
    data = scene(duration="1 min")
    data["jobs"]["chat"] |= TALK
    results = run(make_plan(scenario_from_data(data)))
    check_all(results)
    follows = {"where": lambda row: row["after"] is not None and row["arrival_ns"] is not None}
    early = forge(results, "requests", column="arrival_ns", to=0, **follows)
    with pytest.raises(AssertionError, match="a request follows what it waits for"):
        check_causality(early)
    gone = forge(results, "requests", column="arrival_ns", to=None, **follows)
    with pytest.raises(AssertionError, match="times of a request are those of its outcome"):
        check_outcomes(gone)


def test_a_broken_law_names_the_row_and_the_numbers(stormy: Results, forge: Any) -> None:
    false = forge(stormy, "timeline", column="peak", to=10**15, where=held("dram"))
    with pytest.raises(AssertionError) as caught:
        check_capacity(false)
    text = str(caught.value)
    assert "peak=1,000,000,000,000,000" in text
    assert "capacity=1,200,000,000" in text
    assert "pool=rack0/node0/dram" in text
    assert "timeline row " in text


CHANGES: list[tuple[str, Callable[[Outputs], None]]] = [
    ("allocated = freed \\+ held", lambda out: _add(out, "mean", "cache", 10**10)),
    ("no more is freed", lambda out: _add(out, "expired", "cache", 10**11)),
    ("only objects flow", lambda out: _add(out, "taken", "live", 1)),
    ("taken there or spilled", lambda out: _add(out, "spilled", "cache", 1)),
    ("arrives in NAND or is dropped", lambda out: _add(out, "dropped", "cache", 10**12)),
]


@pytest.mark.parametrize(("says", "change"), CHANGES, ids=[says for says, _ in CHANGES])
def test_laws_of_accounts_can_fail(
    storm: Any, says: str, change: Callable[[Outputs], None]
) -> None:
    outputs = simulate(storm).outputs
    change(outputs)
    with pytest.raises(AssertionError, match=says):
        check_outputs(storm, outputs)


def _add(outputs: Outputs, what: str, category: str, size: int) -> None:
    """Adds bytes in the last bin of the first account of that category that holds something."""
    kinds = ("weights", "live", "transient", "cache", "artifacts")
    mine = (outputs["accounts"][:, 1] == kinds.index(category)) & outputs["mean"].any(axis=1)
    row = mine.argmax()
    if what == "mean":
        outputs["mean"][row, -1] += size
    else:
        outputs["flow"][row, CAUSES.index(what), -1] += size


@pytest.mark.parametrize("which", ["rejected", "preempted", "spilled", "evicted", "lost"])
def test_a_run_that_is_not_lifted_is_told(storm: Any, which: str) -> None:
    outputs = simulate(storm, lifted=True).outputs
    check_lifted(storm, outputs)
    built = simulate(storm).outputs
    if which == "rejected":
        outputs["outcome"][:] = built["outcome"]
    elif which == "preempted":
        outputs["preemptions"][:] = built["preemptions"]
    else:
        outputs["flow"][:, CAUSES.index(which)] = built["flow"][:, CAUSES.index(which)]
    with pytest.raises(AssertionError, match=f"{which}|rejects|preempts"):
        check_lifted(storm, outputs)
