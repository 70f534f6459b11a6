"""Preemption by swap to DRAM, by hand on both engines."""

from __future__ import annotations

from typing import Any

from dcsim.engine import COLUMNS
from engine.test_oracle import ask, chat
from engine.world import Play, flows, series, world

SWAPPED = (1, 1)
"""The account of what is swapped: live bytes in the DRAM pool."""


def tight(
    requests: list[dict[str, int]] | None = None, hbm: int = 12, dram: int = 1000, link: int = 10**9
) -> Any:
    """Steps of 10 ns, a byte a token; two of 4 + 5 tokens, of which the second is preempted at 30.

    From 10 on the first decodes and the second joins: they hold 5 + 4, 6 + 5, then 7 + 6.
    """
    pools = [{"tier": 0, "capacity": hbm}, {"tier": 1, "capacity": dram}, {"tier": 2}]
    return world(
        requests or [ask(0, 4, 5), ask(0, 4, 5)],
        **chat(pools=pools),
        channels=[{"bandwidth": link}],
        services={"replicas": 1, "max_jobs": 8, "max_tokens": 1000, "swap": 1},
    )


def test_it_comes_back_and_goes_on_where_it_stopped(play: Play) -> None:
    out = play(tight())
    # 6 bytes are in DRAM at 36 and wait for the end of the first at 50; at 56 they are back, and
    # three steps are left. Recomputed it would end at 90 (test_oracle)
    assert out["preemptions"].tolist() == [0, 1]
    assert out["swaps"].tolist() == [0, 1]
    assert out["first"].tolist() == [10, 20]
    assert out["end"].tolist() == [50, 86]
    assert out["stats"]["steps"] == 5 + 5
    assert flows(out, SWAPPED) == {"taken": 6, "moved": 6}
    assert series(out, "mean", SWAPPED)[0] == 6 * (56 - 30) // 100
    assert out["top"][1].tolist()[0] == 6
    assert out["moved"][0].tolist()[0] == 6 + 6


def test_while_it_comes_it_holds_its_bytes(play: Play) -> None:
    # 4, 5 + 4, 6 + 5, then 7 and 8 alone; from 50 on 6 that load, from 56 on steps of 6, 7 and 8
    out = play(tight(), horizon=100, bin=10)
    assert series(out, "mean", (0, 1)) == [4, 9, 11, 7, 8, 6, 64 // 10, 74 // 10, 48 // 10, 0]


def test_without_room_in_dram_it_is_recomputed(play: Play) -> None:
    out = play(tight(dram=5))
    assert out["preemptions"].tolist() == [0, 1]
    assert out["swaps"].tolist() == [0, 0]
    assert out["end"].tolist() == [50, 90]
    assert flows(out, SWAPPED) == {"dropped": 6}
    assert play(tight(dram=6))["swaps"].tolist() == [0, 1]


def test_it_waits_until_it_has_come(play: Play) -> None:
    # a byte each 10 ns: in DRAM at 90, back at 150
    out = play(tight(link=10**8))
    assert out["end"].tolist() == [50, 150 + 30]


def test_a_prompt_goes_on_after_what_it_has_fed(play: Play) -> None:
    # 5 + 8 fit, 6 + 8 do not: at 20 the second leaves with 4 of its 8 tokens fed, for DRAM at 28.
    # The first decodes till 90; the second is back at 98 and feeds the other 4
    out = play(tight([ask(0, 4, 9), ask(0, 8, 1)], hbm=13))
    assert out["swaps"].tolist() == [0, 1]
    assert out["end"].tolist() == [90, 108]
    assert flows(out, SWAPPED) == {"taken": 8, "moved": 8}


def test_a_failure_loses_what_lies_in_dram(play: Play) -> None:
    out = play(tight(), script=[(40, "fail", 0), (45, "start", 0)])
    # the first has put out 4 tokens: 8 are fed in two steps till 65. The second has put out 2: it
    # feeds 6 in two steps and puts out the other two after its first till 105
    assert out["end"].tolist() == [65, 105]
    assert flows(out, SWAPPED) == {"taken": 6, "lost": 6}
    assert out["mean"][-1].tolist()[0] == 6 * (40 - 30) // 100


def test_a_pool_that_shrinks_loses_it_last(play: Play) -> None:
    out = play(tight(), script=[(40, "set_capacity", 1, 5)])
    assert out["end"].tolist() == [50, 90]
    assert (out["preemptions"].tolist(), out["swaps"].tolist()) == ([0, 1], [0, 1])
    assert flows(out, SWAPPED) == {"taken": 6, "lost": 6}
    assert play(tight(), script=[(40, "set_capacity", 1, 6)])["end"].tolist() == [50, 86]


def test_what_is_lost_on_its_way_back_goes_on(play: Play) -> None:
    # a byte each 2 ns: in DRAM at 42, back from 50 to 62
    out = play(tight(link=5 * 10**8), script=[(55, "set_capacity", 1, 5)])
    assert out["end"].tolist() == [50, 62 + 30]
    assert flows(out, SWAPPED) == {"taken": 6, "lost": 6}


def test_who_is_lost_at_the_head_joins_at_once(play: Play) -> None:
    # still on its way to DRAM (till 90) with nobody running when the pool shrinks at 60
    out = play(tight(link=10**8), script=[(60, "set_capacity", 1, 5)])
    assert out["end"].tolist() == [50, 60 + 20 + 20]


def test_off_it_has_no_column_and_no_account(play: Play) -> None:
    tables = tight()
    tables["services"][0, COLUMNS["services"].index("swap")] = 0
    out = play(tables)
    assert "swaps" not in out
    assert [1, 1] not in out["accounts"][:, :2].tolist()


def test_a_prompt_gives_way_to_a_step_that_comes_back(play: Play) -> None:
    # Two tokens a step. The first feeds till 20, then decodes till 90 and leaves one token to the
    # second, which has fed 4 at 60 and leaves: 9 + 5. At 90 it is fetched; the third joins
    # and feeds two. From 100 on the second takes one for each of its 4 steps, the third feeds one
    tables = tight([ask(0, 4, 8), ask(0, 4, 5), ask(0, 4, 1)])
    tables["services"][0, COLUMNS["services"].index("max_tokens")] = 2
    out = play(tables)
    assert out["swaps"].tolist() == [0, 1, 0]
    assert out["start"].tolist() == [0, 20, 90]
    assert out["end"].tolist() == [90, 140, 120]
