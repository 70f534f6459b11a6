"""Autoencoders of the build of Stable Diffusion's and HunyuanVideo's, of any widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from dcsim.models import vae
from dcsim.models.autoencoder.layers import Attention, Convolution, Layer, Residual, Stage
from dcsim.models.autoencoder.resampling import Down, Up
from dcsim.models.vae import Coder, Vae


def kl(channels: int, widths: Sequence[int], layers: int, video: bool = False) -> Vae:
    """With a convolution of 1 beside the latents; the last two halvings and doublings of a video
    are in time too."""
    like = vae.get("hunyuanvideo" if video else "sd")
    last = len(widths) - 1

    middle = Stage((Residual(), Attention(video), Residual()))
    down: list[Layer] = [Convolution(widths[0])]
    for i, width in enumerate(widths):
        ends = (Down(2 if video and i >= last - 2 else 1),) if i < last else ()
        down.append(Stage((Residual(width, layers), *ends)))
    down += [middle, *like.encoder.layers[-4:-2]]
    down += [Convolution(2 * channels), Convolution(2 * channels, 1)]
    up: list[Layer] = [Convolution(channels, 1), Convolution(widths[-1]), middle]
    for i in range(last, -1, -1):
        ends = (Up(2 if video and i <= 2 else 1),) if i else ()
        up.append(Stage((Residual(widths[i], layers + 1), *ends)))
    up += like.decoder.layers[-3:]
    return replace(
        like,
        channels=channels,
        space=2**last,
        scale=0.5,
        tile=vae.Tile((256, 256), (192, 192)),
        encoder=replace(like.encoder, layers=tuple(down)),
        decoder=replace(like.decoder, layers=tuple(up)),
    )


def plain(found: Vae) -> Any:
    """Its figures as docs/pricing.md names them."""
    stages = [layer for layer in found.encoder.layers if isinstance(layer, Stage)][:-1]
    widths, width = [], 0
    for stage in stages:
        width = stage.width(width or found.encoder.layers[0].width(3))
        widths.append(width)
    first = stages[0].of[0]
    assert isinstance(first, Residual)
    return SimpleNamespace(
        channels=found.channels,
        widths=tuple(widths),
        layers=first.times,
        video=found.video,
        tile=found.tile.size[0],
        stride=found.tile.stride[0],
    )


def with_widths(coder: Coder, widths: dict[int, int]) -> Coder:
    """The same layers with other channels."""
    return replace(coder, layers=tuple(_narrow(layer, widths) for layer in coder.layers))


def _narrow(layer: Any, widths: dict[int, int]) -> Any:
    if hasattr(layer, "of") and isinstance(layer.of, tuple):
        return replace(layer, of=tuple(_narrow(each, widths) for each in layer.of))
    to = getattr(layer, "to", None)
    return replace(layer, to=widths.get(to, to)) if to is not None else layer
