"""Sessions: turns, what they have in common, and when they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scene import changed, scene

from dcsim.assembly import make_plan
from dcsim.planning import simulate
from dcsim.spec import Scenario, SpecError, scenario_from_data
from dcsim.workload import Content, Requests, generate

KV_8B = 2 * 32 * 8 * 128 * 2
"""Bytes of a token: K and V, 32 layers, 8 heads of 128 numbers of 2 bytes."""


def talk(session: dict[str, Any], keep: dict[str, Any] | None = None, **chat: Any) -> Scenario:
    """The scene with sessions, in step: one a second."""
    data = scene(duration="1 min")
    data["jobs"]["chat"] |= {"arrivals": {"process": "constant", "rate": "1/s"}, "session": session}
    data["jobs"]["chat"]["keep"] = {"context": {"dram": "1 min"}} | (keep or {})
    data["jobs"]["chat"] |= chat
    return scenario_from_data(data)


def of_chat(requests: Requests) -> np.ndarray:
    return np.flatnonzero(requests.klass == 0)


def content_of(requests: Requests) -> Content:
    assert isinstance(requests.content, Content)
    return requests.content


def test_a_turn_has_all_that_was_said() -> None:
    shape = {"prompt": 100, "output": 10}
    requests = generate(talk({"turns": 3, "system": {"tokens": 40}}, shape=shape))
    rows = of_chat(requests)
    assert len(rows) == 3 * 60
    assert requests.prompt[rows[:3]].tolist() == [140, 250, 360]
    assert requests.after is not None
    follows = requests.after[rows[:3]]
    assert follows.tolist() == [-1, rows[0], rows[1]]
    assert (requests.arrival[rows[:3]] == requests.arrival[rows[0]]).all()


def test_a_session_ends_before_its_context_would_be_too_long() -> None:
    shape = {"prompt": 100, "output": 10}
    for most, turns in ((330, 3), (329, 2), (1, 1)):
        requests = generate(talk({"turns": 9, "context": most}, shape=shape))
        assert len(of_chat(requests)) == turns * 60


def test_the_counts_of_docs_reuse() -> None:
    shape = {"prompt": 1000, "output": 100}
    scenario = talk({"turns": 2}, {"reuse": {"block": 16}}, shape=shape)
    content = content_of(generate(scenario))
    assert content.tokens[:1].tolist() == [1088]
    tables = make_plan(scenario).tables
    assert tables["nodes"][0].tolist() == [-1, 1088, 1088 * KV_8B, 0]
    assert round(1088 * KV_8B / 1e6, 1) == 142.6
    # The second turn reads that node and leaves 1,099 + 1 + 1,000 + 99 tokens, 137 blocks.
    assert content.reads[of_chat(generate(scenario))[:2]].tolist() == [-1, 0]
    assert tables["nodes"][1].tolist() == [0, 137 * 16 - 1088, (137 * 16 - 1088) * KV_8B, 0]


@given(
    turns=st.integers(1, 6),
    block=st.sampled_from([1, 16, 100]),
    system=st.sampled_from([None, {"tokens": 90, "count": 3, "zipf": 1}]),
)
def test_what_is_read_is_the_beginning_of_the_prompt(
    turns: int, block: int, system: dict[str, Any] | None
) -> None:
    session = {"turns": {"uniform": {"min": 1, "max": turns}}}
    session |= {} if system is None else {"system": system}
    requests = generate(talk(session, {"reuse": {"block": block}}))
    content = content_of(requests)
    depth = content.tokens.copy()
    for node, parent in enumerate(content.parent):
        assert parent < node
        depth[node] += depth[parent] if parent >= 0 else 0
    assert (depth % block == 0).all()
    said = requests.prompt + requests.output - 1
    for row in of_chat(requests):
        read, left = content.reads[row], content.leaves[row]
        assert depth[left] == said[row] // block * block
        if read >= 0:
            assert depth[read] <= requests.prompt[row]
            assert content.parent[left] == read
        before = requests.after[row] if requests.after is not None else -1
        if before >= 0:
            assert read == content.leaves[before]


def test_popular_prompts_are_asked_for_more() -> None:
    session = {"turns": 1, "system": {"tokens": 160, "count": 4, "zipf": 1}}
    many = {"process": "poisson", "rate": "100/s"}
    requests = generate(talk(session, {"reuse": {}}, arrivals=many))
    asked = np.bincount(content_of(requests).reads[of_chat(requests)], minlength=4)
    shares = np.array([12, 6, 4, 3]) / 25  # 1 : 1/2 : 1/3 : 1/4
    error = np.sqrt(shares * (1 - shares) / asked.sum())
    assert (np.abs(asked / asked.sum() - shares) < 4 * error).all()


def test_think_times_are_exponential() -> None:
    many = {"process": "poisson", "rate": "100/s"}
    requests = generate(talk({"turns": 2, "think": "20 s"}, arrivals=many))
    assert requests.after is not None
    assert requests.delay is not None
    think = requests.delay[requests.after >= 0] / 1e9
    assert abs(think.mean() - 20) < 4 * 20 / np.sqrt(len(think))
    assert abs((think < 20).mean() - (1 - np.exp(-1))) < 4 * 0.5 / np.sqrt(len(think))
    assert (requests.delay[requests.after < 0] == 0).all()


def test_reuse_changes_no_request_and_saves_time() -> None:
    session = {"turns": 4, "think": "2 s"}
    plans = [make_plan(talk(session, keep)) for keep in ({}, {"reuse": {}})]
    for column in ("arrival", "klass", "prompt", "output", "after", "delay"):
        assert np.array_equal(*(getattr(plan.requests, column) for plan in plans))
    without, reused = (simulate(plan, lifted=False).outputs for plan in plans)
    both = (without["first"] >= 0) & (reused["first"] >= 0)
    waits = [(out["first"] - out["arrived"])[both].mean() for out in (without, reused)]
    assert waits[1] < 0.8 * waits[0]
    assert reused["hit_dram"].sum() > 0
    assert "hit_dram" not in without


def test_with_room_and_time_for_all_every_turn_finds_the_one_before() -> None:
    # Long after its write has ended, and within the minute that it stays.
    plan = make_plan(talk({"turns": 4, "think": "1 s"}, {"reuse": {"block": 1}}))
    out, requests = simulate(plan, lifted=True).outputs, plan.requests
    assert requests.after is not None
    ready = (requests.after >= 0) & (out["start"] >= 0) & (requests.delay > 10**8)
    said = (requests.prompt + requests.output - 1)[requests.after[ready]]
    assert ready.sum() > 50
    assert (out["hit_dram"][ready] == said).all()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("jobs.image.session", {"turns": 2}, "jobs.image.session: a diffusion job has no turns"),
        ("jobs.image.keep.reuse", {}, "jobs.image.keep.reuse: a diffusion job leaves no context"),
        ("jobs.chat.keep", {"reuse": {}}, "jobs.chat.keep.reuse: needs hbm: true, or keep.context"),
        ("jobs.chat.session", {"turns": "from_log"}, "jobs.chat.session.turns: no request log"),
        ("jobs.chat.session", {"think": "1 s"}, "jobs.chat.session.turns: is required"),
        ("jobs.chat.session", {"turns": 2, "context": 0}, "jobs.chat.session.context: 0 must be 1"),
        ("jobs.chat.session", {"turns": 2, "sytem": {}}, "did you mean 'system'"),
    ],
)
def test_what_is_wrong_is_said(path: str, value: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        scenario_from_data(changed(path, value))
    assert any(message in str(problem) for problem in caught.value.problems), caught.value.problems
