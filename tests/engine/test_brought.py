"""What is brought, not computed, by hand on both engines: adapters of 50 bytes, 1 byte/ns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcsim.engine import Engine
from engine.test_content import HOUR, LINK, reuse, turn
from engine.world import NS, Play, flows, series

ADAPTERS, CACHE = 5, 3
ADAPTER = {"bytes": 50, "brought": 1}
REJECTED, COMPLETED = 3, 2


def service(**more: int) -> dict[str, int]:
    row = {"replicas": 1, "max_jobs": 8, "max_tokens": 10**6, "cache_dram": HOUR}
    return row | {"library": 300} | more


def bring(
    requests: list[dict[str, Any]],
    nodes: list[dict[str, int]] | None = None,
    hbm: int = 1000,
    replicas: int = 1,
    **changes: Any,
) -> Any:
    """Replicas with so much HBM each, whose library lies behind a link of its own."""
    row = {"dram": replicas, "home": replicas + 1, "store": replicas + 1, "start": 1}
    row |= {"library": replicas + 1, "onboard": 0, "offload": 1, "spill": 2, "fetch": 3, "bring": 4}
    pools = [{"tier": 0, "capacity": hbm}] * replicas
    given = {
        "channels": [LINK] * 5,
        "pools": [*pools, {"tier": 1, "capacity": 1000}, {"tier": 2, "capacity": 1000}],
        "services": [service(replicas=replicas) | changes.pop("service", {})],
        "replicas": [row | {"hbm": i} for i in range(replicas)],
    }
    tables = reuse(requests, nodes or [ADAPTER], **(given | changes))
    return tables | {"path_start": np.arange(6), "path_channels": np.arange(5)}


def sources(out: dict[str, Any]) -> list[list[int]]:
    """By request: bytes from HBM, DRAM, NAND, the library, and again."""
    names = ("hbm", "dram", "nand", "library", "again")
    columns = [out[f"brought_{name}"].tolist() for name in names]
    return [list(row) for row in zip(*columns, strict=True)]


def user(arrival: int, prompt: int = 40, node: int = 0, **more: int) -> dict[str, Any]:
    return turn(arrival, prompt, reads=node, leaves=node) | more


def test_it_comes_from_its_library_and_stays_in_hbm(play: Play) -> None:
    out = play(bring([user(0), user(200)]))
    # 50 to bring, 10 + 40 to compute; the second finds it
    assert out["end"].tolist() == [100, 250]
    assert sources(out) == [[0, 0, 0, 50, 0], [50, 0, 0, 0, 0]]
    # 40 of KV and 50 while they run, 50 cached in between
    assert series(out, "mean", (0, 1))[:4] == [90, 0, 45, 0]
    assert series(out, "mean", (0, ADAPTERS))[:4] == [0, 50, 25, 50]
    assert out["top"][0, :4].tolist() == [90, 0, 90, 0]
    assert flows(out, (0, ADAPTERS)) == {"taken": 100, "moved": 50, "read": 50}
    assert flows(out, (1, ADAPTERS)) == {"taken": 50}
    assert out["moved"].sum(axis=1).tolist() == [0, 0, 0, 0, 50]
    assert series(out, "mean", (2, 0)) == [300] * 10  # the library, at all times


def test_what_made_room_in_hbm_comes_from_dram(play: Play) -> None:
    out = play(bring([user(0), turn(200, 70), user(300)], hbm=100))
    # 70 of 100 leave no room for 50; then 50 over the host link
    assert out["end"].tolist() == [100, 280, 400]
    assert sources(out)[2] == [0, 50, 0, 0, 0]
    assert flows(out, (0, ADAPTERS)) == {"taken": 100, "evicted": 50}
    assert flows(out, (1, ADAPTERS)) == {"taken": 50, "read": 50}


def test_where_dram_keeps_nothing_it_comes_from_nand(play: Play) -> None:
    tables = bring(
        [user(0), turn(200, 70), user(300)],
        hbm=100,
        service={"cache_dram": 0, "cache_nand": HOUR},
    )
    out = play(tables)
    assert out["end"].tolist() == [100, 280, 400]
    assert sources(out)[2] == [0, 0, 50, 0, 0]
    assert out["moved"].sum(axis=1).tolist() == [50, 50, 50, 50, 50]


def test_what_comes_from_nand_is_taken_in_dram(play: Play) -> None:
    # DRAM of 60 bytes: another adapter has pushed the first out of it, and out of HBM
    nodes = [ADAPTER, ADAPTER]
    requests = [user(0, 20), user(200, 20, 1), user(400, 20), user(600, 20, 1)]
    pools = [{"tier": 0, "capacity": 70}, {"tier": 1, "capacity": 60}, {"tier": 2, "capacity": 999}]
    out = play(bring(requests, nodes, pools=pools, service={"cache_nand": HOUR}))
    assert sources(out)[2:] == [[0, 0, 50, 0, 0], [0, 0, 50, 0, 0]]
    assert flows(out, (1, ADAPTERS)) == {"taken": 200, "evicted": 150}
    assert out["end"].tolist() == [80, 280, 480, 680]


def test_who_needs_it_while_it_comes_waits_for_the_same_transfer(play: Play) -> None:
    out = play(bring([user(0), user(20), user(30, 10)]))
    # all are ready at 50 and feed 90 tokens together
    assert out["end"].tolist() == [150, 150, 150]
    assert out["start"].tolist() == [0, 20, 30]
    assert sources(out)[1:] == [[50, 0, 0, 0, 0]] * 2
    assert out["moved"][4].sum() == 50


def test_it_is_held_once(play: Play) -> None:
    # 20 + 20 + 50 fit into 100; with two adapters the second waits
    requests = [user(0, 20), user(0, 20)]
    assert play(bring(requests, hbm=100))["start"].tolist() == [0, 0]
    requests = [user(0, 20), user(0, 20, 1)]
    out = play(bring(requests, [ADAPTER, ADAPTER], hbm=100))
    assert out["start"].tolist() == [0, 80]
    assert out["top"][0].max() == 70


def test_it_counts_in_admission_and_in_what_can_never_fit(play: Play) -> None:
    # 30 + 50 leave 20 for the second, which needs 30
    out = play(bring([user(0, 30), turn(10, 30), turn(20, 10)], hbm=100))
    assert out["start"].tolist() == [0, 90, 90]
    out = play(bring([user(0, 51), user(0, 50), turn(0, 100)], hbm=100))
    assert out["outcome"].tolist() == [REJECTED, COMPLETED, COMPLETED]


def test_kv_hangs_below_the_adapter_that_made_it(play: Play) -> None:
    kv = {"tokens": 40, "bytes": 40}
    nodes = [ADAPTER, kv | {"parent": 0}, ADAPTER, kv | {"parent": 2}]
    requests = [
        turn(0, 40, reads=0, leaves=1),
        turn(200, 50, reads=3, leaves=3),
        turn(500, 50, reads=1, leaves=1),
    ]
    out = play(bring(requests, nodes))
    assert out["hit_dram"].tolist() == [0, 0, 40]
    # HBM keeps adapters alone: the third finds its adapter there and loads 40, computes 10
    assert sources(out) == [[0, 0, 0, 50, 0], [0, 0, 0, 50, 0], [50, 0, 0, 0, 0]]
    assert out["end"].tolist() == [100, 310, 560]
    kinds = [flows(out, (1, kind)) for kind in (CACHE, ADAPTERS)]
    assert kinds == [{"taken": 80, "read": 40}, {"taken": 100}]
    # with no room for both in HBM they come over one link: 40 at half its rate in 80, 50 in 90
    requests[2:2] = [turn(400, 90)]
    out = play(bring(requests, nodes, hbm=100))
    assert (out["start"][3], out["end"][3]) == (500, 500 + 90 + 20)


def test_hbm_keeps_both_where_it_keeps_kv(play: Play) -> None:
    nodes = [ADAPTER, {"tokens": 40, "bytes": 40, "parent": 0}]
    requests = [turn(0, 40, reads=0, leaves=1), turn(200, 50, reads=1, leaves=1)]
    out = play(bring(requests, nodes, service={"cache_hbm": 1}))
    assert out["end"].tolist() == [100, 220]
    assert out["hit_hbm"].tolist() == [0, 40]
    assert flows(out, (0, CACHE)) == {"taken": 80, "moved": 40, "read": 40}
    assert series(out, "mean", (0, CACHE))[3] == 40
    assert series(out, "mean", (0, ADAPTERS))[3] == 50


def test_a_diffusion_step_needs_it_too(play: Play) -> None:
    segments = [{"steps": 3, "live": 20, "peak": 10, "first": 1}]
    tables = bring(
        [{"arrival": t, "reads": 0, "leaves": 0} for t in (0, 30, 200)],
        hbm=150,
        segments=segments,
        works={"segments": 1},
    )
    out = play(tables)
    # 50 to bring, then three steps of 10, both at once
    assert out["end"].tolist() == [80, 80, 230]
    assert out["top"][0, :3].tolist() == [50 + 2 * 30, 0, 50 + 30]
    assert sources(out)[2] == [50, 0, 0, 0, 0]


def test_preempted_it_finds_its_adapter_in_hbm(play: Play) -> None:
    # as in test_slack: 60 bytes beside 50 of the adapter, which both use
    requests = [
        turn(0, 10, reads=0, leaves=0) | {"output": 30},
        turn(0, 20, reads=0, leaves=0) | {"output": 30},
    ]
    out = play(bring(requests, hbm=110))
    assert out["preemptions"].tolist() == [0, 1]
    assert sources(out) == [[0, 0, 0, 50, 0], [50, 0, 0, 0, 0]]


def test_a_failure_empties_hbm(play: Play) -> None:
    out = play(bring([user(0), user(100)]), script=[(20, "fail", 0), (60, "start", 0)])
    # what was on its way goes on to DRAM; both find it there, the first for the second time
    assert sources(out) == [[0, 0, 0, 50, 50], [50, 0, 0, 0, 0]]
    assert flows(out, (1, ADAPTERS)) == {"taken": 50, "read": 50}
    assert out["outcome"].tolist() == [COMPLETED, COMPLETED]


def test_two_replicas_of_a_domain_bring_it_once(play: Play) -> None:
    out = play(bring([user(0, 40), user(60, 40)], replicas=2))
    assert out["replica"].tolist() == [0, 1]
    assert sources(out) == [[0, 0, 0, 50, 0], [0, 50, 0, 0, 0]]


def test_dram_takes_it_when_it_was_asked_for_often_enough(play: Play) -> None:
    # a second user makes DRAM take it as it comes; the first, only evicted from HBM, did not
    requests = [user(0), turn(200, 70), user(300), turn(500, 70), user(600)]
    tables = bring(requests, hbm=100, policies=[{"admit_dram": 2}])
    out = play(tables)
    assert sources(out)[2] == [0, 0, 0, 50, 0]
    assert sources(out)[4] == [0, 50, 0, 0, 0]
    assert flows(out, (1, ADAPTERS)) == {"taken": 50, "read": 50}


def test_a_context_is_kept_beside_the_adapter(play: Play) -> None:
    out = play(bring([user(0)], classes={"context_dram": HOUR}))
    assert flows(out, (1, CACHE)) == {"taken": 40}


def test_a_pool_cannot_shrink_below_its_library(play: Play) -> None:
    out = play(
        bring([user(0)]), script=[(10, "set_capacity", 2, 299), (20, "set_capacity", 2, 300)]
    )
    assert out["refused"].tolist() == [0]


@pytest.mark.parametrize(
    ("nodes", "request_", "message"),
    [
        ([ADAPTER | {"tokens": 1}], turn(0, 40), "nodes row 0: is brought, and has no tokens"),
        (
            [{"bytes": 1}, ADAPTER | {"parent": 0}],
            turn(0, 40),
            "nodes row 1: is brought, and its parent is not",
        ),
        ([ADAPTER], turn(0, 40, leaves=0), "leaves what it has not brought"),
        ([ADAPTER, ADAPTER], turn(0, 40, reads=0, leaves=1), "leaves what it has not brought"),
        ([ADAPTER | {"brought": 2}], turn(0, 40), "brought row 0: 0 or 1"),
    ],
)
def test_what_is_refused(nodes: Any, request_: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Engine(bring([request_], nodes), 1000, 100, False)


def test_a_library_is_nand() -> None:
    tables = bring([user(0)])
    tables["replicas"][0, -2] = 1
    with pytest.raises(ValueError, match="replicas row 0: the library is NAND"):
        Engine(tables, 1000, 100, False)


def test_fixed_work_has_no_other_content() -> None:
    tables = bring(
        [{"arrival": 0, "reads": 0}],
        [{"bytes": 5}],
        segments=[{"steps": 1, "own": NS}],
        works={"segments": 1},
    )
    with pytest.raises(ValueError, match="of a fixed work"):
        Engine(tables, 1000, 100, False)
