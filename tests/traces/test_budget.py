"""vLLM's memory budget: by hand, and against published logs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from trace_scenes import GPU

import dcsim
from dcsim.models import ModelError, get, llm
from dcsim.models.llm import LlmConfig
from dcsim.models.tape import Tape
from dcsim.models.token_sampler import filtered, probabilities
from dcsim.models.weights import size
from dcsim.spec import Layout, load_parts
from dcsim.traces import kv
from dcsim.traces.budget import profile_peak

GIB = 2**30


def test_the_terms_add_up() -> None:
    for name, tp in (("llama-3.1-70b", 4), ("kimi-k2", 16), ("gpt-oss-120b", 2)):
        budget = kv(name, "h200", tp)
        config = get(name).network
        assert isinstance(config, LlmConfig)
        part = load_parts().gpus["h200"]
        assert budget.hbm_bytes == part.hbm
        assert budget.weights_bytes == size(llm.parameters(config, tp), budget.weights_dtype)
        assert budget.non_torch_bytes == get(name).options["runtime_overhead"].default
        assert budget.cuda_graph_bytes == 36 * GIB // 100
        assert budget.activation_bytes is not None
        assert budget.kv_bytes == part.hbm * 9 // 10 - (
            budget.weights_bytes
            + budget.activation_bytes
            + budget.non_torch_bytes
            + budget.cuda_graph_bytes
        )
        assert budget.kv_tokens == budget.kv_bytes // budget.kv_bytes_per_token_per_gpu


def test_the_budget_of_one_gpu_by_hand() -> None:
    """Llama-3.1-8B on 80 GB: a pass of 64 tokens is too short to tell, so logits are the peak."""
    budget = kv("llama-3.1-8b", GPU, batched_tokens=64, sequences=64, cuda_graphs_gib=0)
    vocabulary, hidden = 128_256, 4096
    # Logits of 64 rows in bf16, and their probabilities in float32; the hidden states.
    activations = 64 * vocabulary * (2 + 4) + 64 * hidden * 2
    weights = 2 * 8_030_261_248
    assert budget.activation_bytes == activations
    assert budget.kv_bytes == 72 * 10**9 - weights - activations - 139_586_437
    assert budget.kv_tokens == budget.kv_bytes // 131_072


def test_given_gib_are_of_one_gpu() -> None:
    one, four = (kv("llama-3.1-70b", "h100", tp, kv_gib=10) for tp in (1, 4))
    assert one.kv_tokens == 10 * GIB // 327_680
    assert four.kv_tokens == 10 * GIB // 81_920
    assert one.weights_bytes is None
    # Latents are repeated: more GPUs hold no more of them.
    assert kv("kimi-k2", "h200", 16, kv_gib=10).kv_tokens == 10 * GIB // 70_272
    slim = kv("kimi-k2", "h200", 16, kv_gib=10, options={"kv_dtype": "fp8"})
    assert slim.kv_tokens == 10 * GIB // 35_136


def test_windows_give_two_numbers() -> None:
    budget = kv("gpt-oss-120b", "h100", kv_gib=7.5)
    room, half = 15 * GIB // 2, 18 * 2 * 8 * 64 * 2
    assert budget.kv_bytes_per_token == 73_728
    assert budget.kv_bytes_per_token_beyond_window == 36_864
    assert budget.kv_tokens == room // 73_728
    assert budget.kv_tokens_beyond_window == (room - 128 * half) // half
    everything = kv("gpt-oss-120b", "h100", kv_gib=7.5, options={"window_kv": "all"})
    assert everything.kv_tokens == everything.kv_tokens_beyond_window == budget.kv_tokens
    assert everything.window is None


@pytest.mark.parametrize(
    ("model", "tokens", "sequences", "tp", "gib", "error"),
    [
        # llm-d/llm-d-benchmark config_explorer/empirical-vllm-memory-results.md, H100
        ("llama-3.1-8b", 8192, 1024, 1, 4.76, 0.015),
        ("qwen3-0.6b", 8192, 1024, 1, 5.56, 0.015),
        # vllm-project/vllm pull request 10511, H100, both degrees
        ("llama-3.1-8b", 8192, 256, 1, 1.26, 0.035),
        ("llama-3.1-8b", 8192, 256, 2, 1.26, 0.035),
    ],
)
def test_profile_peaks_near_published(
    model: str, tokens: int, sequences: int, tp: int, gib: float, error: float
) -> None:
    """They are the sampler's: 38 bytes a logit, where a layer's activations are a fifth of it."""
    found = get(model)
    assert isinstance(found.network, LlmConfig)
    peak = profile_peak(found.network, found.resolve(), Layout(tp), tokens, sequences, "sort")
    assert peak / GIB == pytest.approx(gib, rel=error)
    # bf16, float32, sorted float32, int64 places and 20 of scratch; and the hidden states.
    logits = sequences * found.network.vocabulary
    by_hand = logits * (2 + 4 + 4 + 8 + 20) + tokens * found.network.hidden * 2
    assert peak == pytest.approx(by_hand, rel=1e-6)


def test_sampling_keeps_what_top_k_and_top_p_leave() -> None:
    rng = np.random.Generator(np.random.Philox(5))
    logits = rng.standard_normal((3, 17)).astype(np.float32) * 2
    for top_k, top_p in ((17, 1.0), (5, 1.0), (17, 0.7), (6, 0.5), (1, 0.1)):
        tape = Tape(execute=True)
        got = filtered(tape.tensor(logits.shape, "fp32", logits.copy()), top_k, top_p)
        for row, kept in zip(logits, np.isfinite(got.data), strict=True):
            order = np.argsort(-row)
            best = order[:top_k]
            p = np.exp(row[best]) / np.exp(row[best]).sum()
            # The fewest of the largest whose sum reaches top_p.
            few = best[: int(np.searchsorted(np.cumsum(p), top_p - 1e-6)) + 1]
            assert sorted(few) == list(np.flatnonzero(kept))
        shares = probabilities(got).data
        np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
        shape_only = Tape()
        drawn = probabilities(filtered(shape_only.tensor(logits.shape, "fp32"), top_k, top_p))
        assert drawn.shape == logits.shape
        del drawn
        assert [e for e in shape_only.events if e[0] == "op"] == [
            e for e in tape.events if e[0] == "op"
        ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model": "kimi-k"}, [("model", "did you mean 'kimi-k2'")]),
        ({"model": "dit-xl-2"}, [("model", "no language model")]),
        ({"gpu": "h10"}, [("--gpu", "did you mean 'h100'")]),
        (
            {"tp": 3},
            [("--tp", "3 does not divide 64 attention heads; qwen3-32b can be spread over")],
        ),
        ({"tp": 0}, [("--tp", "0 is out of range")]),
        ({"kv_gib": 0.0}, [("--kv-gib", "out of range")]),
        ({"kv_gib": float("nan")}, [("--kv-gib", "out of range")]),
        ({"kv_gib": float("inf")}, [("--kv-gib", "out of range")]),
        ({"batched_tokens": 0}, [("--batched-tokens", "out of range")]),
        ({"sequences": -1}, [("--sequences", "out of range")]),
        ({"cuda_graphs_gib": float("nan")}, [("--cuda-graphs-gib", "out of range")]),
        ({"sampler": "sorted"}, [("--sampler", "did you mean 'sort'")]),
        ({"options": {"kv_dtype": "fp9"}}, [("options.kv_dtype", "fp8")]),
        ({"options": {"kv_typ": 1}}, [("options.kv_typ", "kv_dtype")]),
        ({"cuda_graphs_gib": 20.0}, [("--tp", "leaves no room for KV: weights 61.0")]),
        ({"model": "kimi-k2", "tp": 8}, [("--tp", "tp 16 would fit")]),
        ({"model": "llama-3.1-405b", "tp": 1}, [("--tp", "tp 16 would fit")]),
        (
            {"model": "qwen3-3b", "gpu": "h1", "tp": -1},
            [("--gpu", ""), ("--tp", ""), ("model", "")],
        ),
    ],
)
def test_what_cannot_be_is_told(given: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    with pytest.raises(ModelError) as caught:
        dcsim.kv(**{"model": "qwen3-32b", "gpu": "h100", **given})
    assert len(caught.value.problems) == len(expected)
    for (path, message), (at, part) in zip(caught.value.problems, expected, strict=True):
        assert path == at
        assert part in message
