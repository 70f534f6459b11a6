"""Clips with a soundtrack: run, counted by hand, in stages, offloaded, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from vae_scenes import kl

from dcsim import traces
from dcsim.models import ModelError, diffusion, get, vae
from dcsim.models.audio import Audio
from dcsim.models.denoisers.spacetime import Spacetime
from dcsim.models.pipeline import Networks, Pipeline, Prompt
from dcsim.models.soundtrack import Soundtrack
from dcsim.models.t5 import T5
from dcsim.models.tape import Tape
from dcsim.models.waveform import WaveDecoder
from dcsim.models.weights import count, random_arrays
from dcsim.spec import Layout, load_parts
from dcsim.traces import Clip, MemoryTrace, Segment, explain
from dcsim.traces.parts import handed_over, part

MODEL = "sora-2-class"
GPU = load_parts().gpus["h200"]
CLIP = Clip(256, 128, 49, 3)


def row(trace: MemoryTrace, name: str) -> Segment:
    (found,) = [each for each in trace.rows if each.name == name]
    return found


# A small model, run.

CLIP_NET = Spacetime(1, 2, 24, head=8, channels=6, text_width=32, axes=(4, 2, 2))
SOUND = Audio(
    Spacetime(
        1, 2, 24, head=8, channels=5, text_width=32, axes=(8, 0, 0), patch=(1, 1, 1), hears=48
    ),
    fps=8,
    decoder=WaveDecoder(5, rate=160, hidden=4, multiples=(1, 2), strides=(2, 4)),
)
SMALL = Networks(
    CLIP_NET,
    kl(6, (16, 16, 16, 16), 1, video=True),
    (Prompt("t5", T5(2, 32, 4, 8, 64, 100), 7),),
    SOUND,
)


ARRAYS = {
    "denoiser": random_arrays(CLIP_NET.parameters(), 1),
    "vae": random_arrays(vae.parameters(SMALL.vae), 2),
    "t5": random_arrays(SMALL.prompts[0].encoder.parameters(), 3),
    "audio": random_arrays(SOUND.head.parameters(), 4),
    "waveform": random_arrays(SOUND.decoder.parameters(), 5),
}


@pytest.mark.parametrize("cfg", ["batched", "sequential"])
def test_a_clip_and_its_sound_are_run(cfg: str) -> None:
    """13 frames at 8 a second are 1.625 s: 260 samples, of whole latents of 8: 264."""
    options = get(MODEL).resolve(
        {"dtype": "fp32", "vae_dtype": "fp32", "cfg": cfg, "audio_steps": 2, "vae_tiling": "none"}
    )

    def made(seed: int) -> tuple[Pipeline, Soundtrack]:
        run = Pipeline(
            Tape(execute=True), SMALL, options, Clip(32, 32, 13, 2), arrays=ARRAYS, seed=seed
        )
        run.encode(np.arange(14).reshape(2, 7))
        run.prepare()
        sound = Soundtrack(run, SOUND, 13, arrays=ARRAYS)
        for i in range(2):
            run.step(i)
        sound.prepare()
        for i in range(2):
            sound.step(i)
        return run, sound

    run, sound = made(1)
    wave = sound.decode()
    assert wave.shape == (1, 2, 264)
    assert np.isfinite(wave.data).all()
    assert run.decode().shape == (1, 3, 13, 32, 32)
    again = made(1)[1].decode().data
    assert (wave.data == again).all()
    # From the same noise it is another sound that goes with another clip.
    steps = []
    for sign in (1, -1):
        assert run.latents is not None
        run.latents.data[...] *= sign
        sound.prepare(np.zeros(sound.shape, np.float32))
        sound.step()
        assert sound.latents is not None
        steps.append(sound.latents.data)
    assert np.abs(steps[0] - steps[1]).max() > 1e-3


def test_guidance_in_turn_and_at_once_agree() -> None:
    """Both branches of a step as one pass, or one after the other."""
    found = []
    for cfg in ("batched", "sequential"):
        options = get(MODEL).resolve({"dtype": "fp32", "vae_dtype": "fp32", "cfg": cfg})
        run = Pipeline(Tape(execute=True), SMALL, options, Clip(32, 32, 13, 2), arrays=ARRAYS)
        run.encode(np.arange(14).reshape(2, 7))
        run.prepare()
        sound = Soundtrack(run, SOUND, 13, arrays=ARRAYS)
        sound.prepare()
        sound.step()
        assert sound.latents is not None
        found.append(sound.latents.data)
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


# Counted, by hand.

HIDDEN, FFN, DEPTH = 1536, 4096, 8
TOKENS = 7 * 8 * 16  # of 13 latent frames, padded to 14, of 16 x 32 cells
SOUNDS = 44  # 49 frames at 24 a second, 44,100 / 2,048 a second: 43.96


def test_its_rows_by_hand() -> None:
    found = traces.trace(MODEL, None, CLIP)
    names = ["encode", "first step", "denoise", "audio", "decode audio", "decode"]
    assert [each.name for each in found.rows] == names
    assert row(found, "first step").tokens == TOKENS
    audio = row(found, "audio")
    assert (audio.steps, audio.tokens) == (2 * 50, SOUNDS)
    seen = 512 + TOKENS
    assert audio.attn_flops == DEPTH * 4 * HIDDEN * SOUNDS * (SOUNDS + seen)
    sounds = DEPTH * (4 + 2) * HIDDEN**2 + DEPTH * 3 * HIDDEN * FFN + 2 * 64 * HIDDEN
    shown = DEPTH * 2 * HIDDEN**2
    ends = 512 * 4096 * HIDDEN + TOKENS * 128 * HIDDEN
    once = 256 * HIDDEN + HIDDEN**2 + 6 * HIDDEN**2
    assert audio.dense_flops == 2 * (SOUNDS * sounds + seen * shown + ends + once)
    # Kept beside the clip's latents: the words of two branches, the sound's latents.
    clip, words = 16 * 14 * 16 * 32 * 4, 2 * 512 * 4096 * 2
    assert row(found, "denoise").live == clip + words
    assert audio.live == clip + words + 64 * SOUNDS * 4
    wave = 2 * SOUNDS * 2048 * 2
    assert row(found, "decode audio").live == clip + words + 64 * SOUNDS * 4 + wave


def test_a_silent_clip_is_that_of_the_model_without() -> None:
    sound, silent = traces.trace(MODEL, None, CLIP), traces.trace(MODEL, {"audio": False}, CLIP)
    plain = traces.trace("sora-class-30b", None, CLIP)
    assert (silent.rows, silent.phases, silent.artifact) == (
        plain.rows,
        plain.phases,
        plain.artifact,
    )
    more = {p.name: p for p in sound.phases if p.name not in {q.name for q in silent.phases}}
    assert set(more) == {"audio", "waveform"}
    network = get(MODEL).network
    assert isinstance(network, Networks)
    assert network.audio is not None
    params = sum(phase.params for phase in more.values())
    assert params == count(network.audio.head.parameters()) + 78_104_320
    assert get(MODEL).all_params()["audio"] == params


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 32_667),  # 49 / 24 s of 128 kbit/s, rounded up
        ({"audio_bitrate": 64_000}, 16_334),
        ({"artifact": "raw"}, 2 * 2 * 90_038),  # 49 / 24 s of 44,100 samples: 90,037.5
        ({"artifact": "latent"}, 64 * SOUNDS * 4),
    ],
)
def test_what_is_stored_of_the_sound(options: dict[str, object], size: int) -> None:
    loud, silent = (traces.trace(MODEL, {**options, "audio": on}, CLIP) for on in (True, False))
    assert loud.artifact - silent.artifact == size


def test_gpus_share_what_is_heard() -> None:
    """Of 8 GPUs each projects and looks at an eighth; the words' embedding is on all."""
    alone, spread = (traces.trace(MODEL, None, CLIP, layout) for layout in (Layout(), Layout(sp=8)))
    a, b = row(alone, "audio"), row(spread, "audio")
    assert b.attn_flops == pytest.approx(a.attn_flops, rel=0.1)  # 44 latents in shares of 6
    assert b.comm_bytes > 0
    assert b.dense_flops < 1.6 * a.dense_flops
    with pytest.raises(
        ModelError, match="tp 1 x sp 24 does not divide 16 attention heads, of what"
    ):
        traces.trace(MODEL, None, CLIP, Layout(sp=24))


