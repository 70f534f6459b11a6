"""What the policies of kept content do, by hand on both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from block_cache import Prompt, named
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.engine import EVICTIONS, Engine, Forest
from engine.test_content import CHAIN, DRAM, HOUR, LINK, NAND, TURNS, reuse, turn
from engine.world import Play, flows, player

LRU, LFU, FIFO = range(3)
ALONE = [{"tokens": 40, "bytes": 40}, {"tokens": 30, "bytes": 30}, {"tokens": 35, "bytes": 35}]


def pools(dram: int, nand: int = 1000) -> list[dict[str, int]]:
    """One of each tier; HBM of 1,000 bytes."""
    sizes = enumerate((1000, dram, nand))
    return [{"tier": tier, "capacity": size} for tier, size in sizes]


# Room


def test_a_parent_does_not_go_for_its_child(play: Play) -> None:
    # 40 of 65 bytes are the parent's: its child of 30 stays out, and the parent stays
    out = play(reuse(TURNS, CHAIN, pools=pools(65)))
    assert flows(out, DRAM) == {"taken": 40, "read": 40, "dropped": 30}


def test_a_child_in_dram_of_a_parent_on_its_way_there(play: Play) -> None:
    # NAND alone has the parent at 190. It is read and taken in DRAM again, over a link of 1 byte in
    # 10 ns: 200 to 600. Another leaves the child meanwhile, in DRAM at 430. A third finds the
    # parent in NAND and the child in DRAM.
    slow = {"bandwidth": 10**8, "latency": 0}
    service = {"cache_dram": 60, "cache_nand": HOUR}
    turns = [
        turn(0, 40, leaves=0),
        turn(200, 41, reads=0),
        turn(320, 70, leaves=1),
        turn(450, 71, reads=1),
    ]
    tables = reuse(turns, CHAIN, service=service, channels=[LINK, LINK, LINK, slow])
    out = play(tables, horizon=2000)
    assert out["hit_dram"].tolist() == [0, 0, 0, 30]
    assert out["hit_nand"].tolist() == [0, 40, 0, 40]
    assert flows(out, DRAM)["read"] == 30
    assert flows(out, NAND)["read"] == 80


# Which goes first

# 40, 30 and 35 bytes for a pool of 80. The first is used twice, then the second once: the third
# needs the room of one of them.
CHOICE = [
    turn(0, 40, leaves=0),
    turn(100, 41, reads=0, leaves=0),
    turn(200, 30, leaves=1),
    turn(300, 35, leaves=2),
    turn(500, 41, reads=0),
    turn(700, 31, reads=1),
]


@pytest.mark.parametrize(
    ("order", "hits"),
    [(LRU, [0, 40, 0, 0, 0, 30]), (LFU, [0, 40, 0, 0, 40, 0]), (FIFO, [0, 40, 0, 0, 0, 30])],
)
def test_who_goes_first(play: Play, order: int, hits: list[int]) -> None:
    policies = [{"evict_dram": order}]
    out = play(reuse(CHOICE, ALONE, pools=pools(80), policies=policies))
    assert out["hit_dram"].tolist() == hits


def test_fifo_does_not_mind_a_late_use(play: Play) -> None:
    # the first is used again at 250, after the second was taken: lru lets the second go
    turns = [*CHOICE[:3], turn(250, 41, reads=0), *CHOICE[3:]]
    for order, hits in ((LRU, [40, 0]), (FIFO, [0, 30])):
        out = play(reuse(turns, ALONE, pools=pools(80), policies=[{"evict_dram": order}]))
        assert out["hit_dram"].tolist()[-2:] == hits


def test_each_tier_has_its_order(play: Play) -> None:
    # Nothing stays in DRAM; in NAND, with room for two, lfu keeps the one that was left twice.
    service = {"cache_dram": 0, "cache_nand": HOUR}
    for order, hits in ((LRU, [0, 30]), (LFU, [40, 0])):
        policies = [{"evict_dram": LRU, "evict_nand": order}]
        tables = reuse(CHOICE, ALONE, pools=pools(0, 80), policies=policies, service=service)
        assert play(tables)["hit_nand"].tolist()[-2:] == hits


def test_what_comes_back_has_one_use(play: Play) -> None:
    # The first is left twice, then lost. It comes back, left once: the second, used later, stays.
    turns = [
        *CHOICE[:2],
        turn(300, 40, leaves=0),
        turn(400, 30, leaves=1),
        turn(500, 35, leaves=2),
        turn(600, 41, reads=0),
        turn(700, 31, reads=1),
    ]
    lost = [(250, "set_capacity", 1, 0), (260, "set_capacity", 1, 80)]
    out = play(reuse(turns, ALONE, pools=pools(80), policies=[{"evict_dram": LFU}]), script=lost)
    assert out["hit_dram"].tolist() == [0, 40, 0, 0, 0, 0, 30]


# Who is let in


def test_dram_takes_what_was_left_before(play: Play) -> None:
    turns = [turn(0, 40, leaves=0), turn(100, 70, leaves=1), turn(300, 71, reads=1)]
    out = play(reuse(turns, CHAIN, policies=[{"admit_dram": 2}]))
    # the second turn is the parent's second, and the child's first
    assert out["hit_dram"].tolist() == [0, 0, 40]
    assert flows(out, DRAM) == {"taken": 40, "read": 40}


def test_nand_takes_what_was_left_before(play: Play) -> None:
    policies = [{"admit_nand": 2}]
    out = play(reuse(TURNS, CHAIN, service={"cache_nand": HOUR}, policies=policies))
    assert flows(out, DRAM) == {"taken": 70, "read": 40}
    assert flows(out, NAND) == {"taken": 40}
    service = {"cache_dram": 0, "cache_nand": HOUR}  # straight there
    out = play(reuse(TURNS, CHAIN, service=service, policies=policies))
    assert flows(out, NAND) == {"taken": 40}


# The same order of leaving as in the replay of a log


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), max_size=4), max_size=20),
    st.integers(0, 8),
    st.sampled_from(range(len(EVICTIONS))),
)
def test_it_hits_as_the_replay_does(prompts: list[Prompt], room: int, order: int) -> None:
    """Requests one after the other, nodes of one block: hits are those of docs/hitrate.md."""
    paths = named(prompts)
    parents = {block: ([-1, *path])[i] for path in paths for i, block in enumerate(path)}
    nodes = [{"parent": parents[i], "tokens": 1, "bytes": 1} for i in range(len(parents))]
    ends = [path[-1] if path else -1 for path in paths]
    turns = [
        turn(100 * i, len(path) + 1, reads=end, leaves=end)
        for i, (path, end) in enumerate(zip(paths, ends, strict=True))
    ]
    policies = [{"evict_dram": order}]
    tables = reuse(turns, nodes or CHAIN, pools=pools(room), policies=policies)
    out = player(Engine)(tables, horizon=100 * len(turns) + 1)
    start = np.cumsum([0, *map(len, prompts)]).astype(np.int64)
    ids = np.array([each for path in prompts for each in path], dtype=np.int64)
    assert out["hit_dram"].tolist() == Forest(start, ids).hits(EVICTIONS[order], room).tolist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[3, 0, 0, 0]], "policies row 0: no such eviction"),
        ([[0, 0, -1, 0]], "policies row 0: no value may be negative"),
        ([[0, 0, 0, 0]] * 2, "policies row 0: one row a service"),
    ],
)
def test_wrong_policies_are_named(rows: list[list[int]], message: str) -> None:
    tables: dict[str, Any] = reuse(TURNS, CHAIN)
    tables["policies"] = np.array(rows, dtype=np.int64)
    with pytest.raises(ValueError, match=message):
        Engine(tables, 1000, 100)
