"""What a run yields: the laws its tables obey, and the figures of its summary."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from results_scene import GB, HOUR, SECOND, jobs, made_up, make_plan, make_results, run_engine
from workload_scenes import scene

from dcsim.engine import CATEGORIES, CAUSES, COLUMNS, OUTCOMES, TIERS
from dcsim.results import collect

HELD = [category for category in CATEGORIES if category != "adapters"]  # there are none


def test_outcomes_add_up_to_the_arrivals() -> None:
    summary = made_up().summary
    requests = summary["requests"]
    assert (
        requests["arrived"] == made_up().requests().num_rows == sum(requests["outcomes"].values())
    )
    for outcome in OUTCOMES:
        by_job = [job["outcomes"][outcome] for job in summary["jobs"].values()]
        assert sum(by_job) == requests["outcomes"][outcome]
    assert sum(job["arrived"] for job in summary["jobs"].values()) == requests["arrived"]


def test_the_summary_is_plain_and_complete() -> None:
    summary = made_up().summary
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert list(summary["tiers"]) == list(TIERS)
    for figures in summary["tiers"].values():
        for what in ("occupancy", "demand"):
            assert figures[what]["mean"] <= figures[what]["peak"]
            assert figures[what]["p95"] <= figures[what]["peak"]
        assert figures["occupancy"]["peak"] <= figures["capacity"]
    assert summary["engine"]["events"] > summary["engine"]["boundaries"] > 0
    assert summary["engine"]["requests_per_second"] > 0


def test_what_is_held_and_what_is_free_make_the_capacity() -> None:
    timeline = made_up().arrays("timeline")
    held = sum(timeline[category] for category in HELD)
    assert (held + timeline["free"] == timeline["capacity"]).all()
    assert (timeline["free"] >= 0).all()
    assert (timeline["peak"] >= held).all()
    assert (timeline["peak"] <= timeline["capacity_high"]).all()
    assert (timeline["demand_peak"] >= timeline["demand"]).all()
    gap = timeline["demand_peak"] - timeline["capacity_low"]
    assert (timeline["shortfall"] - timeline["headroom"] == gap).all()
    assert (np.minimum(timeline["shortfall"], timeline["headroom"]) == 0).all()


def test_bytes_that_came_have_gone_or_are_there() -> None:
    plan = make_plan(dram=700 * GB)
    built = run_engine(plan, lifted=False, troubled=True)
    gone = [CAUSES.index(cause) for cause in ("moved", "expired", "evicted", "lost")]
    total = built["flow"].sum(axis=2)
    left = total[:, CAUSES.index("taken")] - total[:, gone].sum(axis=1)
    assert (left >= 0).all()
    flows = made_up().summary["tiers"]["dram"]["flows"]
    assert flows["taken"] > flows["moved"] > 0
    assert flows["spilled"] > 0
    assert flows["lost"] > 0


def test_contents_by_job_add_up_to_the_pools() -> None:
    contents, timeline = made_up().arrays("contents"), made_up().arrays("timeline")
    for tier in TIERS:
        mine, ours = contents["tier"] == tier, timeline["tier"] == tier
        for category in HELD:
            of_jobs = contents["mean_bytes"][mine & (contents["category"] == category)].sum()
            assert of_jobs == timeline[category][ours].sum()
        assert contents["demand_bytes"][mine].sum() == timeline["demand"][ours].sum()
    cached = contents["job"][contents["category"] == "cache"]
    assert set(cached) == {"chat"}


def test_the_table_of_requests() -> None:
    table = made_up().requests()
    rows = made_up().arrays("requests")
    done = rows["outcome"] == "completed"
    assert done.any()
    for earlier, later in (("arrival_ns", "start_ns"), ("start_ns", "first_ns")):
        assert (rows[earlier][done] <= rows[later][done]).all()
    assert (rows["first_ns"][done] <= rows["end_ns"][done]).all()
    assert table["end_ns"].null_count == (~done).sum()
    video = rows["job"] == "video"
    assert np.isnan(rows["prompt_tokens"][video]).all()
    assert np.isnan(rows["width"][~video]).all()
    assert set(rows["steps"][video]) == {50.0}
    tokens = rows["prompt_tokens"][~video] + rows["output_tokens"][~video] - 1
    assert (rows["context_bytes"][~video] == 327_680 * tokens).all()
    pixels = rows["width"] * rows["height"] * rows["frames"]
    assert (rows["artifact_bytes"][video] == pixels[video] // 4).all()


def test_latencies_and_throughput_are_those_of_the_requests() -> None:
    rows, jobs_ = made_up().arrays("requests"), made_up().summary["jobs"]
    for name, figures in jobs_.items():
        mine = (rows["job"] == name) & (rows["outcome"] == "completed")
        latency = np.sort(rows["end_ns"][mine] - rows["arrival_ns"][mine])
        assert figures["latency_ns"]["count"] == mine.sum()
        assert figures["latency_ns"]["p50"] == latency[-(-len(latency) // 2) - 1]
        assert figures["latency_ns"]["max"] == latency[-1]
        assert figures["throughput"]["requests_per_s"] == mine.sum() / 7200
    chat = (rows["job"] == "chat") & (rows["outcome"] == "completed")
    output = rows["output_tokens"][chat].sum()
    assert jobs_["chat"]["throughput"]["output_tokens_per_s"] == pytest.approx(output / 7200)
    assert "frames_per_s" in jobs_["video"]["throughput"]
    assert jobs_["chat"]["per_token_ns"]["p50"] < jobs_["chat"]["first_ns"]["p50"]


def test_events_tell_of_control_and_of_shortfall() -> None:
    events = made_up().events().to_pylist()
    assert [event["time_ns"] for event in events] == sorted(event["time_ns"] for event in events)
    control = [(e["kind"], e["subject"], e["bytes"]) for e in events if e["time_ns"] == HOUR]
    assert ("down", "chat/0", None) in control
    assert ("capacity", "node.dram", 350 * GB) in control
    short = [event for event in events if event["kind"] == "shortfall"]
    dram = made_up().summary["tiers"]["dram"]
    assert {event["subject"] for event in short} == {"node.dram"}
    assert short[0]["time_ns"] == dram["first_shortfall_ns"]
    assert max(event["bytes"] for event in short) == dram["shortfall_peak"]
    assert dram["first_shortfall_pool"] == "node.dram"
    spilled = [e["bytes"] for e in events if (e["kind"], e["subject"]) == ("spilled", "node.dram")]
    assert sum(spilled) == dram["flows"]["spilled"]
    assert {event["job"] for event in events if event["kind"] == "lost"} == {"chat"}


def test_a_tier_that_suffices_has_no_shortfall() -> None:
    nand = made_up().summary["tiers"]["nand"]
    assert nand["first_shortfall_ns"] is None
    assert nand["first_shortfall_pool"] is None
    assert nand["shortfall_peak"] == 0


def test_wear_follows_from_the_bytes_written() -> None:
    wear = made_up().summary["tiers"]["nand"]["wear"]
    channels = made_up().arrays("channels")
    written = channels["bytes"][channels["channel"] == "node.nand.write"].sum()
    assert wear["bytes_written"] == written > 0
    a_day = written * 12 / (30_000 * GB)
    assert wear["drive_writes_per_day"] == pytest.approx(a_day)
    assert wear["lifetime_years"] == pytest.approx(5 * 1.0 / a_day)
    assert wear["first_worn_out"] == "node.nand"
    taken = wear["pools"]["node.nand"]["bytes_taken"]
    assert set(taken) == {"artifacts", "contexts", "reused"}
    assert sum(taken.values()) == made_up().summary["tiers"]["nand"]["flows"]["taken"]
    assert written <= sum(taken.values())


def test_the_flash_takes_more_than_is_written() -> None:
    """Three bytes a byte: a third of the life, and five years at a third of the rated pace."""
    plain, worn = (
        results.summary["tiers"]["nand"]["wear"]
        for results in (make_results(make_plan(amplification=each)) for each in (1.0, 3.0))
    )
    assert worn["bytes_written"] == plain["bytes_written"]
    assert worn["flash_bytes_written"] == 3 * plain["flash_bytes_written"]
    assert worn["lifetime_years"] == pytest.approx(plain["lifetime_years"] / 3)
    pool = worn["pools"]["node.nand"]
    assert pool["sustained_drive_writes_per_day"] == pytest.approx(1 / 3)
    used = pool["flash_bytes_written"] / (30_000 * GB * 1.0 * 5 * 365)
    assert pool["endurance_used"] == pytest.approx(used)


def test_an_unknown_endurance_gives_no_lifetime() -> None:
    wear = make_results(make_plan(dwpd=None)).summary["tiers"]["nand"]["wear"]
    assert wear["drive_writes_per_day"] > 0
    assert wear["lifetime_years"] is None
    assert wear["first_worn_out"] is None


def test_no_requests_at_all() -> None:
    empty = replace(scene(*jobs(0.0, 0.0), seconds=7200.0), bin=60 * SECOND)
    results = make_results(make_plan(empty))
    assert results.summary["requests"]["arrived"] == 0
    assert results.summary["jobs"]["chat"]["latency_ns"] is None
    assert results.summary["tiers"]["hbm"]["occupancy_by_category"]["weights"] > 0
    assert results.requests().num_rows == 0


def test_channels_never_move_more_than_their_bandwidth() -> None:
    channels = made_up().arrays("channels")
    seconds = (channels["end_ns"] - channels["start_ns"]) / 1e9
    assert (channels["bytes"] <= channels["bandwidth"] * seconds + 1).all()


@pytest.mark.slow
def test_a_million_requests_take_seconds(tmp_path: Path) -> None:
    busy = replace(scene(*jobs(140.0, 0.0), seconds=7200.0), bin=60 * SECOND)
    plan = make_plan(busy)
    for name in ("phases", "segments"):
        for column in ("launch", "weights", "dense", "own", "ctx", "pair"):
            if column in COLUMNS[name]:
                plan.tables[name][:, COLUMNS[name].index(column)] //= 150
    outputs = run_engine(plan, lifted=False), run_engine(plan, lifted=True)
    begun = time.perf_counter()
    results = collect(plan, *outputs, seconds=1.0, lifted_seconds=1.0)
    results.write(tmp_path / "out")
    assert results.requests().num_rows > 10**6
    assert time.perf_counter() - begun < 8.0
