"""Feature caches, by hand: bytes that are held, steps that are skipped and what they cost."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import pytest
from scene import changed

from dcsim import traces
from dcsim.assembly import make_plan
from dcsim.models import ModelError
from dcsim.models.shapes import Clip
from dcsim.planning import simulate
from dcsim.spec import Layout, load_parts, scenario_from_data
from dcsim.traces import MemoryTrace, Segment
from dcsim.traces.explain import explain
from dcsim.traces.parts import part
from dcsim.traces.report import report

H100 = load_parts().gpus["h100"]
METHODS = ("teacache", "fbcache", "pab", "taylorseer")
CLIP = Clip(832, 480, 17, 10)


def of(
    method: str,
    model: str = "video-dit-2b",
    clip: Clip = CLIP,
    layout: Layout | None = None,
    **options: Any,
) -> MemoryTrace:
    return traces.trace(model, {"feature_cache": method} | options, clip, layout)


def first(trace: MemoryTrace) -> Segment:
    return next(row for row in trace.rows if row.first)


def skipped(trace: MemoryTrace) -> Segment:
    return next(row for row in trace.rows if row.name == "cached")


def stored(method: str, model: str, clip: Clip, **options: Any) -> int:
    return first(of(method, model, clip, **options)).live - first(of("none", model, clip)).live


FLUX = Clip(1024, 1024, 1, 28)
IMAGE, TEXT = 4096 * 3072 * 2, 512 * 3072 * 2


def test_bytes_of_teacache() -> None:
    """HunyuanVideo 720p: 33 x 45 x 80 tokens of 3072 in bf16, the input and the residual."""
    video = Clip(1280, 720, 129, 50)
    each = 33 * 45 * 80 * 3072 * 2
    assert each / 2**30 == pytest.approx(0.68, abs=0.002)
    assert stored("teacache", "hunyuanvideo", video) == 2 * each
    # Branches in turn have a copy each; Wan's tokens are 21 x 45 x 80 of 5120.
    clip = Clip(1280, 720, 81, 50)
    assert stored("teacache", "wan2.1-t2v-14b", clip) == 2 * 2 * 21 * 45 * 80 * 5120 * 2


def test_bytes_of_fbcache() -> None:
    """FLUX.1 at 1024: the first block's output and the others' residual, of image and text, and
    the first block's residual of the image."""
    assert stored("fbcache", "flux.1-dev", FLUX) == 3 * IMAGE + 2 * TEXT


def test_bytes_of_pab() -> None:
    """CogVideoX-5B: 42 blocks, 2 branches, 17,550 + 226 tokens of 3072: 8.5 GiB."""
    held = stored("pab", "cogvideox-5b", Clip(720, 480, 49, 50))
    exact = 42 * 2 * 17776 * 3072 * 2
    assert exact / 2**30 == pytest.approx(8.54, abs=0.01)
    assert 0 <= held - exact < 42 * 1024
    # Self and cross attention of each block are kept.
    trace = of("pab", "pixart-alpha", Clip(1024, 1024, 1, 20))
    plain = of("none", "pixart-alpha", Clip(1024, 1024, 1, 20))
    assert first(trace).live - first(plain).live == 28 * 2 * 2 * 4096 * 1152 * 2


def test_bytes_of_taylorseer() -> None:
    """Two features of each attention and feed-forward of FLUX's 19 blocks, and of the 38 whose
    halves have one projection back."""
    assert stored("taylorseer", "flux.1-dev", FLUX) == 2 * (19 * 2 + 38) * (IMAGE + TEXT)


