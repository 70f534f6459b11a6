"""Adapters of requests: who needs which, and what hangs below them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scene import scene

from dcsim.assembly import make_plan
from dcsim.planning import run
from dcsim.spec import SpecError, scenario_from_data
from dcsim.testing import check_all
from dcsim.workload import Content, generate, under_adapters

STYLES = {"count": 20, "zipf": 1.0, "bytes": "50 MB"}
KV_8B = 2 * 32 * 8 * 128 * 2


def styled(**changes: Any) -> dict[str, Any]:
    """The scene, ten minutes, whose images have styles and whose chat has conversations."""
    data = scene()
    data["jobs"]["image"] |= {"adapters": STYLES}
    data["jobs"]["chat"] |= {
        "adapters": {"count": 3, "rank": 8},
        "session": {"turns": 3, "think": "1 s", "system": {"tokens": 64, "count": 2}},
        "arrivals": {"process": "constant", "rate": "1/s"},
        "keep": {"context": {"dram": "1 min"}, "reuse": {}},
    }
    data.update(changes)
    return data


def test_popularity_is_zipfs() -> None:
    requests = generate(scenario_from_data(styled()))
    assert requests.adapter is not None
    mine = requests.adapter[requests.klass == 1]
    count = np.bincount(mine, minlength=20)
    weight = 1 / np.arange(1, 21)
    expected = len(mine) * weight / weight.sum()
    assert (np.abs(count - expected) <= 4 * np.sqrt(expected)).all()
    assert mine.max() < 20


def test_a_conversation_keeps_its_adapter() -> None:
    requests = generate(scenario_from_data(styled()))
    assert requests.adapter is not None
    assert requests.after is not None
    later = (requests.after >= 0) & (requests.klass == 0)
    assert later.sum() == 2 * 600
    assert (requests.adapter[later] == requests.adapter[requests.after[later]]).all()
    firsts = requests.adapter[(requests.after < 0) & (requests.klass == 0)]
    assert set(firsts.tolist()) == {0, 1, 2}


def test_without_adapters_all_is_as_before() -> None:
    data = styled()
    with_them = generate(scenario_from_data(data))
    for job in data["jobs"].values():
        del job["adapters"]
    without = generate(scenario_from_data(data))
    assert without.adapter is None
    for name in ("arrival", "klass", "shape", "prompt", "output"):
        assert (getattr(with_them, name) == getattr(without, name)).all()
    assert "brought" not in make_plan(scenario_from_data(data)).tables


def test_a_forest_below_adapters() -> None:
    # a beginning (0) that two conversations share, of 32 and 48 tokens more; class 0 has two
    # adapters, class 1 three, class 2 none
    content = Content(
        parent=np.array([-1, 0, 0]),
        tokens=np.array([16, 32, 48]),
        klass=np.array([0, 0, 0]),
        reads=np.array([0, 0, 1, -1, -1]),
        leaves=np.array([1, 2, 1, -1, -1]),
    )
    klass = np.array([0, 0, 0, 1, 2])
    adapter = np.array([1, 0, 1, 2, -1])
    found = under_adapters(content, klass, adapter, {0: 2, 1: 3})
    # five adapters, the beginning twice, each conversation once
    assert found.parent.tolist() == [-1] * 5 + [0, 1, 6, 5]
    assert found.tokens.tolist() == [0] * 5 + [16, 16, 32, 48]
    assert found.klass.tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert found.reads.tolist() == [6, 5, 7, 4, -1]
    assert found.leaves.tolist() == [7, 8, 7, 4, -1]
    assert found.brought is not None
    assert found.brought.tolist() == [1] * 5 + [0] * 4


def test_the_bytes_of_a_plan() -> None:
    plan = make_plan(scenario_from_data(styled()))
    brought, nodes = plan.tables["brought"] == 1, plan.tables["nodes"]
    lora = 2 * 8 * 32 * (8192 + 2 * 5120 + 8192)
    assert nodes[brought].tolist() == [[-1, 0, lora, 0]] * 3 + [[-1, 0, 50 * 10**6, 1]] * 20
    assert (nodes[~brought][:, 2] == KV_8B * nodes[~brought][:, 1]).all()
    library = plan.tables["services"][:, 10].tolist()
    assert library == [3 * lora, 20 * 50 * 10**6]


def test_copies_of_gpus_that_share_no_matrix() -> None:
    data = scene()
    data["jobs"]["chat"] |= {"layout": {"tp": 2}, "adapters": {"count": 1, "rank": 8}}
    data["jobs"]["image"] |= {
        "layout": {"sp": 2},
        "adapters": {"count": 1, "bytes": "50 MB"},
        "replicas": 1,
    }
    tables = make_plan(scenario_from_data(data)).tables
    half = 8 * 32 * (4096 + 2048 + 2 * (4096 + 512) + 2048 + 4096)
    assert tables["nodes"][:, 2].tolist() == [2 * 2 * half, 2 * 50 * 10**6]
    assert tables["services"][:, 10].tolist() == [
        2 * 8 * 32 * (8192 + 2 * 5120 + 8192),
        50 * 10**6,
    ]


def test_a_run_tells_where_they_were() -> None:
    data = styled()
    data["jobs"]["image"]["keep"] |= {"adapters": {"dram": "10 min"}}
    results = run(make_plan(scenario_from_data(data)))
    check_all(results)
    told = results.summary["jobs"]["image"]["adapters"]
    requests = results.tables["requests"].to_pylist()
    mine = [row for row in requests if row["job"] == "image" and row["start_ns"] is not None]
    assert told["requests"] == len(mine)
    assert told["used"] == len({row["adapter"] for row in mine}) == 20
    for place in ("hbm", "dram", "nand", "library"):
        amounts = [row[f"adapter_{place}_bytes"] for row in mine]
        assert told[f"{place}_bytes"] == sum(amounts)
        assert told[f"{place}_share"] == sum(map(bool, amounts)) / len(mine)
    assert sum(told[f"{place}_bytes"] for place in ("hbm", "dram", "nand", "library")) == (
        len(mine) * 50 * 10**6
    )
    # one replica with plenty of HBM: each comes once
    assert told["library_bytes"] == 20 * 50 * 10**6
    kinds = results.summary["tiers"]["dram"]["occupancy_by_category"]
    assert kinds["adapters"] > 0
    assert results.summary["tiers"]["nand"]["occupancy_by_category"]["adapters"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapters": {"count": 2}}, "adapters: needs either rank (of a LoRA) or bytes"),
        ({"adapters": {"count": 2, "rank": 4, "bytes": "1 MB"}}, "needs either rank"),
        ({"adapters": {"count": 0, "rank": 4}}, "adapters.count: 0 must be 1 or more"),
        ({"keep": {"adapters": {"home": "shelv"}}}, "keep.adapters.home: no shelf 'shelv'"),
        (
            {"keep": {"context": {"dram": "1 s"}, "reuse": {}, "adapters": {"dram": "1 s"}}},
            "keep.adapters: with reuse adapters stay as contexts do",
        ),
        (
            {
                "adapters": STYLES,
                "replicas": None,
                "stages": {"prefill": {"replicas": 1}, "decode": {"replicas": 1}},
            },
            "adapters: not with stages",
        ),
        ({"adapters": STYLES | {"bytes": "900 TB"}}, "checkpoints and adapters of"),
    ],
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    data = scene()
    data["jobs"]["chat"] |= change
    data["jobs"]["chat"] = {k: v for k, v in data["jobs"]["chat"].items() if v is not None}
    with pytest.raises(SpecError) as caught:
        make_plan(scenario_from_data(data))
    assert message in str(caught.value)


def test_a_job_that_shares_has_its_own_adapters_but_not_its_own_place() -> None:
    data = scene()
    data["jobs"]["styled"] = {
        "shares": "image",
        "arrivals": {"process": "poisson", "rate": "1/s"},
        "shape": {"resolution": "256x256", "steps": 50},
        "adapters": STYLES,
    }
    plan = make_plan(scenario_from_data(data))
    assert plan.tables["services"][:, 10].tolist() == [0, 20 * 50 * 10**6]
    reads = plan.tables["reads"]
    assert (reads[plan.requests.klass != 2] == -1).all()
    assert (reads[plan.requests.klass == 2] >= 0).all()
    data["jobs"]["styled"]["keep"] = {"adapters": {"dram": "1 s"}}
    with pytest.raises(SpecError, match=r"keep\.adapters: is for 'image' to say"):
        scenario_from_data(data)
