"""Runs and comparisons: same arrivals, as built and lifted, checks before anything runs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scene import changed, scene
from simpy.events import Event

from dcsim.assembly import Plan, make_plan
from dcsim.operations import DataCenter, Environment
from dcsim.planning import Run, check, compare, load, run, simulate, variants
from dcsim.spec import SpecError, scenario_from_data

VARIANTS = {
    "small_dram": {"topology.racks.rack0.dram": "25 GB"},
    "busier": {"jobs.chat.arrivals.rate": "4/s"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scene.yaml"
    path.write_text(yaml.safe_dump(scene(what_if=VARIANTS), sort_keys=False), encoding="utf-8")
    return path


def test_a_run_has_both_passes() -> None:
    plan = make_plan(scenario_from_data(changed("topology.racks.rack0.dram", "25 GB")))
    results = run(plan)
    dram = results.summary["tiers"]["dram"]
    assert dram["capacity"] == 25 * 10**9
    assert dram["occupancy"]["peak"] <= 25 * 10**9 < dram["demand"]["peak"]
    assert dram["first_shortfall_ns"] is not None
    assert dram["flows"]["spilled"] > 0
    # Lifted, nothing is spilled: what is held there is what would be wanted here.
    lifted = simulate(plan, lifted=True).outputs
    assert lifted["flow"][:, 6].sum() == 0


def test_the_peak_of_a_tier_is_that_of_its_pools_together() -> None:
    """What all pools of a tier hold at an instant, looked at every 100 ms."""
    sampler = [{"kind": "sampler", "every": "100 ms"}]
    results = run(make_plan(scenario_from_data(scene(operations=sampler, duration="3 min"))))
    tier_of = {row["pool"]: row["tier"] for row in results.timeline().to_pylist()}
    held: dict[tuple[str, int], int] = {}
    for row in results.tables["samples"].to_pylist():
        if row["quantity"] == "used":
            key = tier_of[row["subject"]], row["time_ns"]
            held[key] = held.get(key, 0) + row["value"]
    seen: dict[str, int] = {}
    for (tier, _), size in held.items():
        seen[tier] = max(size, seen.get(tier, 0))
    for tier, most in seen.items():
        figures = results.summary["tiers"][tier]["occupancy"]
        assert most <= figures["peak"] <= figures["pools_peak"]
    hbm = results.summary["tiers"]["hbm"]["occupancy"]
    assert hbm["peak"] < hbm["pools_peak"]  # they do not peak together
    assert results.summary["tiers"]["dram"]["pools"] == 1
    dram = results.summary["tiers"]["dram"]["occupancy"]
    assert dram["peak"] == dram["pools_peak"] == seen["dram"]


def slow(env: Environment, datacenter: DataCenter) -> Generator[Event]:
    """Keeps a pass busy for a while."""
    for _ in range(10):
        yield env.timeout(60 * 10**9)
        time.sleep(0.05)


def test_progress_rises_to_one() -> None:
    told: dict[str, list[float]] = {}
    here = []

    def tell(what: str, share: float) -> None:
        told.setdefault(what, []).append(share)
        here.append(threading.current_thread())

    plan = make_plan(scenario_from_data(scene()))
    run(plan, commands=[slow], progress=tell)
    assert list(told) == ["simulating"]
    (shares,) = told.values()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) >= 3
    assert set(here) == {threading.current_thread()}


def test_progress_changes_nothing() -> None:
    plan = make_plan(scenario_from_data(scene()))
    watched = run(plan, progress=lambda what, share: None)
    alone = run(plan)
    for name, table in alone.tables.items():
        assert watched.tables[name].equals(table), name


def test_variants_see_the_same_arrivals(file: Path) -> None:
    plans = variants(file)
    assert list(plans) == ["base", "small_dram", "busier"]
    base, small, busier = (plan.requests for plan in plans.values())
    for name in ("arrival", "klass", "shape", "prompt", "output"):
        assert (getattr(base, name) == getattr(small, name)).all()
    # Twice the rate: the same requests come in half the time, then more of them.
    chat, faster = base.prompt[base.klass == 0], busier.prompt[busier.klass == 0]
    assert (faster[: len(chat)] == chat).all()
    assert len(faster) > 1.8 * len(chat)
    halved = busier.arrival[busier.klass == 0][: len(chat)]
    assert np.abs(base.arrival[base.klass == 0] - 2 * halved).max() <= 2
    # The images know nothing of it.
    images, same = base.arrival[base.klass == 1], busier.arrival[busier.klass == 1]
    assert (images == same).all()


def test_compare_chooses(file: Path) -> None:
    results = compare(variants(file, what_if=["small_dram"]))
    assert list(results) == ["base", "small_dram"]
    spilled = [r.summary["tiers"]["dram"]["flows"]["spilled"] for r in results.values()]
    assert spilled[0] == 0 < spilled[1]
    named = variants(file, overrides=["topology.racks.rack0.dram=25 GB"])
    assert list(named) == ["base", "changed"]
    both = variants(file, what_if=["busier"], overrides=["seed=4"])
    assert list(both) == ["base", "busier", "changed"]


def test_a_variant_that_does_not_exist(file: Path) -> None:
    with pytest.raises(SpecError, match="did you mean 'busier'"):
        variants(file, what_if=["bussier"])
    plain = file.with_name("plain.yaml")
    plain.write_text(yaml.safe_dump(scene(), sort_keys=False), encoding="utf-8")
    with pytest.raises(SpecError, match="nothing to compare"):
        variants(plain)


def test_a_variant_that_does_not_fit_is_found_before_anything_runs(file: Path) -> None:
    data = scene(what_if={"large": {"jobs.chat.model": "llama-3.1-70b"}})
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    with pytest.raises(SpecError, match="does not fit its replica"):
        variants(file)
    problems = check(file)
    assert len(problems) == 1
    assert problems[0].path.startswith("what_if.large")


def test_seed_and_override(file: Path) -> None:
    one, two = load(file), load(file, overrides=["seed=4"])
    assert (
        len(one.requests) != len(two.requests)
        or (one.requests.arrival != two.requests.arrival).any()
    )
    assert load(file, what_if="busier").scenario.jobs["chat"] != one.scenario.jobs["chat"]


def test_two_runs_are_equal() -> None:
    first, second = (run(make_plan(scenario_from_data(scene()))) for _ in range(2))
    assert first.manifest == second.manifest
    for name, table in first.tables.items():
        assert second.tables[name].equals(table), name


def test_a_token_budget_of_one_chunk_starves_nobody() -> None:
    # vLLM's well-known setting alone: a long prompt must not wait for an empty batch
    def completed(budget: int) -> int:
        data = changed("jobs.chat.scheduler", {"max_batched_tokens": budget}, duration="1 min")
        data["jobs"]["chat"] |= {
            "replicas": 1,
            "arrivals": {"process": "constant", "rate": "5/s"},
            "shape": {"prompt": 2100, "output": 200},
        }
        out = simulate(make_plan(scenario_from_data(data)), lifted=False).outputs
        return int((out["outcome"] == 2).sum())

    assert completed(2048) >= 0.97 * completed(8192) > 200


def test_side_by_side_is_as_one_after_another(file: Path) -> None:
    plans = variants(file)
    together = compare(plans)
    assert list(together) == ["base", "small_dram", "busier"]
    for name, plan in plans.items():
        alone = run(plan)
        assert together[name].manifest == alone.manifest
        for table, rows in alone.tables.items():
            assert together[name].tables[table].equals(rows), (name, table)
        for results in (alone, together[name]):
            results.summary.pop("engine")
        assert together[name].summary == alone.summary


def test_the_first_variant_that_fails_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever fails sooner; those before it go on to their ends, those after it stop."""
    plans = variants(file)
    begun: list[tuple[int, bool]] = []

    def failing(plan: Plan, *, lifted: bool, **rest: Any) -> Run:
        place = list(plans.values()).index(plan)
        begun.append((place, lifted))
        if place == 1 and lifted:
            time.sleep(0.1)
        if place:
            raise MemoryError(f"{place} {lifted}")
        return simulate(plan, lifted=lifted, **rest)

    monkeypatch.setattr(sys.modules[run.__module__], "simulate", failing)
    with pytest.raises(MemoryError, match="1 False") as error:
        compare(plans)
    assert error.value.__notes__ == ["in variant small_dram"]
    assert {(0, False), (0, True), (1, False)} <= set(begun)


def test_an_error_of_the_built_pass_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(plan: Plan, *, lifted: bool, **rest: Any) -> Run:
        if not lifted:
            time.sleep(0.1)
        raise ValueError(f"lifted: {lifted}")

    monkeypatch.setattr(sys.modules[run.__module__], "simulate", failing)
    with pytest.raises(ValueError, match="lifted: False"):
        run(make_plan(scenario_from_data(scene())))


def test_what_is_stopped_stops_soon() -> None:
    """As by Ctrl-C: from the thread that waits. No pass goes on to its end."""
    reached: list[int] = []

    def watched(env: Environment, datacenter: DataCenter) -> Generator[Event]:
        while True:
            yield env.timeout(10**9)
            reached.append(env.now)
            time.sleep(0.001)

    def enough(what: str, share: float) -> None:
        if reached:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(make_plan(scenario_from_data(scene())), commands=[watched], progress=enough)
    assert max(reached) < 600 * 10**9
