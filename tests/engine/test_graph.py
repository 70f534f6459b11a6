"""Requests that wait for others, by hand on both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcsim.engine import Engine
from engine.world import Play, world

QUEUED, RUNNING, COMPLETED, REJECTED, AWAITED, ABANDONED = range(6)
STEP = {"steps": 1}  # one request takes 10 ns


def test_a_session_waits_for_its_answers_and_thinks(play: Play) -> None:
    turns: list[dict[str, Any]] = [{}, {"after": [0], "delay": 7}, {"after": [1], "delay": 5}]
    out = play(world(turns, segments=STEP))
    assert out["arrived"].tolist() == [0, 17, 32]
    assert out["start"].tolist() == [0, 17, 32]
    assert out["end"].tolist() == [10, 27, 42]
    assert out["outcome"].tolist() == [COMPLETED] * 3


def test_a_slow_turn_delays_the_next(play: Play) -> None:
    # one at a time: the turn that waits behind another request ends at 20, not at 10
    services = {"replicas": 1, "max_jobs": 1, "max_tokens": 1000}
    requests = [{}, {}, {"after": [1], "delay": 3}]
    out = play(world(requests, segments=STEP, services=services))
    assert out["end"].tolist() == [10, 20, 33]


def test_its_own_arrival_is_but_the_earliest(play: Play) -> None:
    requests = [{}, {"arrival": 8, "after": [0]}, {"arrival": 50, "after": [0], "delay": 1}]
    out = play(world(requests, segments=STEP))
    assert out["arrived"].tolist() == [0, 10, 50]


def test_fork_and_join(play: Play) -> None:
    work = [{"segments": 1}, {"segment": 1, "segments": 1}]
    segments = [{"steps": 1}, {"steps": 4}]
    requests = [
        {},
        {"after": [0], "delay": 100},
        {"after": [0], "delay": 200, "work": 1},
        {"after": [1, 2], "delay": 9},
    ]
    out = play(world(requests, segments=segments, works=work))
    assert out["arrived"].tolist() == [0, 110, 210, 259]
    assert out["end"].tolist() == [10, 120, 250, 269]


def test_what_waits_for_a_rejected_request_is_abandoned_near_and_far(play: Play) -> None:
    works = [{"segments": 1}, {"segment": 1, "segments": 1}]
    segments = [{"steps": 1}, {"steps": 1, "live": 10**6}]
    requests = [
        {},
        {"arrival": 5, "work": 1},
        {"arrival": 5, "after": [0, 1]},
        {"arrival": 5, "after": [2]},
        {"arrival": 5, "after": [0]},
    ]
    out = play(world(requests, segments=segments, works=works))
    assert out["outcome"].tolist() == [COMPLETED, REJECTED, ABANDONED, ABANDONED, COMPLETED]
    assert out["arrived"].tolist() == [0, 5, -1, -1, 10]
    assert out["replica"].tolist() == [0, -1, -1, -1, 0]
    lifted = play(world(requests, segments=segments, works=works), lifted=True)
    assert lifted["outcome"].tolist() == [COMPLETED] * 5


def test_what_has_not_come_by_the_end_is_awaited(play: Play) -> None:
    requests = [
        {},
        {"after": [0], "delay": 991},
        {"after": [0], "delay": 990},
        {"after": [2]},
        {"after": [0], "delay": 2**63 - 1},
    ]
    out = play(world(requests, segments=STEP), horizon=1000)
    assert out["outcome"].tolist() == [COMPLETED, AWAITED, RUNNING, AWAITED, AWAITED]
    assert out["arrived"].tolist() == [0, -1, 1000, -1, -1]


def test_equal_times_go_by_row_whoever_waited(play: Play) -> None:
    # at 10 ns row 1 arrives after row 0 and row 2 by itself: one place, so row 1 has it
    services = {"replicas": 1, "max_jobs": 1, "max_tokens": 1000}
    requests = [{}, {"after": [0]}, {"arrival": 10}]
    out = play(world(requests, segments=STEP, services=services))
    assert out["start"].tolist() == [0, 10, 20]
    swapped = [{}, {"arrival": 10}, {"arrival": 10, "after": [0]}]
    out = play(world(swapped, segments=STEP, services=services))
    assert out["start"].tolist() == [0, 10, 20]


def test_a_sticky_session_stays_where_it_was(play: Play) -> None:
    services = {"router": 2, "replicas": 2, "max_jobs": 8, "max_tokens": 1000}
    replicas = [{"hbm": hbm, "dram": 1, "home": 2, "store": 2, "start": 1} for hbm in (0, 3)]
    pools = [{"tier": tier, "capacity": 1000} for tier in (0, 1, 2, 0)]
    # Rows 0 and 1 start sessions on replicas 0 and 1. When row 1 goes on at 15, replica 0 is idle
    # too and lower, but row 1 was on 1; row 4, a new session, takes the idle replica 0; row 5
    # waited for rows 2 and 3 and goes where 3 was.
    requests = [
        {},
        {},
        {"after": [0], "delay": 30},
        {"after": [1], "delay": 5},
        {"arrival": 16},
        {"arrival": 16, "after": [2, 3], "delay": 50},
    ]
    tables = world(requests, segments=STEP, services=services, replicas=replicas, pools=pools)
    assert play(tables)["replica"].tolist() == [0, 1, 0, 1, 0, 1]
    # With that replica down it is as least loaded; up again, row 5 goes back to where row 3 was.
    out = play(tables, script=[(12, "fail", 1), (20, "start", 1)])
    assert out["replica"].tolist() == [0, 1, 0, 0, 0, 0]


def test_a_sticky_session_stays_where_more_wait(play: Play) -> None:
    # Its first turn was on replica 0, which runs another request when the second comes at 15.
    replicas = [{"hbm": hbm, "dram": 1, "home": 2, "store": 2, "start": 1} for hbm in (0, 3)]
    pools = [{"tier": tier, "capacity": 1000} for tier in (0, 1, 2, 0)]
    requests = [{}, {"arrival": 12}, {"arrival": 12, "after": [0], "delay": 5}]
    for router, last in ((0, 1), (2, 0)):
        services = {"router": router, "replicas": 2, "max_jobs": 8, "max_tokens": 1000}
        tables = world(requests, segments=STEP, services=services, replicas=replicas, pools=pools)
        assert play(tables)["replica"].tolist() == [0, 0, last]


def test_a_failure_delays_what_waits(play: Play) -> None:
    requests: list[dict[str, Any]] = [{}, {"after": [0], "delay": 1}]
    script = [(4, "fail", 0), (20, "start", 0)]
    out = play(world(requests, segments=STEP), script=script)
    assert out["end"].tolist() == [30, 41]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("after", [1], "requests row 1: waits for lower rows, in rising order"),
        ("after", [-1], "requests row 1: waits for lower rows, in rising order"),
        ("after_start", [0, 0, 2], "after_start row 0: must span after"),
        ("after_start", [0, 2, 1], "after_start row 1: must not fall"),
        ("after_start", [0, 1], "requests row 0: arrays differ in length"),
        ("delay", [0, -1], "requests row 1: no delay may be negative"),
        ("delay", None, "no table delay"),
    ],
)
def test_a_wrong_graph_is_named(name: str, value: list[int] | None, message: str) -> None:
    tables = world([{}, {"after": [0]}])
    if value is None:
        del tables[name]
    else:
        tables[name] = np.array(value, dtype=np.int64)
    with pytest.raises(ValueError, match=message):
        Engine(tables, 1000, 100)
