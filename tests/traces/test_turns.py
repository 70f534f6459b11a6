"""Traces of language-model requests."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_scenes import EVEN, GPU, LLMS, TURNS

from dcsim import traces
from dcsim.models import ModelError
from dcsim.models.catalogue import get
from dcsim.models.llm import LlmConfig
from dcsim.spec import Layout, Scheduler, TokenShape
from dcsim.traces import Segment, Turn
from dcsim.traces.turns import Server, record_pass


@given(st.sampled_from(LLMS), TURNS, st.sampled_from([1, 2, 4]))
@settings(max_examples=20, deadline=None)
def test_segments_follow_the_engines_rule(name: str, shape: Turn, tp: int) -> None:
    trace = traces.trace(name, None, shape, Layout(tp))
    prefill, decode = trace.rows
    done = 0
    steps = list(_steps(trace.segments))
    for n in _chunks(shape):
        s = steps.pop(0)
        assert s["tokens"] == n
        assert s["dense"] == prefill.dense_flops * n
        assert s["attn_flops"] == prefill.attn_flops * (n * done + n * (n + 1) // 2)
        assert s["attn_bytes"] == prefill.attn_bytes * (done + n)
        assert s["live"] == prefill.live * shape.prompt
        assert s["peak"] == prefill.peak * n
        done += n
    for k in range(shape.output - 1):
        s = steps.pop(0)
        assert s["tokens"] == 1
        assert s["dense"] == decode.dense_flops
        assert s["attn_flops"] == decode.attn_flops * (shape.prompt + k + 1)
        assert s["attn_bytes"] == decode.attn_bytes * (shape.prompt + k + 1)
        assert s["live"] == decode.live * (shape.prompt + k + 1)
        assert s["peak"] == decode.peak
    assert not steps
    firsts = [s.first for s in trace.segments if s.name == "prefill"]
    assert firsts == [False] * (len(firsts) - 1) + [True]


def _chunks(shape: Turn) -> list[int]:
    full, rest = divmod(shape.prompt, shape.chunk)
    return [shape.chunk] * full + [rest] * (rest > 0)


def _steps(segments: tuple[Segment, ...]):  # type: ignore[no-untyped-def]
    for s in segments:
        for k in range(s.steps):
            yield {
                "tokens": s.tokens,
                "dense": s.dense_flops,
                "attn_flops": s.attn_flops + s.attn_flops_slope * k,
                "attn_bytes": s.attn_bytes + s.attn_bytes_slope * k,
                "live": s.live + s.live_slope * k,
                "peak": s.peak,
            }


@given(
    st.sampled_from(EVEN),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 3000),
    st.integers(0, 3000),
)
@settings(max_examples=20, deadline=None)
def test_a_tokens_figures_give_any_recorded_pass(name: str, tp: int, n: int, before: int) -> None:
    model = get(name)
    assert isinstance(model.network, LlmConfig)
    options, layout = model.resolve(), Layout(tp)
    record = record_pass(Server.of(model.network, options, layout), n, before=before)
    row, _ = traces.trace(name, None, Turn(1, 1, 512), layout).rows
    pairs = n * before + n * (n + 1) // 2
    assert record.total("flops", "dense") * tp == row.dense_flops * n
    assert record.total("flops", "attention") * tp == row.attn_flops * pairs
    assert record.total("moved", "dense") * tp == row.dense_bytes * n
    assert (record.live) * tp == row.live * (before + n)
    moved = record.total("moved", "memory", "attention") * tp
    assert moved == row.other_bytes * n + row.attn_bytes * (before + n)
    assert record.total("comm", "comm") * tp == pytest.approx(row.comm_bytes * n, rel=1e-3)
    # Rounding to 512 B tells in a short pass only.
    slack = 64 * 512 * tp
    assert row.peak * n - slack <= record.peak * tp <= row.peak * n + slack


@pytest.mark.parametrize("name", EVEN)
def test_a_decode_pass_is_the_decode_row(name: str) -> None:
    model = get(name)
    assert isinstance(model.network, LlmConfig)
    record = record_pass(
        Server.of(model.network, model.resolve(), Layout()), 1, before=777, logits=True
    )
    _, row = traces.trace(name).rows
    assert record.total("flops", "dense") == row.dense_flops
    assert record.total("flops", "attention") == row.attn_flops * 778
    moved = record.total("moved", "memory", "attention")
    assert moved == row.other_bytes + row.attn_bytes * 778
    assert record.peak == row.peak


def test_kv_heads_are_repeated_beyond_their_number() -> None:
    one, eight, sixteen = (
        traces.trace("llama-3.1-70b", None, Turn(1, 1), Layout(tp)).rows[0].live
        for tp in (1, 8, 16)
    )
    assert one == eight == 327_680
    assert sixteen == 2 * one


def test_fp8_halves_weights_and_kv() -> None:
    wide = traces.trace("llama-3.1-8b", None, Turn(10, 10))
    slim = traces.trace("llama-3.1-8b", {"weights_dtype": "fp8", "kv_dtype": "fp8"}, Turn(10, 10))
    assert slim.rows[0].live * 2 == wide.rows[0].live
    # Embedding and head stay at 16 bits.
    assert 0.5 < slim.weights_bytes / wide.weights_bytes < 0.6


def test_a_share_of_the_experts_is_read_in_an_iteration() -> None:
    whole, half = (
        traces.trace("mixtral-8x7b", {"experts_read": share}).phases[0] for share in (1.0, 0.5)
    )
    # Four of eight experts in 32 layers, three matrices each; they are held all the same.
    assert whole.reads - half.reads == 32 * 4 * 3 * 4096 * 14336 * 2
    assert whole.weights == half.weights == 2 * 46_702_792_704
    # A decode step of one job reads all but the embedding: norms are no matrix product's.
    assert whole.reads == 2 * (46_702_792_704 - 32_000 * 4096 - 65 * 4096)


@pytest.mark.parametrize(
    ("shape", "layout", "path"),
    [
        (Turn(1, 1), Layout(1, 2, 1), "layout.sp"),
        (Turn(1, 1), Layout(1, 1, 2), "layout.cfg"),
        (Turn(1, 1), Layout(3), "layout.tp"),
        (Turn(0, 1), Layout(), "shape.prompt"),
        (Turn(1, 0), Layout(), "shape.output"),
        (Turn(1, 1, 0), Layout(), "shape.chunk"),
    ],
)
def test_impossible_turns_are_told(shape: Turn, layout: Layout, path: str) -> None:
    with pytest.raises(ModelError) as caught:
        traces.trace("llama-3.1-8b", None, shape, layout)
    assert [p for p, _ in caught.value.problems] == [path]


def test_a_chunk_is_the_schedulers_unless_said() -> None:
    assert Turn(1, 1).chunk == Scheduler().of(TokenShape()).prefill_chunk == 2048


def test_the_reserve_covers_a_full_batch() -> None:
    layout = Layout(2)
    work = traces.token_work("llama-3.1-8b", None, layout, GPU, 512, 4096, 256)
    peaks = [row.demand.peak for row in work.segments]
    overhead = 2 * get("llama-3.1-8b").options["runtime_overhead"].default
    unused = 2 * GPU.hbm - int(2 * GPU.hbm * 0.9)
    assert peaks[1] > peaks[0]
    spare = work.reserve - overhead - unused
    assert spare == peaks[0] * (4096 - 256) + peaks[1] * 256
    all_decodes = traces.token_work("llama-3.1-8b", None, layout, GPU, 512, 4096)
    assert all_decodes.reserve - overhead - unused == peaks[1] * 4096
    assert [row.demand.rule for row in work.segments] == ["prefill", "decode"]
    assert work.segments[0].demand.tokens == 512
