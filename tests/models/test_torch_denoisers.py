"""Families of denoisers against diffusers' classes: numbers with the same random weights at a small
size; parameters and FLOPs of the members at their own."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from public import copied, counted, counts, drawn, predicted, randomised, relative

from dcsim.models.catalogue import get
from dcsim.models.denoisers.cogvideox import CogVideoX
from dcsim.models.denoisers.double_stream import DoubleStream
from dcsim.models.denoisers.ltx import Ltx
from dcsim.models.denoisers.mmdit import Mmdit
from dcsim.models.denoisers.wan import Wan
from dcsim.models.pipeline import Networks
from dcsim.models.tape import Array

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)
get_3d_rotary_pos_embed = diffusers.models.embeddings.get_3d_rotary_pos_embed

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

STEPS = np.array([17.0, 903.0])

TIME = (
    (r"^time\.0", "time_text_embed.timestep_embedder.linear_1"),
    (
        r"^time\.1",
        "time_text_embed.timestep_embedder.linear_2",
    ),
)
POOLED = (
    (r"^pooled\.0", "time_text_embed.text_embedder.linear_1"),
    (
        r"^pooled\.1",
        "time_text_embed.text_embedder.linear_2",
    ),
)

SD3 = (
    *TIME,
    *POOLED,
    (r"^positions$", "pos_embed.pos_embed"),
    (r"^embed\.", "pos_embed.proj."),
    (r"^text\.", "context_embedder."),
    (r"^final\.modulation", "norm_out.linear"),
    (r"^final\.out", "proj_out"),
    (r"^(\d+)\.", r"transformer_blocks.\1."),
    (r"\.text\.modulation", ".norm1_context.linear"),
    (r"\.modulation", ".norm1.linear"),
    (r"\.text\.([qkv])\.", r".attn.add_\1_proj."),
    (r"\.text\.([qk])_norm$", r".attn.norm_added_\1.weight"),
    (r"\.text\.out\.", ".attn.to_add_out."),
    (r"\.text\.up\.", ".ff_context.net.0.proj."),
    (r"\.text\.down\.", ".ff_context.net.2."),
    (r"\.dual\.([qkv])\.", r".attn2.to_\1."),
    (r"\.dual\.([qk])_norm$", r".attn2.norm_\1.weight"),
    (r"\.dual\.out\.", ".attn2.to_out.0."),
    (r"(blocks\.\d+)\.([qkv])\.", r"\1.attn.to_\2."),
    (r"(blocks\.\d+)\.([qk])_norm$", r"\1.attn.norm_\2.weight"),
    (r"(blocks\.\d+)\.out\.", r"\1.attn.to_out.0."),
    (r"(blocks\.\d+)\.up\.", r"\1.ff.net.0.proj."),
    (r"(blocks\.\d+)\.down\.", r"\1.ff.net.2."),
)


@pytest.mark.parametrize("kernel", ["fused", "math"])
@pytest.mark.parametrize("dual", [0, 2])
def test_mmdit_equals_diffusers(dual: int, kernel: str) -> None:
    model = randomised(
        diffusers.SD3Transformer2DModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            num_layers=3,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=24,
            caption_projection_dim=32,
            pooled_projection_dim=20,
            pos_embed_max_size=12,
            dual_attention_layers=tuple(range(dual)),
            qk_norm="rms_norm" if dual else None,
        )
    )
    network = Mmdit(
        depth=3,
        heads=4,
        head=8,
        table=12,
        channels=4,
        text_width=24,
        pooled_width=20,
        dual=dual,
        head_norm=bool(dual),
    )
    latents, text, pooled = drawn(2, 4, 16, 12), drawn(2, 5, 24, seed=4), drawn(2, 20, seed=5)
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(latents),
            encoder_hidden_states=torch.from_numpy(text),
            pooled_projections=torch.from_numpy(pooled),
            timestep=torch.from_numpy(STEPS),
        ).sample
    arrays = copied(network, model, SD3)
    ours = predicted(network, arrays, latents[:, :, None], STEPS, (text, pooled), kernel=kernel)
    assert relative(ours[:, :, 0], theirs) < 1e-4


LAYERS = (
    (r"\.text\.([qkv])\.", r".attn.add_\1_proj."),
    (r"\.text\.([qk])_norm$", r".attn.norm_added_\1.weight"),
    (r"\.text\.out\.", ".attn.to_add_out."),
    (r"(blocks\.\d+)\.([qkv])\.", r"\1.attn.to_\2."),
    (r"(blocks\.\d+)\.([qk])_norm$", r"\1.attn.norm_\2.weight"),
)


def double_stream(double: int) -> tuple[tuple[str, str], ...]:
    """Names of FLUX and HunyuanVideo."""

    def single(match: re.Match[str]) -> str:
        return f"single_transformer_blocks.{int(match[1]) - double}."

    return (
        *TIME,
        *POOLED,
        (r"^guidance\.0", "time_text_embed.guidance_embedder.linear_1"),
        (r"^guidance\.1", "time_text_embed.guidance_embedder.linear_2"),
        (r"^embed\.", "x_embedder."),
        (r"^text\.", "context_embedder."),
        (r"^final\.modulation", "norm_out.linear"),
        (r"^final\.out", "proj_out"),
        (rf"^([{double}-9])\.", single),
        (r"^(\d+)\.", r"transformer_blocks.\1."),
        (r"^(single\S+\d+)\.modulation", r"\1.norm.linear"),
        (r"^(single\S+\d+)\.up\.", r"\1.proj_mlp."),
        (r"^(single\S+\d+)\.out\.", r"\1.proj_out."),
        (r"\.text\.modulation", ".norm1_context.linear"),
        (r"\.modulation", ".norm1.linear"),
        *LAYERS,
        (r"^(t\S+blocks\.\d+)\.out\.", r"\1.attn.to_out.0."),
        (r"\.text\.up\.", ".ff_context.net.0.proj."),
        (r"\.text\.down\.", ".ff_context.net.2."),
        (r"(blocks\.\d+)\.up\.", r"\1.ff.net.0.proj."),
        (r"(blocks\.\d+)\.down\.", r"\1.ff.net.2."),
    )


def packed(latents: Array) -> Array:
    """FLUX's tokens of an image: patches of 2 x 2 cells, the channel outermost."""
    batch, channels, rows, columns = latents.shape
    cut = latents.reshape(batch, channels, rows // 2, 2, columns // 2, 2)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns // 4, 4 * channels)


@pytest.mark.parametrize("guidance", [False, True])
def test_flux_equals_diffusers(guidance: bool) -> None:
    model = randomised(
        diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            pooled_projection_dim=20,
            guidance_embeds=guidance,
            axes_dims_rope=(4, 6, 6),
        )
    )
    network = DoubleStream(
        2, 2, 2, 16, channels=4, text_width=24, pooled_width=20, axes=(4, 6, 6), guidance=guidance
    )
    latents, text, pooled = drawn(2, 4, 8, 12), drawn(2, 5, 24, seed=4), drawn(2, 20, seed=5)
    places = np.stack([0 * np.arange(24), np.arange(24) // 6, np.arange(24) % 6], 1)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(packed(latents)),
            encoder_hidden_states=torch.from_numpy(text),
            pooled_projections=torch.from_numpy(pooled),
            timestep=torch.from_numpy(STEPS).float() / 1000,
            img_ids=torch.from_numpy(places).float(),
            txt_ids=torch.zeros(5, 3),
            guidance=torch.full((2,), 3.5) if guidance else None,
        ).sample
    arrays = copied(network, model, double_stream(2))
    ours = predicted(network, arrays, latents[:, :, None], STEPS, (text, pooled), guidance=3.5)
    assert relative(packed(ours[:, :, 0]), theirs) < 1e-4


def test_hunyuan_video_equals_diffusers() -> None:
    model = randomised(
        diffusers.HunyuanVideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            num_single_layers=2,
            num_refiner_layers=2,
            text_embed_dim=24,
            pooled_projection_dim=20,
            rope_axes_dim=(4, 6, 6),
        )
    )
    network = DoubleStream(
        2,
        2,
        2,
        16,
        channels=4,
        text_width=24,
        pooled_width=20,
        axes=(4, 6, 6),
        theta=256.0,
        rotate="image",
        guidance=True,
        refiner=2,
        video=True,
    )
    latents, text, pooled = drawn(2, 4, 3, 8, 12), drawn(2, 5, 24, seed=4), drawn(2, 20, seed=5)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents),
            encoder_hidden_states=torch.from_numpy(text),
            encoder_attention_mask=torch.ones(2, 5),
            pooled_projections=torch.from_numpy(pooled),
            timestep=torch.from_numpy(STEPS),
            guidance=torch.full((2,), 6000.0),
        ).sample
    refiner = "context_embedder"
    names = (
        (r"^refiner\.time\.0", f"{refiner}.time_text_embed.timestep_embedder.linear_1"),
        (r"^refiner\.time\.1", f"{refiner}.time_text_embed.timestep_embedder.linear_2"),
        (r"^refiner\.pooled\.0", f"{refiner}.time_text_embed.text_embedder.linear_1"),
        (r"^refiner\.pooled\.1", f"{refiner}.time_text_embed.text_embedder.linear_2"),
        (r"^text\.", f"{refiner}.proj_in."),
        (r"^refiner\.", f"{refiner}.token_refiner.refiner_blocks."),
        (r"(refiner_blocks\.\d)\.modulation", r"\1.norm_out.linear"),
        (r"(refiner_blocks\.\d)\.([qkv])\.", r"\1.attn.to_\2."),
        (r"(refiner_blocks\.\d)\.out\.", r"\1.attn.to_out.0."),
        (r"(refiner_blocks\.\d)\.up\.", r"\1.ff.net.0.proj."),
        (r"(refiner_blocks\.\d)\.down\.", r"\1.ff.net.2."),
        (r"^embed\.", "x_embedder.proj."),
        *double_stream(2),
    )
    arrays = copied(network, model, names)
    ours = predicted(network, arrays, latents, STEPS, (text, pooled), guidance=6.0)
    assert relative(ours, theirs) < 1e-4


