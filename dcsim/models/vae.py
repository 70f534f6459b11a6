"""The VAE: Stable Diffusion's for images, and a causal spacetime one of the same build for video.

Images: 8 x 8 in space, 4 latent channels (`AutoencoderKL` of latent diffusion, 83.7 M
parameters). Video: the same stages with 3 x 3 x 3 kernels, causal in time, 4 x in time, 16
channels; the first frame stands alone, so 1 + 4k frames become 1 + k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from dcsim.models import ops
from dcsim.models.conv import conv, upsample
from dcsim.models.tape import Shape, Tensor
from dcsim.models.weights import Weights

GROUPS = 32
CAUSAL = ((2, 0), (1, 1), (1, 1))
"""Padding of a 3 x 3 x 3 kernel under which a frame sees itself and the two before it."""
EPS = 1e-6


@dataclass(frozen=True)
class VaeConfig:
    """Architecture of a VAE. `widths` are the channels of its stages, finest first."""

    channels: int = 4
    """Latent channels."""
    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    """Residual layers of an encoder stage; a decoder stage has one more."""
    video: bool = False
    scale: float = 0.18215
    """What latents are multiplied by to have unit variance."""
    halvings: int = 2
    """Stages, from the coarsest, that also halve time, of a video's."""

    @property
    def space(self) -> int:
        """Pixels of a latent cell's edge."""
        return int(2 ** (len(self.widths) - 1))

    @property
    def time(self) -> int:
        """Frames of a latent frame, but for the first."""
        return 2**self.halvings if self.video else 1

    def halves_time(self, stage: int) -> bool:
        """Whether going down from stage (0 is the finest) also halves time."""
        return self.video and stage >= len(self.widths) - 1 - self.halvings

    def latent(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip; ValueError where they do not divide."""
        if (frames - 1) % self.time or height % self.space or width % self.space:
            raise ValueError(f"{frames} frames of {width}x{height} do not divide")
        return 1 + (frames - 1) // self.time, height // self.space, width // self.space

    @property
    def blocks(self) -> int:
        """Residual and attention layers of the decoder, for the launch overhead."""
        return 3 + len(self.widths) * (self.layers + 1)


def parameters(c: VaeConfig) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the parameters, encoder and decoder."""
    ones, threes = ((1, 1, 1), (3, 3, 3)) if c.video else ((1, 1), (3, 3))

    def layer(name: str, out: int, width: int, kernel: Shape) -> Iterator[tuple[str, Shape]]:
        yield f"{name}.weight", (out, width, *kernel)
        yield f"{name}.bias", (out,)

    def norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
        yield f"{name}.weight", (width,)
        yield f"{name}.bias", (width,)

    def resnet(name: str, width: int, out: int) -> Iterator[tuple[str, Shape]]:
        yield from norm(f"{name}.norm1", width)
        yield from layer(f"{name}.conv1", out, width, threes)
        yield from norm(f"{name}.norm2", out)
        yield from layer(f"{name}.conv2", out, out, threes)
        if width != out:
            yield from layer(f"{name}.skip", out, width, ones)

    def middle(name: str, width: int) -> Iterator[tuple[str, Shape]]:
        yield from resnet(f"{name}.mid.0", width, width)
        yield from norm(f"{name}.mid.norm", width)
        for part in ("q", "k", "v", "out"):
            yield from layer(f"{name}.mid.{part}", width, width, ())
        yield from resnet(f"{name}.mid.1", width, width)

    top, last = c.widths[-1], len(c.widths) - 1
    yield from layer("encoder.in", c.widths[0], 3, threes)
    width = c.widths[0]
    for stage, out in enumerate(c.widths):
        for i in range(c.layers):
            yield from resnet(f"encoder.{stage}.{i}", width, out)
            width = out
        if stage < last:
            yield from layer(f"encoder.{stage}.down", out, out, threes)
    yield from middle("encoder", top)
    yield from norm("encoder.norm", top)
    yield from layer("encoder.out", 2 * c.channels, top, threes)
    yield from layer("encoder.quant", 2 * c.channels, 2 * c.channels, ones)
    yield from layer("decoder.quant", c.channels, c.channels, ones)
    yield from layer("decoder.in", top, c.channels, threes)
    yield from middle("decoder", top)
    width = top
    for stage in range(last, -1, -1):
        for i in range(c.layers + 1):
            yield from resnet(f"decoder.{stage}.{i}", width, c.widths[stage])
            width = c.widths[stage]
        if stage:
            yield from layer(f"decoder.{stage}.up", width, width, threes)
    yield from norm("decoder.norm", c.widths[0])
    yield from layer("decoder.out", 3, c.widths[0], threes)


def _conv(c: VaeConfig, w: Weights, name: str, x: Tensor) -> Tensor:
    weight, bias = w.linear(name)
    if c.video and weight.shape[2] == 3:
        return conv(x, weight, bias, pad=CAUSAL)
    return conv(x, weight, bias)


def _norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return ops.group_norm(x, *w.linear(name), min(GROUPS, x.shape[1]), EPS)


def _resnet(c: VaeConfig, w: Weights, name: str, x: Tensor) -> Tensor:
    out = w[f"{name}.conv1.bias"].shape[0]
    h = _norm(w, f"{name}.norm1", x)
    h = ops.silu(h)
    h = _conv(c, w, f"{name}.conv1", h)
    h = _norm(w, f"{name}.norm2", h)
    h = ops.silu(h)
    h = _conv(c, w, f"{name}.conv2", h)
    if x.shape[1] != out:
        x = _conv(c, w, f"{name}.skip", x)
    return ops.add(x, h)


def _middle(c: VaeConfig, w: Weights, name: str, x: Tensor, kernel: str) -> Tensor:
    """Two residual layers around one attention head over the cells of each frame."""
    x = _resnet(c, w, f"{name}.mid.0", x)
    batch, width, *space = x.shape
    frames = space[0] if c.video else 1
    cells = space[-2] * space[-1]
    h = _norm(w, f"{name}.mid.norm", x).reshape(batch, width, frames, cells)
    h = ops.copy(h.permute(0, 2, 3, 1), (batch * frames, cells, width))
    head = partial(_head, h=h, w=w, name=f"{name}.mid")
    h = ops.attention(head("q"), head("k"), head("v"), kernel=kernel)
    h = ops.linear(h.reshape(batch, frames, cells, width), *w.linear(f"{name}.mid.out"))
    h = h.permute(0, 3, 1, 2)
    x = ops.add(x.reshape(batch, width, frames, cells), h).reshape(*x.shape)
    del h, head
    return _resnet(c, w, f"{name}.mid.1", x)


def _head(part: str, *, h: Tensor, w: Weights, name: str) -> Tensor:
    batch, cells, width = h.shape
    return ops.linear(h, *w.linear(f"{name}.{part}")).reshape(batch, cells, 1, width)


def encode(c: VaeConfig, w: Weights, pixels: Tensor, kernel: str = "fused") -> Tensor:
    """Latents of pixels in [-1, 1]: the mean of the posterior, scaled.

    Pixels (batch, 3, [frames,] height, width); latents (batch, channels, [frames,] rows,
    columns).
    """
    x = _conv(c, w, "encoder.in", pixels)
    for stage in range(len(c.widths)):
        for i in range(c.layers):
            x = _resnet(c, w, f"encoder.{stage}.{i}", x)
        if stage < len(c.widths) - 1:
            halve, pad = (2, 2), ((0, 1), (0, 1))
            if c.video:
                time = 2 if c.halves_time(stage) else 1
                x = conv(
                    x,
                    *w.linear(f"encoder.{stage}.down"),
                    stride=(time, *halve),
                    pad=((2, 0), *pad),
                )
            else:
                x = conv(x, *w.linear(f"encoder.{stage}.down"), stride=halve, pad=pad)
    x = _middle(c, w, "encoder", x, kernel)
    x = ops.silu(_norm(w, "encoder.norm", x))
    x = _conv(c, w, "encoder.out", x)
    mean, _ = _conv(c, w, "encoder.quant", x).chunk(2, 1)
    return ops.affine(mean, c.scale)


def decode(c: VaeConfig, w: Weights, latents: Tensor, kernel: str = "fused") -> Tensor:
    """Pixels of latents; shapes as in `encode`."""
    x = ops.affine(ops.cast(latents, w.dtype), 1 / c.scale)
    x = _conv(c, w, "decoder.quant", x)
    x = _conv(c, w, "decoder.in", x)
    x = _middle(c, w, "decoder", x, kernel)
    for stage in range(len(c.widths) - 1, -1, -1):
        for i in range(c.layers + 1):
            x = _resnet(c, w, f"decoder.{stage}.{i}", x)
        if stage:
            x = _grow(c, x, c.halves_time(stage - 1))
            x = _conv(c, w, f"decoder.{stage}.up", x)
    x = _norm(w, "decoder.norm", x)
    x = ops.silu(x)
    return _conv(c, w, "decoder.out", x)


def _grow(c: VaeConfig, x: Tensor, time: bool) -> Tensor:
    if not c.video:
        return upsample(x, (2, 2))
    return upsample(x, (2, 2, 2), drop=1) if time else upsample(x, (1, 2, 2))
