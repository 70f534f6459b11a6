"""PixArt and Latte against diffusers' classes with the same random weights."""

from __future__ import annotations

import re

import numpy as np
import pytest
from public import copied, drawn, predicted, randomised, relative

from dcsim.models.denoisers.pixart import PixArt

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

STEPS = np.array([17.0, 903.0])


PIXART = (
    (r"^time\.0", "adaln_single.emb.timestep_embedder.linear_1"),
    (r"^time\.1", "adaln_single.emb.timestep_embedder.linear_2"),
    (r"^resolution\.0", "adaln_single.emb.resolution_embedder.linear_1"),
    (r"^resolution\.1", "adaln_single.emb.resolution_embedder.linear_2"),
    (r"^aspect\.0", "adaln_single.emb.aspect_ratio_embedder.linear_1"),
    (r"^aspect\.1", "adaln_single.emb.aspect_ratio_embedder.linear_2"),
    (r"^modulation", "adaln_single.linear"),
    (r"^text\.0", "caption_projection.linear_1"),
    (r"^text\.1", "caption_projection.linear_2"),
    (r"^embed\.", "pos_embed.proj."),
    (r"^final\.offset", "scale_shift_table"),
    (r"^final\.out", "proj_out"),
    (r"^(\d+)\.", r"transformer_blocks.\1."),
    (r"\.offset", ".scale_shift_table"),
    (r"\.cross\.([qkv])\.", r".attn2.to_\1."),
    (r"\.cross\.out\.", r".attn2.to_out.0."),
    (r"(blocks\.\d+)\.([qkv])\.", r"\1.attn1.to_\2."),
    (r"(blocks\.\d+)\.out\.", r"\1.attn1.to_out.0."),
    (r"\.up\.", ".ff.net.0.proj."),
    (r"\.down\.", ".ff.net.2."),
)
PIXART_SIZE = {
    "num_attention_heads": 3,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 3,
    "cross_attention_dim": 24,
    "attention_bias": True,
    "patch_size": 2,
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "caption_channels": 20,
}


@pytest.mark.parametrize("size", [16, 12])
@pytest.mark.parametrize("sizes", [False, True])
def test_pixart_equals_diffusers(size: int, sizes: bool) -> None:
    """At the size whose positions are kept, and at another."""
    model = randomised(
        diffusers.PixArtTransformer2DModel(
            **PIXART_SIZE, sample_size=16, use_additional_conditions=sizes, interpolation_scale=2
        )
    )
    network = PixArt(3, 3, 8, 8, text_width=20, scale=2.0, sizes=sizes)
    latents, text = drawn(2, 4, size, 16), drawn(2, 5, 20, seed=4)
    more = {
        "resolution": torch.tensor([[8.0 * size, 128.0]]).repeat(2, 1) if sizes else None,
        "aspect_ratio": torch.tensor([[size / 16]]).repeat(2, 1) if sizes else None,
    }
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.from_numpy(STEPS),
            added_cond_kwargs=more,
        ).sample
    arrays = copied(network, model, PIXART)
    arrays["positions"] = model.pos_embed.pos_embed[0].numpy()
    ours = predicted(network, arrays, latents[:, :, None], STEPS, (text,))
    assert relative(ours[:, :, 0], theirs) < 1e-4


def test_latte_equals_diffusers() -> None:
    model = randomised(
        diffusers.LatteTransformer3DModel(**PIXART_SIZE, sample_size=16, video_length=5)
    )
    network = PixArt(3, 3, 8, 8, text_width=20, time=5)
    latents, text = drawn(2, 4, 5, 16, 16), drawn(2, 5, 20, seed=4)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.from_numpy(STEPS),
        ).sample

    def pair(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"{'temporal_' if number % 2 else ''}transformer_blocks.{number // 2}."

    names = tuple((r"^(\d+)\.", pair) if ours == r"^(\d+)\." else (ours, to) for ours, to in PIXART)
    arrays = copied(network, model, names)
    arrays["positions"] = model.pos_embed.pos_embed[0].numpy()
    arrays["times"] = model.temp_pos_embed[0].numpy()
    ours = predicted(network, arrays, latents, STEPS, (text,))
    assert relative(ours, theirs) < 1e-4
