"""Language models over several GPUs, by hand and against what others say of the same layouts."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from dcsim import traces
from dcsim.models import ModelError
from dcsim.models.shapes import Turn
from dcsim.spec import Layout, load_parts
from dcsim.traces import MemoryTrace, kv, price

H200 = load_parts().gpus["h200"]
TURN = Turn(8192, 256, 2048)
SCALED = 7168 + 4 * 56  # a token of DeepSeek-V3 in FP8, with a scale for 128 numbers


def traced(model: str, shape: Turn = TURN, *, options: Any = None, **layout: int) -> MemoryTrace:
    return traces.trace(model, options, shape, Layout(**layout))


def test_a_pipeline_by_hand() -> None:
    """Llama-3.1-70B, 80 layers: the last of four stages has 20 and the head."""
    trace = traced("llama-3.1-70b", pp=4)
    layer = (8192 + 2 * 1024) * 8192 + 8192 * 8192 + 3 * 8192 * 28672 + 2 * 8192
    assert trace.weights_bytes == 4 * 2 * (20 * layer + 128256 * 8192 + 8192)
    prefill, decode = trace.rows
    assert prefill.live == decode.live == 4 * 20 * 2 * 8 * 128 * 2
    assert prefill.comm_bytes == decode.comm_bytes == 4 * 8192 * 2  # a hidden state a stage
    (phase,) = trace.phases
    assert (phase.layers, phase.passes, phase.idle, phase.collectives) == (20, 4, 0, 4)
    norms = 8192 + 20 * 2 * 8192
    assert phase.reads == 4 * (trace.weights_bytes - 4 * 2 * norms)


def test_stages_that_are_not_alike() -> None:
    """DeepSeek-V3 has 61 layers, the first three dense: four stages of 15, 15, 16 and 15 (vLLM
    gives one more to those before the last), of which the third is the fullest."""
    trace = traced("deepseek-v3", tp=8, pp=4)
    assert trace.phases[0].layers == 16
    assert trace.rows[0].live == 32 * 16 * 576 * 2  # latents on every GPU of a stage


def test_the_stage_that_keeps_most_is_not_the_one_with_most_parameters() -> None:
    """gpt-oss-20b in stages of 3 of 24 layers, windows first: the last, with the head, has one
    window of 128 tokens and two full layers; the first two windows."""
    trace = traced("gpt-oss-20b", pp=8)
    token = 2 * 8 * 64 * 2
    assert trace.rows[0].live == 8 * 2 * token
    assert trace.state == 8 * 2 * 128 * token


def circulated(stages: int, pieces: int, time: Fraction, rounds: int = 50) -> Fraction:
    """Seconds of a round of micro-batches that go through all stages again and again, each
    `time` in each stage, by a schedule: the earliest that is ready goes first."""
    free, ready = [Fraction(0)] * stages, [Fraction(0)] * pieces
    ends = []
    for _ in range(rounds):
        for piece in range(pieces):
            at = ready[piece]
            for stage in range(stages):
                at = free[stage] = max(at, free[stage]) + time
            ready[piece] = at
        ends.append(max(ready))
    return ends[-1] - ends[-2]


@pytest.mark.parametrize(("stages", "pieces"), [(4, 4), (4, 1), (4, 3), (2, 5), (8, 2)])
def test_a_round_takes_what_a_schedule_of_stages_takes(stages: int, pieces: int) -> None:
    """Weights are read once a micro-batch and stage, tokens are shared by the micro-batches."""
    trace = traced("llama-3.1-70b", pp=stages, in_flight=pieces)
    work, tokens = price(trace, H200), 4096
    (phase,), prefill = work.phases, work.segments[0]
    memory = H200.hbm_bandwidth * Fraction(H200.efficiency["memory"]).limit_denominator(10**6)
    flops = H200.flops["bf16"] * Fraction(H200.efficiency["dense"]).limit_denominator(10**6)
    # One stage, one micro-batch: the fullest stage's layers, its weights or its products.
    reads = Fraction(trace.phases[0].reads, trace.gpus * trace.phases[0].passes) / memory
    launch = Fraction(trace.phases[0].layers * H200.launch, 10**9)
    dense = prefill.demand.dense_flops * Fraction(tokens, pieces * stages) / flops
    alone = circulated(stages, pieces, launch + max(reads, dense))
    extra = (H200.step + trace.phases[0].collectives * H200.collective) * Fraction(1, 10**9)
    assert phase.launch - extra + max(phase.weights, tokens * prefill.cost.dense) == alone


def test_one_micro_batch_waits_as_gpipe_says() -> None:
    """Bubbles are (p-1)/(m+p-1) of the time (Huang et al. 2019): for one of four stages 3/4."""
    assert [traced("llama-3.1-70b", pp=4, in_flight=m).phases[0].busy for m in (1, 4)] == [
        1 - Fraction(3, 4),
        1,
    ]
    full, alone = (
        price(traced("llama-3.1-70b", pp=4, in_flight=m), H200).segments[0].cost for m in (4, 1)
    )
    assert alone.dense == 4 * full.dense
    assert alone.attention == 4 * full.attention


def test_deepseek_on_eight_ranks_by_hand() -> None:
    """Each GPU attends for requests of its own and has 32 of 256 experts."""
    whole, spread = traced("deepseek-v3"), traced("deepseek-v3", dp=8, ep=8)
    expert = 3 * 7168 * 2048
    assert spread.weights_bytes == 8 * (whole.weights_bytes - 58 * 7 * 32 * expert)
    assert spread.rows[0].live == whole.rows[0].live == 61 * 576 * 2
    # Seven of eight pairs go to another GPU, in FP8, and come back in bf16.
    away = 58 * 7 * (SCALED + 2 * 7168)
    assert spread.rows[0].comm_bytes == spread.rows[1].comm_bytes == away
    assert spread.phases[0].collectives == 2 * 58
    # A token's products are those of one GPU.
    assert spread.rows[1].dense_flops == whole.rows[1].dense_flops


def test_what_is_dispatched_is_what_deepep_measures() -> None:
    """DeepEP's README: 128 tokens, 7168 hidden, top 8, FP8 dispatch in 77 us at 98 GB/s, bf16
    combine in 114 us at 127 GB/s on 8 GPUs, of all pairs, those that stay among them."""
    record = traced("deepseek-v3", Turn(128, 2, 128), dp=8, ep=8).records["prefill"]
    sent = {n: int(c) for n, c in zip(record.names, record.comm, strict=True) if c}
    assert sent["dispatch"] * 8 / 7 == pytest.approx(77e-6 * 98e9, rel=0.02)
    assert sent["return"] * 8 / 7 == pytest.approx(114e-6 * 127e9, rel=0.02)


def test_ranks_of_two_gpus_share_out_what_they_send() -> None:
    """Each of a rank's GPUs sends half of its tokens; heads and the shared expert are halved."""
    one, two = traced("deepseek-v3", dp=8, ep=8), traced("deepseek-v3", tp=2, dp=8, ep=16)
    moe = 58
    pairs = moe * 8 * Fraction(15, 16) * (SCALED + 2 * 7168)
    reduced = (61 + 3 + moe + 1) * 2 * 7168  # attention, dense, shared experts and the embedding
    gathered = moe * 7168
    assert two.rows[0].comm_bytes == pytest.approx(pairs + 2 * (reduced + gathered), rel=1e-6)
    assert two.rows[0].live == 2 * one.rows[0].live  # latents are not divided


