"""Requests that bring an image or a clip: edits, animations, what goes on from given frames."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from scene import changed, scene

from dcsim import traces
from dcsim.assembly import make_plan
from dcsim.engine import COLUMNS
from dcsim.models import ModelError, get, vae
from dcsim.models.weights import count
from dcsim.planning import check
from dcsim.spec import Layout, SpecError, load_parts, scenario_from_data
from dcsim.traces import Clip, MemoryTrace, Segment, handed_over, part
from dcsim.traces.report import report

H100 = load_parts().gpus["h100"]
WAN, COG, KONTEXT = "wan2.1-i2v-14b", "cogvideox-5b-i2v", "flux.1-kontext-dev"
SMALL = Clip(832, 480, 17, 10)


def row(trace: MemoryTrace, name: str) -> Segment:
    return next(each for each in trace.rows if each.name == name)


def names(trace: MemoryTrace) -> list[str]:
    return [each.name for each in trace.rows]


# Edits


def test_an_edit_is_encoded_and_denoised_in_part() -> None:
    plain = traces.trace("sd3-medium")
    edit = traces.trace(
        "sd3-medium", None, replace(get("sd3-medium").request, given=1, strength=0.6)
    )
    texts = [f"encode {name}" for name in ("clip-l-projected", "clip-g", "t5-xxl")]
    assert names(edit) == [*texts, "encode input", "first step", "denoise", "decode"]
    # diffusers' SD3 img2img: 28 - int(28 - 16.8) = 17.
    assert row(edit, "first step").steps + row(edit, "denoise").steps == 17
    assert edit.artifact == plain.artifact
    assert edit.weights_bytes == plain.weights_bytes
    assert edit.params == plain.params
    # A step is as without it: the latents are what they are, whatever they began as.
    for name in ("first step", "decode"):
        assert row(edit, name).flops == row(plain, name).flops
        assert row(edit, name).live == row(plain, name).live
    # 1024 x 1024 x 3 pixels in bf16 come from the host; latents of 16 x 128 x 128 in fp32 stay.
    bring, before = row(edit, "encode input"), row(edit, "encode t5-xxl")
    assert bring.host_bytes == 2 * 3 * 1024 * 1024
    assert bring.live - before.live == 4 * 16 * 128 * 128


@pytest.mark.parametrize(
    ("steps", "strength", "run"),
    [(28, 0.6, 17), (30, 0.1, 3), (50, 0.8, 40), (4, 0.5, 2), (3, 0.01, 1), (20, 1.0, 20)],
)
def test_steps_of_an_edit(steps: int, strength: float, run: int) -> None:
    clip = Clip(256, 256, 1, steps, 1, strength)
    found = traces.trace("flux.1-dev", None, clip)
    assert sum(each.steps for each in found.rows if each.phase == "denoise") == run
    assert clip.denoised == run
    again = traces.trace("flux.1-dev", None, replace(clip, steps=7)).with_steps(steps)
    assert again == found


def test_a_feature_cache_skips_steps_that_are_run() -> None:
    clip = Clip(512, 512, 1, 20, 1, 0.5)
    found = traces.trace("flux.1-dev", {"feature_cache": "teacache"}, clip)
    # 10 of 20 steps are run, 3 in 5 of them computed.
    assert [row(found, name).steps for name in ("first step", "denoise", "cached")] == [1, 5, 4]


def test_a_clip_is_edited_whole() -> None:
    plain = traces.trace("wan2.1-t2v-1.3b", None, SMALL)
    found = traces.trace("wan2.1-t2v-1.3b", None, replace(SMALL, given=17, strength=0.7))
    bring = row(found, "encode input")
    # A frame, then chunks of four; branches in turn.
    assert bring.steps == 1 + 4
    assert bring.steps * bring.host_bytes == pytest.approx(4 * 3 * 17 * 832 * 480, abs=5)
    assert row(found, "denoise").steps + row(found, "first step").steps == 2 * 7
    assert row(found, "denoise").live == row(plain, "denoise").live


# The autoencoder


def test_the_encoder_has_a_phase_of_its_own() -> None:
    """Stable Diffusion's encoder is 34,163,664 parameters of 83,653,863, with its last layer."""
    found = vae.get("sd")
    own = sum(count(iter([each])) for each in vae.parameters(found) if each[0].startswith("enc"))
    assert own == 34_163_664
    edit = traces.trace("pixart-alpha", None, Clip(512, 512, 1, 20, 1, 0.5))
    sizes = {phase.name: (phase.params, phase.weights) for phase in edit.phases}
    assert sizes["input"] == (own, 2 * own)
    assert sizes["vae"] == (83_653_863 - own, 2 * (83_653_863 - own))


