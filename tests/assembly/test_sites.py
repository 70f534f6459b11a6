"""Whose memory is whose: pools of nodes, of what replicas join, and of racks that share."""

from __future__ import annotations

from typing import Any

import pytest
from scene import scene

from dcsim.assembly import Plan, make_plan
from dcsim.assembly.placement import Placement
from dcsim.engine import COLUMNS
from dcsim.operations import DataCenter
from dcsim.spec import SpecError, scenario_from_data

GB = 10**9
TRAY = {"dram": 960 * GB, "nand": 12_800 * GB, "read": 56 * GB, "write": 40 * GB, "nic": 400 * GB}
"""Of a GB300 tray: 2 x 480 GB; 4 drives of 3.2 TB, 14 and 10 GB/s; 4 ports of 800 Gb/s."""


def rack(like: str, *, tp: int = 1, replicas: Any = 4, **keys: Any) -> dict[str, Any]:
    data = scene()
    data["topology"]["racks"]["rack0"] = {"extends": like, **keys}
    data["jobs"]["chat"] |= {"layout": {"tp": tp}, "replicas": replicas}
    return data


def plan_of(data: dict[str, Any]) -> Plan:
    return make_plan(scenario_from_data(data))


def way(plan: Plan, path: str, replica: int = 0) -> list[str]:
    """Names of the channels of one of a replica's paths."""
    row = plan.tables["replicas"][replica, COLUMNS["replicas"].index(path)]
    start, end = plan.tables["path_start"][row : row + 2]
    return [plan.channels[c].name for c in plan.tables["path_channels"][start:end]]


def pool_of(plan: Plan, column: str, replica: int = 0) -> str:
    return plan.pools[plan.tables["replicas"][replica, COLUMNS["replicas"].index(column)]].name


def capacities(plan: Plan, tier: str) -> dict[str, int]:
    return {p.name: p.capacity for p in plan.pools if p.tier == tier}


def test_nodes_that_are_apart_have_what_one_of_them_has() -> None:
    plan = plan_of(rack("gb300-nvl72", pooled=False))
    assert capacities(plan, "dram") == {f"rack0/node{i}/dram": TRAY["dram"] for i in range(18)}
    drives = {f"rack0/node{i}/nand": TRAY["nand"] for i in range(18)}
    assert capacities(plan, "nand") | drives == capacities(plan, "nand")
    links = {channel.name: channel.bandwidth for channel in plan.channels}
    assert links["rack0/node17/nand/read"] == TRAY["read"]
    assert links["rack0/node17/nand/write"] == TRAY["write"]
    assert links["rack0/node17/nic/in"] == links["rack0/node17/nic/out"] == TRAY["nic"]
    topology = plan.scenario.topology
    assert sum(capacities(plan, "dram").values()) == topology.dram == 18 * TRAY["dram"]
    assert sum(capacities(plan, "nand").values()) == topology.nand


def test_a_replica_uses_what_its_own_node_has() -> None:
    plan = plan_of(rack("gb300-nvl72", pooled=False, replicas=6))
    # Four GPUs a tray: replicas 0 to 3 in the first, 4 and 5 in the second, images behind them.
    assert [pool_of(plan, "dram", r) for r in range(7)] == [
        *["rack0/node0/dram"] * 4,
        *["rack0/node1/dram"] * 3,
    ]
    assert pool_of(plan, "home", 5) == pool_of(plan, "store", 5) == "rack0/node1/nand"
    assert way(plan, "load", 5) == way(plan, "fetch", 5) == ["rack0/node1/nand/read"]
    assert way(plan, "spill", 5) == ["rack0/node1/nand/write"]
    assert way(plan, "onboard", 5) == ["chat/5/onboard"]
    assert way(plan, "offload", 5) == ["chat/5/offload"]
    assert way(plan, "spill", 6) == ["rack0/node1/nic/out", "shelf/network/in", "shelf/nand/write"]
    assert way(plan, "fetch", 6) == ["shelf/nand/read", "shelf/network/out", "rack0/node1/nic/in"]