def test_a_cameo_is_attended_to_in_every_step() -> None:
    """25 frames of a recording: 7 latent frames, padded to 8, of patches behind the clip's."""
    plain, shown = (traces.trace(MODEL, None, replace(CLIP, given=given)) for given in (0, 25))
    a, b = row(plain, "first step"), row(shown, "first step")
    tokens = TOKENS + 4 * 8 * 16
    assert (a.tokens, b.tokens) == (TOKENS, tokens)
    h, depth = 6144, 48
    assert b.attn_flops == depth * 4 * h * (tokens**2 + 512 * tokens)
    # Encoded once, then held in fp32 beside the clip's latents; it is not heard, and not decoded.
    names = [each.name for each in shown.rows]
    assert names[:3] == ["encode", "encode input", "first step"]
    assert b.live - a.live == 16 * 8 * 16 * 32 * 4
    assert row(shown, "audio").dense_flops == row(plain, "audio").dense_flops
    assert row(shown, "decode").conv_flops == row(plain, "decode").conv_flops
    assert shown.artifact == plain.artifact
    with pytest.raises(ModelError, match=re.escape("26 is not 1 + 4k (nearest: 25 or 29)")):
        traces.trace(MODEL, None, replace(CLIP, given=26))


def test_a_cameo_is_run() -> None:
    """What is brought changes what is made; its own patches do not come back."""
    options = get(MODEL).resolve({"dtype": "fp32", "vae_dtype": "fp32", "vae_tiling": "none"})
    network = replace(CLIP_NET, likeness=True)
    networks = replace(SMALL, denoiser=network)
    arrays = {**ARRAYS, "denoiser": random_arrays(network.parameters(), 1)}
    made = []
    for scale in (0, 1):
        shape = Clip(32, 32, 13, 2, given=9)
        run = Pipeline(Tape(execute=True), networks, options, shape, arrays=arrays)
        run.encode(np.arange(14).reshape(2, 7))
        run.bring(scale * np.ones((1, 3, 9, 32, 32), np.float32))
        assert run.brought is not None
        assert run.brought.shape[2] == 4  # 9 frames are 3 latent frames, padded to 4
        assert (run.brought.data[:, :, 0] == 0).all()
        run.prepare()
        run.step(0)
        assert run.latents is not None
        assert run.latents.shape[2] == 4  # of 13 frames
        made.append(run.latents.data)
    assert np.abs(made[0] - made[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "layout", "steps", "tokens"),
    [
        ({"cfg": "sequential"}, Layout(), 100, SOUNDS),
        ({"cfg": "batched"}, Layout(), 50, 2 * SOUNDS),
        ({"cfg": "distilled"}, Layout(), 50, SOUNDS),
        ({"cfg": "batched"}, Layout(cfg=2), 50, SOUNDS),
    ],
)
def test_guidance_of_the_sound_is_that_of_the_clip(
    options: dict[str, str], layout: Layout, steps: int, tokens: int
) -> None:
    audio = row(traces.trace(MODEL, options, CLIP, layout), "audio")
    assert (audio.steps, audio.tokens) == (steps, tokens)
    assert (audio.comm_bytes > 0) == (layout.cfg == 2)


