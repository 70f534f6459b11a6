"""The roofline, and what a trace says on a GPU."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from trace_scenes import CLIP_OPTIONS, GPU, LAYOUTS, VIDEO, VIDEO_SHAPES

from dcsim import traces
from dcsim.models import ModelError
from dcsim.spec import Layout
from dcsim.traces import Clip, Phase, Segment, Turn
from dcsim.traces.price import Rates, price_phase, price_segment
from dcsim.traces.report import step_seconds


@given(VIDEO_SHAPES, CLIP_OPTIONS, LAYOUTS)
@settings(max_examples=20, deadline=None)
def test_every_part_of_a_work_takes_time(
    shape: Clip, options: dict[str, Any], layout: Layout
) -> None:
    work = traces.price(traces.trace("video-dit-xl", options, shape, layout), GPU)
    for row in work.segments:
        assert 0 <= row.phase < len(work.phases)
        assert 0 < row.mean <= row.demand.peak
        assert row.cost.dense > 0
        assert row.cost.other > 0
    for phase in work.phases:
        assert phase.launch > 0
        assert phase.weights > 0


def test_dense_layers_follow_the_roofline() -> None:
    trace = traces.trace("video-dit-2b", None, Clip(832, 480, 81, 50), Layout(1, 2, 1))
    cost = traces.price(trace, GPU).segments[1].cost
    s = trace.segments[1]
    assert float(cost.dense) == pytest.approx(s.dense_flops / (2 * 1e15 * 0.6), rel=1e-9)
    assert cost.attention > cost.reading
    assert float(cost.attention) == pytest.approx(s.attn_flops / (2 * 1e15 * 0.5), rel=1e-9)
    want = s.other_bytes / (2 * 3e12 * 0.8) + s.comm_bytes / (2 * 450e9 * 0.7)
    assert float(cost.other) == pytest.approx(want, rel=1e-9)


def test_weights_are_read_once_an_iteration_and_layers_launched() -> None:
    trace = traces.trace("llama-3.1-8b", None, Turn(100, 10))
    (phase,) = traces.price(trace, GPU).phases
    # All matrices but the embedding table, whose rows are looked up.
    read = 2 * (8_030_261_248 - 128_256 * 4096 - 65 * 4096)
    assert float(phase.weights) == pytest.approx(read / (3e12 * 0.8), rel=1e-9)
    assert phase.launch == Fraction(32 * GPU.launch, 10**9)


@pytest.mark.parametrize("traffic", [1, 3])
def test_the_longer_of_compute_and_traffic_counts(traffic: int) -> None:
    """Two seconds of compute beside one or three of traffic, on three GPUs."""
    phase = Phase("p", 1, 1, 1, 1, 1, "bf16", "fp8")
    dense, conv, moved = 3 * 2 * 12 * 10**14, 3 * 2 * 4 * 10**14, 3 * traffic * 24 * 10**11
    s = Segment("s", "p", 1, 1, dense_flops=dense, dense_bytes=moved, conv_flops=conv)
    once = price_phase(phase, GPU, 3)
    cost = price_segment(replace(s, conv_bytes=moved), Rates(GPU, phase, 3), once)
    assert cost.dense == cost.conv == max(2, traffic)


def test_attention_keeps_compute_and_traffic_apart() -> None:
    trace = traces.trace("dit-s-8", None, Clip(64, 64, 1, 1))
    s, cost = trace.segments[0], traces.price(trace, GPU).segments[0].cost
    assert cost.attention == Fraction(s.attn_flops, 5 * 10**14)
    assert cost.reading == Fraction(s.attn_bytes, 24 * 10**11)


def test_a_gpu_twice_as_fast_takes_half() -> None:
    fast = replace(
        GPU,
        hbm_bandwidth=2 * GPU.hbm_bandwidth,
        flops={k: 2 * v for k, v in GPU.flops.items()},
        scale_up=2 * GPU.scale_up,
    )
    trace = traces.trace("video-dit-xl", None, VIDEO, Layout(1, 2, 1))
    for a, b in zip(
        traces.price(trace, GPU).segments, traces.price(trace, fast).segments, strict=True
    ):
        assert b.cost.dense == a.cost.dense / 2
        assert b.cost.other == a.cost.other / 2
        # Shares of time stay, so the mean does.
        assert b.mean == a.mean


def test_what_a_gpu_lacks_is_told() -> None:
    trace = traces.trace("video-dit-xl", {"weights_dtype": "fp4"}, VIDEO)
    with pytest.raises(ModelError, match=r"test has no fp4 peak \(it has bf16, fp8\)"):
        traces.price(trace, GPU)
    alone = replace(GPU, scale_up=0)
    with pytest.raises(ModelError, match="scale-up"):
        traces.price(traces.trace("video-dit-xl", None, VIDEO, Layout(1, 2, 1)), alone)


def test_float32_runs_at_half_the_rate() -> None:
    wide = traces.trace("video-dit-xl", {"dtype": "fp32"}, Clip(832, 480, 81, 50))
    slim = traces.trace("video-dit-xl", None, Clip(832, 480, 81, 50))
    a, b = (traces.price(t, GPU).segments[1].cost.dense for t in (wide, slim))
    assert a == 2 * b


def test_report_has_what_json_promises() -> None:
    trace = traces.trace("video-dit-xl", None, VIDEO)
    found = traces.report(trace, GPU)
    assert {"model", "params", "weights_bytes", "peak_bytes", "peak_phase", "phases"} <= set(found)
    assert [p["name"] for p in found["phases"]] == ["text", "denoise", "vae"]
    assert found["phases"][1]["steps"] == 4
    assert found["seconds"] == pytest.approx(sum(p["seconds"] for p in found["phases"]))
    work = traces.price(trace, GPU)
    alone = Fraction(0)
    for row in work.segments:
        phase, cost = work.phases[row.phase], row.cost
        step = phase.launch + max(phase.weights, cost.dense) + cost.other
        alone += row.demand.steps * (step + max(cost.attention, cost.reading))
    assert found["seconds"] == pytest.approx(float(alone), rel=1e-9)
    assert "seconds" not in traces.report(trace)
    assert found["fits"] is True
    assert found["layout"] == vars(Layout()) | {"gpus": 1}
    spread = traces.report(traces.trace("video-dit-xl", None, VIDEO, Layout(4, 1, 2)))
    assert spread["layout"] == vars(Layout(tp=4, cfg=2)) | {"gpus": 8}


def test_a_turns_seconds_are_the_engines() -> None:
    shape = Turn(700, 40, 256)
    trace = traces.trace("qwen3-8b", None, shape)
    work = traces.price(trace, GPU)
    (phase,), (prefill, decode) = work.phases, work.segments
    alone, done = Fraction(0), 0
    a, b = prefill.cost, decode.cost
    for n in (256, 256, 188):
        pairs = n * done + n * (n + 1) // 2
        alone += phase.launch + max(phase.weights, a.dense * n) + a.other * n
        alone += max(a.attention * pairs, a.reading * (done + n))
        done += n
    for k in range(39):
        alone += phase.launch + max(phase.weights, b.dense) + b.other
        alone += max(b.attention, b.reading) * (700 + k + 1)
    assert traces.report(trace, GPU)["seconds"] == pytest.approx(float(alone), rel=1e-9)
    total = sum(step_seconds(s, trace.phases[0], GPU, 1).sum() for s in trace.segments)
    assert total == pytest.approx(traces.report(trace, GPU)["seconds"])


@pytest.mark.parametrize(
    "case",
    [
        ("video-dit-xl", VIDEO, Layout(2, 2, 2)),
        ("dit-b-4", Clip(128, 128, 1, 3), Layout()),
        ("llama-3.1-8b", Turn(300, 20, 128), Layout(2)),
    ],
)
def test_traces_save_and_load_without_loss(case: tuple[Any, ...], tmp_path: Path) -> None:
    trace = traces.trace(case[0], None, *case[1:])
    path = tmp_path / "clip.npz"
    traces.save(trace, path)
    back = traces.load(path)
    assert back == trace
    assert traces.price(back, GPU) == traces.price(trace, GPU)
    assert traces.report(back, GPU) == traces.report(trace, GPU)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.npz"]


def test_a_file_that_is_no_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.npz"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="not a memory trace"):
        traces.load(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match="not a memory trace"):
        traces.load(path)


def test_scaling() -> None:
    trace = traces.trace("video-dit-xl", None, VIDEO)
    half = trace.scale(memory=0.5, compute=2)
    assert half.segments[1].peak == trace.segments[1].peak // 2
    assert half.segments[1].dense_flops == 2 * trace.segments[1].dense_flops
    assert half.weights_bytes == trace.weights_bytes
    assert trace.scale() == trace


@pytest.mark.parametrize("name", ["video-dit-xl", "qwen3-8b"])
def test_plot(name: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.png"
    traces.plot(traces.trace(name), GPU, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000
