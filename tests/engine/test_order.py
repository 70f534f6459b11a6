"""Decodes first or prefills first, by hand on both engines. Steps of 10 ns, chunks of 4 tokens."""

from __future__ import annotations

from typing import Any

from engine.test_oracle import ask, chat
from engine.world import NS, Play, series, world

SERVICE = {"replicas": 1, "max_jobs": 8, "max_tokens": 4}


def two(order: int, **decode: int) -> Any:
    """One that decodes from 10 on, and a prompt of 8 that comes at 12 and joins at 20."""
    requests = [ask(0, 4, 5), ask(12, 8, 2)]
    return world(requests, **chat(decode=decode), services=SERVICE | {"order": order})


def test_decodes_first_leave_three_tokens_of_four(play: Play) -> None:
    out = play(two(0))
    assert out["first"].tolist() == [10, 50]
    assert out["end"].tolist() == [50, 60]


def test_a_prompt_goes_first_and_the_decode_waits(play: Play) -> None:
    # two chunks of four in [20, 40); the decode, with three steps left, goes on from 40 to 70
    out = play(two(1), horizon=100, bin=10)
    assert out["start"].tolist() == [0, 20]
    assert out["first"].tolist() == [10, 40]
    assert out["end"].tolist() == [70, 50]
    assert (out["stats"]["steps"], out["stats"]["iterations"]) == (5 + 3, 7)
    # it holds the 6 bytes of its second step while it waits, beside the 8 of the prompt
    assert series(out, "mean", (0, 1)) == [4, 5, 14, 14, 6 + 9, 7, 8, 0, 0, 0]


def test_who_waits_costs_nothing(play: Play) -> None:
    # a decode step costs 10 + 5 ns and 3 ns for each token of its context
    out = play(two(1, own=5 * NS, ctx=3 * NS))
    # 10 + 15 + 15 = 40: the prompt joins there, not at 20, for two chunks; then both decode
    step = [10 + 5 + 3 * (4 + k) for k in range(1, 5)]
    begun = 10 + step[0]
    assert out["first"].tolist() == [10, begun + 20]
    both = begun + 20 + step[1] + 5 + 3 * 9
    assert out["end"].tolist() == [both + step[2] + step[3], both]


def test_a_second_prompt_joins_before_the_decodes_go_on(play: Play) -> None:
    # the third comes at 25 while the second is in prefill: at 30 nothing is left of four tokens, at
    # 40 the prefill has ended, and it goes before both that decode
    tables = world([ask(0, 4, 5), ask(12, 8, 2), ask(25, 4, 1)],
                   **chat(), services=SERVICE | {"order": 1})  # fmt: skip
    out = play(tables)
    assert out["start"].tolist() == [0, 20, 40]
    assert out["first"].tolist() == [10, 40, 50]
    assert out["end"].tolist() == [80, 60, 50]


def test_fixed_steps_wait_too_and_join_by_what_all_take(play: Play) -> None:
    # a clip of three steps of three tokens runs from 0; the prompt joins at 10 and goes first; a
    # second clip would need three of the tokens that the first and the prompt leave: none till 50
    segments = [
        {"rule": 1, "tokens": 4, "first": 1, "live": 1},
        {"rule": 2, "tokens": 1, "live": 1},
    ]
    segments.append({"steps": 3, "tokens": 3})
    works = [{"segments": 2}, {"segment": 2, "segments": 1}]
    requests = [{"arrival": 0, "work": 1}, ask(1, 8, 1), {"arrival": 2, "work": 1}]
    services = SERVICE | {"order": 1}
    out = play(world(requests, segments=segments, works=works, services=services))
    assert out["end"].tolist() == [50, 30, 80]
    assert out["start"].tolist() == [0, 10, 50]