def test_qwen_image_equals_diffusers() -> None:
    model = randomised(
        diffusers.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=3,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            axes_dims_rope=(4, 6, 6),
        )
    )
    network = DoubleStream(
        3, 0, 2, 16, channels=4, text_width=24, axes=(4, 6, 6), rotate="each", text_norm=True
    )
    latents, text = drawn(2, 4, 10, 12), drawn(2, 5, 24, seed=4)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(packed(latents)),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.from_numpy(STEPS).float() / 1000,
            img_shapes=[[(1, 5, 6)]] * 2,
        ).sample
    names = (
        *TIME,
        (r"^embed\.", "img_in."),
        (r"^text\.", "txt_in."),
        (r"^text_norm", "txt_norm.weight"),
        (r"^final\.modulation", "norm_out.linear"),
        (r"^final\.out", "proj_out"),
        (r"^(\d+)\.", r"transformer_blocks.\1."),
        (r"\.text\.modulation", ".txt_mod.1"),
        (r"\.modulation", ".img_mod.1"),
        *LAYERS,
        (r"(blocks\.\d+)\.out\.", r"\1.attn.to_out.0."),
        (r"\.text\.up\.", ".txt_mlp.net.0.proj."),
        (r"\.text\.down\.", ".txt_mlp.net.2."),
        (r"\.up\.", ".img_mlp.net.0.proj."),
        (r"\.down\.", ".img_mlp.net.2."),
    )
    ours = predicted(network, copied(network, model, names), latents[:, :, None], STEPS, (text,))
    assert relative(packed(ours[:, :, 0]), theirs) < 1e-4


