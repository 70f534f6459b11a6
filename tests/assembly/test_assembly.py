"""From a scenario to the engine's tables: names, rows, and what cannot be."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from scene import changed, scene

from dcsim.assembly import Plan, make_plan
from dcsim.engine import COLUMNS
from dcsim.spec import SpecError, scenario_from_data

GB = 10**9


def plan_of(data: dict[str, Any]) -> Plan:
    return make_plan(scenario_from_data(data))


def problems_of(data: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        plan_of(data)
    return {problem.path: problem.message for problem in caught.value.problems}


def column(plan: Plan, table: str, name: str) -> list[int]:
    values: list[int] = plan.tables[table][:, COLUMNS[table].index(name)].tolist()
    return values


def test_pools_add_up_to_the_topology() -> None:
    plan = plan_of(scene())
    topology = plan.scenario.topology
    by_tier = {
        tier: sum(pool.capacity for pool in plan.pools if pool.tier == tier)
        for tier in ("hbm", "dram", "nand")
    }
    assert by_tier == {"hbm": topology.hbm, "dram": topology.dram, "nand": topology.nand}
    assert column(plan, "pools", "capacity") == [pool.capacity for pool in plan.pools]
    names = [pool.name for pool in plan.pools]
    assert len(set(names)) == len(names)
    # Five of the eight GPUs serve nobody: their HBM is a pool of the domain.
    assert plan.pools[plan.pool("rack0/node0/hbm")].capacity == 5 * 81_559 * 2**20


def test_rows_and_names_agree() -> None:
    plan = plan_of(scene())
    assert plan.services == plan.classes == ("chat", "image")
    assert plan.replicas == ("chat/0", "chat/1", "image/0")
    assert column(plan, "replicas", "service") == [0, 0, 1]
    assert list(plan.replicas_of("chat")) == [0, 1]
    stores = [plan.pools[row].name for row in column(plan, "replicas", "store")]
    assert stores == ["rack0/node0/nand", "rack0/node0/nand", "shelf/nand"]
    homes = {plan.pools[row].name for row in column(plan, "replicas", "home")}
    assert homes == {"rack0/node0/nand"}
    assert column(plan, "classes", "context_nand") == [5 * 60 * GB, 0]
    with pytest.raises(KeyError, match="no pool 'nowhere'"):
        plan.pool("nowhere")
    with pytest.raises(KeyError, match="no service 'nobody'"):
        plan.replicas_of("nobody")


def test_an_object_on_its_way_to_a_shelf_crosses_nic_network_and_drives() -> None:
    plan = plan_of(scene())
    spill = column(plan, "replicas", "spill")[2]
    start, end = plan.tables["path_start"][spill : spill + 2]
    names = [plan.channels[c].name for c in plan.tables["path_channels"][start:end]]
    assert names == ["rack0/node0/nic/out", "shelf/network/in", "shelf/nand/write"]
    writes = plan.channels[plan.tables["path_channels"][end - 1]]
    assert writes.nand_pool == plan.pool("shelf/nand")


def test_requests_point_to_works_of_their_shape() -> None:
    shape = {
        "resolution": {"choice": {"256x256": 1, "512x512": 1}},
        "frames": 1,
        "steps": {"choice": {10: 1, 20: 1}},
    }
    plan = plan_of(changed("jobs.image.shape", shape))
    images = plan.requests.klass == 1
    assert len(plan.requests.shapes[1]) == 4
    works = plan.tables["work"][images]
    assert len(np.unique(works)) == 4
    assert set(plan.tables["work"][~images].tolist()) == {0}
    # More pixels hold more: the order of shapes is that of the works.
    for row, clip in zip(sorted(set(works.tolist())), plan.requests.shapes[1], strict=True):
        first, count = plan.tables["works"][row][:2]
        steps = plan.tables["segments"][first : first + count, COLUMNS["segments"].index("steps")]
        assert clip.steps in (steps[0] + steps[1], steps[0] + steps[1] + steps[2])


def test_a_shared_service_serves_both_classes() -> None:
    data = scene()
    data["jobs"]["agents"] = {
        "shares": "chat",
        "arrivals": {"process": "poisson", "rate": "1/s"},
        "shape": {"prompt": 3000, "output": 10},
        "keep": {"context": {"dram": "2 min"}},
    }
    plan = plan_of(data)
    assert plan.services == ("chat", "image")
    assert plan.classes == ("chat", "image", "agents")
    assert column(plan, "classes", "service") == [0, 1, 0]
    assert len(plan.replicas) == 3


def test_explicit_places() -> None:
    place = [{"domain": "rack0/node0", "gpus": [7]}, {"domain": "rack0/node0", "gpus": [2]}]
    plan = plan_of(changed("jobs.chat.replicas", {"place": place}))
    assert plan.replicas == ("chat/0", "chat/1", "image/0")
    assert plan.pools[plan.pool("rack0/node0/hbm")].capacity == 5 * 81_559 * 2**20


def test_gpus_too_scattered() -> None:
    """Four GPUs are free, two in each of two servers: a replica of four finds no place."""
    data = changed("jobs.chat.layout", {"tp": 2})
    data["topology"]["racks"]["rack0"]["count"] = 2
    places = [
        {"domain": f"rack0-{rack}/node0", "gpus": [gpu, gpu + 1]}
        for rack in (0, 1)
        for gpu in (0, 2, 5)
    ]
    data["jobs"]["chat"]["replicas"] = {"place": places}
    data["jobs"]["image"].update(layout={"sp": 4}, replicas=1)
    assert problems_of(data) == {
        "jobs.image.replicas.count": "1 replicas of 4 GPUs; 0 fit on the free GPUs of "
        "rack0-0/node0, rack0-1/node0"
    }
    data["jobs"]["image"]["layout"] = {"sp": 2}
    assert plan_of(data).replicas[-1] == "image/0"


def test_a_model_that_does_not_fit() -> None:
    data = changed("jobs.chat.model", "llama-3.1-70b")
    found = problems_of(data)
    assert list(found) == ["jobs.chat.layout"]
    message = found["jobs.chat.layout"]
    assert re.fullmatch(
        r"llama-3\.1-70b does not fit its replica: 141\.1 GB of weights \+ \d+\.\d GB reserved for "
        r"activations; 1 x h100 hold 85\.5 GB\. Use more GPUs a replica, a larger GPU or a smaller "
        r"model",
        message,
    )
    data["jobs"]["chat"]["layout"] = {"tp": 2}
    assert plan_of(data).replicas == ("chat/0", "chat/1", "image/0")


def test_all_problems_at_once() -> None:
    data = changed("jobs.chat.model", "lama-3.1-8b")
    data["jobs"]["image"]["options"] = {"dtype": "int3", "cgf": "none"}
    found = problems_of(data)
    assert set(found) == {"jobs.chat.model", "jobs.image.options.dtype", "jobs.image.options.cgf"}
    assert "did you mean 'llama-3.1-8b'" in found["jobs.chat.model"]


def test_a_shape_of_the_other_kind() -> None:
    found = problems_of(changed("jobs.image.model", "llama-3.1-8b"))
    assert found == {"jobs.image.shape": "llama-3.1-8b takes prompt, output"}


def test_without_drives_a_shelf_is_home() -> None:
    data = scene()
    del data["jobs"]["chat"]["keep"]
    data["topology"]["racks"]["rack0"]["node"] = {"extends": "hgx-h100", "ssds": None}
    plan = plan_of(data)
    homes = {plan.pools[row].name for row in column(plan, "replicas", "home")}
    assert homes == {"shelf/nand"}
    del data["topology"]["shelves"]
    del data["jobs"]["image"]["keep"]
    found = problems_of(data)
    assert set(found) == {"jobs.chat.keep.store", "jobs.image.keep.store"}
    assert "has no drives and reaches no shelf" in found["jobs.chat.keep.store"]


def test_checkpoints_that_do_not_fit_their_home() -> None:
    data = changed("jobs.chat.model", "llama-3.1-70b")
    data["jobs"]["chat"].update(layout={"tp": 2}, keep={"store": "local"})
    data["topology"]["racks"]["rack0"]["node"] = {
        "extends": "hgx-h100",
        "ssd": {"extends": "micron-9550-max-3tb", "capacity": "10 GB"},
    }
    found = problems_of(data)
    assert "checkpoints of 141.1 GB in rack0/node0/nand" in "".join(found.values())


def test_replicas_on_different_gpus() -> None:
    """Found by a drawn scenario: GPUs of one name that differ were priced as one."""
    data = changed("jobs.chat.replicas", {"count": 2, "on": ["rack0", "rack1"]})
    slow = {"extends": "h100", "flops": {"bf16": "100 TFLOP/s"}}
    data["topology"]["racks"]["rack0"]["node"] = {"extends": "hgx-h100", "gpus": 1}
    data["topology"]["racks"]["rack1"] = {
        "extends": "hgx-h100",
        "node": {"extends": "hgx-h100", "gpu": slow},
    }
    found = problems_of(data)
    assert list(found) == ["jobs.chat.replicas"]
    assert "h100 in rack0/node0, h100 in rack1/node0" in found["jobs.chat.replicas"]


def test_a_shelf_must_serve_the_rack_and_be_reached() -> None:
    data = changed("jobs.chat.keep", {"store": "shelf", "context": {"nand": "1 min"}})
    data["topology"]["racks"]["rack1"] = "hgx-h100"
    data["topology"]["shelves"]["shelf"]["serves"] = ["rack1"]
    found = problems_of(data)
    assert "shelf 'shelf' does not serve 'rack0', where chat/" in found["jobs.chat.keep.store"]
    alone = {"extends": "hgx-h100", "nics": 0, "dpus": 0}
    data = changed("jobs.chat.keep", {"store": "shelf", "context": {"nand": "1 min"}})
    data["topology"]["racks"]["rack0"]["node"] = alone
    found = problems_of(data)
    assert "which has no network to 'shelf'" in found["jobs.chat.keep.store"]


def test_a_replica_of_two_gpus_loads_over_both_their_links() -> None:
    """An H100 reaches its host's DRAM at 63 GB/s: two of them at 126."""
    plan = plan_of(changed("jobs.chat.layout", {"tp": 2}))
    names = [channel.name for channel in plan.channels]
    bandwidth = column(plan, "channels", "bandwidth")
    for way in ("onboard", "offload"):
        assert bandwidth[names.index(f"chat/0/{way}")] == 2 * 63 * GB
        assert bandwidth[names.index(f"image/0/{way}")] == 63 * GB


def test_a_hundredth_of_the_budget_is_kept_free() -> None:
    plan = plan_of(scene())
    (weights, _), (reserve, _) = (
        column(plan, "services", "weights"),
        column(plan, "services", "reserve"),
    )
    budget = 81_559 * 2**20 - weights - reserve
    assert column(plan, "services", "watermark") == [budget // 100, 0]
