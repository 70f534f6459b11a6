"""Wan as its authors' code runs it: what it holds, by hand, and that it computes the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dcsim import traces
from dcsim.models.denoiser import Numerics
from dcsim.models.denoisers.wan import Wan
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights, random_arrays


def test_wan_as_its_authors_run_it() -> None:
    """720p and 81 frames: 75,600 tokens of 5,120. At the turning of k there are, in float32, the
    hidden states, the input of attention, q, k and the turned q, v in bf16, and of k in float64 the
    list and its stack, whose float32 is being made: 6 x 4 + 2 + 2 x 8 bytes of each number."""
    options = {"code": "authors", "residual_dtype": "fp32", "weights_dtype": "fp32"}
    record = traces.trace("wan2.1-t2v-14b", options).records["denoise"]
    number = 75_600 * 5_120
    held = int(record.held.sum(axis=1).max())
    assert held == pytest.approx(number * (6 * 4 + 2 + 2 * 8), rel=0.01)
    # Another program that followed the authors' code found 68.47 GiB with 53.2 of weights.
    assert held / 2**30 == pytest.approx(68.47 - 53.23, rel=0.01)


def test_wan_computes_the_same_in_either_code() -> None:
    config = Wan(depth=2, heads=2, ffn=48, head=12, channels=4, text_width=20)
    arrays = random_arrays(config.parameters(), 3)
    found = []
    for code in ("diffusers", "authors"):
        tape = Tape(execute=True)
        network = replace(config, code=code)
        rng = np.random.default_rng(1)
        latents = rng.standard_normal((1, 4, 2, 4, 4)).astype(np.float32)
        text = rng.standard_normal((1, 5, 20)).astype(np.float32)
        weights = Weights(tape, network.parameters(), "fp32", arrays)
        out = network.forward(
            weights,
            tape.tensor(latents.shape, "fp32", latents),
            np.array([500.0]),
            (tape.tensor(text.shape, "fp32", text),),
            numerics=Numerics("fp32", "fp32", "fp32"),
        )
        found.append(out.data)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
