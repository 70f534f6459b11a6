"""Layers of autoencoders: convolutions, norms, residual blocks, attention, and stages of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Literal

from dcsim.models import ops
from dcsim.models.autoencoder.passing import (
    Half,
    Passing,
    added,
    affine_shapes,
    causal_mask,
    conv_shapes,
    convolved,
    grouped,
    norm_shapes,
    normed,
    pointwise_conv,
    unit,
)
from dcsim.models.conv import (
    depth_to_space,
    frames_apart,
    frames_together,
    grouped_mean,
    padded,
    repeated,
    space_to_depth,
)
from dcsim.models.parallel import all_gather
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import Tensor
from dcsim.models.weights import Parameters
from dcsim.reading.concept import Concept, Count, Least, Positive


@dataclass(frozen=True)
class Layer(Concept, ABC):
    """One layer of an encoder or a decoder."""

    by = "kind"

    @property
    def blocks(self) -> int:
        """Residual and attention blocks, whose launches cost time."""
        return 0

    @property
    def undivided(self) -> bool:
        """Whether it needs all rows of a picture: GPUs cannot have a share of them each."""
        inner = [layer for layer in getattr(self, "of", ()) if isinstance(layer, Layer)]
        return any(layer.undivided for layer in inner)

    def width(self, width: int) -> int:
        """Channels that it makes of so many."""
        return width

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        """Names and shapes, of input channels `width`."""
        return iter(())

    @abstractmethod
    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        """What it makes of x (batch, channels, [frames,] height, width)."""


@dataclass(frozen=True)
class Same(Layer):
    """Nothing."""

    tag = "same"

    @property
    def blocks(self) -> int:
        """One, as something is launched."""
        return 1

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class Convolution(Layer):
    """A convolution; `kernel: 1` and what is written axis by axis are padded by themselves."""

    tag = "conv"
    to: Count
    """Channels."""
    kernel: Count = 3
    """On every axis."""
    bias: bool = True
    """Whether it has one."""

    def width(self, width: int) -> int:
        return self.to

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, name, width, self.to, self.kernel, bias=self.bias)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        return pointwise_conv(run, name, x) if self.kernel == 1 else convolved(run, name, x)


@dataclass(frozen=True)
class Strided(Layer):
    """A convolution whose kernel and stride are one: patches of its input."""

    tag = "strided"
    to: Count
    """Channels."""
    time: Count = 1
    """Frames of a patch."""
    space: Count = 2
    """Rows and columns of a patch."""

    def width(self, width: int) -> int:
        return self.to

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, name, width, self.to, (self.time, self.space, self.space))

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        return convolved(run, name, x, (self.time, self.space, self.space))


@dataclass(frozen=True)
class Norm(Layer):
    """The norm of the half, or another."""

    tag = "norm"
    of: Literal["half", "group", "channels"] = "half"
    """`group`: over groups of channels whatever the half has; `channels`: RMS over the channels
    with a weight and a bias."""

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        if self.of == "half":
            yield from norm_shapes(half, name, width, latent)
        else:
            yield from affine_shapes(name, width)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        if self.of == "half":
            return normed(run, name, x)
        if self.of == "group":
            return grouped(run, name, x)
        return unit(x, 1e-5, *run.affine(name))


@dataclass(frozen=True)
class Activation(Layer):
    """An activation."""

    tag = "activation"
    of: Literal["silu", "relu"] = "silu"
    """Which."""

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        return ops.silu(x) if self.of == "silu" else ops.relu(x)


@dataclass(frozen=True)
class Residual(Layer):
    """Norm, SiLU, convolution, twice, beside a shortcut."""

    tag = "residual"
    to: Count | None = None
    """Channels; absent: as many as come in."""
    times: Count = 1
    """How many, one after another."""
    bias: bool = True
    """Whether its convolutions have one."""

    @property
    def blocks(self) -> int:
        return 1

    def width(self, width: int) -> int:
        return self.to or width

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        to = self.width(width)
        yield from norm_shapes(half, f"{name}.norm1", width, latent)
        yield from conv_shapes(half, f"{name}.conv1", width, to, bias=self.bias)
        yield from norm_shapes(half, f"{name}.norm2", to, latent)
        yield from conv_shapes(half, f"{name}.conv2", to, to, bias=self.bias)
        if width != to:
            if half.shortcut == "normed":
                yield from affine_shapes(f"{name}.norm3", width)
            yield from conv_shapes(half, f"{name}.skip", width, to, 1, bias=self.bias)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        changes = self.to is not None and self.to != x.shape[1]
        early = changes and run.half.shortcut == "first"
        skip = convolved(run, f"{name}.skip", x) if early else x
        h = normed(run, f"{name}.norm1", x)
        h = ops.silu(h)
        h = convolved(run, f"{name}.conv1", h)
        h = normed(run, f"{name}.norm2", h)
        h = ops.silu(h)
        h = convolved(run, f"{name}.conv2", h)
        if changes and not early:
            skip = self._shortcut(run, name, skip)
        return added(run, skip, h)

    def _shortcut(self, run: Passing, name: str, x: Tensor) -> Tensor:
        """Of another width; diffusers' CogVideoX has no padding there."""
        if run.half.shortcut == "normed":
            x = ops.channel_norm(x, *run.affine(f"{name}.norm3"), run.half.eps)
        if run.half.padding == "first" and run.half.cached != "none":
            return pointwise_conv(run, f"{name}.skip", x)
        return convolved(run, f"{name}.skip", x)


