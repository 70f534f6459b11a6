"""What will never go on, and is told apart from what only waits. By hand on both engines."""

from __future__ import annotations

from functools import partial
from typing import Any

from oracle import Oracle

from dcsim.engine import Engine
from engine.beside import beside
from engine.case import Case, run
from engine.test_oracle import DECODE, PREFILL, ask
from engine.world import Play, world


def fork_and_join(hbm: int, kept: int = 8, after: tuple[int, ...] = (0, 1), start: int = 1) -> Any:
    """Two requests of 8 bytes on a replica; a third on another takes from the first, after both."""
    taker = ask(0, 4, 1) | {"klass": 1, "after": after, "fed": 4}
    handover = [kept if row == 0 else 0 for row in after]
    return world(
        [ask(0, 8, 1), ask(0, 8, 1), taker | {"handover": handover}],
        pools=[{"tier": 0, "capacity": hbm}, {"tier": 1}, {"tier": 2}, {"tier": 0, "capacity": 99}],
        segments=[PREFILL, DECODE],
        works={"segments": 2},
        services=[
            {"replicas": 1, "max_jobs": 8, "max_tokens": 1000},
            {"replicas": 1, "replica": 1, "max_jobs": 8, "max_tokens": 1000},
        ],
        classes=[{"service": 0}, {"service": 1}],
        replicas=[
            {"dram": 1, "home": 2, "store": 2, "start": 1},
            {"service": 1, "hbm": 3, "dram": 1, "home": 2, "store": 2, "start": start},
        ],
    )


def test_what_is_kept_for_who_waits_behind_it(play: Play) -> None:
    # 15 bytes: the first ends at 20 and keeps 8 for the third, which waits for the second too; that
    # needs 8
    out = play(fork_and_join(15))
    assert out["stuck"].tolist() == [0, 1, 0, 2]
    assert out["outcome"].tolist() == [2, 0, 4]
    # room for both, or less that is kept, and all goes on
    assert play(fork_and_join(16))["stuck"].tolist() == []
    assert play(fork_and_join(15, kept=7))["stuck"].tolist() == []
    assert play(fork_and_join(15, kept=7))["outcome"].tolist() == [2, 2, 2]
    assert play(fork_and_join(15), lifted=True)["stuck"].tolist() == []


def test_it_is_not_stuck_while_it_runs(play: Play) -> None:
    assert play(fork_and_join(15), horizon=19)["stuck"].tolist() == []
    assert play(fork_and_join(15), horizon=20)["stuck"].tolist() == [0, 1, 0, 2]


def test_who_waits_for_a_replica_that_is_down_is_not_stuck(play: Play) -> None:
    # the third waits for the first alone, and its replica is down: it may come up
    out = play(fork_and_join(15, after=(0,), start=2))
    assert out["outcome"].tolist() == [2, 0, 0]
    assert out["stuck"].tolist() == []
    out = play(fork_and_join(15, after=(0,), start=2), script=[(50, "start", 1)])
    assert out["outcome"].tolist() == [2, 2, 2]


def test_of_components_on_threads_it_is_the_first_and_by_the_rows_of_all() -> None:
    # two plants that share nothing, the requests of both in one order of arrival
    fine, stuck = (Case(fork_and_join(hbm), 1000, 100) for hbm in (16, 15))
    for one, other in ((fine, stuck), (stuck, fine), (stuck, stuck)):
        case = beside(one, other)
        expected = run(Oracle, case, False)["stuck"].tolist()
        assert len(expected) == 4
        for threads in (1, 2):
            assert run(partial(Engine, threads=threads), case, False)["stuck"].tolist() == expected
