"""Autoencoders: their files, shapes and sizes, and what a decode holds, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_scenes import IMAGE, VIDEO, arrays, generate, options

from dcsim.models import ModelError, coding, library, vae
from dcsim.models.autoencoder.passing import Half, Passing, convolved
from dcsim.models.conv import conv, depth_to_space, space_to_depth, upsample
from dcsim.models.pipeline import Networks, Pipeline
from dcsim.models.shapes import Clip
from dcsim.models.tape import Array, Tape
from dcsim.models.vae import Chunks, Tiling, Vae
from dcsim.models.weights import Weights, count

SD, HUNYUAN, WAN = vae.get("sd"), vae.get("hunyuanvideo"), vae.get("wan-2.1")
PARAMETERS = {
    "sd": 83_653_863,
    "sdxl": 83_653_863,
    "sd3": 83_819_683,
    "flux": 83_819_683,
    "hunyuanvideo": 246_478_803,
    "wan-2.1": 126_892_531,
    "wan-2.2": 704_688_668,
    "cogvideox": 215_583_907,
    "ltx-video": 419_193_649,
    "mochi": 459_748_611,
    "dc-ae-f32c32": 312_250_275,
    "pixels": 0,
    "open-sora-1.2": 393_341_007,
}
"""As diffusers' classes have them; `test_torch_vae.py` counts these, and `test_torch_vae_pieces.py`
the last one's description."""


def decoded(c: Vae, latent: tuple[int, ...], dtype: str, tiling: Tiling = "none") -> Tape:
    tape = Tape()
    weights = Weights(tape, vae.parameters(c), dtype)
    coding.decode(c, weights, tape.tensor((1, c.channels, *latent), dtype), tiling=tiling)
    return tape


def peak(tape: Tape) -> int:
    return max(sum(held) for _, held in tape.profile)


def flops(tape: Tape) -> int:
    return sum(event[3] for event in tape.events if event[0] == "op")


# Shapes and sizes


@pytest.mark.parametrize("name", vae.shipped())
def test_every_vae_has_its_published_size_and_shapes(name: str) -> None:
    c = vae.get(name)
    assert count(vae.parameters(c)) == PARAMETERS[name]
    frames = 1 + 2 * c.time if c.video else 1
    pixels = (1, 3, frames, 2 * c.space, 3 * c.space)
    tape = Tape()
    weights = Weights(tape, vae.parameters(c), "bf16")
    latents = coding.encode(c, weights, tape.tensor(pixels, "bf16"))
    assert latents.shape == (1, c.channels, *c.latent(*pixels[2:]))
    assert latents.shape[2:] == (3 if c.video else 1, 2, 3)
    assert coding.decode(c, weights, latents).shape == pixels


