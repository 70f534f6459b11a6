"""SimPy in command of the engine: one clock, shipped operations, a user's own process."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from scene import scene

from dcsim.assembly import Plan, make_plan
from dcsim.operations import DataCenter, Environment, operate, sampler, scripted_outage
from dcsim.planning import run, simulate
from dcsim.spec import SpecError, scenario_from_data

SECOND = 10**9
MILLISECOND = 10**6
MINUTE = 60 * SECOND


def plan_of(**changes: Any) -> Plan:
    return make_plan(scenario_from_data(scene(**changes)))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of()


def test_the_clocks_are_one(plan: Plan) -> None:
    seen = []

    def watch(env: Environment, datacenter: DataCenter) -> Generator[Any, Any, None]:
        for delay in (0, 1.4, 2.6, MINUTE):
            yield env.timeout(delay)
            seen.append((env.now, datacenter.now))

    simulate(plan, commands=[watch])
    assert seen == [(0, 0), (1, 1), (4, 4), (MINUTE + 4, MINUTE + 4)]


def test_a_process_at_an_instant_sees_all_that_happened_there(plan: Plan) -> None:
    first = int(plan.requests.arrival[0])
    seen = []

    def watch(env: Environment, datacenter: DataCenter) -> Generator[Any, Any, None]:
        yield env.timeout(first - 1)
        seen.append(datacenter.arrived)
        yield env.timeout(1)
        seen.append(datacenter.arrived)

    simulate(plan, commands=[watch])
    assert seen == [0, 1]


def test_watching_changes_nothing(plan: Plan) -> None:
    alone = simulate(plan).outputs
    watched = simulate(plan, commands=[sampler(SECOND)]).outputs
    assert (alone["end"] == watched["end"]).all()
    assert (alone["mean"] == watched["mean"]).all()
    assert alone["stats"]["steps"] == watched["stats"]["steps"]


def test_scripted_outage_moves_the_jobs(plan: Plan) -> None:
    states = []

    def watch(env: Environment, datacenter: DataCenter) -> Generator[Any, Any, None]:
        for at in (59_000, 60_001, 119_999, 120_001, 180_000):
            yield env.timeout(at * MILLISECOND - env.now)
            states.append((datacenter.state("chat/1"), datacenter.running("chat/1") > 0))

    outputs = simulate(plan, commands=[scripted_outage("chat/1", MINUTE, MINUTE), watch]).outputs
    assert [state for state, _ in states] == ["up", "down", "down", "loading", "up"]
    assert not states[1][1]
    assert outputs["events"][:, 1].tolist()[-3:] == [2, 0, 1]
    assert (outputs["outcome"] >= 1).all() or (outputs["outcome"] == 0).sum() < 20
    alone = simulate(plan).outputs
    assert (outputs["end"] != alone["end"]).any()
    # The other class has replicas of its own: nothing of it changes.
    images = plan.requests.klass == plan.classes.index("image")
    assert (outputs["end"][images] == alone["end"][images]).all()


def test_failures_of_a_scenario_are_repeatable() -> None:
    failing = [{"kind": "failures", "job": "chat", "mtbf": "2 min", "mttr": "20 s"}]
    plan = plan_of(operations=failing)
    one, two = simulate(plan).outputs, simulate(plan).outputs
    downs = one["events"][one["events"][:, 1] == 2]
    assert 2 <= len(downs) <= 20
    assert set(downs[:, 2].tolist()) == {0, 1}
    assert (one["events"] == two["events"]).all()
    # Both passes see the same failures.
    lifted = simulate(plan, lifted=True).outputs
    assert (lifted["events"][lifted["events"][:, 1] == 2] == downs).all()


def test_a_shelf_dies_and_returns() -> None:
    script = [["4 min", "shelf", "0 B"], ["6 min", "shelf", "1 TB"]]
    plan = plan_of(operations=[{"kind": "capacity", "script": script}])
    results = run(plan)
    held = results.arrays("timeline")
    shelf = held["pool"] == "shelf/nand"
    minute = held["start_ns"][shelf] // MINUTE
    artifacts = held["artifacts"][shelf]
    assert artifacts[minute == 3].min() > 0
    assert artifacts[minute == 5].max() == 0
    assert artifacts[minute == 8].max() > 0
    assert held["lost"][shelf].sum() > 0
    assert held["dropped"][shelf][minute == 5].sum() > 0
    demand = held["demand"][shelf]
    assert (demand[minute == 5] > artifacts[minute == 3].max()).all()


def test_capacity_below_the_weights_is_explained() -> None:
    script = [["4 min", "rack0/node0/nand", "1 GB"]]
    plan = plan_of(operations=[{"kind": "capacity", "script": script}])
    with pytest.raises(SpecError, match=r"operations\.0\.script\.0.*weights"):
        run(plan)


def test_the_sampler_reads_pools_and_services() -> None:
    results = run(plan_of(operations=[{"kind": "sampler", "every": "1 min"}]))
    samples = results.arrays("samples")
    assert sorted(set(samples["time_ns"] // MINUTE)) == list(range(11))
    assert set(samples["quantity"]) == {"used", "running", "waiting", "up"}
    up = samples["value"][(samples["subject"] == "chat") & (samples["quantity"] == "up")]
    assert up[-1] == 2
    dram = (samples["subject"] == "rack0/node0/dram") & (samples["quantity"] == "used")
    assert samples["value"][dram].max() > 16 * 10**9  # the 8B weights, and contexts


def test_names_that_do_not_exist(plan: Plan) -> None:
    datacenter = DataCenter(plan)
    with pytest.raises(LookupError, match="did you mean 'chat/"):
        datacenter.fail("chat/O")
    with pytest.raises(LookupError, match=r"no pool 'shelf'.*did you mean 'shelf/nand'"):
        datacenter.used("shelf")
    with pytest.raises(LookupError, match="no service 'chta'"):
        datacenter.replicas("chta")
    with pytest.raises(ValueError, match="replica 0 is not down"):
        datacenter.repair("chat/0")


def test_replica_numbers_are_checked() -> None:
    wrong = [
        {"kind": "failures", "job": "chat", "replica": 2, "mtbf": "1 h", "mttr": "1 min"},
        {"kind": "failures", "job": "image", "script": [["1 min", 0, "1 s"], ["2 min", 4, "1 s"]]},
    ]
    with pytest.raises(SpecError) as caught:
        plan_of(operations=wrong)
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["operations.0.replica", "operations.1.script.1.1"]


def test_processes_see_the_horizon(plan: Plan) -> None:
    seen = []

    def last(env: Environment, datacenter: DataCenter) -> Generator[Any, Any, None]:
        yield env.timeout(datacenter.horizon)
        seen.append(datacenter.completed)
        yield env.timeout(1)
        seen.append("after the end")

    datacenter = DataCenter(plan)
    operate(datacenter, [last])
    outputs = datacenter.finish()
    assert seen == [int((outputs["outcome"] == 2).sum())]
