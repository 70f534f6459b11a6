"""Where memory is, worked by hand: docs/tiers.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scene import scene

from dcsim.assembly import Plan, make_plan
from dcsim.engine import COLUMNS
from dcsim.planning import load, simulate
from dcsim.spec import scenario_from_data

STORE = COLUMNS["replicas"].index("store")
BLOCK, BLOCKS = 512, 10
KV = 131_072  # bytes a token of Llama 3.1 8B: 2 x 32 layers x 8 heads x 128 x 2
BYTES = BLOCK * BLOCKS * KV
HOST, PORT, LATENCY = 63 * 10**9, 50 * 10**9, 5_000
"""Of an H100's PCIe and of one port of 400 Gb/s, bytes/s; of a port, ns."""
AT = (0, 60, 120, 180, 180)
"""Seconds: the first computes; then another GPU of its server asks, one of another server, and two
of the first server at once."""


def log_of(folder: Path) -> Path:
    row = {"input_length": BLOCK * BLOCKS + 1, "output_length": 2}
    ids = list(range(BLOCKS + 1))
    path = folder / "log.jsonl"
    rows = [row | {"timestamp": at * 1000, "hash_ids": ids} for at in AT]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def servers(folder: Path, **keys: Any) -> dict[str, Any]:
    """Two replicas in the first of two servers and one in the second, asked in turn."""
    data = scene(duration="5 min")
    node = {"extends": "hgx-h100", "nics": 1}
    data["topology"] = {"name": "two", "racks": {"rack0": {"extends": "hgx-h100", "nodes": 2}}}
    data["topology"]["racks"]["rack0"] |= {"node": node, **keys}
    places = [("rack0/node0", 0), ("rack0/node0", 1), ("rack0/node1", 0)]
    data["jobs"] = {
        "chat": {
            "model": "llama-3.1-8b",
            "replicas": {"place": [{"domain": name, "gpus": [gpu]} for name, gpu in places]},
            "scheduler": {"router": "round_robin"},
            "arrivals": {"process": "replay", "log": str(log_of(folder)), "format": "mooncake"},
            "shape": {"prompt": "from_log", "output": "from_log"},
            "keep": {"context": {"dram": "1 h"}, "reuse": {"block": BLOCK}},
        }
    }
    return data


