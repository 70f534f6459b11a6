"""Reuse through whole runs: the blocks of a log, tiers in turn, and what is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene import scene

from dcsim import results
from dcsim.assembly import make_plan
from dcsim.planning import compare, hit_rates, load, run, simulate
from dcsim.report.terminal import remarks
from dcsim.spec import SpecError, scenario_from_data
from dcsim.testing import check_all, check_outputs
from dcsim.workload import Blocks, read_blocks

ROWS = [  # 512 tokens a block: two full ones and a partial one, then all again, then a branch
    {"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [1, 2, 3]},
    {"timestamp": 9000, "input_length": 1536, "output_length": 5, "hash_ids": [1, 2, 4]},
    {"timestamp": 5000, "input_length": 1024, "output_length": 5, "hash_ids": [1, 9]},
    {"timestamp": 20000, "input_length": 1600, "output_length": 5, "hash_ids": [1, 2, 4, 7]},
]


def log_of(folder: Path) -> Path:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def replay(log: Path, **keep: Any) -> dict[str, Any]:
    data = scene(duration="1 min")
    data["jobs"]["chat"] |= {
        "replicas": 1,
        "arrivals": {"process": "replay", "log": str(log), "format": "mooncake"},
        "shape": {"prompt": "from_log", "output": "from_log"},
        "keep": {"context": {"dram": "1 min"}, "reuse": {"block": 512}} | keep,
    }
    return data


def test_blocks_of_some_requests_in_another_order(tmp_path: Path) -> None:
    blocks = Blocks.full(read_blocks(log_of(tmp_path), 512))
    assert blocks.start.tolist() == [0, 2, 5, 7, 10]
    assert blocks.ids.tolist() == [1, 2, 1, 2, 4, 1, 9, 1, 2, 4]
    some = blocks.take(np.array([2, 0]))
    assert (some.start.tolist(), some.ids.tolist()) == ([0, 2, 4], [1, 9, 1, 2])
    none = blocks.take(np.array([], dtype=np.int64))
    assert (none.start.tolist(), none.ids.tolist()) == ([0], [])


def test_a_log_is_loaded_by_its_blocks(tmp_path: Path) -> None:
    plan = make_plan(scenario_from_data(replay(log_of(tmp_path))))
    out = simulate(plan, lifted=False).outputs
    chat = plan.requests.klass == 0
    # In order of arrival: nothing; block 1; blocks 1 and 2; all three full ones.
    assert out["hit_dram"][chat].tolist() == [0, 512, 1024, 1536]
    assert plan.tables["nodes"][:, 1].sum() == 4 * 512


def test_blocks_of_another_size_are_refused(tmp_path: Path) -> None:
    data = replay(log_of(tmp_path), reuse={"block": 16})
    with pytest.raises(SpecError, match=r"jobs\.chat\.arrivals\.log: hash_ids: 3 blocks"):
        make_plan(scenario_from_data(data))


def test_prompts_of_ones_own_have_no_blocks(tmp_path: Path) -> None:
    data = replay(log_of(tmp_path))
    data["jobs"]["chat"]["shape"] = {"prompt": 100, "output": "from_log"}
    assert "nodes" not in make_plan(scenario_from_data(data)).tables


def test_reuse_that_finds_nothing_changes_no_byte(tmp_path: Path) -> None:
    """With a least prefix above all prompts nothing is loaded: the times are those without."""
    data = replay(log_of(tmp_path), reuse={"block": 512, "least": 10**6})
    with_reuse = simulate(make_plan(scenario_from_data(data)), lifted=False).outputs
    data = replay(log_of(tmp_path), reuse=None)
    without = simulate(make_plan(scenario_from_data(data)), lifted=False).outputs
    for name in ("arrived", "start", "first", "end", "outcome", "preemptions", "replica"):
        assert np.array_equal(with_reuse[name], without[name]), name  # type: ignore[literal-required]
    assert not with_reuse["hit_dram"].any()


def test_a_comparison_says_what_is_loaded(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    plans = {
        name: make_plan(scenario_from_data(replay(log, **keep)))
        for name, keep in {"base": {}, "off": {"reuse": None}}.items()
    }
    compared = {f.name: f.values for f in results.compare(compare(plans)).figures}
    loaded = (512 + 1024 + 1536) / (1100 + 1536 + 1024 + 1600)
    assert compared["reuse.share"] == (loaded, None)
    assert compared["reuse.dram_share"] == (loaded, None)
    assert compared["reuse.nand_share"] == (0, None)


@pytest.mark.traces
@pytest.mark.slow
def test_the_mooncake_log_through_the_engine(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for all as published; with less, near one cache that knows no time."""
    monkeypatch.setenv("DCSIM_TRACES", str(logs))
    alone = "jobs.chat.keep.context.nand=0 s"
    file = Path(__file__).parents[2] / "scenarios" / "mooncake_three_tiers.yaml"
    weights = 16_060_522_496
    for dram, near in (("100 TB", 0.006), ("512 GB", 0.03), ("2 TB", 0.03)):
        plan = load(file, overrides=[f"topology.racks.rack0.dram={dram}", alone])
        out = simulate(plan, lifted=False).outputs
        tokens = (plan.pools[plan.pool("rack0/node0/dram")].capacity - weights) / (2 * 65536)
        cache = hit_rates(logs / "mooncake_fast25_synthetic.jsonl.gz", [tokens]).hit_rate[0]
        full = (plan.requests.prompt // 512 * 512).sum()
        assert cache - near < out["hit_dram"].sum() / full < cache + 0.005
    published = json.loads((logs / "kv_hit_rates.json").read_text(encoding="utf-8"))["hit_rate"]
    plan = load(file, overrides=["topology.racks.rack0.dram=100 TB", alone])
    hits = simulate(plan, lifted=False).outputs["hit_dram"].sum()
    assert abs(hits / full - published[-1]) < 0.006


def test_a_sticky_session_finds_its_context_on_its_own_node() -> None:
    """Two nodes do not share their DRAM: only who comes back to the same one finds its context."""
    data = scene(duration="30 s")
    data["topology"]["racks"]["rack0"]["count"] = 2
    del data["jobs"]["image"]
    chat = data["jobs"]["chat"]
    chat |= {"replicas": 16, "session": {"turns": 4, "think": "4 s"}}
    chat["arrivals"] = {"process": "poisson", "rate": "40/s"}
    chat["keep"] = {"context": {"dram": "1 min"}, "reuse": {}}
    shares = []
    for router in ("least_loaded", "session_sticky"):
        chat["scheduler"] = {"router": router}
        plan = make_plan(scenario_from_data(data))
        out, requests = simulate(plan, lifted=False).outputs, plan.requests
        assert requests.after is not None
        again = (requests.after >= 0) & (out["start"] >= 0)
        shares.append((out["hit_dram"][again] > 0).mean())
    assert shares[1] > 0.97
    assert shares[0] < 0.9


def test_a_log_is_found_in_hbm_where_nothing_else_keeps_it(tmp_path: Path) -> None:
    data = replay(log_of(tmp_path), context={}, reuse={"block": 512, "hbm": True})
    found = run(make_plan(scenario_from_data(data)))
    rows = [row for row in found.requests().to_pylist() if row["job"] == "chat"]
    assert [row["hit_hbm_tokens"] for row in rows] == [0, 512, 1024, 1536]
    assert not any(row["hit_dram_tokens"] or row["hit_nand_tokens"] for row in rows)
    reuse = found.summary["jobs"]["chat"]["reuse"]
    assert reuse["share"] == reuse["hbm_share"] == 3072 / (1100 + 1536 + 1024 + 1600)
    # 2 x 32 layers x 8 heads x 128 x 2 bytes a token
    assert found.summary["tiers"]["hbm"]["flows"]["read"] == 3072 * 131_072
    assert any(
        "58.4 % of the prompt tokens were found in HBM (58.4 %) or loaded" in text
        for text in remarks(found.summary)
    )


def test_a_cache_in_hbm_keeps_the_laws_and_is_no_demand() -> None:
    """Sessions on a replica whose HBM is too small for all that they leave."""
    data = scene(duration="2 min")
    del data["jobs"]["image"]
    chat = data["jobs"]["chat"]
    chat |= {"replicas": 1, "session": {"turns": 6, "think": "5 s"}}
    chat |= {"arrivals": {"process": "poisson", "rate": "6/s"}}
    chat["keep"] = {"context": {"dram": "1 min"}, "reuse": {"hbm": True}}
    plan = make_plan(scenario_from_data(data))
    found = run(plan)
    check_all(found)
    for lifted in (False, True):
        check_outputs(plan, simulate(plan, lifted=lifted).outputs)
    hbm = found.summary["tiers"]["hbm"]
    assert hbm["flows"]["evicted"] > 0
    assert hbm["occupancy_by_category"]["cache"] > 0
    below = sum(size for name, size in hbm["demand_by_category"].items() if name != "cache")
    assert hbm["demand"]["mean"] == pytest.approx(below, abs=5)
    assert hbm["occupancy"]["peak"] <= hbm["capacity"]


def test_a_cache_in_hbm_finds_what_sticky_sessions_left() -> None:
    data = scene(duration="1 min")
    del data["jobs"]["image"]
    chat = data["jobs"]["chat"]
    chat |= {"replicas": 4, "session": {"turns": 4, "think": "4 s"}}
    chat["keep"] = {"reuse": {"hbm": True}}
    shares = {}
    for router in ("round_robin", "session_sticky"):
        chat["scheduler"] = {"router": router}
        plan = make_plan(scenario_from_data(data))
        out, after = simulate(plan, lifted=False).outputs, plan.requests.after
        assert after is not None
        again = (after >= 0) & (out["start"] >= 0)
        shares[router] = (out["hit_hbm"][again] > 0).mean()
    assert shares["session_sticky"] == 1
    assert shares["round_robin"] < 0.7