@dataclass(frozen=True)
class Attention(Layer):
    """One head of attention over the cells of a frame, or over those of all frames before too."""

    tag = "attention"
    causal: bool = False
    """Over the cells of all frames up to a cell's own, by a mask in memory; else of its own."""

    @property
    def blocks(self) -> int:
        return 1

    @property
    def undivided(self) -> bool:
        return self.causal

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from norm_shapes(half, f"{name}.norm", width, latent)
        for part in ("q", "k", "v", "out"):
            yield from conv_shapes(half, f"{name}.{part}", width, width, ())

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        batch, width, *space = x.shape
        frames = 1 if run.half.flat else space[0]
        cells = prod(space[-2:])
        rows = (batch, frames * cells) if self.causal else (batch * frames, cells)
        mask = causal_mask(x, frames, cells) if self.causal else None
        h = normed(run, f"{name}.norm", x).reshape(batch, width, frames, cells)
        h = ops.copy(h.permute(0, 2, 3, 1), (*rows, width))
        q, k, v = (
            ops.linear(h, *run.affine(f"{name}.{part}")).reshape(*rows, 1, width) for part in "qkv"
        )
        k = all_gather(k, x.tape.sharing, 1)
        v = all_gather(v, x.tape.sharing, 1)
        h = softmax_attention(q, k, v, bias=mask).reshape(*rows, width)
        del q, k, v
        h = ops.linear(h, *run.affine(f"{name}.out"))
        h = h.reshape(batch, frames, cells, width).permute(0, 3, 1, 2)
        h = added(run, x.reshape(*h.shape), h)
        return h.reshape(*x.shape)


