"""Jobs in stages, from YAML to what users see: by hand where it can be."""

from __future__ import annotations

from typing import Any

import pytest

from dcsim import planning
from dcsim.assembly import make_plan
from dcsim.results import Results
from dcsim.spec import SpecError, scenario_from_data
from dcsim.testing import check_all

KV = 2 * 8 * 128 * 2 * 32
"""Bytes a token of Llama 3.1 8B: K and V of 8 heads of 128 in bf16, in 32 layers."""
PROMPT, OUTPUT = 1000, 11
CHAT: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "arrivals": {"process": "constant", "rate": "1/s"},
    "shape": {"prompt": PROMPT, "output": OUTPUT},
}
VIDEO: dict[str, Any] = {
    "model": "video-dit-2b",
    "arrivals": {"process": "constant", "rate": "0.02/s"},
    "shape": {"resolution": "832x480", "frames": 49, "steps": 10},
}


def scenario(jobs: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {"name": "stages", "duration": "2 min", "bin": "10 s", "topology": "hgx_h100"}
    return given | {"jobs": jobs} | more


def run(jobs: dict[str, Any], **more: Any) -> Results:
    results = planning.run(make_plan(scenario_from_data(scenario(jobs, **more))))
    check_all(results)
    return results


def chat(**prefill: Any) -> dict[str, Any]:
    stages = {"prefill": {"replicas": 1} | prefill, "decode": {"replicas": 2}}
    return {"chat": CHAT | {"stages": stages}}


@pytest.mark.parametrize(
    ("overlap", "left"),
    # A GPU's NVLink brings 450 GB/s; with overlap the KV of one of 32 layers is left at the end.
    [(False, PROMPT * KV), (True, PROMPT * KV // 32)],
)
def test_a_prompt_is_handed_over(overlap: bool, left: int) -> None:
    results = run(chat(overlap=overlap))
    rows = results.arrays("requests")
    assert rows["job"][:4].tolist() == ["chat/prefill", "chat/decode"] * 2
    assert rows["prompt_tokens"][:2].tolist() == [PROMPT, PROMPT + 1]
    assert rows["output_tokens"][:2].tolist() == [1, OUTPUT - 1]
    assert rows["arrival_ns"][1] == rows["end_ns"][0] == rows["first_ns"][0]
    assert rows["handed_ns"][1] - rows["start_ns"][1] == -(-left // 450)
    assert rows["first_ns"][1] > rows["handed_ns"][1]
    channels = results.arrays("channels")
    ports = [f"chat/prefill/0/scale_up/{way}" for way in ("out", "in")]
    moved = [channels["bytes"][channels["channel"] == port].sum() for port in ports]
    assert moved == [120 * PROMPT * KV, 0]


def test_users_see_one_request() -> None:
    results = run(chat())
    rows, asked = results.arrays("requests"), results.arrays("asked")
    assert len(asked["number"]) == 120
    assert asked["first_ns"][0] == rows["first_ns"][0]
    assert asked["end_ns"][0] == rows["end_ns"][1]
    assert asked["requests"].tolist() == [2] * 120
    figures = results.summary["asked"]["chat"]
    assert figures["outcomes"]["completed"] == 120
    assert figures["throughput"]["output_tokens_per_s"] == 120 * OUTPUT / 120
    latency = rows["end_ns"][1] - rows["arrival_ns"][0]
    assert figures["latency_ns"]["p50"] == latency
    decode = rows["end_ns"][1] - rows["first_ns"][0]
    assert figures["per_token_ns"]["p50"] == decode // (OUTPUT - 1)


def test_an_answer_of_one_token_needs_no_decode() -> None:
    results = run({"chat": chat()["chat"] | {"shape": {"prompt": 10, "output": 1}}})
    assert results.arrays("asked")["requests"].tolist() == [1] * 120
    assert set(results.arrays("requests")["job"]) == {"chat/prefill"}


def test_decode_computes_what_a_failure_took() -> None:
    # The prefill replica dies while the first prompt is on its way to the decode replica.
    slow = {"extends": "hgx_h100", "racks": {"rack0": {"node": {"gpu": {
        "extends": "h100", "scale_up": "1 GB/s"}}}}}  # fmt: skip
    failures = {"kind": "failures", "job": "chat/prefill", "script": [["600 ms", 0, "10 s"]]}
    results = run(chat(), topology=slow, operations=[failures])
    rows = results.arrays("requests")
    assert rows["start_ns"][1] < 600e6 < rows["first_ns"][1]
    assert rows["handed_ns"][1] != rows["handed_ns"][1]  # null
    assert results.summary["asked"]["chat"]["outcomes"]["completed"] > 100


def test_turns_in_stages_load_what_prefill_left() -> None:
    job = CHAT | {
        "stages": chat()["chat"]["stages"],
        "session": {"turns": 3, "think": "2 s"},
        "keep": {"context": {"dram": "10 min"}, "reuse": {"block": 16}},
    }
    results = run({"chat": job})
    rows = results.arrays("requests")
    first = int((rows["number"] == 0).argmax())
    turns = [r for r in range(len(rows["job"])) if rows["number"][r] in (0, 1)][:4]
    assert turns[0] == first
    assert rows["after"][turns[2]] == turns[1]
    assert rows["arrival_ns"][turns[2]] >= rows["end_ns"][turns[1]]
    # 1,000 tokens of the first prompt are 62 full blocks; of its answer nothing is kept.
    assert rows["hit_dram_tokens"][turns[2]] == 62 * 16
    assert rows["prompt_tokens"][turns[2]] == 2 * PROMPT + OUTPUT


def test_who_shares_replicas_shares_stages() -> None:
    jobs = chat() | {"other": {k: v for k, v in CHAT.items() if k != "model"} | {"shares": "chat"}}
    results = run(jobs)
    assert list(results.summary["jobs"]) == [
        "chat/prefill", "chat/decode", "other/prefill", "other/decode"]  # fmt: skip
    assert results.summary["jobs"]["other/decode"]["service"] == "chat/decode"
    assert results.summary["asked"]["other"]["outcomes"]["completed"] == 120


def test_a_clip_in_stages() -> None:
    whole = run({"video": VIDEO | {"replicas": 1}})
    stages = {name: {"replicas": 1} for name in ("encode", "denoise", "decode")}
    results = run({"video": VIDEO | {"stages": stages}})
    rows = results.arrays("requests")
    assert rows["job"][:3].tolist() == ["video/encode", "video/denoise", "video/decode"]
    # Latents of 16 channels, 13 frames of 60 x 104 in fp32; then the clip is kept by the last.
    plan = make_plan(scenario_from_data(scenario({"video": VIDEO | {"stages": stages}})))
    assert plan.tables["handover"][1] == 16 * 13 * 60 * 104 * 4
    assert rows["artifact_bytes"][0] == rows["artifact_bytes"][1] == 0
    assert rows["artifact_bytes"][2] == whole.arrays("requests")["artifact_bytes"][0]

    def weights(results: Results) -> int:
        contents = results.arrays("contents")
        hbm = (contents["tier"] == "hbm") & (contents["category"] == "weights")
        return int(contents["mean_bytes"][hbm & (contents["start_ns"] == 0)].sum())

    assert weights(results) == weights(whole)
    # Alone it takes as long as in one piece, and what is handed over.
    alone = whole.arrays("requests")["end_ns"][0] - whole.arrays("requests")["arrival_ns"][0]
    handed = sum(rows["handed_ns"][r] - rows["start_ns"][r] for r in (1, 2))
    assert abs(results.arrays("asked")["end_ns"][0] - rows["arrival_ns"][0] - handed - alone) <= 3


def test_a_stage_left_out_runs_with_the_next() -> None:
    stages = {name: {"replicas": 1} for name in ("denoise", "decode")}
    results = run({"video": VIDEO | {"stages": stages}})
    assert results.arrays("asked")["requests"].tolist() == [2] * len(
        results.arrays("asked")["requests"]
    )


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        (
            {"stages": {"prefill": {"replicas": 1}}},
            "jobs.chat.stages",
            "at least 2 of prefill, decode",
        ),
        (
            {"stages": {"prefil": {"replicas": 1}, "decode": {"replicas": 1}}},
            "jobs.chat.stages.prefil",
            "is no stage of an LLM; did you mean 'prefill'",
        ),
        ({"model": "mine.npz"}, "jobs.chat.stages", "a trace file has no stages"),
        ({"replicas": 1}, "jobs.chat", "its stages have replicas; leave replicas out"),
        (
            {"stages": {"prefill": {"replicas": 1}, "decode": {"replicas": 1, "overlap": True}}},
            "jobs.chat.stages.decode.overlap",
            "is for prefill alone",
        ),
        (
            {"stages": {"prefill": {"replicas": 9}, "decode": {"replicas": 1}}},
            "jobs",
            "all replicas together take 10 GPUs; the topology has 8",
        ),
        (
            {"stages": {"prefill": {"replicas": {"count": 1, "on": ["rock"]}}}},
            "jobs.chat.stages.prefill.replicas.on.0",
            "no rack or domain 'rock'",
        ),
    ],
)  # fmt: skip
def test_wrong_stages_are_told(change: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(SpecError) as raised:
        scenario_from_data(scenario({"chat": chat()["chat"] | change}))
    found = [(problem.path, problem.message) for problem in raised.value.problems]
    assert any(at == path and message in said for at, said in found), found


def test_stages_too_far_apart_need_a_network() -> None:
    two = {"extends": "hgx_h100", "racks": {"rack0": {"nodes": 2, "node": {"nics": 0}}}}
    far = {"prefill": {"replicas": {"place": [{"domain": "rack0/node0", "gpus": [0]}]}},
           "decode": {"replicas": {"place": [{"domain": "rack0/node1", "gpus": [0]}]}}}  # fmt: skip
    given = scenario({"chat": CHAT | {"stages": far}}, topology=two)
    with pytest.raises(SpecError, match=r"hands over to .* has no network"):
        make_plan(scenario_from_data(given))