def test_whole_experts_without_ranks_send_what_divided_ones_do() -> None:
    divided, whole = traced("mixtral-8x7b", tp=8), traced("mixtral-8x7b", tp=8, ep=8)
    assert divided.weights_bytes == whole.weights_bytes
    for a, b in zip(divided.rows, whole.rows, strict=True):
        assert (a.comm_bytes, a.dense_flops, a.live) == (b.comm_bytes, b.dense_flops, b.live)
    assert whole.rows[0].dense_bytes < divided.rows[0].dense_bytes  # rows of an eighth


def test_the_fullest_gpu_is_waited_for() -> None:
    even = traced("deepseek-v3", dp=8, ep=8)
    uneven = traced("deepseek-v3", options={"expert_imbalance": 1.25}, dp=8, ep=8)
    pairs = 58 * 8 * 2 * 3 * 7168 * 2048
    more = uneven.rows[0].dense_flops - even.rows[0].dense_flops
    assert more == pytest.approx(pairs / 4, rel=1e-9)
    assert uneven.rows[0].comm_bytes == even.rows[0].comm_bytes * 5 / 4
    assert uneven.weights_bytes == even.weights_bytes
    one = traced("deepseek-v3", options={"expert_imbalance": 1.25}, tp=8)
    assert one.rows == traced("deepseek-v3", tp=8).rows  # each GPU has a part of every expert


