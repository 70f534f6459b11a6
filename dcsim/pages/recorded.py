"""Counted beside allocated: DiT-XL/2, FLUX.1 and CogVideoX-2B with random weights, and a VAE decode
of each, as a Markdown table. Needs the extra `torch`, and for the measured columns a CUDA GPU:

    python -m dcsim.pages.recorded cuda [MODEL...]

Without `cuda` it counts alone, under fake tensors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import diffusers
import torch

from dcsim.traces import Clip
from dcsim.traces.torch import Stage, TorchRequest, trace

GIB = 2**30


def dit_xl_2() -> TorchRequest:
    """Both guidance branches at 256 x 256, and the VAE of Stable Diffusion."""
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=16,
        attention_head_dim=72,
        in_channels=4,
        out_channels=8,
        num_layers=28,
        sample_size=32,
        patch_size=2,
    ).eval()
    whole = torch.zeros(2, dtype=torch.int64)
    inputs = {"hidden_states": torch.zeros(2, 4, 32, 32), "timestep": whole, "class_labels": whole}
    decode = Stage("decode", _image_vae(4).decode, torch.zeros(1, 4, 32, 32))
    return TorchRequest([Stage("denoise", model, inputs, steps=250), decode], Clip(256, 256))


def flux() -> TorchRequest:
    """FLUX.1-dev at 1024 x 1024, one distilled branch, and its VAE."""
    model = diffusers.FluxTransformer2DModel(guidance_embeds=True).eval()
    inputs = {
        "hidden_states": torch.zeros(1, 4096, 64),
        "encoder_hidden_states": torch.zeros(1, 512, 4096),
        "pooled_projections": torch.zeros(1, 768),
        "timestep": torch.zeros(1),
        "guidance": torch.zeros(1),
        "img_ids": torch.zeros(4096, 3),
        "txt_ids": torch.zeros(512, 3),
    }
    decode = Stage("decode", _image_vae(16).decode, torch.zeros(1, 16, 128, 128))
    return TorchRequest([Stage("denoise", model, inputs, steps=28), decode], Clip(1024, 1024))


def cogvideox_2b() -> TorchRequest:
    """CogVideoX-2B, both branches of 49 frames at 720 x 480, and its causal VAE."""
    model = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=30,
        attention_head_dim=64,
        num_layers=30,
        text_embed_dim=4096,
        sample_width=90,
        sample_height=60,
        sample_frames=49,
    ).eval()
    inputs = {
        "hidden_states": torch.zeros(2, 13, 16, 60, 90),
        "encoder_hidden_states": torch.zeros(2, 226, 4096),
        "timestep": torch.zeros(2, dtype=torch.int64),
    }
    decode = Stage("decode", _video_vae().decode, torch.zeros(1, 16, 13, 60, 90))
    return TorchRequest([Stage("denoise", model, inputs, steps=50), decode], Clip(720, 480, 49))


def _image_vae(channels: int) -> torch.nn.Module:
    return diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        use_quant_conv=channels == 4,
        use_post_quant_conv=channels == 4,
    ).eval()


def _video_vae() -> torch.nn.Module:
    return diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(128, 256, 256, 512),
        layers_per_block=3,
        latent_channels=16,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
    ).eval()


MODELS: dict[str, Callable[[], TorchRequest]] = {
    "dit-xl-2": dit_xl_2,
    "flux": flux,
    "cogvideox-2b": cogvideox_2b,
}


def table(names: Sequence[str], device: str) -> str:
    """A row a model and stage: GiB beside weights at the fullest moment, counted from lifetimes and
    allocated on the GPU, and what the allocator had reserved in all."""
    lines = [
        "| model | stage | weights | counted | allocated | reserved |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        found = trace(MODELS[name], {"device": device})
        for step, record in found.records.items():
            scratch = sum(h.bytes for h in record.holdings if h.category == "workspace")
            counted = sum(h.bytes for h in record.holdings) - scratch
            weights = next(p.weights for p in found.phases if p.name == step)
            figures = [weights, counted]
            if device == "cuda":
                figures += [int(found.options[f"{step} {k}"]) for k in ("allocated", "reserved")]
            cells = [f"{figure / GIB:.4f}" for figure in figures] + [""] * (4 - len(figures))
            lines.append(f"| {name} | {step} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    given = sys.argv[1:]
    print(
        table(
            [n for n in given if n != "cuda"] or list(MODELS), "cuda" if "cuda" in given else "fake"
        )
    )