def test_other_steps_leave_the_sound_as_it_is() -> None:
    found = traces.trace(MODEL, None, CLIP)
    assert found.with_steps(7) == traces.trace(MODEL, None, Clip(256, 128, 49, 7))
    assert row(found.with_steps(7), "audio").steps == 100
    assert row(traces.trace(MODEL, {"audio_steps": 9}, CLIP), "audio").steps == 18


def test_in_stages_sound_is_made_with_the_clip_and_decoded_after() -> None:
    found = traces.trace(MODEL, None, CLIP)
    denoise, decode = part(found, ["denoise"]), part(found, ["decode"])
    assert [phase.name for phase in denoise.phases] == ["denoise", "audio"]
    assert [each.name for each in decode.rows] == ["decode audio", "decode"]
    # Both latents move on.
    assert handed_over(found, "denoise") == 16 * 14 * 16 * 32 * 4 + 64 * SOUNDS * 4


def test_it_is_offloaded_and_shared_out_as_the_others_are() -> None:
    found = traces.trace(MODEL, {"offload": "model"}, CLIP)
    names = [each.name for each in found.rows]
    assert names[names.index("load audio") + 1 :] == [
        "audio",
        "load waveform",
        "decode audio",
        "load vae",
        "decode",
    ]
    plain = traces.trace(MODEL, None, CLIP, Layout(sp=2))
    shared = traces.trace(MODEL, {"fsdp": True}, CLIP, Layout(sp=2))
    for a, b in zip(plain.phases, shared.phases, strict=True):
        whole = a.name in ("vae", "waveform")
        assert b.weights == (a.weights if whole else a.weights // 2)


def test_a_skipped_step_is_of_the_clip_alone() -> None:
    found = traces.trace(MODEL, {"feature_cache": "teacache"}, Clip(256, 128, 49, 10))
    assert row(found, "audio").steps == 100
    assert sum(each.steps for each in found.rows if each.name == "cached") == 2 * 4


def test_the_arithmetic_of_sound_is_explained() -> None:
    found = traces.trace(MODEL, None, CLIP)
    lines = {line.what: line for line in explain.explain(MODEL, found, GPU)}
    latents = lines["latents, one of 2,048 samples, rounded up"]
    assert (latents.expression, latents.value) == ("49 x 44,100 / (24 x 2,048)", SOUNDS)
    assert lines["tokens, a patch each"].expression == "(14 // 2) x (16 // 2) x (32 // 2)"
    assert lines["tokens of the clip that are heard"].value == TOKENS
    both = lines["the clip with its soundtrack"]
    assert (
        both.expression
        == f"{lines['the finished clip, 0.15 bits a pixel, rounded up'].value:,} + 32,667"
    )


# What is refused.

GOOD = """
models:
  loud:
    title: A painter of clips with sound
    source: a test
    denoiser: {family: spacetime, depth: 2, heads: 2, ffn: 64}
    vae: hunyuanvideo
    prompts:
      - {encoder: t5-xxl, tokens: 120}
    audio:
      head:
        {family: spacetime, depth: 1, heads: 1, ffn: 64, patch: [1, 1, 1], channels: 64, hears: 128}
      fps: 24
    request: {resolution: 512x256, frames: 9, steps: 20}
    defaults: {audio_bitrate: 96000}
"""


def test_a_file_may_have_a_soundtrack(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD, encoding="utf-8")
    found = traces.trace(str(file))
    assert found.artifact - traces.trace(str(file), {"audio": False}).artifact == 96000 * 9 // 192


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("channels: 64, ", "", "audio.head.channels: 16, but its decoder takes 64"),
        ("hears: 128", "hears: 64", "audio.head.hears: 64, but a patch of the clip has 128"),
        (", hears: 128", "", "audio.head.hears: 0, but a patch of the clip has 128"),
        ("hears: 128", "text_width: 5, hears: 128", "audio.head.text_width: 5, but its encoders"),
        ("ffn: 64}", "ffn: 64, hears: 4}", "denoiser.hears: is of the head of a soundtrack"),
        ("fps: 24", "fps: 0", "audio.fps: 0 must be 1 or more"),
        ("fps: 24", "fps: 24\n      decoder: {strides: [3]}", "strides: 1 of 5 multiples"),
        ("audio_bitrate: 96000", "audio_bitrate: 0", "defaults.audio_bitrate: 0 is outside"),
        (
            "family: spacetime, depth: 2, heads: 2, ffn: 64",
            "family: mmdit, depth: 2, heads: 2, table: 9",
            "audio: an image has none",
        ),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(ModelError, match=re.escape(message)):
        diffusion.read(file)
