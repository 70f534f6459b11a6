"""Diffusion models over several GPUs: rings and PipeFusion, by hand and against xDiT's cost table.

The table (README of xdit-project/xDiT, "communication cost", "param memory", "extra buff memory"),
of p tokens of width hs in L layers on N devices, a step: Ulysses sends 4/N O(p hs) L, a ring
2 O(p hs) L, PipeFusion 2 O(p hs), what comes in and what goes out; its parameters are P/N and its
buffer (KV) L/N.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from dcsim import traces
from dcsim.models import ModelError
from dcsim.models.shapes import Clip
from dcsim.spec import Layout, load_parts
from dcsim.traces import MemoryTrace, price
from dcsim.traces.parts import handed_over, part

H100 = load_parts().gpus["h100"]
PICTURE = Clip(512, 512, 1, 50)
TOKENS, WIDTH, LAYERS = 1024, 1152, 28
STATE = 2 * TOKENS * WIDTH * 2  # of all tokens, both branches, bf16


def traced(model: str = "dit-xl-2", options: Any = None, **layout: int) -> MemoryTrace:
    shape = PICTURE if model == "dit-xl-2" else None
    return traces.trace(model, options, shape, Layout(**layout))


def exchanged(trace: MemoryTrace, *names: str) -> int:
    """Bytes that a GPU sends in a step, by some operations."""
    record = trace.records["denoise"]
    sent = zip(record.names, record.comm.tolist(), strict=True)
    return sum(bytes_ for name, bytes_ in sent if name in names)


@pytest.mark.parametrize("gpus", [2, 4, 8])
def test_a_ring_sends_what_the_table_says(gpus: int) -> None:
    ring, swapped = traced(sp=gpus, ring=gpus), traced(sp=gpus)
    others = Fraction(gpus - 1, gpus)  # the table leaves out that a GPU sends nothing to itself
    assert exchanged(ring, "pass") == others * 2 * STATE * LAYERS
    assert exchanged(swapped, "all_to_all") == others * Fraction(4, gpus) * STATE * LAYERS
    assert ring.rows[0].ring_bytes == gpus * exchanged(ring, "pass")
    assert swapped.rows[0].ring_bytes == 0
    assert ring.rows[0].attn_flops == swapped.rows[0].attn_flops == traced().rows[0].attn_flops
    assert ring.weights_bytes == swapped.weights_bytes == gpus * traced().weights_bytes
    # What is left to wait for: of heads all to all, of K and V only where attention is shorter.
    assert ring.phases[0].collectives == 1  # tokens are gathered at the end
    assert swapped.phases[0].collectives == 4 * LAYERS + 1


def test_rings_of_groups_that_swap_heads() -> None:
    """Four GPUs as two rings of two: halves of the heads go round between halves of the tokens."""
    both = traced(sp=4, ring=2)
    assert exchanged(both, "all_to_all") == Fraction(1, 2) * STATE * LAYERS  # 4 x 1/4 x 1/2
    assert exchanged(both, "pass") == Fraction(1, 2) * STATE * LAYERS  # 1 x 2 x 1/2 x 1/2


def test_a_ring_is_waited_for_where_it_is_longer_than_attention() -> None:
    trace = traced(sp=4, ring=4)
    fast = replace(H100, scale_up=10**15)
    slow = replace(H100, scale_up=10**9)
    share = Fraction(H100.efficiency["comm"]).limit_denominator(10**6)
    ring = trace.rows[0].ring_bytes / (4 * 10**9 * share)
    assert price(trace, slow).segments[0].cost.reading == ring
    alone = price(traced(sp=4), fast).segments[0].cost
    assert price(trace, fast).segments[0].cost.attention == alone.attention


def test_pipefusion_holds_and_sends_what_the_table_says() -> None:
    one, stages = traced(), traced(pp=4)
    (denoise, _), (whole, _) = stages.phases, one.phases
    block = 18 * WIDTH**2 + 15 * WIDTH  # modulation, q k v, out and the MLP, with biases
    assert whole.weights - denoise.weights // 4 == 2 * 21 * block
    assert (denoise.layers, denoise.passes, denoise.idle) == (7, 4, 0)
    # K and V of all tokens for the stage's layers: (KV) L/N.
    assert stages.stored == 4 * (2 * STATE * LAYERS // 4)
    assert stages.rows[0].live - 4 * one.rows[0].live == stages.stored
    # Once what comes in and once what goes out, however many layers.
    assert exchanged(stages, "send") == STATE
    assert stages.rows[0].comm_bytes == 4 * STATE
    assert denoise.collectives == 4
    # Patches attend to all tokens: as much work in all.
    assert stages.rows[0].attn_flops == one.rows[0].attn_flops
    assert stages.rows[0].peak < 4 * one.rows[0].peak
    # Each patch reads the stage's weights.
    assert denoise.reads == pytest.approx(4 * whole.reads, rel=0.02)


def test_the_buffer_of_flux() -> None:
    """57 layers of 4,608 tokens of 3,072: 57 x 2 x 4608 x 3072 x 2 B = 3.0 GiB, over N stages; of
    four the fullest has 5 of 19 and 10 of 38."""
    stages = traced("flux.1-dev", pp=4)
    assert stages.stored == 4 * 15 * 2 * 4608 * 3072 * 2
    assert stages.stored / 2**30 == pytest.approx(3.0 * 60 / 57, rel=0.02)


@pytest.mark.parametrize("model", ["pixart-sigma", "sd3.5-medium", "sd3-medium", "flux.1-dev"])
def test_stages_of_every_family_that_has_them(model: str) -> None:
    one, stages = traced(model), traced(model, pp=2)
    denoise, whole = (next(p for p in t.phases if p.name == "denoise") for t in (stages, one))
    assert whole.weights < denoise.weights < 1.35 * whole.weights  # what is beside blocks is twice
    assert denoise.params == whole.params
    assert denoise.checkpoint == whole.checkpoint
    rows = [next(r for r in t.rows if r.first) for t in (stages, one)]
    assert rows[0].attn_flops == pytest.approx(rows[1].attn_flops, rel=0.15)  # text goes twice
    assert rows[0].dense_flops == pytest.approx(rows[1].dense_flops, rel=0.15)


def test_fewer_patches_than_stages_leave_gpus_idle() -> None:
    full, half = traced(pp=4), traced(pp=4, in_flight=2)
    assert half.phases[0].idle == 2
    costs = [price(t, H100).segments[0].cost for t in (full, half)]
    assert costs[1].attention == 2 * costs[0].attention
    assert half.phases[0].launches == full.phases[0].launches  # as often as there are stages
    assert half.phases[0].collectives == full.phases[0].collectives == 4
    more = traced(pp=4, in_flight=8)
    assert more.phases[0].idle == 0
    assert more.phases[0].launches == 2 * full.phases[0].launches


def test_a_pipeline_that_never_drains() -> None:
    """PipeFusion's paper: of M S + N - 1 turns a stage works in M S, 98.5 % for M = N = 4 and 50
    steps. The fill is left out: a clip is that much too fast."""
    assert traced(pp=4).phases[0].busy == 1
    assert Fraction(4 * 50, 4 * 50 + 3) == pytest.approx(0.985, abs=0.001)


def test_what_a_stage_keeps_stays_where_it_was_made() -> None:
    stages, one = traced(pp=2), traced()
    decode = part(stages, ["decode"])
    assert decode.rows[-1].live == 2 * one.rows[-1].live
    assert handed_over(one, "denoise") == 4 * 64 * 64 * 4


WRONG = [
    ({"sp": 4, "ring": 3}, {}, "layout.ring", "3 does not divide sp 4"),
    ({"sp": 64, "ring": 2}, {}, "layout", "sp 64 / ring 2 does not divide 16"),
    ({"pp": 29}, {}, "layout.pp", "29 stages of 28 blocks"),
    ({"pp": 2, "sp": 2, "ring": 2}, {}, "layout.ring", "swap heads only"),
    ({"in_flight": 2}, {}, "layout.in_flight", "one stage"),
    ({"pp": 2, "in_flight": 33}, {}, "layout.in_flight", "33 patches of 32 rows"),
    ({"pp": 2}, {"fsdp": True}, "options.fsdp", "stages"),
    ({"pp": 2}, {"feature_cache": "pab"}, "options.feature_cache", "pp"),
    ({"sp": 2, "ring": 2}, {"feature_cache": "pab"}, "options.feature_cache", "with a ring"),
    ({"dp": 2}, {}, "layout.dp", "tp, sp, cfg and pp"),
    ({"cp": 2, "ep": 2}, {}, "layout.cp", "tp, sp, cfg and pp"),
]


@pytest.mark.parametrize(("layout", "options", "path", "said"), WRONG)
def test_a_layout_that_cannot_be(
    layout: dict[str, int], options: dict[str, Any], path: str, said: str
) -> None:
    with pytest.raises(ModelError) as caught:
        traces.trace("dit-xl-2", options, replace(PICTURE, steps=0), Layout(**layout))
    assert any(p == path and said in text for p, text in caught.value.problems)
    assert "shape.steps" in dict(caught.value.problems)


def test_linear_attention_has_no_ring() -> None:
    with pytest.raises(ModelError, match="no K and V that could go round"):
        traces.trace("sana-1.6b", None, None, Layout(sp=2, ring=2))


@pytest.mark.parametrize("model", ["wan2.1-t2v-1.3b", "latte-1", "cogvideox-2b", "sdxl"])
def test_models_without_stages_say_so(model: str) -> None:
    with pytest.raises(ModelError, match="PipeFusion has no stages of its blocks"):
        traces.trace(model, None, None, Layout(pp=2))


def rows_shared(gpus: int, model: str = "dit-xl-2", **options: Any) -> MemoryTrace:
    return traced(model, {"vae_parallel": "patch", **options}, sp=gpus)


def test_rows_of_a_decode_by_hand() -> None:
    """Stable Diffusion's decoder at 512 x 512: before each convolution of 3 x 3 a row comes from
    above and one from below, of its input's channels, in bf16; of the one attention K and V."""
    trace = rows_shared(2)
    record = trace.records["decode"]
    sent: dict[str, int] = {}
    for name, comm in zip(record.names, record.comm.tolist(), strict=True):
        sent[name] = sent.get(name, 0) + comm
    at = {
        64: [4] + 4 * [512] + 6 * [512],  # in, the middle, and the coarsest stage
        128: [512] + 6 * [512],  # grown, and three residual blocks of two
        256: [512] + [512, 256] + 4 * [256],
        512: [256] + [256, 128] + 4 * [128] + [128],  # and out
    }
    assert sent["halo"] == sum(2 * columns * sum(widths) * 2 for columns, widths in at.items())
    pixels = 3 * 256 * 512 * 2
    assert sent["all_gather"] == 2 * 32 * 64 * 512 * 2 + pixels
    # 32 groups' sums and sums of squares, of a norm before each of 28 convolutions and attention.
    assert sent["all_reduce"] == 30 * 2 * 32 * 4
    decode = trace.rows[-1]
    assert decode.comm_bytes == 2 * sum(sent.values())
    assert decode.conv_flops == traced().rows[-1].conv_flops
    assert decode.attn_flops == traced().rows[-1].attn_flops
    assert decode.steps == 1
    assert trace.phases[-1].collectives == record.count("comm")


