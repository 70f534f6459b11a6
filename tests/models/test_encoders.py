"""Text encoders: sizes as published or counted, and what a decoder's hidden states are."""

from __future__ import annotations

import numpy as np
import pytest

from dcsim.models import llm, text
from dcsim.models.cache import Cache
from dcsim.models.decoder_text import DecoderText
from dcsim.models.llm import LlmConfig, equal_blocks
from dcsim.models.t5 import T5
from dcsim.models.tape import Array, Tape
from dcsim.models.weights import Weights, count, random_arrays

# Counted on transformers' classes; LLaVA's language model without its head.
COUNTED = {
    "t5-xxl": 4_762_310_656,
    "umt5-xxl": 5_680_910_336,
    "llava-llama-3-8b": 7_504_924_672,
    "qwen2.5-vl-7b": 8_292_166_656,
    "gemma-2-2b": 2_614_341_888,
    "clip-l": 123_060_480,
    "clip-l-penultimate": 123_060_480,
    "clip-l-projected": 123_650_304,
    "clip-g": 694_659_840,
    "clip-h-vision": 630_766_080,
}


@pytest.mark.parametrize("name", text.shipped())
def test_parameters(name: str) -> None:
    assert count(text.get(name).parameters()) == COUNTED[name]


class Tiny(DecoderText):
    """Of two small blocks."""

    @property
    def config(self) -> LlmConfig:
        return equal_blocks(2, 32, 4, 2, 48, 60, head=8)


def encoded(encoder: DecoderText, arrays: dict[str, Array], ids: Array) -> Array:
    tape = Tape(execute=True)
    weights = Weights(tape, encoder.parameters(), "fp32", arrays)
    return encoder.encode(weights, tape.tensor(ids.shape, "int64", ids)).sequence.data


def test_a_decoder_gives_what_its_head_reads() -> None:
    encoder, ids = Tiny("llama-3.1-8b"), np.array([[3, 50, 7, 7, 1]])
    arrays = random_arrays(llm.parameters(encoder.config), 2)
    tape = Tape(execute=True)
    weights = Weights(tape, llm.parameters(encoder.config), "fp32", arrays)
    cache = Cache("fp32")
    logits = llm.forward(encoder.config, weights, tape, ids[0], 5, cache, logits=True)
    assert logits is not None
    last = encoded(encoder, arrays, ids)[0, -1:]
    np.testing.assert_allclose(last @ arrays["head"].T, logits.data, rtol=1e-4, atol=1e-5)
    # Without the last layer: what a model of one layer leaves, not normed.
    short = encoded(Tiny("llama-3.1-8b", skip=1), arrays, ids)
    assert np.abs(short - encoded(encoder, arrays, ids)).max() > 0.1


def test_a_template_is_encoded_and_cut_off() -> None:
    flops = []
    for template in (0, 11):
        encoder, tape = Tiny("llama-3.1-8b", template=template), Tape()
        weights = Weights(tape, encoder.parameters(), "bf16")
        found = encoder.encode(weights, tape.tensor((1, 9), "int64")).sequence
        assert found.shape == (1, 9, 32)
        flops.append(sum(e[3] for e in tape.events if e[0] == "op" and e[2] == "dense"))
    assert flops[1] * 9 == flops[0] * 20


def test_states_that_nobody_takes_are_not_held() -> None:
    """The embedding's and two layers' states, 9 tokens of 32 in bf16, a copy each."""
    held = []
    for states in (True, False):
        encoder, tape = Tiny("llama-3.1-8b", states=states), Tape()
        weights = Weights(tape, encoder.parameters(), "bf16")
        encoder.encode(weights, tape.tensor((1, 9), "int64"))
        held.append(sum(tape.profile[-1][1]))
    assert held[0] - held[1] == 3 * 1024
    ids, whole = np.array([[3, 50, 7]]), Tiny("llama-3.1-8b")
    arrays = random_arrays(llm.parameters(whole.config), 2)
    alone = encoded(Tiny("llama-3.1-8b", states=False), arrays, ids)
    np.testing.assert_array_equal(alone, encoded(whole, arrays, ids))
    with pytest.raises(ValueError, match="states before the last 2 are taken"):
        DecoderText("llama-3.1-8b", skip=2, states=False).check()


def test_equal_tables_of_each_layer_are_one_of_all() -> None:
    """umT5 with T5's table in each layer is T5."""
    ids = np.array([[4, 9, 30, 2]])
    out = []
    for own in (False, True):
        encoder, tape = T5(2, 32, 4, 8, 64, 100, own_bias=own), Tape(execute=True)
        arrays = random_arrays(T5(2, 32, 4, 8, 64, 100).parameters(), 3)
        arrays |= {f"{i}.relative": arrays["relative"] for i in range(2)}
        weights = Weights(tape, encoder.parameters(), "fp32", arrays)
        out.append(encoder.encode(weights, tape.tensor((1, 4), "int64", ids)).sequence.data)
        if own:
            arrays["1.relative"] = (
                arrays["1.relative"]
                + np.arange(4, dtype=np.float32)[None] * (np.arange(32, dtype=np.float32)[:, None])
            )
            weights = Weights(tape, encoder.parameters(), "fp32", arrays)
            other = encoder.encode(weights, tape.tensor((1, 4), "int64", ids)).sequence.data
            assert np.abs(other - out[0]).max() > 1e-3
    np.testing.assert_array_equal(out[0], out[1])
