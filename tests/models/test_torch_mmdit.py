"""MM-DiT and the double streams against diffusers' classes with the same random weights."""

from __future__ import annotations

import re

import numpy as np
import pytest
from public import copied, drawn, predicted, randomised, relative

from dcsim.models.denoisers.double_stream import DoubleStream
from dcsim.models.denoisers.mmdit import Mmdit
from dcsim.models.tape import Array

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

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


def test_flux_with_a_reference_equals_diffusers() -> None:
    """Kontext: the tokens of the reference follow, one further along the first axis."""
    model = randomised(
        diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            pooled_projection_dim=20,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        )
    )
    network = DoubleStream(
        1, 2, 2, 16, channels=4, text_width=24, pooled_width=20, axes=(4, 6, 6), guidance=True
    )
    both = drawn(2, 4, 2, 8, 12)
    text, pooled = drawn(2, 5, 24, seed=4), drawn(2, 20, seed=5)
    each = np.arange(24)
    places = [np.stack([first + 0 * each, each // 6, each % 6], 1) for first in (0, 1)]
    tokens = np.concatenate([packed(both[:, :, 0]), packed(both[:, :, 1])], 1)
    with torch.no_grad():
        theirs = model(
            hidden_states=torch.from_numpy(tokens),
            encoder_hidden_states=torch.from_numpy(text),
            pooled_projections=torch.from_numpy(pooled),
            timestep=torch.from_numpy(STEPS).float() / 1000,
            img_ids=torch.from_numpy(np.concatenate(places)).float(),
            txt_ids=torch.zeros(5, 3),
            guidance=torch.full((2,), 3.5),
        ).sample[:, :24]
    arrays = copied(network, model, double_stream(1))
    ours = predicted(network, arrays, both, STEPS, (text, pooled), guidance=3.5)
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
