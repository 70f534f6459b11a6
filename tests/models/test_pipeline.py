"""From a condition to pixels."""

from __future__ import annotations

import numpy as np
import pytest
from model_scenes import IMAGE, VIDEO, generate

from dcsim.models.pipeline import Networks
from dcsim.models.sampler import Sampler
from dcsim.models.tape import Array, Tape, Tensor

CASES = [
    (IMAGE, (1, 32, 32), {}),
    (IMAGE, (1, 32, 48), {"sampler": "ddim", "cfg": "sequential", "attention": "math"}),
    (VIDEO, (5, 32, 32), {}),
    (VIDEO, (5, 32, 32), {"cfg": "sequential", "vae_tiling": "none"}),
    (VIDEO, (5, 16, 272), {"residual_dtype": "fp32", "dtype": "bf16", "vae_dtype": "bf16"}),
    (VIDEO, (1, 32, 32), {"conv_workspace": "none", "vae_tiling": "temporal"}),
]


@pytest.mark.parametrize(("networks", "size", "given"), CASES)
def test_shape_only_record_equals_the_executed_one(
    networks: Networks, size: tuple[int, int, int], given: dict[str, str]
) -> None:
    executed = generate(networks, size, 2, execute=True, **given)
    counted = generate(networks, size, 2, execute=False, **given)
    assert executed.tape.events == counted.tape.events
    assert executed.tape.profile == counted.tape.profile
    assert executed.pixels is not None
    assert executed.pixels.shape == (1, 3, *size)
    assert np.isfinite(executed.pixels.data).all()


@pytest.mark.parametrize(("networks", "size"), [(IMAGE, (1, 32, 32)), (VIDEO, (5, 16, 16))])
def test_guidance_branches_together_or_in_turn_give_the_same_clip(
    networks: Networks, size: tuple[int, int, int]
) -> None:
    together = generate(networks, size, 3, execute=True, cfg="batched").pixels
    in_turn = generate(networks, size, 3, execute=True, cfg="sequential").pixels
    assert together is not None
    assert in_turn is not None
    np.testing.assert_allclose(together.data, in_turn.data, rtol=1e-3, atol=1e-4)


def test_every_denoising_step_leaves_the_same_record() -> None:
    run = generate(VIDEO, (5, 32, 32), 3, execute=False)
    assert run.latents is not None
    marks = []
    for i in range(3):
        start = len(run.tape.profile)
        run.step(i)
        marks.append([(run.tape.events[at][1:], held) for at, held in run.tape.profile[start:]])
    assert marks[0] == marks[1] == marks[2]


def test_what_a_server_holds_between_steps() -> None:
    run = generate(VIDEO, (5, 32, 32), 2, execute=False)
    latents = 6 * 2 * 4 * 4 * 4
    embeddings = 2 * 7 * 32 * 4
    pixels = 3 * 5 * 32 * 32 * 4
    held = sum(-(-n // 512) * 512 for n in (latents, embeddings, pixels))
    assert run.tape.live == held


def test_same_seed_same_clip() -> None:
    clips = [generate(IMAGE, (1, 16, 16), 2, execute=True, seed=s).pixels for s in (1, 1, 2)]
    data = [clip.data for clip in clips if clip is not None]
    np.testing.assert_array_equal(data[0], data[1])
    assert np.abs(data[0] - data[2]).max() > 0


def _sample(sampler: Sampler, start: Array, predict: Tensor | None, clean: Array) -> Array:
    """Run a sampler with the prediction that is right for a known clean sample."""
    tape = Tape(execute=True)
    x = tape.tensor(start.shape, "fp32", start)
    for i in range(sampler.steps):
        if sampler.kind == "rectified_flow":
            guess = start - clean
        else:
            now, _ = sampler._alphas(i)
            guess = (x.data - np.sqrt(now) * clean) / np.sqrt(1 - now)
        out = tape.tensor(start.shape, "fp32", guess.astype(np.float32))
        x = sampler.advance(i, x, out, lambda: np.zeros_like(start))
    return x.data


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "rectified_flow"])
@pytest.mark.parametrize("steps", [1, 5, 50])
def test_a_perfect_prediction_leads_to_the_clean_sample(kind: str, steps: int) -> None:
    rng = np.random.Generator(np.random.Philox(8))
    clean = rng.standard_normal((1, 4, 1, 2, 2)).astype(np.float32)
    start = rng.standard_normal(clean.shape).astype(np.float32)
    end = _sample(Sampler(kind, steps), start, None, clean)
    np.testing.assert_allclose(end, clean, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "rectified_flow"])
def test_timesteps_fall_from_noise_to_data(kind: str) -> None:
    steps = Sampler(kind, 20).timesteps()
    assert len(steps) == 20
    assert (np.diff(steps) < 0).all()
    assert steps[0] >= 999
    assert steps[-1] >= 0


def test_learned_variance_lies_between_its_bounds() -> None:
    tape = Tape(execute=True)
    sampler = Sampler("ddpm", 10)
    shape = (1, 4, 1, 2, 2)
    x = tape.tensor(shape, "fp32", np.zeros(shape, np.float32))
    ones = np.ones(shape, np.float32)

    def spread(place: float) -> float:
        both = np.concatenate([np.zeros(shape), np.full(shape, place)], 1).astype(np.float32)
        guess = tape.tensor(both.shape, "fp32", both)
        return float(sampler.advance(4, x, guess, lambda: ones).data.max())

    now, then = sampler._alphas(4)
    beta = 1 - now / then
    assert spread(1.0) == pytest.approx(np.sqrt(beta), rel=1e-4)
    assert spread(-1.0) == pytest.approx(np.sqrt(beta * (1 - then) / (1 - now)), rel=1e-4)
