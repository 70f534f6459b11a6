"""What a pipeline makes of what a request brings, with random weights: numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from model_scenes import IMAGE, VIDEO, arrays, options
from vae_scenes import kl

from dcsim.models import coding
from dcsim.models.denoisers.cogvideox import CogVideoX
from dcsim.models.denoisers.double_stream import DoubleStream
from dcsim.models.denoisers.wan import Wan
from dcsim.models.pipeline import Networks, Pipeline
from dcsim.models.sampler import Sampler
from dcsim.models.shapes import Clip
from dcsim.models.tape import Array, Tape, Tensor

RNG = np.random.Generator(np.random.Philox(5))


def drawn(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def run_of(networks: Networks, clip: Clip, **given: Any) -> Pipeline:
    chosen = options(networks, **given)
    return Pipeline(Tape(execute=True), networks, chosen, clip, arrays=arrays(networks))


def encoded(run: Pipeline, pixels: Array) -> Array:
    """Its latents, by the autoencoder alone."""
    x = run.tape.tensor(pixels.shape, "fp32", pixels)
    found = coding.encode(run.networks.vae, run.vae_weights, x)
    return found.data


@pytest.mark.parametrize("networks", [IMAGE, VIDEO])
def test_an_edit_begins_with_noise_over_its_latents(networks: Networks) -> None:
    frames = 1 if networks is IMAGE else 5
    clip = Clip(32, 16, frames, 4, frames, 0.5)
    run = run_of(networks, clip, sampler="ddim" if networks is IMAGE else "rectified_flow")
    pixels = np.tanh(drawn(1, 3, frames, 16, 32))
    run.bring(pixels)
    noise = drawn(1, networks.denoiser.channels, *run.padded)
    run.prepare(noise)
    assert run.latents is not None
    assert run.brought is None
    if networks is IMAGE:
        # Four steps are 999, 666, 333 and 0; two are left, from 333 on.
        beta = np.linspace(1e-4, 0.02, 1000)
        alpha = np.exp(np.log1p(-beta[:334]).sum())
        kept, spread = alpha**0.5, (1 - alpha) ** 0.5
    else:
        kept, spread = 0.5, 0.5  # of sigmas 1, .75, .5, .25 the last two
    want = kept * encoded(run, pixels) + spread * noise
    np.testing.assert_allclose(run.latents.data, want, rtol=1e-4, atol=1e-5)


def test_an_edit_runs_the_last_steps() -> None:
    """The network is told the times of the last of all steps."""
    told: list[float] = []

    class Watched(type(IMAGE.denoiser)):  # type: ignore[misc]
        def forward(self, w: Any, latents: Tensor, steps: Array, *more: Any, **named: Any) -> Any:
            told.append(float(steps[0]))
            return super().forward(w, latents, steps, *more, **named)

    watched = Watched(**vars(IMAGE.denoiser))
    clip, chosen = Clip(32, 16, 1, 4, 1, 0.5), options(IMAGE, sampler="ddim")
    networks = replace(IMAGE, denoiser=watched)
    run = Pipeline(Tape(execute=True), networks, chosen, clip, arrays=arrays(IMAGE))
    run.label(np.array([3, 10]))
    run.bring(np.tanh(drawn(1, 3, 1, 16, 32)))
    run.prepare()
    for i in range(2):
        run.step(i)
    assert told == [333.0, 0.0]
    assert run.decode().shape == (1, 3, 1, 16, 32)


def test_as_much_noise_as_before_a_step() -> None:
    """Of pure noise all, at the first step of rectified flow."""
    tape = Tape(execute=True)
    clean, noise = (tape.tensor((4,), "fp32", drawn(4)) for _ in range(2))
    sampler = Sampler("rectified_flow", 10)
    np.testing.assert_array_equal(sampler.noised(0, clean, noise).data, noise.data)
    want = np.float32(0.7) * clean.data + np.float32(0.3) * noise.data
    np.testing.assert_allclose(sampler.noised(7, clean, noise).data, want, rtol=1e-6)


def video_of(network: Any) -> Networks:
    return Networks(network, kl(4, (16, 16, 16, 16), 1, video=True))


def brought(networks: Networks, clip: Clip, pixels: Array) -> tuple[Pipeline, Array]:
    run = run_of(networks, clip)
    run.bring(pixels)
    assert run.brought is not None
    return run, run.brought.data


def test_wans_image_comes_with_a_mask() -> None:
    networks = video_of(Wan(1, 2, 40, 16, channels=4, text_width=24, masked=3))
    pixels = np.zeros((1, 3, 9, 16, 16), np.float32)
    pixels[:, :, 0] = np.tanh(drawn(1, 3, 16, 16))
    run, found = brought(networks, Clip(16, 16, 9, 2, 1), pixels)
    assert found.shape == (1, 7, 3, 2, 2)
    assert found[:, :3, 0].min() == 1
    assert np.abs(found[:, :3, 1:]).max() == 0
    np.testing.assert_allclose(found[:, 3:], encoded(run, pixels), rtol=1e-5, atol=1e-6)
    run.prepare()
    assert run._shown(2).shape == (2, 4 + 7, 3, 2, 2)


def test_cogvideoxs_image_comes_before_zeros() -> None:
    network = CogVideoX(1, 2, "rotary", 32, channels=4, text_width=24, paired=True)
    pixels = np.tanh(drawn(1, 3, 1, 16, 16))
    run, found = brought(video_of(network), Clip(16, 16, 9, 2, 1), pixels)
    assert found.shape == (1, 4, 3, 2, 2)
    np.testing.assert_allclose(found[:, :, :1], encoded(run, pixels), rtol=1e-5, atol=1e-6)
    assert np.abs(found[:, :, 1:]).max() == 0
    run.prepare()
    shown = run._shown(1)
    assert run.latents is not None
    np.testing.assert_array_equal(shown.data[:, :4], run.latents.data)
    np.testing.assert_array_equal(shown.data[:, 4:], found)


def test_given_frames_stay_as_they_are() -> None:
    networks = video_of(Wan(1, 2, 40, 16, channels=4, text_width=24, each_token=True))
    pixels = np.tanh(drawn(1, 3, 5, 16, 16))
    run, found = brought(networks, Clip(16, 16, 9, 2, 5), pixels)
    run.prepare()
    assert run.latents is not None
    before = run.latents.data.copy()
    shown = run._shown(1).data
    np.testing.assert_array_equal(shown[:, :, :2], found)
    np.testing.assert_array_equal(shown[:, :, 2:], before[:, :, 2:])


def test_a_reference_runs_behind_the_image() -> None:
    """As a second frame; what is predicted of it is left out."""
    network = DoubleStream(1, 1, 2, 16, channels=4, text_width=24, axes=(4, 6, 6), reference=True)
    networks = Networks(network, kl(4, (16, 16, 16, 16), 1))
    pixels = np.tanh(drawn(1, 3, 1, 32, 32))
    run, found = brought(networks, Clip(32, 32, 1, 2, 1), pixels)
    run.prepare()
    assert run.latents is not None
    assert run.seen == (2, 4, 4)
    shown = run._shown(1).data
    np.testing.assert_array_equal(shown, np.concatenate([run.latents.data, found], 2))
    text = run.tape.tensor((1, 5, 24), "fp32", drawn(1, 5, 24))
    run.conditions = [(text,)]
    assert run.predict(0).shape == (1, 4, 1, 4, 4)


def test_an_edit_is_padded_as_the_clip_is() -> None:
    """CogVideoX 1.5 makes four latent frames of three: a blank one comes first."""
    network = CogVideoX(1, 2, "rotary", 32, (2, 2, 2), 4, text_width=24)
    clip = Clip(16, 16, 9, 2, 9, 0.5)
    _, found = brought(video_of(network), clip, np.tanh(drawn(1, 3, 9, 16, 16)))
    assert found.shape == (1, 4, 4, 2, 2)
    assert np.abs(found[:, :, 0]).max() == 0
    assert np.abs(found[:, :, 1:]).min() > 0