WAN = (
    (r"^time\.0", "condition_embedder.time_embedder.linear_1"),
    (r"^time\.1", "condition_embedder.time_embedder.linear_2"),
    (r"^modulation", "condition_embedder.time_proj"),
    (r"^text\.0", "condition_embedder.text_embedder.linear_1"),
    (r"^text\.1", "condition_embedder.text_embedder.linear_2"),
    (r"^embed\.", "patch_embedding."),
    (r"^final\.offset", "scale_shift_table"),
    (r"^final\.out", "proj_out"),
    (r"^(\d+)\.", r"blocks.\1."),
    (r"\.offset", ".scale_shift_table"),
    (r"\.norm\.", ".norm2."),
    (r"\.cross\.([qkv])\.", r".attn2.to_\1."),
    (r"\.cross\.([qk])_norm", r".attn2.norm_\1.weight"),
    (r"\.cross\.out\.", r".attn2.to_out.0."),
    (r"(blocks\.\d+)\.([qkv])\.", r"\1.attn1.to_\2."),
    (r"(blocks\.\d+)\.([qk])_norm", r"\1.attn1.norm_\2.weight"),
    (r"(blocks\.\d+)\.out\.", r"\1.attn1.to_out.0."),
    (r"\.up\.", ".ffn.net.0.proj."),
    (r"\.down\.", ".ffn.net.2."),
)


@pytest.mark.parametrize("each_token", [False, True])
def test_wan_equals_diffusers(each_token: bool) -> None:
    model = randomised(
        diffusers.WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            text_dim=24,
            ffn_dim=40,
            num_layers=3,
        )
    )
    network = Wan(3, 2, 40, 16, channels=4, text_width=24, each_token=each_token)
    latents, text = drawn(2, 4, 3, 8, 12), drawn(2, 5, 24, seed=4)
    steps = torch.from_numpy(STEPS)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=steps[:, None].expand(2, 72) if each_token else steps,
        ).sample
    ours = predicted(network, copied(network, model, WAN), latents, STEPS, (text,))
    assert relative(ours, theirs) < 1e-4


