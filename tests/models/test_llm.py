"""The reference decoder, and the text encoder's stub."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcsim.models import llm, t5
from dcsim.models.catalogue import get
from dcsim.models.delta import GatedDelta
from dcsim.models.feed_forward import Experts
from dcsim.models.gqa import Gqa
from dcsim.models.llm import Block, Cache, LlmConfig, equal_blocks
from dcsim.models.mla import Mla
from dcsim.models.tape import Array, Tape
from dcsim.models.weights import Weights, count, random_arrays
from dcsim.spec import Layout

SMALL = equal_blocks(3, 48, 6, 2, 64, 101, head=8)
NORMED = equal_blocks(2, 48, 6, 2, 64, 101, head=8, head_norm=True)


def _mixed(*mixers: Any) -> LlmConfig:
    """A block of each, with experts of every kind between them."""
    halves = (
        Experts(8, 2, 16, shared=16, router="sigmoid", groups=4, chosen_groups=2),
        Experts(4, 2, 24, bias=True, activation="clamped"),
        Experts(4, 1, 24, shared=8, shared_gate=True),
    )
    return LlmConfig(tuple(map(Block, mixers, halves)), 48, 101)


WINDOW = _mixed(
    Gqa(6, 2, 8, sinks=True, window=4, bias=True, out_bias=True),
    Gqa(6, 2, 8, rotary=4, gate=True),
)
LATENT = _mixed(
    Mla(heads=4, kv_rank=24, nope=16, rope=8, value=12, q_rank=20),
    Mla(heads=4, kv_rank=24, nope=16, rope=8, value=12),
)
STATE = _mixed(GatedDelta(2, 4, 8, 12), Gqa(6, 2, 8), GatedDelta(3, 3, 8))
CONFIGS = [SMALL, NORMED, WINDOW, LATENT, STATE]
IDS = np.arange(11) * 7 % 101


def logits(c: LlmConfig, pieces: list[int]) -> Array:
    """Of the last token, with the ids fed in pieces."""
    tape = Tape(execute=True)
    weights = Weights(tape, llm.parameters(c), "fp32", random_arrays(llm.parameters(c), 5))
    cache = Cache("fp32")
    done, out = 0, None
    for n in pieces:
        ids = IDS[done : done + n]
        out = llm.forward(c, weights, tape, ids, n, cache, logits=True)
        done += n
    assert out is not None
    assert out.shape == (1, c.vocabulary)
    return out.data


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("pieces", [[4, 7], [1] * 11, [10, 1], [3, 1, 5, 2]])
def test_chunks_and_single_tokens_give_what_one_pass_gives(
    config: LlmConfig, pieces: list[int]
) -> None:
    np.testing.assert_allclose(logits(config, pieces), logits(config, [11]), rtol=1e-3, atol=1e-4)


def test_a_plain_loop_over_tokens_agrees() -> None:
    c, w = SMALL, random_arrays(llm.parameters(SMALL), 5)
    a = c.blocks[0].attention
    assert isinstance(a, Gqa)

    def norm(x: Array, g: Array) -> Array:
        return x / np.sqrt((x * x).mean() + c.eps) * g

    def turn(x: Array, at: int) -> Array:
        freq = a.theta ** (-np.arange(0, a.head, 2) / a.head)
        z = (x[: a.head // 2] + 1j * x[a.head // 2 :]) * np.exp(1j * at * freq)
        return np.concatenate([z.real, z.imag])

    xs = [w["embed"][i].astype(np.float64) for i in IDS]
    for layer in range(c.layers):
        keys, values = [], []
        for at, x in enumerate(xs):
            y = w[f"{layer}.qkv"] @ norm(x, w[f"{layer}.norm1"])
            q, k, v = np.split(y.reshape(-1, a.head), [a.heads, a.heads + a.kv_heads])
            keys.append(np.array([turn(h, at) for h in k]))
            values.append(v)
            mixed = []
            for h in range(a.heads):
                kv = h // (a.heads // a.kv_heads)
                scores = np.array([key[kv] @ turn(q[h], at) for key in keys]) / a.head**0.5
                p = np.exp(scores - scores.max())
                mixed.append((p / p.sum()) @ np.array([value[kv] for value in values]))
            x = x + w[f"{layer}.out"] @ np.concatenate(mixed)
            gate, up = np.split(w[f"{layer}.up"] @ norm(x, w[f"{layer}.norm2"]), 2)
            xs[at] = x + w[f"{layer}.down"] @ (gate / (1 + np.exp(-gate)) * up)
    want = w["head"] @ norm(xs[-1], w["norm"])
    np.testing.assert_allclose(logits(SMALL, [11])[0], want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_shape_only_record_equals_the_executed_one(config: LlmConfig) -> None:
    tapes = [Tape(execute=True), Tape()]
    caches = [Cache("fp32"), Cache("fp32")]
    for tape, cache in zip(tapes, caches, strict=True):
        data = random_arrays(llm.parameters(config), 5) if tape.execute else None
        weights = Weights(tape, llm.parameters(config), "fp32", data)
        for n in (5, 3, 1):
            ids = IDS[:n] if tape.execute else None
            llm.forward(config, weights, tape, ids, n, cache, logits=True)
    assert tapes[0].events == tapes[1].events
    assert tapes[0].profile == tapes[1].profile


@pytest.mark.parametrize(
    ("name", "billions", "kv"),
    [
        ("llama-3.1-8b", 8.03, 131_072),
        ("llama-3.1-70b", 70.6, 327_680),
        ("qwen3-8b", 8.2, 147_456),
        ("qwen3-32b", 32.8, 262_144),
    ],
)
def test_published_parameters_and_kv_bytes(name: str, billions: float, kv: int) -> None:
    config = get(name).network
    assert isinstance(config, LlmConfig)
    assert count(llm.parameters(config)) == pytest.approx(billions * 1e9, rel=0.005)
    tape = Tape()
    cache = Cache("bf16")
    weights = Weights(tape, llm.parameters(config), "bf16")
    llm.forward(config, weights, tape, None, 3, cache, logits=False)
    assert tape.live == 3 * kv


@pytest.mark.parametrize("tp", [2, 4, 8, 16])
def test_tensor_parallel_shards_the_weights(tp: int) -> None:
    config = get("llama-3.1-70b").network
    assert isinstance(config, LlmConfig)
    local, whole = count(llm.parameters(config, tp)), count(llm.parameters(config))
    # Norms are repeated; beyond the 8 KV heads, so are K and V.
    assert whole < local * tp < whole * (1.001 if tp <= 8 else 1.03)


def test_tensor_parallel_sends_two_all_reduces_a_layer() -> None:
    tape, n, tp = Tape(), 16, 2
    weights = Weights(tape, llm.parameters(SMALL, tp), "bf16")
    llm.forward(SMALL, weights, tape, None, n, Cache("bf16"), logits=False, layout=Layout(tp))
    sent = sum(e[6] for e in tape.events if e[0] == "op")
    # One more after the embedding; a ring sends 2 (tp - 1) / tp of the tensor.
    assert sent == (2 * SMALL.layers + 1) * n * SMALL.hidden * 2


@pytest.mark.parametrize(
    ("family", "theta", "eps"), [("llama-3.1", 5e5, 1e-5), ("qwen3", 1e6, 1e-6)]
)
def test_published_base_of_positions(family: str, theta: float, eps: float) -> None:
    """`rope_theta` and `rms_norm_eps` of the published configurations."""
    for size in ("8b", "70b" if family == "llama-3.1" else "32b"):
        network = get(f"{family}-{size}").network
        assert isinstance(network, LlmConfig)
        mixer = network.blocks[0].attention
        assert isinstance(mixer, Gqa)
        assert (mixer.theta, network.eps) == (theta, eps)


def test_t5_xxl_costs() -> None:
    encoder = t5.T5()
    assert count(encoder.parameters()) == 4_762_310_656
    tape = Tape()
    weights = Weights(tape, encoder.parameters(), "bf16")
    out = encoder.encode(weights, tape.tensor((1, 512), "int64")).sequence
    assert out.shape == (1, 512, 4096)
    matrices = encoder.layers * (4 * 4096 * 4096 + 3 * 4096 * encoder.ffn)
    attention = encoder.layers * 2 * 512 * 512 * 4096
    flops = sum(e[3] for e in tape.events if e[0] == "op")
    assert flops == 2 * (512 * matrices + attention)


def test_t5_buckets_are_exact_near_and_shared_far() -> None:
    buckets = t5._buckets(300, 32)
    assert buckets[0, 0] == 0
    assert buckets[5, 3] == 2
    assert buckets[3, 5] == 18
    assert buckets[299, 0] == 15
    # The eight far ones grow by 16^(1/8) from 8 to 128.
    for away, bucket in ((8, 8), (11, 8), (12, 9), (15, 9), (31, 11), (45, 12), (46, 13)):
        assert buckets[away, 0] == bucket
    assert (buckets[90, 0], buckets[91, 0]) == (14, 15)
    assert buckets[0, 299] == 31
    assert buckets.min() >= 0
    assert buckets.max() == 31