@dataclass(frozen=True)
class Stage(Layer):
    """Layers in a row; what comes in is held until they are through."""

    tag = "stage"
    of: Annotated[tuple[Layer, ...], Least(1)]
    """The layers."""
    average: tuple[Count, ...] = ()
    """Frames, rows and columns of input that are averaged, channel groups too, and added to what
    comes out (Wan 2.2, going down)."""
    duplicate: tuple[Count, ...] = ()
    """Frames, rows and columns that each cell of the input is repeated into, to be added to what
    comes out (Wan 2.2, going up)."""
    copied: bool = False
    """A copy of the input is held until the layers are through, whether it is added or not."""

    @property
    def blocks(self) -> int:
        """Those of its layers."""
        return sum(layer.blocks for layer in expanded(self.of))

    def width(self, width: int) -> int:
        for layer in self.of:
            width = layer.width(width)
        return width

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from sequence_shapes(half, name, self.of, width, latent)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        kept = ops.copy(x) if self.copied or self.average or self.duplicate else x
        y = through(run, name, self.of, x)
        if self.average:
            return ops.add(y, _averaged(kept, self.average, y.shape[1]))
        if self.duplicate:
            return ops.add(y, _duplicated(kept, self.duplicate, y.shape[1], run.first))
        return y


def _averaged(x: Tensor, factors: tuple[int, ...], to: int) -> Tensor:
    missing = -x.shape[2] % factors[0]
    x = padded(x, ((missing, 0), (0, 0), (0, 0)))
    return grouped_mean(space_to_depth(x, factors), to)


def _duplicated(x: Tensor, factors: tuple[int, ...], to: int, first: bool) -> Tensor:
    x = repeated(x, to * prod(factors) // x.shape[1])
    x = depth_to_space(x, factors)
    return x[:, :, factors[0] - 1 :] if first else x


@dataclass(frozen=True)
class Images(Layer):
    """Layers that work on frames one by one, as on a batch of images."""

    tag = "images"
    of: Annotated[tuple[Layer, ...], Least(1)]
    """The layers."""
    batch: Count | None = None
    """Frames at once; absent: all."""
    eps: Positive = 1e-6
    """Added to variances."""

    @property
    def blocks(self) -> int:
        """Those of its layers."""
        return sum(layer.blocks for layer in expanded(self.of))

    def width(self, width: int) -> int:
        for layer in self.of:
            width = layer.width(width)
        return width

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from sequence_shapes(self._half(half), name, self.of, width, latent)

    def _half(self, half: Half) -> Half:
        return Half(flat=True, groups=half.groups, eps=self.eps, rescaled=True)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        batch, images = x.shape[0], frames_apart(x)
        half = self._half(run.half)
        size = self.batch or images.shape[0]
        flat = Passing(half, run.weights, run.latents)
        parts = [
            through(flat, name, self.of, images[at : at + size])
            for at in range(0, images.shape[0], size)
        ]
        y = ops.concat(parts, 0) if len(parts) > 1 else parts[0]
        return frames_together(y, batch)


@dataclass(frozen=True)
class Patches(Layer):
    """Squares of pixels folded into channels; columns run before rows (Wan 2.2, LTX-Video)."""

    tag = "patches"
    size: Count
    """Of an edge."""

    def width(self, width: int) -> int:
        return width * self.size**2

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        return space_to_depth(x, (1, self.size, self.size), columns_first=True)


@dataclass(frozen=True)
class Unpatched(Layer):
    """Channels unfolded into squares of pixels: the reverse of `patches`."""

    tag = "unpatched"
    size: Count
    """Of an edge."""

    def width(self, width: int) -> int:
        return width // self.size**2

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        return depth_to_space(x, (1, self.size, self.size), columns_first=True)


# Sequences


def expanded(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Every layer by itself: those that stand for several so many times."""
    for layer in layers:
        yield from (layer,) * getattr(layer, "times", 1)


def sequence_shapes(
    half: Half, name: str, layers: Sequence[Layer], width: int, latent: int
) -> Parameters:
    """Names and shapes of layers in a row, numbered from 0."""
    for i, layer in enumerate(expanded(layers)):
        yield from layer.parameters(half, f"{name}.{i}", width, latent)
        width = layer.width(width)


def through(run: Passing, name: str, layers: Sequence[Layer], x: Tensor) -> Tensor:
    """x through layers in a row."""
    for i, layer in enumerate(expanded(layers)):
        x = layer.forward(run, f"{name}.{i}", x)
    return x
