"""Families of denoisers against diffusers' classes: numbers with the same random weights at a small
size; parameters and FLOPs of the members at their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from public import copied, counted, drawn, flops, predicted, randomised, relative

from dcsim.models.catalogue import get
from dcsim.models.denoisers.mmdit import Mmdit
from dcsim.models.pipeline import Networks
from dcsim.models.weights import count

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


def _sd3(**given: Any) -> Any:
    return diffusers.SD3Transformer2DModel(
        sample_size=128,
        in_channels=16,
        out_channels=16,
        attention_head_dim=64,
        joint_attention_dim=4096,
        pooled_projection_dim=2048,
        **given,
    )


SD3_MEMBERS = {
    "sd3-medium": {
        "num_layers": 24,
        "num_attention_heads": 24,
        "caption_projection_dim": 1536,
        "pos_embed_max_size": 192,
    },
    "sd3.5-medium": {
        "num_layers": 24,
        "num_attention_heads": 24,
        "caption_projection_dim": 1536,
        "pos_embed_max_size": 384,
        "qk_norm": "rms_norm",
        "dual_attention_layers": tuple(range(13)),
    },
    "sd3.5-large": {
        "num_layers": 38,
        "num_attention_heads": 38,
        "caption_projection_dim": 2432,
        "pos_embed_max_size": 192,
        "qk_norm": "rms_norm",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SD3_MEMBERS)
def test_parameters_and_flops_of_sd3(name: str) -> None:
    inputs = {
        "hidden_states": (1, 16, 128, 128),
        "encoder_hidden_states": (1, 333, 4096),
        "pooled_projections": (1, 2048),
        "timestep": (1,),
    }
    theirs = counted(lambda: _sd3(**SD3_MEMBERS[name]), lambda: _zeros(inputs))
    assert _ours(name, (1, 128, 128), [(1, 333, 4096), (1, 2048)]) == theirs


def _zeros(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def _ours(
    name: str, latent: tuple[int, int, int], condition: list[tuple[int, ...]]
) -> tuple[int, int]:
    """Parameters and FLOPs of a member of the catalogue."""
    model = get(name)
    network = model.built(model.resolve())
    assert isinstance(network, Networks)
    return count(network.denoiser.parameters()), flops(network.denoiser, latent, condition)
