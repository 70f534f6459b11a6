"""What the policies of kept content do, by hand on both engines."""

from __future__ import annotations

import numpy as np
import pytest
from block_cache import Prompt, named
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.engine import EVICTIONS, Engine, Forest
from engine.test_content import (
    CHAIN,
    DECODE,
    DRAM,
    HOUR,
    LINK,
    NAND,
    PREFILL,
    SPILL,
    TURNS,
    reuse,
    turn,
)
from engine.world import NS, Play, flows, player, series

LRU, LFU, FIFO = range(3)
TIERS = {"cache_dram": HOUR, "cache_nand": HOUR}
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


# Before it is full


def test_room_is_made_before_it_is_full_and_more_at_once(play: Play) -> None:
    # Of 100 bytes 90 are the high mark and 50 the low one. 40 and 30 lie there; 20 more make it 90.
    # 10 more would be above: the first two leave, for 20 + 10. Without marks 100 would fit.
    sizes = (40, 30, 20, 10)
    nodes = [{"tokens": size, "bytes": size} for size in sizes]
    turns = [turn(100 * i, size, leaves=i) for i, size in enumerate(sizes)]
    marks = {"high_dram": 900_000, "low_dram": 500_000}
    for policy, evicted, most in (({}, 0, 100), (marks, 70, 90)):
        out = play(reuse(turns, nodes, pools=pools(100), policies=[policy]))
        assert flows(out, DRAM).get("evicted", 0) == evicted
        assert out["top"][1].max() == most


def test_watermarks_are_of_a_tier(play: Play) -> None:
    # DRAM may be full; NAND holds 50 of its 100 bytes at most, from the second on that it takes
    nodes = [{"tokens": 40, "bytes": 40}, {"tokens": 30, "bytes": 30}]
    turns = [turn(100 * i, 40, leaves=i) for i in range(2)]
    tables = reuse(
        turns,
        nodes,
        pools=pools(100, 100),
        service=TIERS,
        policies=[{"high_nand": 500_000, "low_nand": 500_000}],
    )
    out = play(tables)
    assert flows(out, DRAM) == {"taken": 70}
    assert flows(out, NAND) == {"taken": 70, "evicted": 40}


# What is worth loading


def test_only_what_comes_sooner_is_loaded(play: Play) -> None:
    # 40 bytes over the link of 1 byte/ns take 40 ns; to compute 40 tokens of 1 ns takes as long,
    # so it is not sooner. With 2 ns a token, or a latency less, it is.
    for own, latency, hit in ((1, 0, 0), (2, 0, 40), (2, 39, 40), (2, 40, 0)):
        out = play(
            reuse(
                TURNS,
                CHAIN,
                segments=[PREFILL | {"own": own * NS}, DECODE],
                channels=[{"bandwidth": 10**9, "latency": latency}, LINK, LINK, LINK],
                policies=[{"faster": 1}],
            )
        )
        assert out["hit_dram"].tolist() == [0, hit], (own, latency)


def test_what_lies_in_nand_must_pay_for_itself(play: Play) -> None:
    # As in test_a_prefix_over_two_tiers: 40 tokens in DRAM, 30 below them in NAND. Attention costs
    # 2 ns a token of context: 30 after 40 cost 140. 30 bytes from NAND take 30 ns and its latency.
    segments = [PREFILL | {"own": 0, "ctx": 2 * NS}, DECODE]
    nodes = [*CHAIN, {"tokens": 30, "bytes": 30}]
    turns = [turn(0, 70, leaves=1), turn(500, 30, leaves=2), turn(900, 80, reads=1)]
    for latency, hits in ((109, (40, 30)), (110, (40, 0))):
        tables = reuse(
            turns,
            nodes,
            pools=pools(70),
            service=TIERS,
            segments=segments,
            channels=[LINK, LINK, LINK, {"bandwidth": 10**9, "latency": latency}],
            policies=[{"faster": 1}],
        )
        out = play(tables, horizon=2000)
        assert (out["hit_dram"][2], out["hit_nand"][2]) == hits


# How long a request waits

# A chain of 70 lies in NAND, its parent of 40 in DRAM too: at 500 both are asked for, with 10 more
# tokens. The child of 30 comes over a link of 1 byte in 10 ns, by 800; the parent over what that
# leaves of the other, 0.9 bytes/ns, by 545.


@pytest.mark.parametrize(
    ("policy", "hits", "end"),
    [
        ({}, (40, 30), 800 + 10 + 10),
        ({"wait": 1}, (40, 0), 545 + 10 + 40),  # best effort: the parent alone
        ({"wait": 1, "wait_base": 50}, (40, 0), 550 + 10 + 40),
        ({"wait": 1, "wait_base": 299}, (40, 0), 799 + 10 + 40),
        ({"wait": 1, "wait_base": 300}, (40, 30), 800 + 10 + 10),  # it comes just then
        ({"wait": 1, "wait_ki": 1024 * 5}, (40, 0), 650 + 10 + 40),  # 30 tokens: 150 ns
    ],
)
def test_how_long_a_request_waits(
    play: Play, policy: dict[str, int], hits: tuple[int, int], end: int
) -> None:
    nodes = [*CHAIN, {"tokens": 30, "bytes": 30}]
    turns = [turn(0, 70, leaves=1), turn(300, 30, leaves=2), turn(500, 80, reads=1)]
    channels = [LINK, LINK, LINK, {"bandwidth": 10**8, "latency": 0}]
    tables = reuse(
        turns, nodes, pools=pools(70), service=TIERS, policies=[policy], channels=channels
    )
    out = play(tables, horizon=2000)
    assert (out["hit_dram"][2], out["hit_nand"][2]) == hits
    assert out["end"][2] == end