def test_nodes_that_a_replica_spans_are_one() -> None:
    plan = plan_of(rack("gb300-nvl72", pooled=False, tp=8, replicas=2))
    found = capacities(plan, "dram")
    two = {f"rack0/node{pair}/dram": 2 * TRAY["dram"] for pair in ("0-1", "2-3")}
    assert found == two | {f"rack0/node{i}/dram": TRAY["dram"] for i in range(4, 18)}
    assert pool_of(plan, "dram", 1) == "rack0/node2-3/dram"
    assert way(plan, "spill", 1) == ["rack0/node2-3/nand/write"]
    links = {channel.name: channel.bandwidth for channel in plan.channels}
    assert links["rack0/node2-3/nic/in"] == 2 * TRAY["nic"]
    # Each of them goes by its own name too.
    assert plan.pool("rack0/node3/dram") == plan.pool("rack0/node2-3/dram")
    center = DataCenter(plan)
    center.set_capacity("rack0/node3/dram", 50 * GB)
    assert center.capacity("rack0/node2-3/dram") == 50 * GB
    assert "rack0/node3/dram" not in center.pools()


def test_nodes_are_joined_through_the_replicas_that_they_share() -> None:
    place = [[0, 4], [5, 8], [17, 33]]  # nodes 0 and 1, 1 and 2, 4 and 8
    places = [{"domain": "rack0", "gpus": gpus} for gpus in place]
    plan = plan_of(rack("gb300-nvl72", pooled=False, tp=2, replicas={"place": places}))
    names = [name.removesuffix("/dram") for name in capacities(plan, "dram")]
    assert names[:5] == [
        "rack0/node0-2", "rack0/node3", "rack0/node4+8", "rack0/node5", "rack0/node6"
    ]  # fmt: skip
    assert len(names) == 18 - 3
    assert capacities(plan, "dram")["rack0/node0-2/dram"] == 3 * TRAY["dram"]


def placed(data: dict[str, Any], job: str) -> list[tuple[int, ...]]:
    return [replica.gpus for replica in Placement(scenario_from_data(data)).of(job)]


def test_a_replica_keeps_to_one_node_where_it_can() -> None:
    data = rack("gb300-nvl72", pooled=False, tp=2, replicas=2)
    data["jobs"]["chat"]["replicas"] = {"place": [{"domain": "rack0", "gpus": [0, 5]}]}
    data["jobs"]["image"] |= {"layout": {"sp": 2}, "replicas": 3}
    assert placed(data, "image") == [(1, 2), (4, 6), (8, 9)]
    # Whole nodes, before what is left of others; what no node has room for spans them.
    data["jobs"]["image"]["layout"] = {"sp": 8}
    assert placed(data, "image")[0] == tuple(range(8, 16))
    data["jobs"]["image"] |= {"layout": {"sp": 10}, "replicas": 7}
    spread = placed(data, "image")
    assert spread[0] == tuple(range(8, 18))  # two whole nodes and half of the third
    assert spread[1] == tuple(range(20, 30))
    assert spread[6][:2] == (18, 19)  # no whole node is left: what others left
    assert len({gpu for gpus in spread for gpu in gpus} | {0, 5}) == 72
    del data["topology"]["racks"]["rack0"]["pooled"]
    data["jobs"]["image"] |= {"layout": {"sp": 2}, "replicas": 3}
    assert placed(data, "image") == [(1, 2), (3, 4), (6, 7)]


def test_what_a_domain_pools_crosses_its_scale_up_links() -> None:
    plan = plan_of(rack("gb300-nvl72", pooled=True, tp=2))
    assert capacities(plan, "dram") == {"rack0/dram": 18 * TRAY["dram"]}
    between = ["chat/1/scale_up/out", "chat/1/scale_up/in"]
    assert way(plan, "onboard", 1) == [*between, "chat/1/onboard"]
    assert way(plan, "offload", 1) == ["chat/1/offload", *between]
    assert way(plan, "fetch", 1) == ["rack0/nand/read"]
    links = {channel.name: channel.bandwidth for channel in plan.channels}
    gpu = plan.scenario.topology.domains[0].gpu
    assert links["chat/1/scale_up/in"] == links["chat/1/scale_up/out"] == 2 * gpu.scale_up


