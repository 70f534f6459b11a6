"""Members of the catalogue at full size against diffusers' classes: counts, FLOPs, peaks."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from public import counted, counts

from dcsim.models.catalogue import get
from dcsim.models.pipeline import Networks

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SD3_SIZE = {
    "sample_size": 128,
    "in_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}
LARGE = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432}
DUAL = {"pos_embed_max_size": 384, "dual_attention_layers": tuple(range(13))}
SD3_INPUTS = {
    "hidden_states": (1, 16, 128, 128),
    "encoder_hidden_states": (1, 333, 4096),
    "pooled_projections": (1, 2048),
    "timestep": (1,),
}
FLUX_INPUTS = {
    "hidden_states": (1, 4096, 64),
    "encoder_hidden_states": (1, 512, 4096),
    "pooled_projections": (1, 768),
    "timestep": (1,),
    "img_ids": (4096, 3),
    "txt_ids": (512, 3),
    "guidance": (1,),
}
HUNYUAN_INPUTS = {
    "hidden_states": (1, 16, 33, 90, 160),
    "encoder_hidden_states": (1, 256, 4096),
    "encoder_attention_mask": (1, 256),
    "pooled_projections": (1, 768),
    "timestep": (1,),
    "guidance": (1,),
}
QWEN_INPUTS = {
    "hidden_states": (1, 6889, 64),
    "encoder_hidden_states": (1, 512, 3584),
    "timestep": (1,),
}
SD3_CONDITION = [(1, 333, 4096), (1, 2048)]
WAN_LARGE = {
    "hidden_states": (1, 16, 21, 90, 160),
    "encoder_hidden_states": (1, 512, 4096),
    "timestep": (1,),
}
WAN_SMALL = {**WAN_LARGE, "hidden_states": (1, 16, 21, 60, 104)}
WAN_5B = {**WAN_LARGE, "hidden_states": (1, 48, 31, 44, 80), "timestep": (1, 27280)}
COG_INPUTS = {
    "hidden_states": (1, 13, 16, 60, 90),
    "encoder_hidden_states": (1, 226, 4096),
    "timestep": (1,),
}
COG_LARGE = {
    "num_attention_heads": 48,
    "num_layers": 42,
    "use_rotary_positional_embeddings": True,
}
LTX_INPUTS = {
    "encoder_hidden_states": (1, 128, 4096),
    "timestep": (1,),
    "encoder_attention_mask": (1, 128),
}
PIXART_XL = {
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "num_layers": 28,
    "cross_attention_dim": 1152,
    "caption_channels": 4096,
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 8,
    "attention_bias": True,
    "patch_size": 2,
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
}
SANA_SMALL = {
    "num_layers": 28,
    "num_attention_heads": 36,
    "num_cross_attention_heads": 16,
    "cross_attention_head_dim": 72,
    "cross_attention_dim": 1152,
}
SDXL_SIZE = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 1280 + 6 * 256,
}
NO_SIZES = {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}
# Name; diffusers' class, what differs from its defaults, shapes and other values of its inputs;
# latent and condition of ours; how far our peak of activations may be off.
MEMBERS: list[tuple[Any, ...]] = [
    ("sd3-medium", "SD3Transformer2DModel", SD3_SIZE, SD3_INPUTS, {}, (1, 128, 128), SD3_CONDITION),
    (
        "sd3.5-medium",
        "SD3Transformer2DModel",
        {**SD3_SIZE, **DUAL, "qk_norm": "rms_norm"},
        SD3_INPUTS,
        {},
        (1, 128, 128),
        SD3_CONDITION,
    ),
    (
        "sd3.5-large",
        "SD3Transformer2DModel",
        {**SD3_SIZE, **LARGE, "qk_norm": "rms_norm"},
        SD3_INPUTS,
        {},
        (1, 128, 128),
        SD3_CONDITION,
    ),
    (
        "flux.1-dev",
        "FluxTransformer2DModel",
        {"guidance_embeds": True},
        FLUX_INPUTS,
        {},
        (1, 128, 128),
        [(1, 512, 4096), (1, 768)],
    ),
    (
        "qwen-image",
        "QwenImageTransformer2DModel",
        {},
        QWEN_INPUTS,
        {"img_shapes": [[(1, 83, 83)]]},
        (1, 166, 166),
        [(1, 512, 3584)],
    ),
    (
        "hunyuanvideo",
        "HunyuanVideoTransformer3DModel",
        {},
        HUNYUAN_INPUTS,
        {},
        (33, 90, 160),
        [(1, 256, 4096), (1, 768)],
    ),
    (
        "wan2.1-t2v-1.3b",
        "WanTransformer3DModel",
        {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
        WAN_SMALL,
        {},
        (21, 60, 104),
        [(1, 512, 4096)],
    ),
    ("wan2.1-t2v-14b", "WanTransformer3DModel", {}, WAN_LARGE, {}, (21, 90, 160), [(1, 512, 4096)]),
    (
        "wan2.1-i2v-14b",
        "WanTransformer3DModel",
        {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
        {
            **WAN_LARGE,
            "hidden_states": (1, 36, 21, 90, 160),
            "encoder_hidden_states_image": (1, 257, 1280),
        },
        {},
        (21, 90, 160),
        [(1, 512, 4096), (1, 257, 1280)],
    ),
    (
        "wan2.2-i2v-a14b",
        "WanTransformer3DModel",
        {"in_channels": 36},
        {**WAN_LARGE, "hidden_states": (1, 36, 21, 60, 104)},
        {},
        (21, 60, 104),
        [(1, 512, 4096)],
    ),
    (
        "wan2.2-ti2v-5b",
        "WanTransformer3DModel",
        {
            "num_attention_heads": 24,
            "ffn_dim": 14336,
            "num_layers": 30,
            "in_channels": 48,
            "out_channels": 48,
        },
        WAN_5B,
        {},
        (31, 44, 80),
        [(1, 512, 4096)],
    ),
    (
        "cogvideox-2b",
        "CogVideoXTransformer3DModel",
        {},
        COG_INPUTS,
        {},
        (13, 60, 90),
        [(1, 226, 4096)],
    ),
    (
        "cogvideox-5b",
        "CogVideoXTransformer3DModel",
        COG_LARGE,
        COG_INPUTS,
        {"image_rotary_emb": 17550},
        (13, 60, 90),
        [(1, 226, 4096)],
    ),
    (
        "cogvideox-5b-i2v",
        "CogVideoXTransformer3DModel",
        {**COG_LARGE, "in_channels": 32, "use_learned_positional_embeddings": True},
        {**COG_INPUTS, "hidden_states": (1, 13, 32, 60, 90)},
        {"image_rotary_emb": 17550},
        (13, 60, 90),
        [(1, 226, 4096)],
    ),
    (
        "cogvideox1.5-5b-i2v",
        "CogVideoXTransformer3DModel",
        {
            **COG_LARGE,
            "in_channels": 32,
            "patch_size_t": 2,
            "ofs_embed_dim": 512,
            "sample_height": 96,
            "sample_width": 170,
        },
        {
            **COG_INPUTS,
            "hidden_states": (1, 22, 32, 96, 170),
            "encoder_hidden_states": (1, 224, 4096),
            "ofs": (1,),
        },
        {"image_rotary_emb": 11 * 48 * 85},
        (22, 96, 170),
        [(1, 224, 4096)],
    ),
    (
        "cogvideox1.5-5b",
        "CogVideoXTransformer3DModel",
        {**COG_LARGE, "patch_size_t": 2, "sample_height": 96, "sample_width": 170},
        {
            **COG_INPUTS,
            "hidden_states": (1, 22, 16, 96, 170),
            "encoder_hidden_states": (1, 224, 4096),
        },
        {"image_rotary_emb": 44880},
        (22, 96, 170),
        [(1, 224, 4096)],
    ),
    (
        "pixart-alpha",
        "PixArtTransformer2DModel",
        PIXART_XL,
        {
            "hidden_states": (1, 4, 128, 128),
            "encoder_hidden_states": (1, 120, 4096),
            "timestep": (1,),
        },
        {"added_cond_kwargs": {"resolution": torch.zeros(1, 2), "aspect_ratio": torch.zeros(1, 1)}},
        (1, 128, 128),
        [(1, 120, 4096)],
    ),
    (
        "latte-1",
        "LatteTransformer3DModel",
        {**PIXART_XL, "sample_size": 64, "num_embeds_ada_norm": 1000, "video_length": 16},
        {
            "hidden_states": (1, 4, 16, 64, 64),
            "encoder_hidden_states": (1, 120, 4096),
            "timestep": (1,),
        },
        {},
        (16, 64, 64),
        [(1, 120, 4096)],
    ),
    (
        "pixart-sigma",
        "PixArtTransformer2DModel",
        {**PIXART_XL, "use_additional_conditions": False},
        {
            "hidden_states": (1, 4, 128, 128),
            "encoder_hidden_states": (1, 300, 4096),
            "timestep": (1,),
        },
        NO_SIZES,
        (1, 128, 128),
        [(1, 300, 4096)],
    ),
    *(
        (
            f"sana-{name}",
            "SanaTransformer2DModel",
            config,
            {
                "hidden_states": (1, 32, 32, 32),
                "encoder_hidden_states": (1, 300, 2304),
                "timestep": (1,),
            },
            {},
            (1, 32, 32),
            [(1, 300, 2304)],
        )
        for name, config in {"1.6b": {}, "0.6b": SANA_SMALL}.items()
    ),
    (
        "sdxl",
        "UNet2DConditionModel",
        SDXL_SIZE,
        {"sample": (1, 4, 128, 128), "encoder_hidden_states": (1, 77, 2048), "timestep": (1,)},
        {
            "added_cond_kwargs": {
                "text_embeds": torch.zeros(1, 1280),
                "time_ids": torch.zeros(1, 6),
            }
        },
        (1, 128, 128),
        [(1, 77, 2048), (1, 1280)],
    ),
    (
        "sd-1.5",
        "UNet2DConditionModel",
        {"cross_attention_dim": 768},
        {"sample": (1, 4, 64, 64), "encoder_hidden_states": (1, 77, 768), "timestep": (1,)},
        {},
        (1, 64, 64),
        [(1, 77, 768)],
    ),
    (
        "mochi-1",
        "MochiTransformer3DModel",
        {},
        {
            "hidden_states": (1, 12, 28, 60, 106),
            "encoder_hidden_states": (1, 256, 4096),
            "timestep": (1,),
            "encoder_attention_mask": (1, 256),
        },
        {},
        (28, 60, 106),
        [(1, 256, 4096)],
    ),
    (
        "ltx-video-2b",
        "LTXVideoTransformer3DModel",
        {},
        {**LTX_INPUTS, "hidden_states": (1, 21 * 16 * 22, 128)},
        {"num_frames": 21, "height": 16, "width": 22, "rope_interpolation_scale": (0.32, 32, 32)},
        (21, 16, 22),
        [(1, 128, 4096)],
    ),
    (
        "ltx-video-13b",
        "LTXVideoTransformer3DModel",
        {"num_layers": 48, "attention_head_dim": 128, "cross_attention_dim": 4096},
        {**LTX_INPUTS, "hidden_states": (1, 16 * 22 * 38, 128)},
        {"num_frames": 16, "height": 22, "width": 38, "rope_interpolation_scale": (0.32, 32, 32)},
        (16, 22, 38),
        [(1, 128, 4096)],
    ),
]


EMBEDDERS = {"qwen-image": 4, "hunyuanvideo": 7}
"""Products before the blocks that come in another order: here latents, then time, then text; there
text before time, or time before latents."""


def made(more: dict[str, Any]) -> dict[str, Any]:
    """Inputs of other kinds; rotations are given by the number of tokens."""
    return {
        key: tuple(torch.zeros(value, 64, dtype=torch.float32) for _ in range(2))
        if key == "image_rotary_emb"
        else value
        for key, value in more.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "public", "config", "inputs", "more", "latent", "condition"),
    MEMBERS,
    ids=[member[0] for member in MEMBERS],
)
def test_members_equal_diffusers(
    name: str,
    public: str,
    config: dict[str, Any],
    inputs: dict[str, tuple[int, ...]],
    more: dict[str, Any],
    latent: tuple[int, int, int],
    condition: list[tuple[int, ...]],
) -> None:
    """Parameters and FLOPs are equal, product by product in the same order but for embedders; the
    most activations that a pass holds within 1 %."""
    # Which words of a prompt are padding is data, which a trace has not: here none are.
    with mock.patch("torch.nonzero", lambda mask, **_: torch.arange(mask.shape[0])[:, None]):
        theirs = counted(
            lambda: getattr(diffusers, public)(**config),
            lambda: {key: torch.zeros(shape) for key, shape in inputs.items()} | made(more),
        )
    model = get(name)
    network = model.built(model.resolve())
    assert isinstance(network, Networks)
    ours = counts(network.denoiser, latent, condition)
    assert (ours.params, ours.flops) == (theirs.params, theirs.flops)
    assert ours.peak == pytest.approx(theirs.peak, rel=0.01)
    embedders = EMBEDDERS.get(name, 0)
    assert ours.products[embedders:] == theirs.products[embedders:]
    assert sorted(ours.products) == sorted(theirs.products)