def test_an_image_encoded_by_hand() -> None:
    """FLOPs of Stable Diffusion's encoder of 512 x 512 pixels, layer by layer."""

    def conv(side: int, width: int, out: int, kernel: int = 3) -> int:
        return 2 * side * side * width * out * kernel * kernel

    total, width = conv(512, 3, 128), 128
    for level, out in enumerate((128, 256, 512, 512)):
        side = 512 >> level
        for _ in range(2):
            total += conv(side, width, out) + conv(side, out, out)
            total += conv(side, width, out, 1) if width != out else 0
            width = out
        if level < 3:
            total += conv(side // 2, out, out)
    total += 4 * conv(64, 512, 512)
    dense = 4 * 2 * 64 * 64 * 512 * 512
    attention = 4 * 64**4 * 512
    total += conv(64, 512, 8) + conv(64, 8, 8, 1)
    edit = traces.trace("pixart-alpha", None, Clip(512, 512, 1, 20, 1, 0.5))
    bring = row(edit, "encode input")
    assert (bring.conv_flops, bring.dense_flops, bring.attn_flops) == (total, dense, attention)


# Animations


def test_wan_encodes_a_blank_clip_behind_the_image() -> None:
    """81 frames in 21 passes, as its pipeline does; 20 channels of mask and latents are held."""
    clip = Clip(832, 480, 81, 40)
    found = traces.trace(WAN, None, clip)
    assert found.shape == replace(clip, given=1), "it needs an image, said or not"
    texts = ["encode umt5-xxl", "encode clip-h-vision"]
    assert names(found)[:3] == [*texts, "encode input"]
    bring = row(found, "encode input")
    assert bring.steps == 21
    assert bring.live - row(found, texts[1]).live == 4 * 20 * 21 * 60 * 104
    whole = traces.trace("wan2.1-t2v-14b", None, replace(clip, given=81))
    assert bring.flops == row(whole, "encode input").flops
    # The image's encoding: 257 tokens of 1280, for both branches once.
    phase = next(each for each in found.phases if each.name == "text clip-h-vision")
    assert (phase.passes, row(found, texts[1]).tokens) == (1, 257)
    held = 2 * 257 * 1280 + 2 * 3 * 224 * 224  # and the pixels, while it is encoded
    assert row(found, texts[1]).live - row(found, texts[0]).live <= held
    first, like = (
        row(found, "first step"),
        row(traces.trace("wan2.1-t2v-14b", None, clip), "first step"),
    )
    # Embedding 36 channels in place of 16, the image's encoding through two layers, its keys and
    # values in 40 blocks, and each of 32,760 tokens attends to its 257.
    n, h = 32_760, 5120
    dense = 2 * n * 20 * 4 * h + 2 * 257 * (1280 * 1280 + 1280 * h) + 40 * 2 * 2 * 257 * h * h
    assert first.dense_flops - like.dense_flops == dense
    assert first.attn_flops - like.attn_flops == 40 * 4 * n * 257 * h


def test_cogvideox_encodes_the_image_alone() -> None:
    """One frame in one pass; its latents and zeros stand beside all 13 latent frames."""
    found, like = traces.trace(COG), traces.trace("cogvideox-5b")
    bring = row(found, "encode input")
    assert (bring.steps, bring.host_bytes) == (1, 2 * 3 * 480 * 720)
    assert bring.live - row(found, "encode").live == 4 * 16 * 13 * 60 * 90
    first = row(found, "first step")
    more = 2 * 2 * 17_550 * 16 * 4 * 3072  # two branches in a batch, 16 channels of 4 cells
    assert first.dense_flops - row(like, "first step").dense_flops == more
    assert first.live - row(like, "first step").live == 4 * 16 * 13 * 60 * 90


def test_frames_are_gone_on_from() -> None:
    """Wan 2.2 TI2V keeps given frames as they are: 3 latent frames of 9 of a clip of 33."""
    clip = Clip(640, 352, 33, 10)
    plain = traces.trace("wan2.2-ti2v-5b", None, clip)
    found = traces.trace("wan2.2-ti2v-5b", None, replace(clip, given=9))
    held = 4 * 48 * 3 * 22 * 40
    for name in ("first step", "decode"):
        assert row(found, name).live - row(plain, name).live == held
    assert row(found, "first step").flops == row(plain, name := "first step").flops
    # Written in place: both are read, one is written.
    assert row(found, name).other_bytes - row(plain, name).other_bytes == 3 * held


def test_a_reference_is_tokens_beside_the_image() -> None:
    """FLUX.1 Kontext: 4,096 tokens more, at their own place; only the first are predicted."""
    found, plain = traces.trace(KONTEXT), traces.trace("flux.1-dev")
    assert row(found, "first step").tokens == 2 * row(plain, "first step").tokens == 8192
    # 57 blocks attend among 4,096 + 4,096 + 512 tokens of width 3,072.
    assert row(found, "first step").attn_flops == 57 * 4 * 8704**2 * 3072
    assert row(found, "decode").flops == row(plain, "decode").flops
    assert row(found, "decode").peak == row(plain, "decode").peak
    without = traces.trace(KONTEXT, None, Clip(1024, 1024, 1, 28))
    assert row(without, "first step").flops == row(plain, "first step").flops


# Where it goes on


def test_stages_hand_over_what_is_brought() -> None:
    found = traces.trace(COG)
    embeddings, latents = 2 * 226 * 4096 * 2, 4 * 16 * 13 * 60 * 90
    assert handed_over(found, "encode") == embeddings + latents
    assert handed_over(found, "denoise") == latents
    first, last = part(found, ("encode",)), part(found, ("decode",))
    assert [phase.name for phase in first.phases] == ["text", "input"]
    assert [phase.name for phase in last.phases] == ["vae"]
    edit = traces.trace("flux.1-dev", None, Clip(1024, 1024, 1, 28, 1, 0.5))
    plain = traces.trace("flux.1-dev")
    one = 4 * 16 * 128 * 128
    assert handed_over(edit, "encode") == handed_over(plain, "encode") + one
    assert handed_over(edit, "denoise") == handed_over(plain, "denoise") == one


def test_offload_and_shares_pass_by_the_encoder() -> None:
    clip = Clip(512, 512, 1, 20, 1, 0.5)
    plain = traces.trace("pixart-alpha", None, clip)
    weights = {phase.name: phase.weights for phase in plain.phases}
    moved = traces.trace("pixart-alpha", {"offload": "model"}, clip)
    loads = {r.name: r.host_bytes for r in moved.rows if r.name.startswith("load")}
    assert loads == {f"load {name}": size for name, size in weights.items()}
    layers = traces.trace("pixart-alpha", {"offload": "sequential"}, clip)
    pixels = row(plain, "encode input").host_bytes
    assert row(layers, "encode input").host_bytes == weights["input"] + pixels
    shared = traces.trace("pixart-alpha", {"fsdp": True}, clip, Layout(1, 2, 1))
    spread = traces.trace("pixart-alpha", None, clip, Layout(1, 2, 1))
    assert row(shared, "encode input") == row(spread, "encode input")


def test_pixels_come_over_the_hosts_link() -> None:
    clip = Clip(1024, 1024, 1, 28, 1, 0.5)
    found = traces.trace("flux.1-dev", None, clip)
    at = names(found).index("encode input")
    cost = traces.price(found, H100).segments[at].cost
    assert cost.host == Fraction(2 * 3 * 1024 * 1024, 63 * 10**9)
    phases = {phase["name"]: phase for phase in report(found, H100)["phases"]}
    assert phases["input"]["flops"] == row(found, "encode input").flops


# Bad input


@pytest.mark.parametrize(
    ("model", "clip", "path", "message"),
    [
        ("flux.1-dev", Clip(512, 512, 1, 4, 2), "input", "2 frames of a clip of 1"),
        ("hunyuanvideo", replace(SMALL, given=1), "input", "1 frames to go on from, but the model"),
        (WAN, replace(SMALL, given=5), "input", "5 frames; the model takes an image"),
        (
            "wan2.2-ti2v-5b",
            Clip(640, 352, 17, 4, 6),
            "input",
            r"6 is not 1 \+ 4k \(nearest: 5 or 9",
        ),
        ("flux.1-dev", Clip(512, 512, 1, 4, 1, 0.0), "strength", r"0 is outside \(0, 1\]"),
        ("flux.1-dev", Clip(512, 512, 1, 4, 1, 1.5), "strength", r"1.5 is outside \(0, 1\]"),
        (WAN, replace(SMALL, given=1, strength=0.5), "strength", "0.5 is for an edit"),
        (KONTEXT, Clip(512, 512, 1, 4, 1, 0.5), "strength", "0.5 is for an edit"),
        ("flux.1-dev", Clip(512, 512, 1, 4, 0, 0.5), "strength", "0.5 is for an edit"),
    ],
)
def test_what_cannot_be_brought_is_told(model: str, clip: Clip, path: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        traces.trace(model, None, clip)
    assert [p for p, _ in caught.value.problems] == [f"shape.{path}"]


# In a scenario


def jobs(model: str, **shape: Any) -> dict[str, Any]:
    wanted = {"resolution": "512x512", "steps": 20, **shape}
    arrivals = {"process": "poisson", "rate": "1/s"}
    return {"edit": {"model": model, "replicas": 1, "arrivals": arrivals, "shape": wanted}}


def column(data: dict[str, Any], table: str, name: str) -> list[int]:
    plan = make_plan(scenario_from_data(data))
    return [int(each) for each in plan.tables[table][:, COLUMNS[table].index(name)]]


def test_a_job_brings_an_image() -> None:
    data = scene(jobs=jobs("flux.1-dev", input="image", strength=0.5))
    # CLIP, T5, the image, the first step, nine more, the decode.
    assert column(data, "segments", "steps") == [1, 1, 1, 1, 9, 1]
    assert column(scene(jobs=jobs("flux.1-dev")), "segments", "steps") == [1, 1, 1, 19, 1]


def test_a_job_brings_a_clip_or_frames_of_it() -> None:
    shape = {"resolution": "640x352", "frames": {"choice": {17: 1, 33: 1}}}
    for given, passes in (("video", {5, 9}), (9, {3})):
        data = scene(jobs=jobs("wan2.2-ti2v-5b", input=given, **shape))
        steps, works = column(data, "segments", "steps"), column(data, "works", "segment")
        assert {steps[at + 1] for at in works} == passes


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("input", "picture", "'picture' is not allowed; did you mean 'image'|known: image"),
        ("input", 0, "0 must be 1 or more"),
        ("input", 2.5, "2.5 where a whole number is due"),
        ("strength", 0, "0 must be more than 0"),
        ("strength", 1.2, "1.2 must be 1 or less"),
        ("strength", 0.5, "strength needs input"),
    ],
)
def test_what_is_wrong_with_a_jobs_input_is_told(key: str, value: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        scenario_from_data(changed(f"jobs.image.shape.{key}", value))


def test_what_a_model_cannot_be_brought_is_told_with_what_is_wrong_with_fields(
    tmp_path: Path,
) -> None:
    data = scene(jobs=jobs("hunyuanvideo", resolution="640x352", frames=17, input="image"))
    file = tmp_path / "scene.yaml"
    file.write_text(json.dumps(data | {"duration": 600}), encoding="utf-8")
    said = [str(each) for each in check(file)]
    assert any("jobs.edit.shape.input: 1 frames to go on from, but" in each for each in said)
    assert any("duration: 600 is a bare number" in each for each in said)
