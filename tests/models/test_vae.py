"""The VAE and its tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_scenes import IMAGE, VIDEO, arrays, generate, options

from dcsim.models import vae
from dcsim.models.conv import conv, upsample
from dcsim.models.pipeline import Networks, Pipeline
from dcsim.models.tape import Array, Tape
from dcsim.models.tiles import Tiles
from dcsim.models.vae import VaeConfig
from dcsim.models.weights import Weights, count

SD = VaeConfig()
VIDEO_VAE = VaeConfig(channels=16, video=True)


def encoded(config: VaeConfig, pixels: tuple[int, ...]) -> tuple[int, ...]:
    tape = Tape()
    weights = Weights(tape, vae.parameters(config), "bf16")
    latents = vae.encode(config, weights, tape.tensor(pixels, "bf16"))
    assert vae.decode(config, weights, latents).shape == pixels
    return latents.shape


def test_published_shapes() -> None:
    assert encoded(SD, (1, 3, 512, 512)) == (1, 4, 64, 64)
    assert encoded(SD, (1, 3, 256, 256)) == (1, 4, 32, 32)
    assert 3 * 256 * 256 == 196_608
    assert 4 * 32 * 32 == 4_096
    assert SD.latent(3, 256, 128) == (3, 32, 16)  # frames of an image VAE stand alone


def test_published_size() -> None:
    assert count(vae.parameters(SD)) == 83_653_863


@pytest.mark.parametrize("frames", [1, 5, 17])
def test_video_shapes(frames: int) -> None:
    shape = encoded(VIDEO_VAE, (1, 3, frames, 64, 48))
    assert shape == (1, 16, 1 + (frames - 1) // 4, 8, 6)
    assert VIDEO_VAE.latent(frames, 64, 48) == shape[2:]


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        VIDEO_VAE.latent(6, 64, 64)
    with pytest.raises(ValueError, match="do not divide"):
        SD.latent(1, 60, 64)


def test_convolutions_of_the_video_vae_are_causal() -> None:
    rng = np.random.Generator(np.random.Philox(4))
    weight = rng.standard_normal((2, 3, 3, 3, 3)).astype(np.float32)
    clip = rng.standard_normal((1, 3, 9, 6, 6)).astype(np.float32)
    later = clip.copy()
    later[:, :, 5:] = 0

    def run(frames: Array) -> Array:
        tape = Tape(execute=True)
        w = tape.tensor(weight.shape, "fp32", weight, "weights")
        bias = tape.tensor((2,), "fp32", np.zeros(2, np.float32), "weights")
        out = conv(tape.tensor(frames.shape, "fp32", frames), w, bias, pad=vae.CAUSAL)
        return out.data

    assert run(clip).shape == (1, 2, 9, 6, 6)
    np.testing.assert_array_equal(run(clip)[:, :, :5], run(later)[:, :, :5])
    assert np.abs(run(clip)[:, :, 5] - run(later)[:, :, 5]).max() > 0


def test_growing_in_time_keeps_the_first_frame_single() -> None:
    tape = Tape(execute=True)
    frames = np.arange(3, dtype=np.float32).reshape(1, 1, 3, 1, 1)
    grown = upsample(tape.tensor(frames.shape, "fp32", frames), (2, 1, 1), drop=1)
    assert grown.data.ravel().tolist() == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("networks", [IMAGE, VIDEO])
def test_shape_only_record_equals_the_executed_one(networks: Networks) -> None:
    config = networks.vae
    shape = (1, 3, 5, 32, 16) if config.video else (1, 3, 32, 16)
    tapes = [Tape(execute=True), Tape()]
    for tape in tapes:
        data = arrays(networks)["vae"] if tape.execute else None
        weights = Weights(tape, vae.parameters(config), "fp32", data)
        pixels = tape.tensor(shape, "fp32", np.ones(shape, np.float32))
        vae.decode(config, weights, vae.encode(config, weights, pixels))
        del pixels
    assert tapes[0].events == tapes[1].events
    assert tapes[0].live == 0


@given(
    st.tuples(st.integers(1, 30), st.integers(1, 100), st.integers(1, 100)),
    st.sampled_from(["none", "spatial", "temporal", "spacetime"]),
)
def test_tiles_cover_everything_once(latent: tuple[int, int, int], tiling: str) -> None:
    tiles = Tiles(latent, tiling)
    if tiling == "none":
        assert tiles.all() == [(0, 0, 0)]
    for length, size, begins in zip(latent, tiles.size, tiles.axes(), strict=True):
        seen = np.zeros(length, dtype=int)
        for begin in begins:
            assert 0 <= begin <= length - size
            seen[begin : begin + size] += 1
        assert seen.min() >= 1


def test_blending_weights_add_to_one() -> None:
    tiles = Tiles((9, 40, 40), "spacetime")

    def pixels(axis: int, start: int) -> slice:
        size = tiles.size[axis]
        return (
            slice(4 * start, 4 * start + 1 + 4 * (size - 1))
            if axis == 0
            else slice(8 * start, 8 * (start + size))
        )

    total = np.zeros((33, 320, 320))
    for at in tiles.all():
        cut = tuple(pixels(axis, start) for axis, start in enumerate(at))
        total[cut] += tiles.mask(at, pixels)
    np.testing.assert_allclose(total, 1, rtol=1e-5)


@pytest.mark.parametrize("tiling", ["spatial", "temporal", "spacetime"])
def test_one_tile_decodes_as_no_tiles(tiling: str) -> None:
    whole = generate(VIDEO, (5, 32, 32), 1, execute=True, vae_tiling="none")
    tiled = generate(VIDEO, (5, 32, 32), 1, execute=True, vae_tiling=tiling)
    assert whole.pixels is not None
    assert tiled.pixels is not None
    np.testing.assert_allclose(whole.pixels.data, tiled.pixels.data, rtol=1e-5, atol=1e-5)


def test_tiles_bound_the_decodes_peak() -> None:
    def peak(size: int, tiling: str) -> int:
        tape = Tape()
        run = Pipeline(tape, VIDEO, options(VIDEO, vae_tiling=tiling), (33, size, size), 1)
        run.prepare()
        run.decode()
        assert run.pixels is not None
        return max(sum(held) for _, held in tape.profile) - run.pixels.storage.size

    # Beside the pixels themselves a bigger clip decodes in the same memory.
    assert peak(1024, "spacetime") < 1.1 * peak(512, "spacetime")
    assert peak(512, "none") > 3 * peak(512, "spatial") > 5 * peak(512, "spacetime")
    assert peak(512, "none") > 1.7 * peak(512, "temporal")