def test_what_servers_pool_crosses_their_ports() -> None:
    data = rack("hgx-h100", nodes=3, pooled=True, replicas={"count": 9, "on": ["rack0/node1"]})
    data["jobs"]["chat"]["replicas"]["count"] = 2
    plan = plan_of(data)
    assert capacities(plan, "dram") == {"rack0/dram": 3 * 2048 * GB}
    assert capacities(plan, "nand")["rack0/nand"] == 3 * 8 * 3840 * GB
    ports = ["rack0/node1/nic/out", "rack0/node1/nic/in"]
    assert way(plan, "onboard", 1) == [*ports, "chat/1/onboard"]
    assert way(plan, "offload", 1) == ["chat/1/offload", *ports]
    links = {channel.name: channel.bandwidth for channel in plan.channels}
    assert links["rack0/nand/read"] == 3 * 8 * 14 * GB
    assert links["rack0/node1/nic/in"] == 500 * GB
    # Images store in the shelf, over the ports of the node that they run in.
    assert way(plan, "spill", 2)[0] == "rack0/node0/nic/out"


def test_without_the_key_all_is_as_it_was() -> None:
    plan = plan_of(rack("gb300-nvl72"))
    assert list(capacities(plan, "dram")) == ["rack0/dram"]
    assert way(plan, "onboard") == ["chat/0/onboard"]
    assert not any("scale_up" in channel.name for channel in plan.channels)


@pytest.mark.parametrize("pooled", [True, False])
def test_a_rack_of_one_node_shares_with_nobody(pooled: bool) -> None:
    one, other = plan_of(rack("hgx-h100", pooled=pooled)), plan_of(rack("hgx-h100"))
    assert [p.name for p in one.pools] == [p.name for p in other.pools]
    assert [c.name for c in one.channels] == [c.name for c in other.channels]
    assert way(one, "onboard") == ["chat/0/onboard"]


def test_servers_that_are_apart_are_as_ever() -> None:
    one = plan_of(rack("hgx-h100", nodes=2, pooled=False))
    assert list(capacities(one, "dram")) == ["rack0/node0/dram", "rack0/node1/dram"]


def test_servers_without_ports_pool_nothing() -> None:
    node = {"extends": "hgx-h100", "nics": 0}
    data = rack("hgx-h100", node=node, nodes=2, pooled=True)
    with pytest.raises(SpecError, match=r"topology\.racks\.rack0.*: pooled nodes need a network"):
        scenario_from_data(data)
    data["topology"]["racks"]["rack0"]["domain"] = "rack"  # NVLink joins them
    plan_of(data | {"jobs": {"chat": data["jobs"]["chat"]}})


@pytest.mark.parametrize(
    ("keys", "known", "wrong", "near"),
    [
        ({"pooled": False}, "rack0/node7/dram", "rack0/dram", "rack0/node"),
        ({"pooled": True}, "rack0/dram", "rack0/node0/dram", "rack0/dram"),
    ],
)
def test_operations_name_pools_as_they_are(
    keys: dict[str, Any], known: str, wrong: str, near: str
) -> None:
    data = rack("gb300-nvl72", **keys)
    script = [["1 min", known, "1 TB"]]
    data["operations"] = [{"kind": "capacity", "script": script}]
    scenario_from_data(data)
    script[0][1] = wrong
    with pytest.raises(SpecError, match=f"no pool '{wrong}'.*{near}"):
        scenario_from_data(data)


def staged(**keys: Any) -> Plan:
    """Prefill and decode apart, over two racks."""
    data = rack("gb300-nvl72", count=2, **keys)
    del data["jobs"]["chat"]["replicas"], data["jobs"]["image"]
    stages = {"prefill": {"replicas": {"count": 2, "on": ["rack0-0"]}}}
    stages["decode"] = {"replicas": {"count": 2, "on": ["rack0-1"]}}
    data["jobs"]["chat"]["stages"] = stages
    data["jobs"]["chat"]["keep"] = {}
    return plan_of(data)


def test_hand_overs_leave_a_rack_by_the_ports_of_the_node() -> None:
    plan = staged(pooled=False)
    assert way(plan, "far_out", 0) == ["rack0-0/node0/nic/out"]
    assert way(plan, "far_in", 3) == ["rack0-1/node0/nic/in"]
    assert way(plan, "near_out", 0) == ["chat/prefill/0/scale_up/out"]
    assert way(staged(), "far_out", 0) == ["rack0-0/nic/out"]


def test_hand_overs_share_the_scale_up_links_with_what_is_pooled() -> None:
    plan = staged(pooled=True)
    assert way(plan, "onboard", 0)[:2] == [*way(plan, "near_out", 0), *way(plan, "near_in", 0)]
    names = [channel.name for channel in plan.channels]
    assert len(set(names)) == len(names)