def test_a_feed_forward_of_convolutions_is_one() -> None:
    """SANA at 1024: 20 blocks of two attentions and a feed-forward, 2 branches, 1024 tokens of
    2240. What is forecast is not computed: all convolutions are of feed-forward halves."""
    clip = Clip(1024, 1024, 1, 20)
    each = 2 * 1024 * 2240 * 2
    assert stored("pab", "sana-1.6b", clip) == 20 * 2 * each
    assert stored("taylorseer", "sana-1.6b", clip) == 2 * 20 * 3 * each
    kept = {method: skipped(of(method, "sana-1.6b", clip)) for method in ("pab", "taylorseer")}
    # Two columns of 11200 channels and of 5600 from 2240, and nine of the depth.
    halves = 20 * 2 * 2 * 1024 * (2240 * 11200 + 9 * 11200 + 5600 * 2240)
    assert {name: row.conv_flops for name, row in kept.items()} == {"pab": halves, "taylorseer": 0}
    assert [row.attn_flops for row in kept.values()] == [0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_gpus_that_share_tokens_share_what_is_stored(method: str) -> None:
    clip = Clip(832, 480, 17, 10)
    one = first(of(method)).live - first(of("none")).live
    four = Layout(1, 4, 1)
    spread = first(of(method, layout=four)).live - first(of("none", layout=four)).live
    assert one <= spread <= one * 1.01, clip


def test_a_skipped_step_under_teacache_by_hand() -> None:
    """FLUX.1: the embedders, the first block's modulation, the last layer; no block."""
    trace = of("teacache", "flux.1-dev", FLUX)
    row = skipped(trace)
    h = 3072

    def layer(width: int, out: int) -> int:
        return 2 * (width * out + out)

    reads = layer(64, h) + layer(4096, h) + layer(768, h) + layer(h, h)  # image, text, pooled
    reads += 2 * (layer(256, h) + layer(h, h))  # time, guidance
    reads += 2 * layer(h, 6 * h)  # of the first block, for image and text
    reads += layer(h, 2 * h) + layer(h, 64)
    phase = trace.phases[-1]
    assert (phase.name, phase.weights, phase.layers) == ("denoise cached", 0, 1)
    assert phase.reads == reads
    assert (row.attn_flops, row.attn_bytes) == (0, 0)
    rows = 4096 * (64 * h + h * 64) + 512 * 4096 * h
    ones = 768 * h + h * h + 2 * (256 * h + h * h) + 2 * h * 6 * h + h * 2 * h
    assert row.dense_flops == 2 * (rows + ones)
    assert trace.records["cached"].names[-2:] == ("compare", "add")
    assert trace.records["cached"].moved[-2:].tolist() == [2 * IMAGE, 3 * IMAGE]


def test_a_skipped_step_under_fbcache_is_a_57th() -> None:
    """FLUX.1's first block does what each of 19 does; its attention is one of 57 alike."""
    trace = of("fbcache", "flux.1-dev", FLUX)
    row, step = skipped(trace), first(trace)
    assert row.attn_flops == 4 * 4608 * 4608 * 3072
    assert step.attn_flops == 57 * row.attn_flops
    h = 3072
    block = 2 * 4608 * 12 * h * h
    tea = skipped(of("teacache", "flux.1-dev", FLUX))
    assert row.dense_flops - tea.dense_flops == block


def test_seconds_of_a_skipped_step_under_pab() -> None:
    """28 blocks without attention: its products, its pairs, its traffic and exchanges fall away."""
    trace, plain = of("pab"), of("none")
    row, step = skipped(trace), first(plain)
    h, n, t = 2048, 5 * 30 * 52, 512
    assert step.tokens == 2 * n
    own = 2 * 2 * n * 4 * h * h
    cross = 2 * 2 * (n * 2 * h * h + t * 2 * h * h)
    assert step.dense_flops - row.dense_flops == 28 * (own + cross)
    assert row.attn_flops == 0
    work = traces.price(trace, H100)
    cost = next(s.cost for s in work.segments if s.demand.name == "cached")
    dense = row.dense_flops / (H100.flops["bf16"] * H100.efficiency["dense"])
    assert float(cost.dense) == pytest.approx(dense, rel=1e-6)
    assert cost.attention == cost.reading == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_clip_is_its_computed_and_its_skipped_steps(method: str) -> None:
    """4 of 10 steps are computed: 4 of the old ones and 6 of the new make the time."""
    trace, plain = of(method, cache_computed=0.4), of("none")
    assert skipped(trace).steps == 6
    facts = {row["name"]: row["seconds"] for row in report(trace, H100)["phases"]}
    before = {row["name"]: row["seconds"] for row in report(plain, H100)["phases"]}
    assert facts["denoise"] == pytest.approx(0.4 * before["denoise"], rel=1e-9)
    assert facts["denoise cached"] < 0.6 * before["denoise"]
    assert facts["vae"] == before["vae"]
    assert facts["text"] == before["text"]
    assert trace.weights_bytes == plain.weights_bytes
    assert trace.artifact == plain.artifact


def test_what_is_left_is_in_order() -> None:
    """TeaCache leaves least, then FBCache; TaylorSeer less than PAB. They store in that order."""
    flops = [skipped(of(m)).flops for m in METHODS]
    assert flops[0] < flops[1] < flops[2]
    assert flops[3] < flops[2] < first(of("none")).flops
    held = [first(of(m)).live for m in METHODS]
    assert held == sorted(held)
    assert held[0] > first(of("none")).live


@pytest.mark.parametrize(
    ("method", "share"), [("teacache", 0.6), ("fbcache", 0.6), ("pab", 0.5), ("taylorseer", 0.2)]
)
def test_shares_of_computed_steps(method: str, share: float) -> None:
    for steps in (1, 2, 5, 7, 50):
        clip = Clip(832, 480, 17, steps)
        found = {row.name: row.steps for row in of(method, clip=clip).rows}
        computed = found["first step"] + found.get("denoise", 0)
        assert computed == max(1, ceil(round(share * steps, 9)))
        assert found.get("cached", 0) == steps - computed


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 2, 10, 31])
def test_other_numbers_of_steps(method: str, steps: int) -> None:
    """A trace of 10 steps, or of 1, in other steps is that of so many."""
    clip = Clip(832, 480, 17, steps)
    for one in (CLIP, Clip(832, 480, 17, 1)):
        again = of(method, clip=one, cfg="sequential").with_steps(steps)
        assert again == of(method, clip=clip, cfg="sequential")


