"""Traces of models whose passes are not linear in the context: windows and latents.

Each figure of a row is held against recorded passes: equal where the page says so, an upper bound
elsewhere.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_scenes import GPU, UNEVEN

from dcsim import traces
from dcsim.models.catalogue import get
from dcsim.models.llm import LlmConfig
from dcsim.spec import Layout
from dcsim.traces import MemoryTrace, Record, Turn
from dcsim.traces.turns import Server, record_pass

WINDOWS, LATENTS = ("gpt-oss-20b", "gpt-oss-120b"), ("deepseek-v3", "kimi-k2")
STATES = ("qwen3-next-80b-a3b", "qwen3.6-35b-a3b", "qwen3.6-27b")


def rows(name: str, tp: int = 1, chunk: int = 512, **options: Any) -> MemoryTrace:
    return traces.trace(name, options, Turn(1, 1, chunk), Layout(tp))


def recorded(name: str, tp: int, n: int, before: int, *, logits: bool = False) -> Record:
    model = get(name)
    assert isinstance(model.network, LlmConfig)
    options = model.resolve()
    return record_pass(
        Server.of(model.network, options, Layout(tp)), n, before=before, logits=logits
    )


PASSES = given(
    st.sampled_from(WINDOWS),
    st.sampled_from([1, 2, 8]),
    st.integers(1, 700),
    st.integers(0, 700),
)


@PASSES
@settings(max_examples=25, deadline=None)
def test_a_window_is_counted_full(name: str, tp: int, n: int, before: int) -> None:
    trace = rows(name, tp)
    prefill, _ = trace.rows
    record = recorded(name, tp, n, before)
    pairs = n * before + n * (n + 1) // 2
    flops = record.total("flops", "attention") * tp
    bound = prefill.attn_flops * pairs + prefill.local_flops * n
    held, most = record.live * tp, prefill.live * (before + n) + trace.state
    moved = record.total("moved", "memory", "attention") * tp
    charged = prefill.other_bytes * n + prefill.attn_bytes * (before + n)
    if before >= 128:
        assert (flops, held) == (bound, most)
        # The window read before a chunk is spread over the 512 tokens of a full one.
        window = prefill.live * 128
        assert abs(charged - (moved - window + -(-window // 512) * n)) <= n * 64
    else:
        assert flops <= bound
        assert held <= most
    assert record.total("flops", "dense") * tp == prefill.dense_flops * n


@given(st.sampled_from(WINDOWS), st.sampled_from([1, 2, 8]), st.integers(0, 900))
@settings(max_examples=20, deadline=None)
def test_a_token_after_a_window(name: str, tp: int, before: int) -> None:
    trace = rows(name, tp)
    _, decode = trace.rows
    record = recorded(name, tp, 1, before, logits=True)
    flops = record.total("flops", "attention") * tp
    moved = record.total("moved", "memory", "attention") * tp
    assert record.total("flops", "dense") * tp == decode.dense_flops
    assert record.total("moved", "dense") * tp == decode.dense_bytes
    charged = decode.other_bytes + decode.attn_bytes * (before + 1)
    bound = decode.attn_flops * (before + 1) + decode.local_flops
    if before >= 128:
        assert (flops, moved) == (bound, charged)
    else:
        assert flops <= bound
        assert moved <= charged


def test_gpt_oss_by_hand() -> None:
    prefill, decode = rows("gpt-oss-120b").rows
    # A pair: 64 heads of 64, multiply and add, for scores and for values, in 18 full layers.
    assert prefill.attn_flops == decode.attn_flops == 18 * 2 * 2 * 64 * 64
    assert prefill.local_flops == decode.local_flops == 18 * 128 * 2 * 2 * 64 * 64
    assert prefill.live == decode.attn_bytes == 18 * 2 * 8 * 64 * 2
    # A token's products: attention 2880 x (64 + 2 x 8) x 64 and 4096 x 2880, four experts of
    # 3 x 2880 x 2880, a router of 2880 x 128; and the head once.
    layer = 2880 * 80 * 64 + 4096 * 2880 + 4 * 3 * 2880 * 2880 + 2880 * 128
    assert prefill.dense_flops == 2 * 36 * layer
    assert decode.dense_flops == 2 * (36 * layer + 2880 * 201_088)
    config = get("gpt-oss-120b").network
    assert isinstance(config, LlmConfig)
    # All active parameters but vectors: norms, sinks, biases of qkv, out, router and experts.
    vectors = 36 * (2 * 2880 + 64 + 80 * 64 + 2880 + 128 + 4 * 3 * 2880) + 2880
    assert decode.dense_flops == 2 * (config.active - vectors)
    assert rows("gpt-oss-120b").state == 128 * 18 * 2 * 8 * 64 * 2


def test_deepseek_by_hand() -> None:
    trace = rows("deepseek-v3", chunk=512)
    prefill, decode = trace.rows
    config = get("deepseek-v3").network
    assert isinstance(config, LlmConfig)
    # Absorbed: scores over 512 + 64 and values over 512 numbers of the latent, 128 heads.
    assert decode.attn_flops == 61 * 2 * 128 * (576 + 512)
    assert decode.attn_bytes == prefill.live == 61 * 576 * 2
    # Two FLOPs for each active parameter but norms and the routers' biases; moving kv_b to the
    # query and the output costs what applying it does.
    vectors = 61 * (2 * 7168 + 1536 + 512) + 7168 + 58 * 256
    assert decode.dense_flops == 2 * (config.active - vectors)
    assert prefill.dense_flops == 2 * (config.active - vectors - 7168 * 129_280)
    # Expanded: 192 and 128 numbers a head and pair. Every chunk expands all latents before it,
    # 512 x 128 x 256 products each, which a pair of a full chunk carries a 512th of.
    again = 61 * 2 * 512 * 128 * 256
    assert prefill.again_flops == again
    assert prefill.attn_flops == 61 * 2 * 128 * (192 + 128) + again // 512
    assert prefill.local_flops == decode.local_flops == trace.state == 0


@given(st.sampled_from(LATENTS), st.sampled_from([1, 8]), st.integers(2, 700), st.integers(1, 700))
@settings(max_examples=20, deadline=None)
def test_latents_expanded_again(name: str, tp: int, n: int, before: int) -> None:
    trace = rows(name, tp)
    prefill, _ = trace.rows
    record = recorded(name, tp, n, before)
    dense = record.total("flops", "dense") * tp
    assert dense == prefill.dense_flops * n + prefill.again_flops * before
    pair = prefill.attn_flops - -(-prefill.again_flops // 512)
    pairs = n * before + n * (n + 1) // 2
    assert record.total("flops", "attention") * tp == pair * pairs
    assert record.live * tp == prefill.live * (before + n)
    moved = record.total("moved", "dense", "memory", "attention") * tp
    charged = (prefill.dense_bytes + prefill.other_bytes) * n
    charged += prefill.attn_bytes * (before + n)
    assert charged == pytest.approx(moved, rel=1e-6)
    # A full chunk's attention carries all that is expanded again, and at most half of its own
    # tokens' on top.
    full = prefill.attn_flops * (512 * before + 512 * 513 // 2)
    truth = pair * (512 * before + 512 * 513 // 2) + prefill.again_flops * before
    assert truth <= full <= truth + prefill.again_flops * 257


@pytest.mark.parametrize("name", LATENTS)
def test_a_token_reads_latents_alone(name: str) -> None:
    _, decode = rows(name, 8).rows
    for before in (1, 500):
        record = recorded(name, 8, 1, before, logits=True)
        assert record.total("flops", "dense") * 8 == decode.dense_flops
        assert record.total("flops", "attention") * 8 == decode.attn_flops * (before + 1)
        moved = record.total("moved", "memory", "attention") * 8
        assert moved == decode.other_bytes + decode.attn_bytes * (before + 1)


@given(
    st.sampled_from(STATES),
    st.sampled_from([1, 2, 8]),
    st.integers(2, 700),
    st.integers(0, 700),
)
@settings(max_examples=15, deadline=None)
def test_states_cost_the_same_at_any_length(name: str, tp: int, n: int, before: int) -> None:
    trace = rows(name, tp)
    prefill, decode = trace.rows
    record = recorded(name, tp, n, before)
    pairs = n * before + n * (n + 1) // 2
    flops = record.total("flops", "attention") * tp
    assert flops == prefill.attn_flops * pairs + prefill.local_flops * n
    assert record.total("flops", "dense") * tp == prefill.dense_flops * n
    assert record.live * tp == prefill.live * (before + n) + trace.state
    one = recorded(name, tp, 1, before, logits=True)
    assert one.total("flops", "attention") * tp == (
        decode.attn_flops * (before + 1) + decode.local_flops
    )
    moved = one.total("moved", "memory", "attention") * tp
    assert moved == decode.other_bytes + decode.attn_bytes * (before + 1)


def test_qwen3_next_by_hand() -> None:
    trace = rows("qwen3-next-80b-a3b")
    prefill, decode = trace.rows
    # 12 full layers: 16 heads of 256. 36 linear: a convolution of 4 over 8,192 channels and, for 32
    # heads, S by key, key by correction and S by query.
    conv = 2 * 4 * (2 * 16 + 32) * 128
    assert decode.attn_flops == prefill.attn_flops == 12 * 4 * 16 * 256
    assert decode.local_flops == 36 * (conv + 2 * 32 * 3 * 128 * 128)
    # In a prompt also the products within a tile of 64 tokens.
    tile = 64 * (3 * 128 + 2 * 128)
    assert prefill.local_flops == 36 * (conv + 2 * 32 * (3 * 128 * 128 + tile))
    assert prefill.live == 12 * 2 * 2 * 256 * 2
    assert trace.state == 36 * (32 * 128 * 128 * 4 + 3 * 64 * 128 * 2)
    config = get("qwen3-next-80b-a3b").network
    assert isinstance(config, LlmConfig)
    # Two FLOPs an active parameter but vectors and convolutions.
    vectors = 48 * 2 * 2048 + 2048 + 12 * 2 * 256 + 36 * (2 * 32 + 128 + 4 * 8192)
    assert decode.dense_flops == 2 * (config.active - vectors)


def test_all_tokens_are_kept_on_demand() -> None:
    some, all_ = rows("gpt-oss-20b"), rows("gpt-oss-20b", window_kv="all")
    assert [r.live for r in all_.rows] == [2 * r.live for r in some.rows]
    assert all_.state == 0
    # What is looked at is the window all the same.
    assert all_.rows[1].attn_flops == some.rows[1].attn_flops


@pytest.mark.parametrize("name", UNEVEN)
def test_windows_are_reserved_for_every_job(name: str) -> None:
    few, many = (
        traces.token_work(name, None, Layout(8), GPU, 512, 4096, jobs) for jobs in (10, 250)
    )
    one = traces.trace(name, None, Turn(1, 1, 512), Layout(8))
    peaks = [row.demand.peak for row in many.segments]
    assert many.reserve - few.reserve == 240 * (peaks[1] - peaks[0] + one.state)
    assert many.segments[0].demand.live == one.rows[0].live


def test_a_request_holds_its_windows() -> None:
    trace = traces.trace("gpt-oss-20b", None, Turn(1000, 500))
    half = 12 * 2 * 8 * 64 * 2
    assert trace.residency_bytes == trace.weights_bytes + half * 1499 + 128 * half
    report = traces.report(trace)
    assert report["phases"][0]["live_bytes"] == half * 1499 + 128 * half


def test_windows_and_expansions_are_priced() -> None:
    """By hand on the test's GPU: 10^15 FLOP/s x 0.5 for attention, 3 x 10^12 B/s x 0.8."""
    gpt = traces.price(rows("gpt-oss-120b"), GPU).segments
    alone = traces.price(rows("gpt-oss-120b", window_kv="all"), GPU).segments
    for row, same in zip(gpt, alone, strict=True):
        assert row.cost == same.cost
        assert row.cost.local == Fraction(18 * 128 * 4 * 64 * 64, 5 * 10**14)
        assert row.cost.other == row.cost.local + row.cost.memory
    trace = rows("deepseek-v3", 8)
    prefill = traces.price(trace, GPU).segments[0].cost
    again = Fraction(61 * 2 * 512 * 128 * 256, 8 * 5 * 10**14)
    read = Fraction(trace.rows[0].attn_bytes * 10, 8 * 8 * 3 * 10**12)
    assert prefill.reading == max(again, read)
    assert prefill.local == 0