def test_a_ring_of_keys_and_values_by_hand() -> None:
    """Llama-3.1-70B over 4 x 2 GPUs: each has half of the tokens, and K and V of the other half
    come round, as 2 (n-1)/n p h of the cost table of ring attention."""
    whole, ring = traced("llama-3.1-70b", tp=4), traced("llama-3.1-70b", tp=4, cp=2)
    token = 80 * 2 * 8 * 128 * 2
    prefill, decode = ring.rows
    assert prefill.live == token
    assert prefill.ring_bytes == token  # (cp - 1) times
    assert prefill.attn_flops == whole.rows[0].attn_flops
    assert prefill.attn_bytes == 4 * token  # both halves are read, one is passed on
    assert decode.attn_bytes == token
    # A query to the other GPU of each pair, an answer with 4 bytes a head back.
    answers = decode.comm_bytes - whole.rows[1].comm_bytes
    assert answers == 80 * (8192 * 2 + 8192 * 2 + 4 * 64)
    assert decode.dense_flops == whole.rows[1].dense_flops
    record = ring.records["prefill"]  # 1,024 of 2,048 tokens
    assert int(record.comm[record.kind == 1].sum()) * 8 == 2048 * token


def test_latents_go_round_too() -> None:
    one, ring = traced("deepseek-v3", tp=8), traced("deepseek-v3", tp=8, cp=4)
    assert ring.rows[0].live == one.rows[0].live == 8 * 61 * 576 * 2
    assert ring.rows[0].ring_bytes == 3 * one.rows[0].live
    # Each GPU expands all latents that come to it.
    assert ring.rows[0].again_flops == 4 * one.rows[0].again_flops


def test_what_a_link_too_slow_for_the_ring_costs() -> None:
    from dataclasses import replace

    slow = replace(H200, scale_up=10**9)
    trace = traced("llama-3.1-70b", tp=4, cp=2)
    cost = price(trace, slow).segments[0].cost
    share = Fraction(slow.efficiency["comm"]).limit_denominator(10**6)
    assert cost.reading == Fraction(trace.rows[0].ring_bytes, 8 * 10**9) / share


def test_the_budget_of_a_layout() -> None:
    """Of a layout KV tokens are those of all ranks; of latents a rank has all."""
    one = kv("deepseek-v3", "h200", 8, kv_gib=10)
    ranks = kv("deepseek-v3", "h200", layout=Layout(dp=8, ep=8), kv_gib=10)
    shares = kv("deepseek-v3", "h200", layout=Layout(8, cp=2), kv_gib=10)
    assert one.kv_tokens == 10 * 2**30 // 70272
    assert (ranks.kv_tokens, shares.kv_tokens) == (8 * one.kv_tokens, 2 * one.kv_tokens)
    stages = kv("llama-3.1-70b", "h100", layout=Layout(pp=4), kv_gib=10)
    assert stages.kv_bytes_per_token_per_gpu == 327_680 // 4


WRONG = [
    ("llama-3.1-8b", {"dp": 2}, {"dp": "replicas", "ep": "tp x dp GPUs, 2"}),
    ("llama-3.1-8b", {"pp": 33}, {"pp": "33 stages of 32 layers"}),
    ("llama-3.1-8b", {"in_flight": 2}, {"in_flight": "one stage"}),
    ("llama-3.1-8b", {"tp": 2, "ep": 2}, {"ep": "2 GPUs, but 0 experts"}),
    ("mixtral-8x7b", {"tp": 4, "ep": 2}, {"ep": "tp x dp GPUs, 4"}),
    ("mixtral-8x7b", {"dp": 16, "ep": 16}, {"ep": "16 GPUs, but 8 experts"}),
    ("gpt-oss-20b", {"cp": 2}, {"cp": "do not attend to all tokens before"}),
    ("qwen3-next-80b-a3b", {"cp": 2}, {"cp": "do not attend to all tokens before"}),
    ("llama-3.1-8b", {"tp": 3, "sp": 2, "cfg": 2}, {"tp": "3 does", "sp": "spread", "cfg": "2"}),
]


@pytest.mark.parametrize(("model", "layout", "said"), WRONG)
def test_a_layout_that_cannot_be_is_told_in_full(
    model: str, layout: dict[str, int], said: dict[str, str]
) -> None:
    with pytest.raises(ModelError) as caught:
        traced(model, Turn(0, 1), **layout)
    found = dict(caught.value.problems)
    assert set(found) == {f"layout.{name}" for name in said} | {"shape.prompt"}
    for name, text in said.items():
        assert text in found[f"layout.{name}"]
