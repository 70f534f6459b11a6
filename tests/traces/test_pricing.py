"""The roofline, and what a trace says on a GPU."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from trace_scenes import CLIP_OPTIONS, GPU, LAYOUTS, VIDEO, VIDEO_SHAPES

from dcsim import traces
from dcsim.models import ModelError
from dcsim.spec import Layout
from dcsim.traces import DitShape, TokenShape
from dcsim.traces.price import TICKS_PER_SECOND
from dcsim.traces.report import step_seconds

COLUMNS = {
    "rule",
    "phase",
    "steps",
    "tokens",
    "dense",
    "own",
    "own_slope",
    "ctx",
    "pair",
    "live",
    "live_slope",
    "peak",
    "mean",
    "first",
}


def seconds(ticks: int) -> float:
    return ticks / TICKS_PER_SECOND


@given(VIDEO_SHAPES, CLIP_OPTIONS, LAYOUTS)
@settings(max_examples=20, deadline=None)
def test_work_fits_the_engines_border(
    shape: DitShape, options: dict[str, Any], layout: Layout
) -> None:
    work = traces.price(traces.trace("video-dit-xl", options, shape, layout), GPU)
    assert work.kind == "fixed"
    for row in work.segments:
        assert set(row) == COLUMNS
        assert all(isinstance(v, int) and 0 <= v < 2**62 for v in row.values())
        assert row["rule"] == 0
        assert 0 <= row["phase"] < len(work.phases)
        assert 0 < row["mean"] <= row["peak"]
    for phase in work.phases:
        assert phase.launch > 0
        assert phase.weights > 0


def test_dense_layers_follow_the_roofline() -> None:
    trace = traces.trace("video-dit-2b", None, DitShape(832, 480, 81, 50), Layout(1, 2, 1))
    row = traces.price(trace, GPU).segments[1]
    s = trace.segments[1]
    assert seconds(row["dense"]) == pytest.approx(s.dense_flops / (2 * 1e15 * 0.6), rel=1e-9)
    want = (
        s.attn_flops / (2 * 1e15 * 0.5)
        + s.other_bytes / (2 * 3e12 * 0.8)
        + s.comm_bytes / (2 * 450e9 * 0.7)
    )
    assert seconds(row["own"]) == pytest.approx(want, rel=1e-9)


def test_weights_are_read_once_an_iteration_and_layers_launched() -> None:
    trace = traces.trace("llama-3.1-8b", None, TokenShape(100, 10))
    (phase,) = traces.price(trace, GPU).phases
    # All matrices but the embedding table, whose rows are looked up.
    read = 2 * (8_030_261_248 - 128_256 * 4096 - 65 * 4096)
    assert seconds(phase.weights) == pytest.approx(read / (3e12 * 0.8), rel=1e-9)
    assert phase.launch == 32 * GPU.launch * 65536


def test_ticks_round_up_and_scale_exactly() -> None:
    trace = traces.trace("dit-s-8", None, DitShape(64, 64, 1, 1))
    row = traces.price(trace, GPU).segments[0]
    s = trace.segments[0]
    rate = 10**15 * 6
    assert row["dense"] == ceil(s.dense_flops * TICKS_PER_SECOND * 10 / rate) or row[
        "dense"
    ] == ceil(s.dense_bytes * TICKS_PER_SECOND * 10 / (3 * 10**12 * 8))


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
        for name in ("dense", "own"):
            assert b[name] == pytest.approx(a[name] / 2, abs=4)
        # Shares of time stay, so the mean does.
        assert b["mean"] == pytest.approx(a["mean"], rel=1e-9)


def test_what_a_gpu_lacks_is_told() -> None:
    trace = traces.trace("video-dit-xl", {"weights_dtype": "fp4"}, VIDEO)
    with pytest.raises(ModelError, match=r"test has no fp4 peak \(it has bf16, fp8\)"):
        traces.price(trace, GPU)
    alone = replace(GPU, scale_up=0)
    with pytest.raises(ModelError, match="scale-up"):
        traces.price(traces.trace("video-dit-xl", None, VIDEO, Layout(1, 2, 1)), alone)


def test_float32_runs_at_half_the_rate() -> None:
    wide = traces.trace("video-dit-xl", {"dtype": "fp32"}, DitShape(832, 480, 81, 50))
    slim = traces.trace("video-dit-xl", None, DitShape(832, 480, 81, 50))
    a, b = (traces.price(t, GPU).segments[1]["dense"] for t in (wide, slim))
    assert a == pytest.approx(2 * b, abs=2)


def test_report_has_what_json_promises() -> None:
    trace = traces.trace("video-dit-xl", None, VIDEO)
    found = traces.report(trace, GPU)
    assert {"model", "params", "weights_bytes", "peak_bytes", "peak_phase", "phases"} <= set(found)
    assert [p["name"] for p in found["phases"]] == ["text", "denoise", "vae"]
    assert found["phases"][1]["steps"] == 4
    assert found["seconds"] == pytest.approx(sum(p["seconds"] for p in found["phases"]))
    work = traces.price(trace, GPU)
    alone = 0
    for row in work.segments:
        phase = work.phases[row["phase"]]
        step = phase.launch + max(phase.weights, row["dense"]) + row["own"]
        alone += row["steps"] * step
    assert found["seconds"] == pytest.approx(seconds(alone), rel=1e-9)
    assert "seconds" not in traces.report(trace)
    assert found["fits"] is True


def test_a_turns_seconds_are_the_engines() -> None:
    shape = TokenShape(700, 40, 256)
    trace = traces.trace("qwen3-8b", None, shape)
    work = traces.price(trace, GPU)
    (phase,), (prefill, decode) = work.phases, work.segments
    ticks, done = 0, 0
    for n in (256, 256, 188):
        pairs = n * done + n * (n + 1) // 2
        ticks += phase.launch + max(phase.weights, prefill["dense"] * n) + prefill["own"] * n
        ticks += max(prefill["pair"] * pairs, prefill["ctx"] * (done + n))
        done += n
    for k in range(39):
        ticks += phase.launch + max(phase.weights, decode["dense"]) + decode["own"]
        ticks += max(decode["pair"], decode["ctx"]) * (700 + k + 1)
    # Rounding up is a tick a pair in the engine and a tick a step here.
    assert traces.report(trace, GPU)["seconds"] == pytest.approx(seconds(ticks), rel=1e-4)
    total = sum(step_seconds(s, trace.phases[0], GPU, 1).sum() for s in trace.segments)
    assert total == pytest.approx(traces.report(trace, GPU)["seconds"])


@pytest.mark.parametrize(
    "case",
    [
        ("video-dit-xl", VIDEO, Layout(2, 2, 2)),
        ("dit-b-4", DitShape(128, 128, 1, 3), Layout()),
        ("llama-3.1-8b", TokenShape(300, 20, 128), Layout(2)),
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
