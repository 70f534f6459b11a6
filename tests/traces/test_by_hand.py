"""Whole phases worked by hand, from the published architectures and the figures of the part.

Nothing here calls our own formulas: a factor between a model and its price would show.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import pytest
from trace_scenes import GPU

from dcsim import traces
from dcsim.traces import Clip, MemoryTrace, Turn
from dcsim.traces.price import Work

IMAGE = Clip(256, 256, 1, 250)
CLIP = Clip(832, 480, 81, 50)


@pytest.fixture(scope="module")
def image() -> MemoryTrace:
    return traces.trace("dit-xl-2", None, IMAGE)


@pytest.fixture(scope="module")
def clip() -> MemoryTrace:
    return traces.trace("video-dit-2b", None, CLIP)


def launches(work: Work) -> dict[str, int]:
    """How often the part's cost of a layer is paid, by phase."""
    once = Fraction(GPU.launch, 10**9)
    return {phase.name: int(phase.launch / once) for phase in work.phases}


def sd_decoder(side: int = 32) -> Iterator[tuple[int, int, int, int]]:
    """Convolutions of Stable Diffusion's decoder (Rombach et al. 2022; 4 latent channels, widths
    128, 256, 512, 512, three residual layers a stage): cells, channels in and out, kernel side."""
    yield side**2, 4, 4, 1
    yield side**2, 4, 512, 3
    for _ in range(2 * 2):  # two residual layers around the attention, two convolutions each
        yield side**2, 512, 512, 3
    before = 512
    for stage, width in enumerate((512, 512, 256, 128)):
        for _ in range(3):
            yield side**2, before, width, 3
            yield side**2, width, width, 3
            if before != width:
                yield side**2, before, width, 1
            before = width
        if stage < 3:
            side *= 2
            yield side**2, before, before, 3
    yield side**2, 128, 3, 3


def test_an_image_is_denoised_as_the_paper_says(image: MemoryTrace) -> None:
    """118.64 Gflops a forward of DiT-XL/2 at 256 x 256 (Peebles & Xie 2023), which are
    multiply-adds; both guidance branches go in one batch, 250 steps."""
    first, rest = (s for s in image.segments if s.phase == "denoise")
    assert (first.steps + rest.steps, rest.tokens) == (250, 2 * 256)
    flops = rest.dense_flops + rest.attn_flops
    assert flops == pytest.approx(2 * 2 * 118.64e9, rel=0.001)
    # Scores and values: 2 x 2 x n^2 x width multiply-adds' FLOPs a block and branch.
    assert rest.attn_flops == 2 * 28 * 4 * 256**2 * 1152


def test_an_image_is_decoded_convolution_by_convolution(image: MemoryTrace) -> None:
    decode = image.segments[-1]
    layers = list(sd_decoder())
    flops = sum(2 * cells * k * k * a * b for cells, a, b, k in layers)
    weights = sum(2 * (k * k * a * b + b) for _, a, b, k in layers)
    moved = sum(2 * cells * a + 2 * cells * b for cells, a, b, k in layers)
    assert decode.conv_flops == flops == 617_892_315_136
    assert decode.conv_bytes == moved + weights
    assert decode.dense_flops == 4 * 2 * 1024 * 512 * 512  # q, k, v, out of the one attention
    assert decode.attn_flops == 4 * 1024**2 * 512


def test_seconds_of_an_image_decode(image: MemoryTrace) -> None:
    """Convolutions at .4 of 1 PFLOP/s, attention at .5, elementwise traffic at .8 of 3 TB/s; a
    launch for each of 3 layers of the middle and 3 of each of four stages."""
    work = traces.price(image, GPU)
    decode = image.segments[-1]
    seconds = 617_892_315_136 / 4e14 + 4 * 1024**2 * 512 / 5e14 + decode.other_bytes / 2.4e12
    cost = work.segments[-1].cost
    assert float(cost.attention + cost.other) == pytest.approx(seconds, rel=1e-9)
    assert launches(work) == {"denoise": 28, "vae": 3 + 4 * 3}


def test_text_of_a_clip_is_encoded_by_t5_xxl(clip: MemoryTrace) -> None:
    """24 layers of width 4096 with 64 heads of 64 and a gated layer of 10240 (Raffel et al. 2020,
    v1.1); 512 tokens for each of two guidance branches, one after the other."""
    encode = clip.segments[0]
    assert (encode.name, encode.steps, encode.tokens) == ("encode", 1, 2 * 512)
    assert encode.dense_flops == 2 * 512 * 24 * 2 * (4 * 4096**2 + 3 * 4096 * 10240)
    assert encode.attn_flops == 2 * 24 * 4 * 512**2 * 4096
    work = traces.price(clip, GPU)
    assert launches(work) == {"text": 2 * 24, "denoise": 28, "vae": 15}
    # Every matrix is read for each of the branches.
    read = 2 * 24 * 2 * (4 * 4096**2 + 3 * 4096 * 10240)
    assert float(work.phases[0].weights) == pytest.approx(read / 2.4e12, rel=1e-9)
    assert float(work.segments[0].cost.dense) == pytest.approx(encode.dense_flops / 6e14, rel=1e-9)


def test_elementwise_operations_read_their_weights(clip: MemoryTrace) -> None:
    """T5's 49 norms of 4096 and its 32 x 64 table of relative positions, in bf16, twice."""
    record = clip.records["encode"]
    weights = 2 * 2 * (49 * 4096 + 32 * 64)
    assert clip.segments[0].other_bytes == record.total("moved", "memory") + weights


def test_a_clip_has_the_tokens_of_its_patches(clip: MemoryTrace) -> None:
    """81 frames are 21 latent ones, 832 x 480 pixels 104 x 60 cells, patches 1 x 2 x 2."""
    first, rest = (s for s in clip.segments if s.phase == "denoise")
    assert first.tokens == rest.tokens == 2 * 21 * 52 * 30
    assert (first.steps, rest.steps) == (1, 49)


def test_a_turn_of_llama_8b() -> None:
    """32 layers of width 4096, 32 heads of 128 with 8 for keys and values, 14336 in the gated
    layer (Grattafiori et al. 2024); 2 FLOPs a multiply-add, KV in bf16."""
    trace = traces.trace("llama-3.1-8b", None, Turn(1000, 10))
    prefill, decode = traces.price(trace, GPU).segments
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    seconds = 2 * 32 * layer / 6e14
    assert float(prefill.cost.dense) == pytest.approx(seconds, rel=1e-6)
    # The logits are computed for the tokens that come out.
    with_logits = seconds + 2 * 4096 * 128_256 / 6e14
    assert float(decode.cost.dense) == pytest.approx(with_logits, rel=1e-6)
    assert decode.demand.live == 32 * 2 * 8 * 128 * 2
    assert launches(traces.price(trace, GPU)) == {trace.phases[0].name: 32}
