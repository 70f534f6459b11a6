"""U-Nets against diffusers' class with the same random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from public import copied, drawn, predicted, randomised, relative

from dcsim.models.catalogue import get
from dcsim.models.denoiser import Numerics
from dcsim.models.denoisers.unet import Unet
from dcsim.models.pipeline import Networks
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

SIZE = {"in_channels": 4, "out_channels": 4, "sample_size": 16, "cross_attention_dim": 20}
XL = {
    "block_out_channels": (32, 64, 96),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 1, 3),
    "attention_head_dim": (2, 4, 6),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 12 + 6 * 256,
}
OLD = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 4,
}
OURS_XL = Unet((32, 64, 96), (0, 1, 3), 3, head=16, heads=4, linear=True, text_width=20, pooled=12)
OURS_OLD = Unet((32, 64), (1, 0), 1, layers=1, heads=4, text_width=20)


def places(config: dict[str, Any], depths: tuple[int, ...], middle: int) -> Iterator[str]:
    """diffusers' names of the residual blocks and of the transformers' blocks, as they run."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]

    def pieces(at: str, count: int, depth: int) -> Iterator[str]:
        for j in range(count):
            yield f"{at}.resnets.{j}"
            if j < count - 1 or at != "mid_block":
                for k in range(depth):
                    yield f"{at}.attentions.{j}.transformer_blocks.{k}"

    for level in range(levels):
        yield from pieces(f"down_blocks.{level}", layers, depths[level])
    yield from pieces("mid_block", 2, middle)
    for level in range(levels):
        yield from pieces(f"up_blocks.{level}", layers + 1, depths[levels - 1 - level])


def names(config: dict[str, Any], network: Unet) -> list[tuple[str, str]]:
    found = [
        (r"^embed\.", "conv_in."),
        (r"^time\.0", "time_embedding.linear_1"),
        (r"^time\.1", "time_embedding.linear_2"),
        (r"^pooled\.0", "add_embedding.linear_1"),
        (r"^pooled\.1", "add_embedding.linear_2"),
        (r"^down(\d+)\.", r"down_blocks.\1.downsamplers.0.conv."),
        (r"^up(\d+)\.", r"up_blocks.\1.upsamplers.0.conv."),
        (r"^final\.norm", "conv_norm_out"),
        (r"^final\.out", "conv_out"),
    ]
    for i, at in enumerate(places(config, network.depths, network.middle)):
        outer = at.partition(".transformer")[0]
        for ours, theirs in (("norm", "norm"), ("into", "proj_in"), ("back", "proj_out")):
            found.append((rf"^{i}\.{ours}\.", f"{outer}.{theirs}."))
        found.append((rf"^{i}\.", f"{at}."))
    found += [
        (r"\.signal\.", ".time_emb_proj."),
        (r"\.skip\.", ".conv_shortcut."),
        (r"\.cross\.([qkv])\.", r".attn2.to_\1."),
        (r"\.cross\.out\.", r".attn2.to_out.0."),
        (r"(blocks\.\d+)\.([qkv])\.", r"\1.attn1.to_\2."),
        (r"(transformer_blocks\.\d+)\.out\.", r"\1.attn1.to_out.0."),
        (r"\.up\.", ".ff.net.0.proj."),
        (r"\.down\.", ".ff.net.2."),
        (r"\.conv$", ".weight"),
    ]
    return found


@pytest.mark.parametrize(("config", "network"), [(XL, OURS_XL), (OLD, OURS_OLD)], ids=["xl", "old"])
@pytest.mark.parametrize("rows", [16, 8])
def test_a_unet_equals_diffusers(config: dict[str, Any], network: Unet, rows: int) -> None:
    model = randomised(diffusers.UNet2DConditionModel(**SIZE, **config))
    latents, text = drawn(2, 4, rows, 16), drawn(2, 5, 20, seed=4)
    pooled = drawn(2, 12, seed=5)
    steps = np.array([17.0, 903.0])
    sizes = [8.0 * rows, 128.0, 0.0, 0.0, 8.0 * rows, 128.0]
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(latents),
            torch.from_numpy(steps),
            torch.from_numpy(text),
            added_cond_kwargs={
                "text_embeds": torch.from_numpy(pooled),
                "time_ids": torch.tensor([sizes] * 2),
            },
        ).sample
    arrays = copied(network, model, names(config, network))
    condition = (text, pooled) if network.pooled else (text,)
    ours = predicted(network, arrays, latents[:, :, None], steps, condition)
    assert relative(ours[:, :, 0], theirs) < 1e-4


def test_what_a_unet_holds_between_the_ways() -> None:
    """SDXL at 1024, as the middle begins with a norm: what the first convolution, two blocks a
    level and two halvings have made."""
    networks = get("sdxl").network
    assert isinstance(networks, Networks)
    unet, tape = networks.denoiser, Tape()
    assert isinstance(unet, Unet)
    latents = tape.tensor((1, 4, 1, 128, 128), "bf16")
    given = [tape.tensor(shape, "bf16") for shape in ((1, 77, 2048), (1, 1280))]
    weights = Weights(tape, unet.held(), "bf16")
    unet.forward(weights, latents, np.zeros(1), given, numerics=Numerics())
    ops = [e for e in tape.events if e[0] == "op"]
    middle = unet.plan().middle[0].number
    at = next(i for i, e in enumerate(ops) if e[7].startswith(f"{middle}."))
    held = sum(tape.profile[at][1])
    kept = 3 * 320 * 128**2 + (320 + 2 * 640) * 64**2 + (640 + 2 * 1280) * 32**2
    # Beside them the norm's output and the latents, the condition and the signal.
    small = (4 * 128**2 + 77 * 2048 + 1280 + 1280) * 2
    assert 0 <= held - 2 * (kept + 1280 * 32**2) - small < 2000


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depths": (0, 1)}, "depths: 2 of 3 levels"),
        ({"widths": (32, 48, 96)}, "widths: 32 groups do not divide 48"),
        ({"head": 24}, "head: 24 does not divide 32"),
        ({"head": None, "heads": 3}, "heads: 3 does not divide 32"),
    ],
)
def test_a_wrong_network_is_told(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(OURS_XL, **changed).check()


def test_only_guidance_spreads_a_unet() -> None:
    assert OURS_XL.wrong(Layout(cfg=2)) is None
    for layout in (Layout(tp=2), Layout(sp=2)):
        assert OURS_XL.wrong(layout) == (
            "a U-Net is whole on each GPU: only cfg: 2 spreads a request"
        )