COGVIDEOX = (
    (r"^positions", "patch_embed.pos_embedding"),
    (r"^embed\.", "patch_embed.proj."),
    (r"^text\.", "patch_embed.text_proj."),
    (r"^time\.0", "time_embedding.linear_1"),
    (r"^time\.1", "time_embedding.linear_2"),
    (r"^final\.norm1", "norm_final"),
    (r"^final\.norm2", "norm_out.norm"),
    (r"^final\.modulation", "norm_out.linear"),
    (r"^final\.out", "proj_out"),
    (r"^(\d+)\.", r"transformer_blocks.\1."),
    (r"\.norm(\d)\.modulation", r".norm\1.linear"),
    (r"\.norm(\d)\.(weight|bias)", r".norm\1.norm.\2"),
    (r"\.([qkv])\.", r".attn1.to_\1."),
    (r"\.([qk])_norm", r".attn1.norm_\1"),
    (r"(blocks\.\d+)\.out\.", r"\1.attn1.to_out.0."),
    (r"\.up\.", ".ff.net.0.proj."),
    (r"\.down\.", ".ff.net.2."),
)


@pytest.mark.parametrize(("positions", "frames"), [("sines", 1), ("rotary", 1), ("rotary", 2)])
def test_cogvideox_equals_diffusers(positions: Any, frames: int) -> None:
    model = randomised(
        diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=32,
            in_channels=4,
            out_channels=4,
            time_embed_dim=12,
            text_embed_dim=24,
            num_layers=3,
            sample_width=12,
            sample_height=8,
            sample_frames=13,
            patch_size_t=None if frames == 1 else frames,
            max_text_seq_length=5,
            use_rotary_positional_embeddings=positions == "rotary",
        )
    )
    network = CogVideoX(
        3, 2, positions, 32, (frames, 2, 2), 4, text_width=24, time_width=12, table=(4, 4, 6)
    )
    latents, text = drawn(2, 4, 4, 8, 12), drawn(2, 5, 24, seed=4)
    rope = get_3d_rotary_pos_embed(32, ((0, 0), (4, 6)), (4, 6), 4 // frames)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(latents.transpose(0, 2, 1, 3, 4)),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.from_numpy(STEPS),
            image_rotary_emb=rope if positions == "rotary" else None,
        ).sample
    arrays = copied(network, model, COGVIDEOX)
    if positions == "sines":  # the class keeps them in no checkpoint
        arrays["positions"] = model.patch_embed.pos_embedding[0, 5:].numpy()
    ours = predicted(network, arrays, latents, STEPS, (text,))
    assert relative(ours.transpose(0, 2, 1, 3, 4), theirs) < 1e-4
    # Made anew they are the same.
    other = replace(network, table=(1, 1, 1))
    arrays["positions"] = np.zeros((1, 64), np.float32)
    assert (
        relative(predicted(other, arrays, latents, STEPS, (text,)).transpose(0, 2, 1, 3, 4), theirs)
        < 1e-4
    )


LTX = (
    (r"^time\.0", "time_embed.emb.timestep_embedder.linear_1"),
    (r"^time\.1", "time_embed.emb.timestep_embedder.linear_2"),
    (r"^modulation", "time_embed.linear"),
    (r"^text\.0", "caption_projection.linear_1"),
    (r"^text\.1", "caption_projection.linear_2"),
    (r"^embed\.", "proj_in."),
    (r"^final\.offset", "scale_shift_table"),
    (r"^final\.out", "proj_out"),
    (r"^(\d+)\.", r"transformer_blocks.\1."),
    (r"\.offset", ".scale_shift_table"),
    (r"\.cross\.([qkv])\.", r".attn2.to_\1."),
    (r"\.cross\.([qk])_norm", r".attn2.norm_\1.weight"),
    (r"\.cross\.out\.", r".attn2.to_out.0."),
    (r"(blocks\.\d+)\.([qkv])\.", r"\1.attn1.to_\2."),
    (r"(blocks\.\d+)\.([qk])_norm", r"\1.attn1.norm_\2.weight"),
    (r"(blocks\.\d+)\.out\.", r"\1.attn1.to_out.0."),
    (r"\.up\.", ".ff.net.0.proj."),
    (r"\.down\.", ".ff.net.2."),
)


def test_ltx_video_equals_diffusers() -> None:
    model = randomised(
        diffusers.LTXVideoTransformer3DModel(
            in_channels=6,
            out_channels=6,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            num_layers=3,
            caption_channels=24,
        )
    )
    network = Ltx(3, 16, 2, 6, 24)
    latents, text = drawn(2, 6, 3, 4, 5), drawn(2, 5, 24, seed=4)
    tokens = latents.reshape(2, 6, 60).transpose(0, 2, 1)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(np.ascontiguousarray(tokens)),
            encoder_hidden_states=torch.from_numpy(text),
            timestep=torch.from_numpy(STEPS),
            encoder_attention_mask=torch.ones(2, 5),
            num_frames=3,
            height=4,
            width=5,
            rope_interpolation_scale=(8 / 25, 32, 32),
        ).sample
    ours = predicted(network, copied(network, model, LTX), latents, STEPS, (text,))
    assert relative(ours.reshape(2, 6, 60).transpose(0, 2, 1), theirs) < 1e-4


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