def first_tokens(data: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Tokens found and ns to the first token, by request."""
    plan = make_plan(scenario_from_data(data))
    out = simulate(plan).outputs
    return out["hit_dram"].tolist(), (out["first"] - out["arrived"]).tolist()


def over(count: int, bandwidth: int) -> int:
    """ns that so many bytes take."""
    return -(-count * 10**9 // bandwidth)


def test_a_hit_in_ones_own_server_and_in_a_pool(tmp_path: Path) -> None:
    found, own = first_tokens(servers(tmp_path))
    shared, pooled = first_tokens(servers(tmp_path, pooled=True))
    all_ = BLOCK * BLOCKS
    assert found == [0, all_, 0, all_, all_]  # the second server has nothing of it
    assert shared == [0, all_, all_, all_, all_]
    assert own[2] == own[0] == pooled[0]  # what is not found is computed, wherever
    # Both compute the last token; the rest of the time is that of the load.
    assert over(BYTES, HOST) == 10_652_201
    assert over(BYTES, PORT) + 2 * LATENCY == 13_431_773
    assert pooled[1] - own[1] == 13_431_773 - 10_652_201
    assert pooled[2] == pooled[1]
    # Two at once: each has its own PCIe, but they share the port.
    assert over(2 * BYTES, PORT) + 2 * LATENCY == 26_853_546
    assert own[3] == own[4] == own[1]
    assert pooled[3] == pooled[4] == own[1] + 26_853_546 - 10_652_201


def test_a_pool_within_nvlink_is_as_fast_as_ones_own(tmp_path: Path) -> None:
    """450 GB/s of NVLink 4 are more than 63 GB/s of PCIe, so the narrower link is the same."""
    data = servers(tmp_path, domain="rack")
    places = data["jobs"]["chat"]["replicas"]["place"]
    for place, gpu in zip(places, (0, 1, 8), strict=True):
        place |= {"domain": "rack0", "gpus": [gpu]}
    entry = data["topology"]["racks"]["rack0"]
    uncounted = first_tokens(data)
    entry["pooled"] = True
    assert first_tokens(data) == uncounted
    entry["pooled"] = False
    found, _ = first_tokens(data)
    assert found[2] == 0 < uncounted[0][2]


def test_where_memories_are_apart_the_router_decides_what_is_found() -> None:
    """Turns of sessions over 18 trays. Who comes back to the same finds all that was left. Who is
    sent on in turn finds what turn i left in one case of 18, so turn j has the sum of i < j over 18
    in place of j - 1: of six turns 35 / 18 of 15."""

    def share(router: str, pooled: bool) -> float:
        data = scene(duration="10 min")
        rack = {"extends": "gb300-nvl72", "pooled": pooled}
        data["topology"] = {"name": "rack", "racks": {"rack0": rack}}
        data["jobs"] = {
            "chat": {
                "model": "llama-3.1-8b",
                "replicas": 18,
                "layout": {"tp": 4},
                "scheduler": {"router": router},
                "arrivals": {"process": "poisson", "rate": "1/s"},
                "session": {"turns": 6, "think": "10 s"},
                "shape": {"prompt": 1000, "output": 50},
                "keep": {"context": {"dram": "1 h"}, "reuse": {}},
            }
        }
        plan = make_plan(scenario_from_data(data))
        out = simulate(plan).outputs
        asked = plan.tables["prompt"][out["start"] >= 0].sum()
        return float(out["hit_dram"].sum() / asked)

    all_ = share("round_robin", pooled=True)
    assert share("session_sticky", pooled=False) == pytest.approx(all_, rel=0.01)
    assert share("round_robin", pooled=False) == pytest.approx(all_ * 35 / 18 / 15, rel=0.1)


# The shipped pod, in small


def pod(what_if: str | None = None) -> Plan:
    """Two of its racks for ten minutes."""
    few = ("topology.racks.rack.count=2", "jobs.agent.replicas=72", "jobs.agent.arrivals.rate=1/s")
    return load("pod_agentic", overrides=[*few, "duration=10 min"], what_if=what_if)


def shares(plan: Plan) -> tuple[float, float]:
    """Of the prompt tokens admitted, what was loaded from DRAM and from below it."""
    out = simulate(plan).outputs
    asked = plan.tables["prompt"][out["start"] >= 0].sum()
    return tuple(float(out[f"hit_{tier}"].sum() / asked) for tier in ("dram", "nand"))  # type: ignore[return-value]


def test_the_pod_has_a_pool_a_tray_and_one_shelf() -> None:
    plan = load("pod_agentic")
    drams = [pool for pool in plan.pools if pool.tier == "dram"]
    assert [pool.capacity for pool in drams] == [960 * 10**9] * 288
    assert plan.scenario.topology.gpus == 1152
    (shelf,) = plan.scenario.topology.shelves
    assert (shelf.capacity, shelf.network) == (9600 * 10**12, 64 * 100 * 10**9)
    assert len(shelf.racks) == 16
    stores = {plan.pools[row].name for row in plan.tables["replicas"][:, STORE].tolist()}
    assert stores == {"context/nand"}


def test_variants_of_the_pod() -> None:
    links = {
        name: {c.name: c.bandwidth for c in pod(name).channels}
        for name in (None, "half_shelf_bandwidth", "one_enclosure", "remote_store")
    }
    for link in ("network/in", "network/out", "nand/read", "nand/write"):
        whole = links[None][f"context/{link}"]
        assert links["half_shelf_bandwidth"][f"context/{link}"] * 2 == whole
        assert links["one_enclosure"][f"context/{link}"] * 16 == whole
    assert links["remote_store"]["remote/network/out"] == 4 * 2 * 50 * 10**9
    remote = pod("remote_store")
    stores = {remote.pools[row].name for row in remote.tables["replicas"][:, STORE].tolist()}
    assert stores == {"remote/nand"}


def test_the_pods_router_and_shelf_decide_what_is_found() -> None:
    near, below = shares(pod())
    assert 5 * below < near  # system prompts that a tray sees for the first time
    near_too, _ = shares(pod("pooled"))
    assert near_too == pytest.approx(near + below, abs=0.01)  # DRAM has room for ten minutes
    anywhere, behind = shares(pod("least_loaded"))
    assert anywhere < 0.6 * near
    assert anywhere + behind == pytest.approx(near + below, abs=0.01)
    assert shares(pod("no_shelf"))[1] == 0