def test_all_steps_computed_store_all_the_same() -> None:
    trace = of("teacache", cache_computed=1)
    assert "cached" not in [row.name for row in trace.rows]
    assert first(trace).live == first(of("teacache")).live
    assert report(trace, H100)["seconds"] == report(of("none"), H100)["seconds"]


def test_with_networks_that_come_and_go() -> None:
    """What is stored stays while the VAE is loaded."""
    trace, plain = of("fbcache", offload="model"), of("none", offload="model")
    more = first(trace).live - first(plain).live
    late = {row.name: row.live for row in plain.rows}
    for row in trace.rows:
        if row.name in ("load vae", "decode"):
            assert row.live - late[row.name] == more
    assert skipped(trace).live == first(trace).live


def test_the_stage_that_denoises_has_the_skipped_steps() -> None:
    stage = part(of("fbcache"), ["denoise"])
    assert [phase.name for phase in stage.phases] == ["denoise", "denoise cached"]
    assert [row.name for row in stage.rows] == ["first step", "denoise", "cached"]
    assert part(of("fbcache"), ["decode"]).rows == part(of("none"), ["decode"]).rows


def test_a_saved_trace_is_the_same(tmp_path: Path) -> None:
    trace = of("taylorseer")
    traces.save(trace, tmp_path / "clip.npz")
    again = traces.load(tmp_path / "clip.npz")
    assert again == trace
    assert again.with_steps(3) == trace.with_steps(3)


def test_the_worked_figures_name_no_tensors_of_a_skipped_step() -> None:
    """Its operations are known, what holds its bytes is that of the whole step."""
    lines = explain("video-dit-2b", of("taylorseer"), H100)
    mine = [line.what for line in lines if line.section.startswith("one cached step")]
    assert any(what.startswith("FLOPs") for what in mine)
    assert not any(what.startswith("held") for what in mine)


def test_what_cannot_be() -> None:
    for given in ({"offload": "group"}, {"offload": "sequential"}):
        with pytest.raises(ModelError, match="weights that stay"):
            of("teacache", **given)
    with pytest.raises(ModelError, match="weights that stay"):
        of("teacache", layout=Layout(1, 2, 1), fsdp=True)
    with pytest.raises(ModelError, match="cache_computed"):
        of("teacache", cache_computed=1.5)
    with pytest.raises(ModelError, match="did you mean 'teacache'"):
        of("teacach")


def test_in_a_run_clips_end_sooner() -> None:
    """The services of a scenario take it as any option."""

    def seconds(options: dict[str, Any]) -> float:
        data = changed("jobs.image.options", options)
        plan = make_plan(scenario_from_data(data))
        ended = simulate(plan).outputs
        image = plan.tables["klass"] == list(plan.classes).index("image")
        done = image & (ended["end"] >= 0)
        assert done.sum() > 0.9 * image.sum()
        return float((ended["end"] - ended["start"])[done].mean())

    assert seconds({"feature_cache": "teacache"}) < 0.8 * seconds({})
