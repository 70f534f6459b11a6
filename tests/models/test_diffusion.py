"""The diffusion models as data: files of one's own, and what is said of wrong ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scene import scene

from dcsim import traces
from dcsim.assembly import make_plan
from dcsim.models import ModelError, diffusion, get, names
from dcsim.models.pipeline import Networks, Pipeline
from dcsim.models.shapes import Clip
from dcsim.models.tape import Tape
from dcsim.spec import Layout, scenario_from_data

CLIPS = [name for name in names() if get(name).kind == "dit"]

GOOD = """
models:
  tiny:
    title: Tiny painter
    source: a test
    denoiser:
      family: dit
      depth: 2
      hidden: 64
      heads: 4
      patch: [1, 2, 2]
      text_width: 4096
      modulation: shared
    vae: sd
    prompts:
      - {encoder: t5-xxl, tokens: 120}
    predicts: noise
    request: {resolution: 512x256, steps: 20}
    defaults: {cfg: sequential, guidance: 4.5}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_gives_a_model(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    model = get(str(file))
    assert (model.kind, model.request) == ("dit", Clip(512, 256, 1, 20))
    options = model.resolve()
    assert (options["cfg"], options["guidance"], options["sampler"]) == ("sequential", 4.5, "ddpm")
    # Embedder of 256 and one of 64, text of 4096 and one of 64, one modulation of six; a block has
    # an offset, qkv, out, the same again for the text, and an MLP of four; ends.
    h = 64
    ends = 16 * h + h + 256 * h + 2 * h + h * h + 4096 * h + 2 * h + h * h + 6 * h * h + 6 * h
    block = 6 * h + 2 * (4 * h * h + 4 * h) + 8 * h * h + 5 * h
    last = 2 * h * h + 2 * h + 32 * h + 32
    assert model.params == ends + 2 * block + last
    trace = traces.trace(f"{file}#tiny")
    assert [row.name for row in trace.rows] == ["encode", "first step", "denoise", "decode"]
    assert trace.rows[1].tokens == 32 * 16


def test_a_file_is_the_model_of_a_job(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    shape = {"resolution": "256x256", "steps": 10}
    arrivals = {"process": "poisson", "rate": "1/s"}
    job = {"model": f"{file}#tiny", "shape": shape, "arrivals": arrivals, "replicas": 1}
    plan = make_plan(scenario_from_data(scene(jobs={"mine": job})))
    assert len(plan.tables["phases"]) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Tiny", "titel: Tiny", "4:5: models.tiny.titel: unknown key"),
        ("family: dit", "family: dot", "6:5: models.tiny.denoiser: family: 'dot' is not known"),
        ("depth: 2", "depth: 0", "8:14: models.tiny.denoiser.depth: 0 must be 1 or more"),
        ("heads: 4", "heads: 5", "heads: 5 does not divide 64"),
        ("patch: [1, 2, 2]", "patch: [2, 2]", "patch: needs at least 3"),
        ("text_width: 4096", "text_width: 512", "text_width: 512, but its encoders give 4096"),
        ("vae: sd", "vae: sdd", "did you mean 'sd'"),
        ("vae: sd", "vae: flux", "flux has 16 latent channels, the denoiser 4"),
        ("encoder: t5-xxl", "encoder: t5-xl", "did you mean 't5-xxl'"),
        ("tokens: 120", "tokens: many", "'many' where a whole number is due"),
        ("text_width: 4096", "classes: 10", "prompts: none is due, its condition is a class"),
        ("    prompts:\n      - {encoder: t5-xxl, tokens: 120}\n", "", "prompts: none is given"),
        ("512x256", "512x", "is no resolution"),
        ("cfg: sequential", "cfg: both", "defaults.cfg: 'both' is not allowed"),
        ("cfg: sequential", "cgf: batched", "defaults.cgf: unknown option: did you mean 'cfg'"),
        ("modulation: shared", "modulation: all", "modulation: 'all' is not allowed"),
        ("models:", "- models:", "where a mapping is due"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    file = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        diffusion.read(file)
    assert all(path == "model" and str(file) in text for path, text in caught.value.problems)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    bad = GOOD.replace("depth: 2", "depth: 0").replace("vae: sd", "vae: sdd")
    with pytest.raises(ModelError) as caught:
        get(str(written(tmp_path, bad)))
    assert len(caught.value.problems) == 2


def test_shipped_models_can_be_named_and_traced() -> None:
    assert len(CLIPS) > 25
    for name in CLIPS:
        found = traces.trace(name)
        assert found.peak_bytes > found.weights_bytes > 2 * get(name).params


# Of the typical request: published, or by hand from patches and the VAE's strides.
TOKENS = {
    "dit-xl-2": 256,
    "sd3-medium": 4096,
    "sd3.5-medium": 4096,
    "sd3.5-large": 4096,
    "flux.1-dev": 4096,
    "flux.1-schnell": 4096,
    "qwen-image": 6889,  # 83 x 83
    "hunyuanvideo": 118_800,
    "open-sora-2.0": 33 * 36 * 64,
    "wan2.1-t2v-1.3b": 32_760,
    "wan2.1-t2v-14b": 75_600,
    "wan2.2-t2v-a14b": 75_600,
    "wan2.1-i2v-14b": 75_600,
    "wan2.2-i2v-a14b": 75_600,
    "wan2.2-ti2v-5b": 27_280,
    "cogvideox-2b": 17_550,
    "cogvideox-5b": 17_550,
    "cogvideox1.5-5b": 11 * 48 * 85,  # 21 latent frames, padded to 22
    "cogvideox-5b-i2v": 17_550,
    "cogvideox1.5-5b-i2v": 11 * 48 * 85,
    "flux.1-kontext-dev": 4096,  # and as many of the image that it edits
    "pixart-alpha": 4096,
    "pixart-sigma": 4096,
    "sana-1.6b": 32 * 32,
    "sana-0.6b": 32 * 32,
    "sdxl": 32 * 32,  # cells of the coarsest level
    "sd-1.5": 8 * 8,
    "open-sora-1.2": 30 * 45 * 80,  # six pieces of 17 frames
    "mochi-1": 44_520,
    "latte-1": 16 * 32 * 32,
    "ltx-video-2b": 21 * 16 * 22,
    "ltx-video-13b": 16 * 22 * 38,
    "sora-class-30b": 31 * 45 * 80,  # 61 latent frames, padded to 62
}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_of_the_typical_request(name: str) -> None:
    networks, clip = get(name).network, get(name).request
    assert isinstance(networks, Networks)
    assert isinstance(clip, Clip)
    latent = networks.vae.latent(clip.frames, clip.height, clip.width)
    assert networks.denoiser.tokens(*networks.denoiser.padded(latent)) == TOKENS[name]


def test_padded_frames_come_first_and_are_not_decoded() -> None:
    """CogVideoX1.5 denoises 22 latent frames for 81 of a clip and decodes the last 21."""
    model = get("cogvideox1.5-5b")
    assert isinstance(model.network, Networks)
    run = Pipeline(Tape(), model.network, model.resolve(), Clip(64, 64, 81, 1))
    run.encode()
    run.prepare()
    assert run.latents is not None
    assert run.latents.shape == (1, 16, 22, 8, 8)
    run.step(0)
    assert run.decode().shape == (1, 3, 81, 64, 64)


def test_of_two_experts_both_are_loaded_and_one_is_read() -> None:
    one, two = traces.trace("wan2.1-t2v-14b"), traces.trace("wan2.2-t2v-a14b")
    (a,), (b,) = ([p for p in t.phases if p.name == "denoise"] for t in (one, two))
    assert (b.params, b.weights, b.checkpoint) == (2 * a.params, 2 * a.weights, 2 * a.checkpoint)
    assert (b.reads, b.layers) == (a.reads, a.layers)
    assert get("wan2.2-t2v-a14b").params == 2 * 14_288_491_584


WHOLE = ("sdxl", "sd-1.5")
"""What one GPU runs whole."""


@pytest.mark.parametrize("name", WHOLE)
def test_what_cannot_be_shared_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="layout: a U-Net is whole on each GPU"):
        traces.trace(name, None, None, Layout(sp=2))
    with pytest.raises(ModelError, match=r"options\.feature_cache: 'teacache' is not allowed"):
        traces.trace(name, {"feature_cache": "teacache"})
    with pytest.raises(ModelError, match=r"options\.residual_dtype: 'fp32' is not allowed"):
        traces.trace(name, {"residual_dtype": "fp32"})
    alone, both = traces.trace(name), traces.trace(name, None, None, Layout(cfg=2))
    # Two GPUs, a branch each: as many FLOPs of a step in all.
    assert both.rows[-2].attn_flops == alone.rows[-2].attn_flops
    assert both.weights_bytes == 2 * alone.weights_bytes


@pytest.mark.parametrize("layout", [Layout(tp=2), Layout(sp=2)])
@pytest.mark.parametrize("name", [name for name in CLIPS if name not in WHOLE])
def test_gpus_share_the_work_of_a_step(name: str, layout: Layout) -> None:
    """Attention divides; of the products only embedders, modulations and, over tokens, the text's
    projections are done by all. Something is sent."""
    model = get(name)
    assert isinstance(model.network, Networks)
    frames = 1 + 2 * model.network.vae.time if model.network.denoiser.frames else 1
    shape = Clip(768, 768, frames, 1)
    alone, spread = (
        next(row for row in traces.trace(name, None, shape, each).rows if row.first)
        for each in (Layout(), layout)
    )
    assert 1 <= spread.attn_flops / alone.attn_flops < 1.02
    assert 1 <= spread.dense_flops / alone.dense_flops < 1.35
    assert (alone.comm_bytes, spread.comm_bytes > 0) == (0, True)


def test_a_text_encoder_in_float32() -> None:
    """As Open-Sora 1.2 is served: four bytes a parameter, read as they are, multiplied as bf16."""
    plain, wide = (
        traces.trace("open-sora-1.2", {"text_weights_dtype": kind}).phases[0]
        for kind in ("as dtype", "fp32")
    )
    assert (plain.weights, wide.weights) == (2 * 4_762_310_656, 4 * 4_762_310_656)
    assert (wide.reads, wide.dense_dtype) == (2 * plain.reads, "bf16")


@pytest.mark.parametrize("name", CLIPS)
def test_weights_of_any_kind(name: str) -> None:
    """What is quantised is read by products alone: nothing that is added stays in 8 bits."""

    def weights(options: dict[str, str]) -> int:
        phases = traces.trace(name, options).phases
        return next(phase.weights for phase in phases if phase.name == "denoise")

    kept = {dtype: weights({"weights_dtype": dtype}) for dtype in ("fp8", "nf4")}
    plain = weights({"dtype": "bf16"})
    assert kept["nf4"] < kept["fp8"] < plain
    # Matrices of blocks are nearly all of a large model.
    assert kept["fp8"] >= plain // 2