def test_aliases_and_names_that_are_none() -> None:
    assert vae.get("qwen-image") is WAN
    with pytest.raises(ModelError, match=r"no VAE 'wan-2\.3': did you mean 'wan-2\.[12]'"):
        vae.get("wan-2.3")


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        HUNYUAN.latent(6, 64, 64)
    with pytest.raises(ValueError, match="do not divide"):
        SD.latent(1, 60, 64)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("to: 3}", "to: 4}", r"decoder: 4 channels come out, 3 are due"),
        ("to: 8, kernel", "to: 9, kernel", r"encoder: 9 channels come out, for 4"),
        ("kind: down", "kind: dwon", r"encoder\.layers\.1\.of\.1: .*did you mean 'down'"),
        ("stride: [384, 384]", "stride: [384, 600]", r"tile: the stride .* leaves gaps"),
        ("flat: true", "flut: true", r"encoder\.flut: unknown key; did you mean 'flat'"),
    ],
)
def test_a_file_with_an_error_is_told_where(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    text = Path(vae.__file__).parent.joinpath("vaes", "images.yaml").read_text(encoding="utf-8")
    file = tmp_path / "mine.yaml"
    file.write_text(text.split("\n  sdxl:")[0].replace(old, new), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        library.read(file, vae.VaeFile)


# Layers


@pytest.mark.parametrize("padding", ["replicate", "zeros", "first"])
def test_convolutions_of_video_are_causal(padding: str) -> None:
    rng = np.random.Generator(np.random.Philox(4))
    weight = rng.standard_normal((2, 3, 3, 3, 3)).astype(np.float32)
    clip = rng.standard_normal((1, 3, 9, 6, 6)).astype(np.float32)
    later = clip.copy()
    later[:, :, 5:] = 0

    def run(frames: Array) -> Array:
        tape = Tape(execute=True)
        given = {"c.weight": weight, "c.bias": np.zeros(2, np.float32)}
        shapes = iter([(name, each.shape) for name, each in given.items()])
        weights = Weights(tape, shapes, "fp32", given)
        x = tape.tensor(frames.shape, "fp32", frames)
        return convolved(Passing(Half(padding=padding), weights, x), "c", x).data  # type: ignore[arg-type]

    assert run(clip).shape == (1, 2, 9, 6, 6)
    np.testing.assert_array_equal(run(clip)[:, :, :5], run(later)[:, :, :5])
    assert np.abs(run(clip)[:, :, 5] - run(later)[:, :, 5]).max() > 0


@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.booleans())
def test_folding_and_unfolding_are_each_others_reverse(a: int, b: int, c: int, flip: bool) -> None:
    tape = Tape(execute=True)
    shape = (1, 2, 2 * a, 3 * b, c)
    x = tape.tensor(shape, "fp32", np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    folded = space_to_depth(x, (a, b, c), columns_first=flip)
    assert folded.shape == (1, 2 * a * b * c, 2, 3, 1)
    back = depth_to_space(folded, (a, b, c), columns_first=flip)
    np.testing.assert_array_equal(back.data, x.data)


def test_upsampling_repeats_cells() -> None:
    tape = Tape(execute=True)
    frames = np.arange(3, dtype=np.float32).reshape(1, 1, 3, 1, 1)
    grown = upsample(tape.tensor(frames.shape, "fp32", frames), (2, 1, 1))
    assert grown.data.ravel().tolist() == [0, 0, 1, 1, 2, 2]


@given(st.integers(0, 40), st.integers(1, 5), st.sampled_from([1, 4]), st.booleans())
def test_chunks_are_all_frames(more: int, size: int, scale: int, alone: bool) -> None:
    frames = 1 + more * scale * size
    sizes = Chunks(size, alone).sizes(frames, scale)
    assert sum(sizes) == frames
    assert all(n == size * scale for n in sizes[1:])


def test_chunks_as_published() -> None:
    cog, wan = vae.get("cogvideox").frames, WAN.frames
    assert isinstance(cog, Chunks)
    assert isinstance(wan, Chunks)
    assert cog.sizes(13, 1) == (3, 2, 2, 2, 2, 2)
    assert cog.sizes(49, 4) == (9, 8, 8, 8, 8, 8)
    assert cog.sizes(1, 1) == (1,)
    assert wan.sizes(21, 1) == (1,) * 21
    assert wan.sizes(81, 4) == (1, *(4,) * 20)


# Bytes, by hand


def test_what_an_image_holds() -> None:
    """Stable Diffusion, 1024 x 1024: the first norm of the last stage, of 256 channels."""
    latents = 2 * 4 * 128 * 128
    full = 2 * 256 * 1024**2
    # What comes in, its norm and its SiLU, beside the latents as given and rescaled.
    assert peak(decoded(SD, (1, 128, 128), "bf16")) == 3 * full + 2 * latents


def test_what_a_run_of_hunyuan_video_holds() -> None:
    """17 frames of 512 x 768: the convolution after the last doubling, padded by a copy."""
    one, stage = 2 * 256 * 512 * 768, 2 * 9 * 256 * 384
    padded = 2 * 256 * 19 * 514 * 770
    doubled = one + 16 * one + 17 * one  # the first frame, the others, both
    held = padded + doubled + 17 * one + 256 * stage + 512 * stage
    latents = 2 * 16 * 5 * 64 * 96
    assert peak(decoded(HUNYUAN, (5, 64, 96), "bf16")) == held + 2 * latents


def test_what_wan_holds() -> None:
    """720p, 81 frames in float32: a convolution of the last residual block, in the last chunk."""
    frame = 4 * 96 * 720 * 1280
    block = 4 * frame  # what comes into the stage, into the block, into the convolution
    joined, padded = 6 * frame, 4 * 96 * 6 * 722 * 1282
    kept = 8 * 2 * frame  # six convolutions of the stage, the one at the end, the one under way
    # Of the stages below: 192 channels of a quarter; 384 (first 192) of a 16th; 384 of a 64th.
    kept += 6 * frame + frame // 4 + 6 * frame // 2 + (6 + 1 + 4) * frame // 8
    kept += 4 * 16 * 2 * 90 * 160  # before the first convolution
    made = 4 * 3 * (77 + 4) * 720 * 1280  # the frames so far, the newest twice
    latents = 4 * 16 * 21 * 90 * 160
    found = peak(decoded(WAN, (21, 90, 160), "fp32"))
    assert found == joined + padded + 3 * block + kept + made + 2 * latents


def test_tiles_are_the_sum_of_their_passes() -> None:
    """HunyuanVideo, 832 x 480, 81 frames: 21 x 60 x 104 cells."""
    assert coding.passes(HUNYUAN, (21, 60, 104), "spacetime") == 7 * 3 * 5
    assert coding.passes(HUNYUAN, (21, 60, 104), "temporal") == 7
    assert coding.passes(HUNYUAN, (4, 32, 32), "spacetime") == 1
    assert coding.passes(WAN, (21, 60, 104), "spatial") == 21 * 3 * 5
    sizes = [(t, h, w) for t in (5,) * 6 + (3,) for h in (32, 32, 12) for w in (32,) * 4 + (8,)]
    each = {size: flops(decoded(HUNYUAN, size, "fp16")) for size in set(sizes)}
    whole = decoded(HUNYUAN, (21, 60, 104), "fp16", "spacetime")
    assert flops(whole) == sum(each[size] for size in sizes)


# Recorded and run


@pytest.mark.parametrize("networks", [IMAGE, VIDEO])
def test_shape_only_record_equals_the_executed_one(networks: Networks) -> None:
    config = networks.vae
    shape = (1, 3, 5, 32, 16) if config.video else (1, 3, 1, 32, 16)
    tapes = [Tape(execute=True), Tape()]
    for tape in tapes:
        data = arrays(networks)["vae"] if tape.execute else None
        weights = Weights(tape, vae.parameters(config), "fp32", data)
        pixels = tape.tensor(shape, "fp32", np.ones(shape, np.float32))
        coding.decode(config, weights, coding.encode(config, weights, pixels))
        del pixels
    assert tapes[0].events == tapes[1].events
    assert tapes[0].live == 0


@pytest.mark.parametrize("tiling", ["spatial", "temporal", "spacetime"])
def test_pieces_alike_are_counted_as_if_all_were_run(tiling: Tiling) -> None:
    c = replace(VIDEO.vae, tile=vae.Tile((32, 32), (24, 24)))
    tapes = [Tape(execute=True), Tape()]
    for tape in tapes:
        data = arrays(VIDEO)["vae"] if tape.execute else None
        weights = Weights(tape, vae.parameters(c), "fp32", data)
        shape = (1, 6, 9, 9, 6)
        latents = tape.tensor(shape, "fp32", np.ones(shape, np.float32))
        coding.decode(c, weights, latents, tiling=tiling)
    sums = [[sum(e[at] for e in tape.events if e[0] == "op") for at in (3, 4, 5)] for tape in tapes]
    assert sums[0] == sums[1]
    assert peak(tapes[0]) == peak(tapes[1])
    assert len(tapes[1].profile) < len(tapes[0].profile)


@pytest.mark.parametrize("tiling", ["spatial", "temporal", "spacetime"])
def test_one_tile_decodes_as_no_tiles(tiling: str) -> None:
    whole = generate(VIDEO, (5, 32, 32), 1, execute=True, vae_tiling="none")
    tiled = generate(VIDEO, (5, 32, 32), 1, execute=True, vae_tiling=tiling)
    assert whole.pixels is not None
    assert tiled.pixels is not None
    np.testing.assert_allclose(whole.pixels.data, tiled.pixels.data, rtol=1e-5, atol=1e-5)


def test_tiles_bound_the_decodes_peak() -> None:
    def most(size: int, tiling: str) -> int:
        tape = Tape()
        run = Pipeline(tape, VIDEO, options(VIDEO, vae_tiling=tiling), Clip(size, size, 33, 1))
        run.prepare()
        run.decode()
        return peak(tape)

    assert most(512, "none") > 3 * most(512, "spatial") > 4 * most(512, "spacetime")
    assert most(512, "none") > 1.5 * most(512, "temporal")


@pytest.mark.parametrize(("groups", "more"), [(1, 2 * (4 + 6) * 64 * 64), (4, 0)])
def test_a_convolution_holds_what_it_reads_and_makes_once_more(groups: int, more: int) -> None:
    """In bf16, at once and while it runs; one of single channels has kernels of its own."""
    held = []
    for transposes in (False, True):
        tape = Tape()
        tape.transposes = transposes
        out = 6 if groups == 1 else 4
        x, w = tape.tensor((1, 4, 64, 64), "bf16"), tape.tensor((out, 4 // groups, 3, 3), "bf16")
        y = conv(x, w, groups=groups)
        held.append(max(sum(each) for _, each in tape.profile))
        assert tape.live == sum(each.storage.size for each in (x, w, y))
    assert held[1] - held[0] == more
