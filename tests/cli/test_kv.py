"""`dcsim kv`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_scenes import Dcsim, files_below

import dcsim as package


def test_json_is_what_python_gives(dcsim: Dcsim, tmp_path: Path) -> None:
    done = dcsim("kv", "kimi-k2", "--gpu", "h200", "--tp", "16", "--kv-dtype", "fp8", "--json")
    assert (done.code, done.err) == (0, "")
    facts = json.loads(done.out)
    assert facts["kv_bytes_per_token"] == 61 * 576
    assert facts["kv_bytes_per_token_per_gpu"] == 61 * 576
    budget = package.kv("kimi-k2", "h200", 16, options={"kv_dtype": "fp8"})
    assert facts == budget.as_dict()
    assert facts["kv_tokens"] == budget.kv_bytes // (61 * 576)
    assert files_below(tmp_path) == set()


def test_bytes_given_and_settings(dcsim: Dcsim) -> None:
    given = ("--kv-gib", "11.03", "--tp", "2", "--json")
    facts = json.loads(dcsim("kv", "qwen2-7b", *given).out)
    assert facts["kv_bytes_per_token"] == 57_344
    assert facts["kv_bytes_per_token_per_gpu"] == 28_672
    # dennislee22/vLLM-benchmarking: 11.03 GiB a GPU, 412,944 tokens.
    assert facts["kv_tokens"] == pytest.approx(412_944, rel=0.001)
    less = json.loads(
        dcsim("kv", "qwen2-7b", "--set", "memory_utilization=0.5", "--tp", "2", "--json").out
    )
    assert less["memory_utilization"] == 0.5


def test_the_text(dcsim: Dcsim) -> None:
    done = dcsim("kv", "gpt-oss-120b")
    assert (done.code, done.err) == (0, "")
    assert all(len(line) <= 80 for line in done.out.splitlines())
    for words in ("73,728 B", "beyond 128", "36,864 B", "- weights", "CUDA graphs", "endless"):
        assert words in done.out
    given = dcsim("kv", "llama-3.1-8b", "--kv-gib", "2").out
    assert "16,384 tokens fit" in given
    assert "- weights" not in given


@pytest.mark.parametrize(
    ("dtype", "token"), [("auto", 262_144), ("bf16", 262_144), ("fp8", 131_072), ("fp4", 73_728)]
)
def test_kinds_of_kv(dcsim: Dcsim, dtype: str, token: int) -> None:
    facts = json.loads(dcsim("kv", "qwen3-32b", "--kv-dtype", dtype, "--json").out)
    assert facts["kv_bytes_per_token"] == token


@pytest.mark.parametrize(
    ("arguments", "errors"),
    [
        (["kimi-k3"], ["model: no model 'kimi-k3': did you mean 'kimi-k2'?"]),
        (["qwen3-32b", "--gpu", "h300"], ["--gpu: no GPU 'h300'; did you mean 'h"]),
        (["qwen3-32b", "--tp", "5"], ["--tp: 5 does not divide 64 attention heads; "]),
        (["kimi-k2"], ["--tp: kimi-k2 on 1 x h100 leaves no room for KV"]),
        (
            ["kimi-k3", "--gpu", "h300", "--kv-gib", "-1", "--set", "dtype"],
            ["dtype: a setting is", "--gpu: ", "--kv-gib: ", "model: "],
        ),
        (["qwen3-32b", "--set", "kv_typ=1"], ["options.kv_typ: unknown option"]),
    ],
)
def test_what_is_refused(dcsim: Dcsim, arguments: list[str], errors: list[str]) -> None:
    done = dcsim("kv", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert len(done.errors) == len(errors), done.err
    for error, start in zip(done.errors, errors, strict=True):
        assert error.startswith(start)


def test_a_tokens_kv_in_a_run_is_the_same(dcsim: Dcsim) -> None:
    """`dcsim trace` of the same model counts the same bytes."""
    trace = json.loads(dcsim("trace", "gpt-oss-20b", "--json").out)
    budget = package.kv("gpt-oss-20b")
    live = 1279 * budget.kv_bytes_per_token_beyond_window + budget.kv_state_bytes_per_gpu
    assert trace["phases"][0]["live_bytes"] == live