@pytest.mark.parametrize("gpus", [2, 4])
def test_rows_shared_hold_a_share_of_what_a_decode_needs(gpus: int) -> None:
    """DistVAE's point: activations over N, but for a copy of them with the neighbours' rows."""
    one, shared = traced().rows[-1], rows_shared(gpus).rows[-1]
    assert one.peak / gpus < shared.peak / gpus < 1.25 * one.peak / gpus


DECODES = [
    ("dit-xl-2", {"vae_tiling": "spatial"}, {"sp": 2}, "vae_tiling is spatial"),
    ("dit-xl-2", {}, {}, "needs several GPUs"),
    ("dit-xl-2", {}, {"pp": 4, "tp": 4, "sp": 4, "cfg": 2}, "128 GPUs for 64 rows"),
    ("hunyuanvideo", {"vae_tiling": "none"}, {"sp": 2}, "layers that need all rows"),
    ("sana-1.6b", {}, {"sp": 2}, "layers that need all rows"),
]


@pytest.mark.parametrize(("model", "options", "layout", "said"), DECODES)
def test_a_decode_that_cannot_be_shared(
    model: str, options: dict[str, Any], layout: dict[str, int], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        traced(model, {"vae_parallel": "patch", **options}, **layout)


@pytest.mark.parametrize("model", ["flux.1-dev", "wan2.1-t2v-1.3b", "ltx-video-2b", "mochi-1"])
def test_rows_of_other_autoencoders(model: str) -> None:
    none = {"vae_tiling": "none"}
    one, two = traced(model, none), rows_shared(2, model, **none)
    assert two.rows[-1].comm_bytes > one.rows[-1].comm_bytes == 0
    assert two.rows[-1].conv_flops == pytest.approx(one.rows[-1].conv_flops, rel=0.03)
    assert two.rows[-1].peak / 2 < 0.75 * one.rows[-1].peak