def test_best_effort_computes_at_once_and_leaves_it_to_the_next(play: Play) -> None:
    # In NAND alone at 200: the second computes all 70 at once, while the 40 come to DRAM by 240.
    # The third, admitted as the second ends, finds them there.
    service = {"cache_dram": 100, "cache_nand": HOUR}
    turns = [TURNS[0], turn(200, 70, reads=0), turn(250, 70, reads=0)]
    out = play(reuse(turns, CHAIN, service=service, policies=[{"wait": 1}]))
    assert out["hit_nand"].tolist() == [0, 0, 0]
    assert out["hit_dram"].tolist() == [0, 0, 40]
    assert out["end"][1] == 200 + 10 + 70
    assert flows(out, NAND) == {"taken": 40, "read": 40}


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


# Written back

BACK, ALONE_THERE = {"back": 1}, {"back": 1, "exclusive": 1}


def test_nothing_is_written_before_it_leaves(play: Play) -> None:
    # The chain of 70 bytes is in DRAM at 150. At 230 another 30 need room there: the child goes to
    # NAND, and its parent with it. Room is free at once: both are in flight at the same time.
    nodes = [*CHAIN, {"tokens": 30, "bytes": 30}]
    turns = [turn(0, 70, leaves=1), turn(190, 30, leaves=2)]
    tables = reuse(turns, nodes, pools=pools(70), service=TIERS, policies=[BACK])
    out = play(tables, bin=10)
    assert flows(out, DRAM) == {"taken": 100, "moved": 30}
    assert flows(out, NAND) == {"taken": 70}
    nand, dram = series(out, "mean", NAND), series(out, "mean", DRAM)
    assert (nand[22], nand[23], dram[22], dram[23]) == (0, 70, 70, 70)
    assert out["moved"][SPILL].nonzero()[0].tolist() == [23, 24, 25, 26, 27, 28, 29]


def test_what_is_in_nand_is_not_written_again(play: Play) -> None:
    # The parent went there with its child; when its own time in DRAM is over it expires.
    service = {"cache_dram": 100, "cache_nand": HOUR}
    out = play(reuse([turn(0, 70, leaves=1)], CHAIN, service=service, policies=[BACK]))
    assert flows(out, DRAM) == {"taken": 70, "moved": 30, "expired": 40}
    assert flows(out, NAND) == {"taken": 70}


def test_what_nand_has_no_room_for_is_dropped(play: Play) -> None:
    service = {"cache_dram": 100, "cache_nand": HOUR}
    for nand, moved, dropped in ((70, 30, 0), (69, 0, 30), (39, 0, 70 + 40)):
        tables = reuse(
            [turn(0, 70, leaves=1)], CHAIN, pools=pools(70, nand), service=service, policies=[BACK]
        )
        out = play(tables)
        # with 39 bytes both find none, when the child leaves and when the parent does
        assert flows(out, DRAM).get("moved", 0) == moved
        assert flows(out, NAND).get("dropped", 0) == dropped


def test_what_leaves_too_seldom_is_not_written_back(play: Play) -> None:
    service = {"cache_dram": 100, "cache_nand": HOUR}
    policies = [BACK | {"admit_nand": 2}]
    turns = [turn(0, 40, leaves=0), turn(60, 70, leaves=1)]
    out = play(reuse(turns, CHAIN, service=service, policies=policies))
    # the child left once, its parent twice: the parent is written as the child expires, unmoved
    assert flows(out, DRAM) == {"taken": 70, "expired": 70}
    assert flows(out, NAND) == {"taken": 40}


def test_a_node_keeps_its_last_use_when_it_is_written_back(play: Play) -> None:
    # Last used at 50, so it is due in DRAM at 150 and in NAND at 350, not 200 after it came there.
    service = {"cache_dram": 100, "cache_nand": 300}
    out = play(reuse([turn(0, 40, leaves=0)], CHAIN, service=service, policies=[BACK]), bin=10)
    held = series(out, "mean", NAND)
    assert (held[14], held[15], held[34], held[35]) == (0, 40, 40, 0)


# In one tier or in the other


