"""Content in HBM, by hand on both engines. A decode step takes 10 ns and grows a byte a request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsim.engine import Engine
from engine.test_content import CHAIN, DRAM, HOUR, TURNS, reuse, turn
from engine.world import Play, flows, series

HBM, LIVE = (0, 3), (0, 1)
ROOT = [{"tokens": 40, "bytes": 40}]


def in_hbm(requests: list[dict[str, Any]], nodes: list[dict[str, int]], hbm: int = 1000) -> Any:
    """One replica that keeps nodes in HBM alone, which has so many bytes."""
    pools = [{"tier": 0, "capacity": hbm}, {"tier": 1}, {"tier": 2}]
    service = {"cache_hbm": 1, "cache_dram": 0}
    return reuse(requests, nodes, pools=pools, service=service)


def test_a_turn_finds_the_one_before_at_no_cost(play: Play) -> None:
    out = play(in_hbm(TURNS, CHAIN))
    # 10 + 40, then 30 of 70 tokens at 200: 10 + 30, with nothing to load
    assert out["end"].tolist() == [50, 240]
    assert out["hit_hbm"].tolist() == [0, 40]
    assert out["hit_dram"].tolist() == [0, 0]
    # 40 from 50 to 200, then live, and 70 from 240 on
    assert flows(out, HBM) == {"taken": 40 + 40 + 30, "moved": 40, "read": 40}
    assert series(out, "mean", HBM)[:4] == [20, 40, 70 * 60 // 100, 70]
    assert series(out, "mean", LIVE)[:4] == [20, 0, 70 * 40 // 100, 0]
    assert out["top"][0, :4].tolist() == [40, 0, 70, 0]


def test_off_nothing_is_there(play: Play) -> None:
    out = play(reuse(TURNS, CHAIN, service={"cache_dram": 0}))
    assert out["hit_hbm"].tolist() == [0, 0]
    assert HBM not in [tuple(row[:2]) for row in out["accounts"].tolist()]


def test_a_growing_decode_evicts_leaf_by_leaf(play: Play) -> None:
    # 100 bytes, of which 40 are cached. A turn from 100 on feeds 20 tokens till 130, then holds
    # 21 + k in step k, which begins at 130 + 10 k: more than 60 at k = 40, than 80 at k = 60
    nodes = [{"tokens": 20, "bytes": 20}, {"parent": 0, "tokens": 20, "bytes": 20}]
    requests = [turn(0, 40, leaves=1), turn(100, 20) | {"output": 71}]
    out = play(in_hbm(requests, nodes, hbm=100), bin=10)
    assert out["end"].tolist() == [50, 130 + 700]
    assert flows(out, HBM) == {"taken": 40, "evicted": 40}
    held = series(out, "mean", HBM)
    assert held[4:6] + held[52:54] + held[72:74] == [0, 40, 40, 20, 20, 0]
    assert out["flow"][3, 3, 53] == out["flow"][3, 3, 73] == 20
    assert max(a + b for a, b in zip(held, series(out, "mean", LIVE), strict=True)) == 100


def test_the_least_recently_used_goes_first(play: Play) -> None:
    # two of 30 bytes; the first is used again at 200; 50 bytes leave room for one of them
    nodes = [{"tokens": 30, "bytes": 30}, {"tokens": 30, "bytes": 30}]
    requests = [turn(0, 30, leaves=0), turn(100, 30, leaves=1), turn(200, 31, reads=0)]
    requests += [turn(300, 50), turn(400, 31, reads=0), turn(500, 31, reads=1)]
    out = play(in_hbm(requests, nodes, hbm=100))
    assert out["hit_hbm"].tolist() == [0, 0, 30, 0, 30, 0]
    assert flows(out, HBM)["evicted"] == 30


def test_a_preempted_request_finds_its_own_prefix(play: Play) -> None:
    # 60 bytes. The first feeds till 20, the second, beside a step of the first, till 50. Then they
    # hold 33 + 2 j in step j: 61 at j = 14, at 190, when the second has put out 15 tokens. Its 20
    # bytes of prefix stay while the first grows to 39, till 50 + 280. Then it feeds 15 of 35
    # tokens, till 355, and puts out the other 14.
    requests = [turn(0, 10) | {"output": 30}, turn(0, 20, reads=0) | {"output": 30}]
    nodes = [{"tokens": 20, "bytes": 20}]
    out = play(in_hbm(requests, nodes, hbm=60))
    assert out["preemptions"].tolist() == [0, 1]
    assert out["end"].tolist() == [330, 355 + 140]
    assert out["hit_hbm"].tolist() == [0, 0]
    assert out["hit_again"].tolist() == [0, 20]
    # in its last step the first holds 39, and 20 no longer fit
    out = play(in_hbm(requests, nodes, hbm=58))
    assert out["hit_again"].tolist() == [0, 0]
    assert flows(out, HBM) == {"taken": 20 + 20, "evicted": 20}


def test_of_a_prefill_cut_short_what_was_fed_stays(play: Play) -> None:
    # Ten tokens a step: from 30 on the first takes one, the second feeds nine. They hold 12 + k and
    # 60: more than 75 at k = 4, when of the second's prefix of 30 + 25 tokens 36 are fed.
    nodes = [{"tokens": 30, "bytes": 30}, {"parent": 0, "tokens": 25, "bytes": 25}]
    requests = [turn(0, 10) | {"output": 30}, turn(20, 60, reads=1)]
    tables = in_hbm(requests, nodes, hbm=75)
    tables["services"][0, 4] = 10  # max_tokens
    out = play(tables)
    assert out["preemptions"].tolist() == [0, 1]
    assert out["hit_again"].tolist() == [0, 30]


def test_who_reads_the_same_holds_it_once(play: Play) -> None:
    # 70 bytes would not hold 41 twice. The first feeds its token till 211, the second till 222,
    # beside a step of the first; then they hold 43 + j and 42 + j, less 40, in steps of 10
    requests = [turn(0, 40, leaves=0)]
    requests += [turn(200, 41, reads=0) | {"output": 11}] * 2
    out = play(in_hbm(requests, ROOT, hbm=70))
    assert out["end"].tolist() == [50, 312, 322]
    assert out["hit_hbm"].tolist() == [0, 40, 40]
    steps = sum(45 + 2 * j for j in range(7)) * 10 + 59 * 8
    assert series(out, "mean", LIVE)[2] == (41 * 11 + (42 + 41 - 40) * 11 + steps) // 100
    assert out["top"][0, 2:4].tolist() == [59, 61]
    # cached again from 322 on
    assert flows(out, HBM) == {"taken": 80, "moved": 40, "read": 80}


def test_who_computes_the_same_at_once_keeps_one(play: Play) -> None:
    # both join at 15 and feed 41 tokens, holding 82, till 15 + 10 + 82; then 42 + 42 - 40, then 46
    requests = [turn(0, 5), *[turn(1, 41, reads=0) | {"output": 3}] * 2]
    out = play(in_hbm(requests, ROOT), bin=1)
    assert out["end"].tolist() == [15, 127, 127]
    live = series(out, "mean", LIVE)
    assert live[15:128] == [82] * 92 + [44] * 10 + [46] * 10 + [0]
    assert flows(out, HBM) == {"taken": 40}


def test_one_token_at_least_is_computed(play: Play) -> None:
    out = play(in_hbm([TURNS[0], turn(200, 40, reads=0)], CHAIN))
    assert (out["end"].tolist(), out["hit_hbm"].tolist()) == ([50, 200 + 10 + 1], [0, 40])


def test_a_failure_empties_it(play: Play) -> None:
    # the replica comes back at once: it has no weights to load
    out = play(in_hbm(TURNS, CHAIN), script=[(100, "fail", 0), (100, "start", 0)])
    assert out["hit_hbm"].tolist() == [0, 0]
    assert flows(out, HBM) == {"taken": 40 + 70, "lost": 40}
    assert series(out, "mean", HBM)[:2] == [20, 0]
    # while it is in use: gone, but not out of the cache
    out = play(in_hbm(TURNS, CHAIN), script=[(210, "fail", 0), (210, "start", 0)])
    assert flows(out, HBM) == {"taken": 40 + 70, "moved": 40, "read": 40}
    assert out["end"].tolist() == [50, 210 + 10 + 70]


def test_three_tiers_have_a_part_each(play: Play) -> None:
    # The first turn leaves a chain of 40 + 30 + 30 everywhere. DRAM has 100 bytes: the second
    # turn's 30 take the place of its last. HBM has 125: while the second holds 70, 40 of the
    # chain fit beside it. The third loads 30 from DRAM, 30 from NAND, over one link, and feeds 10.
    nodes = [*CHAIN, {"parent": 1, "tokens": 30, "bytes": 30}, {"tokens": 30, "bytes": 30}]
    requests = [
        turn(0, 100, leaves=2),
        turn(400, 30, leaves=3) | {"output": 41},
        turn(2000, 110, reads=2),
    ]
    pools = [
        {"tier": 0, "capacity": 125},
        {"tier": 1, "capacity": 100},
        {"tier": 2, "capacity": 999},
    ]
    service = {"cache_hbm": 1, "cache_dram": HOUR, "cache_nand": HOUR}
    out = play(reuse(requests, nodes, pools=pools, service=service), horizon=3000)
    hits = [out[name].tolist()[2] for name in ("hit_hbm", "hit_dram", "hit_nand")]
    assert hits == [40, 30, 30]
    assert out["end"].tolist()[2] == 2000 + 60 + 10 + 10
    assert flows(out, HBM)["read"] == 40
    assert flows(out, DRAM)["read"] == 30


def test_the_least_is_of_what_is_loaded(play: Play) -> None:
    # 40 tokens in HBM and 30 more in DRAM: 30 are loaded if that is enough
    nodes = [*CHAIN, {"parent": 1, "tokens": 10, "bytes": 10}]
    requests = [turn(0, 70, leaves=1), turn(200, 20) | {"output": 50}, turn(900, 75, reads=1)]
    pools = [{"tier": 0, "capacity": 110}, {"tier": 1, "capacity": 999}, {"tier": 2}]
    for least, loaded in ((30, 30), (31, 0)):
        service = {"cache_hbm": 1, "cache_least": least}
        out = play(reuse(requests, nodes, pools=pools, service=service))
        assert out["hit_hbm"].tolist() == [0, 0, 40]
        assert out["hit_dram"].tolist() == [0, 0, loaded]
        assert out["end"].tolist()[2] == 900 + loaded + 10 + 35 - loaded


def test_a_lifted_run_has_the_slack_of_the_built_one(play: Play) -> None:
    # 39 bytes do not hold 40: the first turn needs more than there is, and leaves no room
    out = play(in_hbm(TURNS, CHAIN, hbm=39), lifted=True)
    assert out["hit_hbm"].tolist() == [0, 0]
    assert flows(out, HBM) == {"taken": 110, "evicted": 110}
    # 40 do: the second turn finds them, though it holds 70 itself, and leaves them alone there
    out = play(in_hbm(TURNS, CHAIN, hbm=40), lifted=True)
    assert out["hit_hbm"].tolist() == [0, 40]
    assert flows(out, HBM) == {"taken": 110, "moved": 40, "read": 40, "evicted": 30}


@st.composite
def turns_apart(draw: Any) -> tuple[list[dict[str, Any]], list[dict[str, int]]]:
    """Turns of one forest, each over long before the next comes, and its nodes."""
    nodes: list[dict[str, int]] = []
    depth: list[int] = []
    for row in range(draw(st.integers(1, 8))):
        parent = draw(st.integers(-1, row - 1))
        tokens = draw(st.integers(1, 8))
        nodes.append({"parent": parent, "tokens": tokens, "bytes": tokens})
        depth.append(tokens + (depth[parent] if parent >= 0 else 0))
    requests = []
    for row in range(draw(st.integers(2, 30))):
        node = draw(st.integers(0, len(nodes) - 1))
        more = {"reads": node, "leaves": node, "output": draw(st.integers(1, 12))}
        requests.append(turn(1000 * row, depth[node]) | more)
    return requests, nodes


@given(turns_apart(), st.integers(76, 200), st.integers(0, 60))
def test_more_hbm_finds_no_less(
    turns: tuple[list[dict[str, Any]], list[dict[str, int]]], hbm: int, more: int
) -> None:
    """LRU includes: of turns that do not overlap each finds at least what it finds in less."""
    found = []
    for size in (hbm, hbm + more):
        tables = in_hbm(*turns, hbm=size)
        engine = Engine(tables, 10**6, 1000)
        found.append(engine.finish()["hit_hbm"])
    assert (found[0] <= found[1]).all()


def test_more_bytes_than_a_prompt_holds_are_refused() -> None:
    tables = in_hbm(TURNS, [ROOT[0] | {"bytes": 71}, *CHAIN[1:]])
    with pytest.raises(ValueError, match="requests row 1: reads more bytes than its prompt has"):
        Engine(tables, 1000, 100)
