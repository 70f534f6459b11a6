"""Jobs in steps: pipelines over services and agents with sub-agents, by hand where it can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcsim import planning
from dcsim.assembly import make_plan
from dcsim.results import Results
from dcsim.spec import SpecError, scenario_from_data
from dcsim.testing import check_all

SECOND = 10**9
LLM: dict[str, Any] = {
    "model": "llama-3.1-8b", "replicas": 2, "shape": {"prompt": 500, "output": 20}
}  # fmt: skip
VIDEO: dict[str, Any] = {
    "model": "video-dit-2b", "replicas": 2,
    "shape": {"resolution": "832x480", "frames": 49, "steps": 4},
}  # fmt: skip
ARRIVALS = {"process": "constant", "rate": "0.1/s"}


def scenario(steps: dict[str, Any], **jobs: Any) -> dict[str, Any]:
    jobs = {"llm": LLM, "video": VIDEO} | jobs | {"task": {"arrivals": ARRIVALS, "steps": steps}}
    used = {step["job"] for step in steps.values()} | {"task"}
    asked = {name: job for name, job in jobs.items() if name in used or job.get("arrivals")}
    common = {"name": "steps", "duration": "2 min", "bin": "10 s", "topology": "hgx_h100"}
    return common | {"jobs": asked}


def run(steps: dict[str, Any], **jobs: Any) -> Results:
    results = planning.run(make_plan(scenario_from_data(scenario(steps, **jobs))))
    check_all(results)
    return results


def test_a_pipeline_waits_step_by_step() -> None:
    # One each 10 s, the first at 5 s: nobody waits for anybody else.
    steps = {"write": {"job": "llm"}, "draw": {"job": "video", "after": ["write"], "delay": "1 s"}}
    results = run(steps)
    rows, asked = results.arrays("requests"), results.arrays("asked")
    assert rows["job"][:4].tolist() == ["llm", "video"] * 2
    assert rows["after"][:4].tolist()[1::2] == [0, 2]
    assert rows["arrival_ns"][1] == rows["end_ns"][0] + SECOND
    assert asked["arrival_ns"][:2].tolist() == [5 * SECOND, 15 * SECOND]
    assert asked["first_ns"][0] == rows["first_ns"][1]
    assert asked["end_ns"][0] == rows["end_ns"][1]
    latency = results.summary["asked"]["task"]["latency_ns"]["p50"]
    parts = [results.summary["jobs"][job]["latency_ns"]["p50"] for job in ("llm", "video")]
    assert latency == sum(parts) + SECOND


def test_sub_agents_fork_and_join() -> None:
    steps = {
        "plan": {"job": "llm"},
        "search": {"job": "llm", "after": ["plan"], "count": 3, "turns": 2},
        "answer": {"job": "llm", "after": ["plan", "search"]},
    }
    results = run(steps)
    rows = results.arrays("requests")
    mine = np.flatnonzero(rows["number"] == 0)
    assert len(mine) == 1 + 3 * 2 + 1
    plan, answer, searches = mine[0], mine[-1], mine[1:-1].reshape(3, 2)
    for opening, closing in searches.tolist():
        assert rows["after"][opening] == plan
        assert rows["after"][closing] == opening
        assert rows["prompt_tokens"][opening] == 500
        assert rows["prompt_tokens"][closing] == 500 + 20 + 500
    assert rows["arrival_ns"][answer] == rows["end_ns"][searches[:, 1]].max()
    graph = make_plan(scenario_from_data(scenario(steps))).requests.graph
    assert graph is not None
    waited = graph.after[graph.start[answer] : graph.start[answer + 1]]
    assert waited.tolist() == [plan, *searches[:, 1]]
    assert results.arrays("asked")["first_ns"][0] == rows["first_ns"][answer]


def test_tools_take_their_time_from_a_stream_of_their_own() -> None:
    steps = {"a": {"job": "llm", "turns": 30, "tool": "100 ms"}}
    plan = make_plan(scenario_from_data(scenario(steps)))
    graph = plan.requests.graph
    assert graph is not None
    waits = np.diff(graph.start) > 0
    assert waits.sum() == 12 * 29
    assert (graph.delay[~waits] == 0).all()
    assert abs(graph.delay[waits].mean() / 1e9 - 0.1) < 4 * 0.1 / np.sqrt(12 * 29)
    # Another step changes none of them, nor does another job that asks the same one.
    more = steps | {"b": {"job": "llm", "tool": "1 s", "turns": 2}}
    other = make_plan(scenario_from_data(scenario(more))).requests
    assert other.graph is not None
    mine = np.concatenate([row[:30] for row in np.arange(12 * 32).reshape(12, 32)])
    assert (other.graph.delay[mine] == graph.delay).all()


def test_steps_in_stages_hand_over_both_ways() -> None:
    stages = {"denoise": {"replicas": 1}, "decode": {"replicas": 1}}
    video = {k: v for k, v in VIDEO.items() if k != "replicas"} | {"stages": stages}
    steps = {
        "write": {"job": "llm"},
        "draw": {"job": "video", "after": ["write"], "hand_over": "4 MB"},
    }
    results = run(steps, video=video)
    rows = results.arrays("requests")
    assert rows["job"][:3].tolist() == ["llm", "video/denoise", "video/decode"]
    # NVLink of an H100: 450 GB/s.
    assert rows["handed_ns"][1] - rows["start_ns"][1] == -(-4_000_000 // 450)
    latents = 16 * 13 * 60 * 104 * 4
    assert rows["handed_ns"][2] - rows["start_ns"][2] == -(-latents // 450)


def test_what_waits_for_a_rejected_step_is_abandoned() -> None:
    llm = LLM | {"shape": {"prompt": 2_000_000, "output": 1}}
    steps = {"write": {"job": "llm"}, "draw": {"job": "video", "after": ["write"]}}
    results = run(steps, llm=llm)
    asked = results.summary["asked"]["task"]
    assert asked["outcomes"]["rejected"] == 12
    assert results.summary["jobs"]["video"]["outcomes"]["abandoned"] == 12


def test_users_of_the_same_replicas_are_apart() -> None:
    chat = {"shares": "llm", "arrivals": ARRIVALS, "shape": LLM["shape"]}
    alone = run({"write": {"job": "llm"}})
    results = run({"write": {"job": "llm"}}, chat=chat)
    assert list(results.summary["asked"]) == ["task"]
    assert results.summary["jobs"]["chat"]["outcomes"]["completed"] == 12
    for column in ("prompt_tokens", "output_tokens"):
        mine = results.arrays("requests")["job"] == "llm"
        ours = results.arrays("requests")[column][mine]
        assert ours.tolist() == alone.arrays("requests")[column].tolist()


@pytest.mark.parametrize(
    ("steps", "path", "message"),
    [
        ({"a": {"job": "lm"}}, "steps.a.job", "no job 'lm'; did you mean 'llm'"),
        ({"a": {"job": "task"}}, "steps.a.job", "has steps of its own: 'task'"),
        ({"a": {"job": "chat"}}, "steps.a.job", "'chat' has arrivals of its own"),
        ({"a": {"job": "llm", "after": ["b"]}}, "steps.a.after.0", "no step 'b' above it"),
        ({"a": {"job": "llm", "delay": "1 s"}}, "steps.a.delay", "needs after"),
        ({"a": {"job": "llm", "count": "from_log"}}, "steps.a.count", "no request log has it"),
        (
            {"a": {"job": "video"}, "b": {"job": "llm", "after": ["a"], "hand_over": "1 MB"}},
            "steps.b.hand_over",
            "list jobs in the order in which they hand over",
        ),
        ({}, "steps", "needs at least 1"),
    ],
)
def test_wrong_steps_are_told(steps: dict[str, Any], path: str, message: str) -> None:
    given = scenario(steps)
    chat = {"shares": "llm", "arrivals": ARRIVALS, "shape": LLM["shape"]}
    given["jobs"] = {"llm": LLM, "video": VIDEO, "chat": chat, "task": given["jobs"]["task"]}
    with pytest.raises(SpecError) as raised:
        scenario_from_data(given)
    found = [(problem.path, problem.message) for problem in raised.value.problems]
    assert any(at == f"jobs.task.{path}" and message in said for at, said in found), found


def test_who_is_asked_by_no_step_needs_arrivals() -> None:
    given = scenario({"a": {"job": "llm"}})
    given["jobs"]["video"] = VIDEO
    with pytest.raises(SpecError, match=r"jobs\.video\.arrivals: is required and not given"):
        scenario_from_data(given)
    given["jobs"] = {"llm": LLM, "task": given["jobs"]["task"] | {"model": "llama-3.1-8b"}}
    with pytest.raises(SpecError, match="its steps name who serves them; leave model out"):
        scenario_from_data(given)


def test_no_more_is_handed_over_than_is_held() -> None:
    steps = {"a": {"job": "llm"}, "b": {"job": "video", "after": ["a"], "hand_over": "70 MB"}}
    # 519 tokens of KV are 68.03 MB.
    with pytest.raises(
        SpecError, match=r"'llm' holds 68\.03 MB at its end, less than the 70\.00 MB"
    ):
        make_plan(scenario_from_data(scenario(steps)))
    steps["b"]["hand_over"] = "68 MB"
    make_plan(scenario_from_data(scenario(steps)))
