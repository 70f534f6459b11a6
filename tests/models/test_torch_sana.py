"""SANA against diffusers' class with the same random weights."""

from __future__ import annotations

import numpy as np
import pytest
from public import copied, drawn, predicted, randomised, relative

from dcsim.models.denoiser import Numerics
from dcsim.models.denoisers.sana import Sana
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights
from dcsim.spec import Layout

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

NAMES = (
    (r"^time\.0", "time_embed.emb.timestep_embedder.linear_1"),
    (r"^time\.1", "time_embed.emb.timestep_embedder.linear_2"),
    (r"^modulation", "time_embed.linear"),
    (r"^text\.0", "caption_projection.linear_1"),
    (r"^text\.1", "caption_projection.linear_2"),
    (r"^text\.norm", "caption_norm.weight"),
    (r"^embed\.", "patch_embed.proj."),
    (r"^final\.offset", "scale_shift_table"),
    (r"^final\.out", "proj_out"),
    (r"^(\d+)\.", r"transformer_blocks.\1."),
    (r"\.offset", ".scale_shift_table"),
    (r"\.cross\.([qkv])\.", r".attn2.to_\1."),
    (r"\.cross\.out\.", r".attn2.to_out.0."),
    (r"(blocks\.\d+)\.([qkv])\.", r"\1.attn1.to_\2."),
    (r"(blocks\.\d+)\.out\.", r"\1.attn1.to_out.0."),
    (r"\.up\.", ".ff.conv_inverted."),
    (r"\.depth\.", ".ff.conv_depth."),
    (r"\.down\.", ".ff.conv_point."),
    (r"\.conv$", ".weight"),
)
SMALL = Sana(depth=3, heads=3, cross_heads=2, ffn=20, head=8, channels=4, text_width=20)


@pytest.mark.parametrize("rows", [5, 8])
def test_sana_equals_diffusers(rows: int) -> None:
    """Two branches, of an image that is not square."""
    model = randomised(
        diffusers.SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=3,
            attention_head_dim=8,
            num_layers=3,
            num_cross_attention_heads=2,
            cross_attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=20,
            mlp_ratio=20.5 / 24,
            sample_size=8,
        )
    )
    latents, text = drawn(2, 4, rows, 8), drawn(2, 5, 20, seed=4)
    steps = np.array([17.0, 903.0])
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.from_numpy(steps),
        ).sample
    arrays = copied(SMALL, model, NAMES)
    ours = predicted(SMALL, arrays, latents[:, :, None], steps, (text,))
    assert relative(ours[:, :, 0], theirs) < 1e-4


def test_attention_is_clipped_in_float16_alone() -> None:
    """Its sums are taken in float32, and may be more than float16 holds."""
    clipped = []
    for dtype in ("fp16", "bf16"):
        tape = Tape()
        text = (tape.tensor((1, 5, 20), dtype),)
        latents = tape.tensor((1, 4, 1, 5, 8), dtype)
        numerics = Numerics(dtype, dtype, dtype)
        weights = Weights(tape, SMALL.held(), dtype)
        SMALL.forward(weights, latents, np.zeros(1), text, numerics=numerics)
        clipped.append(sum(e[0] == "op" and e[1] == "clip" for e in tape.events))
    assert clipped == [SMALL.depth, 0]


def test_gpus_that_share_rows_send_sums_and_borders() -> None:
    """Of 6 x 8 cells on 4 GPUs each has two rows; the last two are beyond the image."""
    tape = Tape()
    weights = Weights(tape, SMALL.held(), "bf16")
    latents = tape.tensor((1, 4, 1, 6, 8), "bf16")
    text = (tape.tensor((1, 5, 20), "bf16"),)
    SMALL.forward(weights, latents, np.zeros(1), text, numerics=Numerics(), layout=Layout(sp=4))
    sent = [e[6] for e in tape.events if e[0] == "op" and e[6]]
    # Three heads of 9 x 8 sums in float32; a row above and below of 40 channels of 8 columns.
    block = [2 * 3 * (3 * 9 * 8 * 4) // 4, 2 * 40 * 8 * 2]
    assert sent == block * 3 + [3 * 16 * 4 * 2]


@pytest.mark.parametrize(
    ("tp", "message"),
    [
        (2, "tp 2 does not divide 3 attention heads"),
        (3, "tp 3 does not divide 2 attention cross heads"),
    ],
)
def test_what_tensor_parallelism_does_not_divide_is_told(tp: int, message: str) -> None:
    assert SMALL.wrong(Layout(tp=tp)) == message
    more = Sana(depth=1, heads=6, cross_heads=6, ffn=20, head=8)
    assert more.wrong(Layout(tp=tp, sp=7)) == (
        None if tp == 2 else "tp 3 does not divide 20 channels of the feed-forward half"
    )
