"""Content that is used again, by hand on both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcsim.engine import Engine
from engine.world import NS, Play, flows, series, world

COMPLETED = 2
DRAM, NAND, CACHE = (1, 3), (2, 3), 3
HOUR = 10**6  # ns: long in this world

# A prefill step costs launch 10 and 1 ns a token, a byte a token of KV; links 1 byte/ns.
PREFILL = {"rule": 1, "tokens": 1000, "own": NS, "live": 1, "first": 1}
DECODE = {"rule": 2, "tokens": 1, "live": 1}
PATHS = [[0], [1], [2], [3]]
ONBOARD, OFFLOAD, SPILL, FETCH = range(4)
LINK = {"bandwidth": 10**9, "latency": 0}


def reuse(requests: list[dict[str, Any]], nodes: list[dict[str, int]], **changes: Any) -> Any:
    """One replica with a cache of an hour in DRAM, and of none in NAND unless asked for."""
    service = {"replicas": 1, "max_jobs": 8, "max_tokens": 10**6, "cache_dram": HOUR}
    service |= changes.pop("service", {})
    replica = {"dram": 1, "home": 2, "store": 2, "start": 1, "onboard": ONBOARD}
    replica |= {"offload": OFFLOAD, "spill": SPILL, "fetch": FETCH}
    defaults = {
        "channels": [LINK, LINK, LINK, LINK],
        "segments": [PREFILL, DECODE],
        "works": {"segments": 2},
        "services": [service],
        "replicas": replica,
        "nodes": nodes,
    }
    return world(requests, PATHS, **(defaults | changes))


def turn(arrival: int, prompt: int, **more: int) -> dict[str, Any]:
    return {"arrival": arrival, "prompt": prompt, "output": 1} | more


# The first turn leaves 40 tokens of 40 bytes, the second 30 more.
CHAIN = [{"tokens": 40, "bytes": 40}, {"parent": 0, "tokens": 30, "bytes": 30}]
TURNS = [turn(0, 40, leaves=0), turn(200, 70, reads=0, leaves=1)]


def test_a_hit_is_loaded_and_the_rest_computed(play: Play) -> None:
    out = play(reuse(TURNS, CHAIN))
    # the first computes 40 tokens: 10 + 40; its KV is in DRAM at 90. The second loads 40 bytes,
    # then computes 30 tokens: 200 + 40 + 10 + 30
    assert out["end"].tolist() == [50, 280]
    assert out["start"].tolist() == [0, 200]
    assert out["hit_dram"].tolist() == [0, 40]
    assert out["hit_nand"].tolist() == [0, 0]
    assert flows(out, DRAM) == {"taken": 70, "read": 40}
    assert series(out, "mean", DRAM)[2:4] == [40 + 30 * 20 // 100, 70]


def test_without_a_hit_all_is_computed(play: Play) -> None:
    out = play(reuse([turn(0, 40), turn(200, 70, reads=0)], CHAIN))
    assert out["end"].tolist() == [50, 280]  # 10 + 70: here the link is as slow as computing
    assert out["hit_dram"].tolist() == [0, 0]
    assert out["hit_again"].tolist() == [0, 0]


def test_what_is_in_flight_is_no_hit(play: Play) -> None:
    out = play(reuse([TURNS[0], turn(89, 70, reads=0)], CHAIN))
    assert (out["end"].tolist(), out["hit_dram"].tolist()) == ([50, 169], [0, 0])
    out = play(reuse([TURNS[0], turn(90, 70, reads=0)], CHAIN))
    assert (out["end"].tolist(), out["hit_dram"].tolist()) == ([50, 170], [0, 40])


def test_one_token_at_least_is_computed(play: Play) -> None:
    out = play(reuse([TURNS[0], turn(200, 40, reads=0)], CHAIN))
    assert out["end"].tolist() == [50, 200 + 40 + 10 + 1]
    assert out["hit_dram"].tolist() == [0, 40]


def test_a_short_prefix_is_not_worth_loading(play: Play) -> None:
    for least, hit in ((40, 40), (41, 0)):
        out = play(reuse(TURNS, CHAIN, service={"cache_least": least}))
        assert out["hit_dram"].tolist() == [0, hit]


def test_what_loads_holds_hbm_and_lets_others_run(play: Play) -> None:
    # While the second loads (200 to 240), the third arrives, computes 20 tokens (210 to 240), and
    # both go on together: 10 + 30 for the second alone.
    out = play(reuse([*TURNS, turn(210, 20)], CHAIN))
    assert out["end"].tolist() == [50, 280, 240]
    # [200, 210) 70 bytes, [210, 240) 90, [240, 280) 70
    assert series(out, "mean", (0, 1))[2] == (70 * 10 + 90 * 30 + 70 * 40) // 100
    assert out["top"][0, 2] == 90


def test_a_hit_refreshes_what_it_uses(play: Play) -> None:
    # kept for 100 ns after the last use: 50, then 140 (before 150), then 230; due at 330
    again = [turn(140, 45, reads=0), turn(230, 45, reads=0), turn(400, 45, reads=0)]
    out = play(reuse([TURNS[0], *again], CHAIN, service={"cache_dram": 100}))
    assert out["hit_dram"].tolist() == [0, 40, 40, 0]
    assert flows(out, DRAM) == {"taken": 40, "read": 80, "expired": 40}


def test_the_least_recently_used_makes_room(play: Play) -> None:
    nodes = [{"tokens": 40, "bytes": 40}, {"tokens": 30, "bytes": 30}, {"tokens": 35, "bytes": 35}]
    pools = [{"tier": 0, "capacity": 1000}, {"tier": 1, "capacity": 80}, {"tier": 2}]
    requests = [
        turn(0, 40, leaves=0),
        turn(100, 30, leaves=1),
        turn(200, 41, reads=0),  # uses the first again: the second is the older one now
        turn(300, 35, leaves=2),
        turn(500, 41, reads=0),
        turn(600, 31, reads=1),
    ]
    out = play(reuse(requests, nodes, pools=pools))
    assert out["hit_dram"].tolist() == [0, 0, 40, 0, 40, 0]
    assert flows(out, DRAM) == {"taken": 105, "read": 80, "evicted": 30}
    assert out["top"][1].max() == 75


def test_a_parent_stays_while_a_child_does(play: Play) -> None:
    # the chain of 70 fills the pool; 30 more need room: the child goes, not its older parent
    nodes = [*CHAIN, {"tokens": 30, "bytes": 30}]
    pools = [{"tier": 0, "capacity": 1000}, {"tier": 1, "capacity": 70}, {"tier": 2}]
    requests = [turn(0, 70, leaves=1), turn(200, 30, leaves=2), turn(300, 71, reads=1)]
    out = play(reuse(requests, nodes, pools=pools))
    assert out["hit_dram"].tolist() == [0, 0, 40]


def test_what_finds_no_room_is_dropped_with_all_below(play: Play) -> None:
    pools = [{"tier": 0, "capacity": 1000}, {"tier": 1, "capacity": 39}, {"tier": 2}]
    out = play(reuse([turn(0, 70, leaves=1)], CHAIN, pools=pools))
    assert flows(out, DRAM) == {"dropped": 70}
    pools[1]["capacity"] = 69
    out = play(reuse([turn(0, 70, leaves=1)], CHAIN, pools=pools))
    assert flows(out, DRAM) == {"taken": 40, "dropped": 30}


def test_what_could_not_fit_anyway_evicts_nothing(play: Play) -> None:
    nodes = [{"tokens": 40, "bytes": 40}, {"tokens": 100, "bytes": 100}]
    pools = [{"tier": 0, "capacity": 1000}, {"tier": 1, "capacity": 80}, {"tier": 2}]
    requests = [turn(0, 40, leaves=0), turn(100, 100, leaves=1), turn(300, 41, reads=0)]
    out = play(reuse(requests, nodes, pools=pools))
    assert out["hit_dram"].tolist() == [0, 0, 40]
    assert flows(out, DRAM) == {"taken": 40, "read": 40, "dropped": 100}


def test_written_through_and_read_from_nand(play: Play) -> None:
    # DRAM keeps 60 ns: taken at 50, resident at 90, due at 110; NAND from 130 on, for an hour
    service = {"cache_dram": 60, "cache_nand": HOUR}
    out = play(
        reuse([TURNS[0], turn(200, 70, reads=0), turn(285, 70, reads=0)], CHAIN, service=service)
    )
    # over fetch and onboard at once, 40 ns; then it lies in DRAM again, from use at 200 to 260
    assert out["end"].tolist() == [50, 280, 285 + 40 + 10 + 30]
    assert out["hit_nand"].tolist() == [0, 40, 40]
    assert flows(out, DRAM) == {"taken": 120, "expired": 120}
    assert flows(out, NAND) == {"taken": 40, "read": 80}
    assert out["moved"].sum(axis=1).tolist() == [80, 40, 40, 80]


def test_a_prefix_over_two_tiers_comes_by_two_transfers(play: Play) -> None:
    # NAND has the chain of 70; DRAM, 50 bytes wide, has its first 40
    service = {"cache_dram": HOUR, "cache_nand": HOUR}
    pools = [
        {"tier": 0, "capacity": 1000},
        {"tier": 1, "capacity": 70},
        {"tier": 2, "capacity": 1000},
    ]
    nodes = [*CHAIN, {"tokens": 30, "bytes": 30}]
    requests = [turn(0, 70, leaves=1), turn(300, 30, leaves=2), turn(500, 80, reads=1)]
    out = play(reuse(requests, nodes, pools=pools, service=service))
    assert out["hit_dram"].tolist() == [0, 0, 40]
    assert out["hit_nand"].tolist() == [0, 0, 30]
    # 40 bytes and 30 bytes over the same link to HBM, then 10 tokens
    assert out["end"].tolist()[2] == 500 + 70 + 10 + 10


def test_a_parent_that_is_due_waits_for_a_child_in_flight(play: Play) -> None:
    # Fast links but to NAND, 1 byte in 2 ns. The first turn's node is in DRAM at 54, in NAND at
    # 134; the second turn uses it at 120 and ends at 164, so it is due in NAND at 224. Its child is
    # on its way there from 167 to 227, when first the child and then the parent expire.
    fast, slow = {"bandwidth": 10**10, "latency": 0}, {"bandwidth": 5 * 10**8, "latency": 0}
    service = {"cache_dram": HOUR, "cache_nand": 60}
    turns = [TURNS[0], TURNS[1] | {"arrival": 120}]
    tables = reuse(turns, CHAIN, service=service, channels=[fast, fast, slow, fast])
    out = play(tables, bin=1)
    assert out["end"].tolist() == [50, 120 + 4 + 10 + 30]
    assert flows(out, NAND) == {"taken": 70, "expired": 70}
    held = series(out, "mean", NAND)
    assert (held[53], held[54], held[166], held[167], held[226], held[227]) == (
        0,
        40,
        40,
        70,
        70,
        0,
    )


def test_straight_to_nand_without_dram(play: Play) -> None:
    service = {"cache_dram": 0, "cache_nand": HOUR}
    out = play(reuse(TURNS, CHAIN, service=service))
    assert out["hit_nand"].tolist() == [0, 40]
    assert flows(out, DRAM) == {}
    assert flows(out, NAND) == {"taken": 70, "read": 40}


def test_a_failure_while_loading_starts_over_elsewhere(play: Play) -> None:
    services = [
        {"replicas": 2, "max_jobs": 8, "max_tokens": 10**6, "cache_dram": HOUR, "router": 0}
    ]
    replica = {"dram": 1, "home": 2, "store": 2, "start": 1, "onboard": ONBOARD, "offload": OFFLOAD}
    replicas = [replica | {"spill": SPILL, "fetch": FETCH, "hbm": hbm} for hbm in (0, 3)]
    pools = [{"tier": 0, "capacity": 1000}, {"tier": 1, "capacity": 1000}, {"tier": 2}]
    pools.append(pools[0])
    tables = reuse(TURNS, CHAIN, services=services, replicas=replicas, pools=pools)
    out = play(tables, script=[(210, "fail", 0)])
    # it looks up again where it goes: the link is busy with the first load until 240
    assert out["replica"].tolist() == [0, 1]
    assert out["hit_dram"].tolist() == [0, 40]
    assert out["hit_again"].tolist() == [0, 40]
    assert out["end"].tolist() == [50, 240 + 40 + 10 + 30]
    assert out["outcome"].tolist() == [COMPLETED] * 2


def test_a_smaller_pool_loses_the_leaves_first(play: Play) -> None:
    script = [(150, "set_capacity", 1, 60)]
    out = play(reuse([turn(0, 70, leaves=1), turn(200, 71, reads=1)], CHAIN), script=script)
    assert out["hit_dram"].tolist() == [0, 40]
    assert flows(out, DRAM) == {"taken": 70, "read": 40, "lost": 30}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nodes", [[0, 1, 1, 0], [0, 1, 1, 0]], "nodes row 0: the parent is a lower row"),
        ("nodes", [[-1, -1, 1, 0], [0, 1, 1, 0]], "nodes row 0: no such class, or a negative size"),
        ("nodes", [[-1, 1, 1, 7], [0, 1, 1, 0]], "nodes row 0: no such class"),
        ("nodes", [[-1, 71, 1, 0], [0, 1, 1, 0]], "requests row 1: reads more tokens"),
        ("reads", [-1, 2], "requests row 1: no such node"),
        ("leaves", [-2, 1], "requests row 0: no such node"),
        ("reads", [-1], "requests row 0: arrays differ in length"),
        ("leaves", None, "no table leaves"),
    ],
)
def test_wrong_content_is_named(name: str, value: list[Any] | None, message: str) -> None:
    tables = reuse(TURNS, CHAIN)
    if value is None:
        del tables[name]
    else:
        tables[name] = np.array(value, dtype=np.int64)
    with pytest.raises(ValueError, match=message):
        Engine(tables, 1000, 100)


def test_many_pools_have_the_same_node(play: Play) -> None:
    """Seven replicas with a DRAM each, asked in turn: each computes the 40 tokens, then finds them
    in its own until they expire there, and computes them again."""
    many = 7
    pools = [{"tier": 0, "capacity": 1000} for _ in range(many)]
    pools += [{"tier": 1, "capacity": 1000} for _ in range(many)] + [{"tier": 2, "capacity": 0}]
    row = {"home": 2 * many, "store": 2 * many, "start": 1, "onboard": ONBOARD, "offload": OFFLOAD}
    replicas = [row | {"hbm": i, "dram": many + i} for i in range(many)]
    service = {"router": 1, "replicas": many, "cache_dram": 5000}
    starts = [round_ + 200 * i for round_ in (0, 2000, 20_000) for i in range(many)]
    turns = [turn(at, 40, reads=0, leaves=0) for at in starts]
    tables = reuse(turns, CHAIN[:1], service=service, pools=pools, replicas=replicas)
    out = play(tables, horizon=24_000)
    assert out["hit_dram"].tolist() == [0] * many + [40] * many + [0] * many
    assert out["replica"].tolist() == list(range(many)) * 3
    for i in range(many):
        assert flows(out, (many + i, CACHE)) == {"taken": 80, "read": 40, "expired": 40}