def test_in_one_tier_or_in_the_other(play: Play) -> None:
    # The child expires in DRAM first and goes alone, then its parent. A request reads both at 400
    # over one link; at 470 they are in DRAM, and leave NAND.
    service = {"cache_dram": 100, "cache_nand": HOUR}
    turns = [turn(0, 70, leaves=1), turn(400, 71, reads=1)]
    out = play(reuse(turns, CHAIN, service=service, policies=[ALONE_THERE]), horizon=480, bin=10)
    assert out["hit_nand"].tolist() == [0, 70]
    assert flows(out, DRAM) == {"taken": 140, "moved": 70}
    assert flows(out, NAND) == {"taken": 70, "read": 70, "moved": 70}
    dram, nand = series(out, "mean", DRAM), series(out, "mean", NAND)
    assert [dram[i] + nand[i] for i in (10, 20, 30, 45, 47)] == [70, 70, 70, 140, 70]


def test_a_branch_stays_in_nand_while_its_parent_is_in_dram(play: Play) -> None:
    # Two children of 30 and 35 below the parent: all go to NAND. One branch is read: it and the
    # parent are in DRAM again. The other branch is found over both tiers.
    nodes = [*CHAIN, {"parent": 0, "tokens": 35, "bytes": 35}]
    service = {"cache_dram": 150, "cache_nand": HOUR}
    turns = [
        turn(0, 70, leaves=1),
        turn(5, 75, leaves=2),
        turn(600, 71, reads=1),
        turn(700, 76, reads=2),
    ]
    out = play(reuse(turns, nodes, service=service, policies=[ALONE_THERE]), horizon=720)
    assert out["hit_nand"].tolist() == [0, 0, 70, 35]
    assert out["hit_dram"].tolist() == [0, 0, 0, 40]
    assert flows(out, NAND) == {"taken": 105, "read": 105, "moved": 70}


def test_what_lies_below_a_lost_parent_is_found_when_it_is_back(play: Play) -> None:
    # NAND of 35: the child fits there, its parent of 40 does not. A turn leaves the parent anew.
    service = {"cache_dram": 100, "cache_nand": HOUR}
    turns = [
        turn(0, 70, leaves=1),
        turn(500, 71, reads=1),
        turn(600, 40, leaves=0),
        turn(740, 71, reads=1),
    ]
    tables = reuse(turns, CHAIN, service=service, pools=pools(1000, 35), policies=[ALONE_THERE])
    out = play(tables)
    assert out["hit_dram"].tolist() == [0, 0, 0, 40]
    assert out["hit_nand"].tolist() == [0, 0, 0, 30]
    assert flows(out, NAND)["dropped"] >= 40


# The four of docs/reuse.md

# Four contexts of 40 bytes, left one after the other and then asked for in the same order, with one
# more token. DRAM has room for two of them, NAND for three. A token costs 10 ns to compute: 41
# cost 10 + 410 ns; a load of 40 bytes takes 40 ns, and one token on top 10 + 10.
ROUND = [{"tokens": 40, "bytes": 40}] * 4
TWICE = [turn(1000 * i, 40, leaves=i) for i in range(4)] + [
    turn(1000 * (4 + i), 41, reads=i, leaves=i) for i in range(4)
]


@pytest.mark.parametrize(
    ("policy", "found", "written"),
    [
        # each that comes back pushes the next one out of both tiers: none is ever found
        ({}, [0, 0, 0, 0], 8 * 40),
        # the same, but nothing is written before it has come back
        ({"admit_nand": 2}, [0, 0, 0, 0], 4 * 40),
        # 0 and 1 as 2 and 3 come, 2 and 3 as 0 and 1 come back; 2 makes room for 3
        (BACK, [40, 40, 0, 40], 4 * 40),
        # two lie in DRAM and two in NAND; each that comes back sends one there
        (ALONE_THERE, [40, 40, 40, 40], 6 * 40),
    ],
    ids=["write_through", "write_through_selective", "write_back", "exclusive"],
)
def test_how_much_is_found_and_written(
    play: Play, policy: dict[str, int], found: list[int], written: int
) -> None:
    segments = [PREFILL | {"own": 10 * NS}, DECODE]
    tables = reuse(
        TWICE, ROUND, segments=segments, pools=pools(80, 120), service=TIERS, policies=[policy]
    )
    out = play(tables, horizon=9000, bin=1000)
    assert out["hit_nand"].tolist()[4:] == found
    waits = [60 if tokens else 420 for tokens in found]
    assert (out["first"] - out["arrived"]).tolist()[4:] == waits
    assert flows(out, NAND)["taken"] == written


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
        ([{"evict_dram": 3}], "policies row 0: no such eviction"),
        ([{"admit_dram": -1}], "policies row 0: no value may be negative"),
        ([{"back": 2}], "policies row 0: back is 0 or 1, and exclusive with it"),
        ([{"exclusive": 1}], "policies row 0: back is 0 or 1, and exclusive with it"),
        ([{"high_dram": 1, "low_dram": 2}], "policies row 0: 0 <= low <= high <= 1,000,000"),
        ([{"faster": 2}], "policies row 0: faster is 0 or 1"),
        ([{}, {}], "policies row 0: one row a service"),
    ],
)
def test_wrong_policies_are_named(rows: list[dict[str, int]], message: str) -> None:
    tables = reuse(TURNS, CHAIN, policies=rows)
    with pytest.raises(ValueError, match=message):
        Engine(tables, 1000, 100)
