"""Layers that change the size: of frames, of images, or of both."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from dcsim.models import ops
from dcsim.models.autoencoder.layers import Layer
from dcsim.models.autoencoder.passing import Half, Passing, conv_shapes, convolved
from dcsim.models.conv import (
    conv,
    depth_to_space,
    frames_apart,
    frames_together,
    grouped_mean,
    padded,
    repeated,
    space_to_depth,
    upsample,
)
from dcsim.models.tape import MEMORY, Array, Tensor
from dcsim.models.weights import Parameters
from dcsim.reading.concept import Count

BEHIND = ((0, 1), (0, 1))
"""How an image is padded before a stride of 2."""


@dataclass(frozen=True)
class Up(Layer):
    """Each cell repeated twice along rows and columns, then a convolution.

    Along time, where `time` says so, all frames but the first, which stands alone.
    """

    tag = "up"
    time: Count = 1
    """Frames made of one."""

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, name, width, width)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        if run.half.flat:
            x = upsample(x, (2, 2))
            return convolved(run, name, x)
        first, others = x[:, :, :1], x[:, :, 1:]
        first = upsample(first, (1, 2, 2))
        if not others.shape[2]:
            return convolved(run, name, first)
        others = ops.copy(others)
        others = upsample(others, (self.time, 2, 2))
        y = ops.concat([first, others], 2)
        return convolved(run, name, y)


@dataclass(frozen=True)
class Down(Layer):
    """A convolution with a stride of 2 along rows and columns."""

    tag = "down"
    time: Count = 1
    """Its stride along time."""
    space: Count = 2
    """Its stride along rows and columns of a clip."""

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, name, width, width)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        if not run.half.flat:
            return convolved(run, name, x, (self.time, self.space, self.space))
        x = padded(x, BEHIND)
        return conv(x, *run.affine(name), stride=(2, 2), pad=((0, 0), (0, 0)))


@dataclass(frozen=True)
class UpPooled(Layer):
    """Each cell repeated along rows and columns, and along time but for an odd first frame; then a
    convolution a frame (CogVideoX)."""

    tag = "up_pooled"
    time: Count = 1
    """Frames made of one."""

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, name, width, width, (3, 3))

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        batch, frames = x.shape[0], x.shape[2]
        if self.time > 1 and frames > 1 and frames % 2:
            first, rest = x[:, :, :1], x[:, :, 1:]
            first = upsample(first, (1, 2, 2))
            rest = upsample(rest, (self.time, 2, 2))
            x = ops.concat([first, rest], 2)
            x = frames_apart(x)
        elif self.time > 1 and frames > 1:
            x = upsample(x, (self.time, 2, 2))
            x = frames_apart(x)
        else:
            x = frames_apart(x)
            x = upsample(x, (2, 2))
        x = conv(x, *run.affine(name))
        return frames_together(x, batch)


@dataclass(frozen=True)
class DownPooled(Layer):
    """Pairs of frames averaged but for an odd first one; then a convolution with a stride of 2 a
    frame (CogVideoX)."""

    tag = "down_pooled"
    time: Count = 1
    """Frames averaged."""

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, name, width, width, (3, 3))

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        batch = x.shape[0]
        if self.time > 1:
            x = _pooled(x, self.time)
        x = _padded_behind(x)
        x = frames_apart(x)
        x = conv(x, *run.affine(name), stride=(2, 2), pad=((0, 0), (0, 0)))
        return frames_together(x, batch)


def _padded_behind(x: Tensor) -> Tensor:
    return padded(x, ((0, 0), *BEHIND))


def _pooled(x: Tensor, size: int) -> Tensor:
    """Means of frames, an odd first one alone, as a pool over lines of time has them."""
    batch, channels, frames, height, width = x.shape
    odd = frames % size

    def mean() -> Array:
        y = x.data[:, :, odd:]
        out: Array = y.reshape(batch, channels, -1, size, height, width).mean(3)
        return out

    lines = ops.copy(x)
    if frames == odd:
        return ops.copy(lines)
    shape = (batch, channels, frames // size, height, width)
    pooled = x.tape.run("mean", MEMORY, (lines,), shape, x.dtype, mean)
    if not odd:
        return pooled
    return ops.concat([x[:, :, :odd], pooled], 2)


@dataclass(frozen=True)
class UpCached(Layer):
    """A convolution in time that makes two frames of one, but for the first chunk's; cells repeated
    along rows and columns; a convolution a frame (Wan)."""

    tag = "up_cached"
    time: Count = 1
    """Frames made of one."""
    to: Count | None = None
    """Channels; absent: half of those that come in."""

    def width(self, width: int) -> int:
        return self.to or width // 2

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, f"{name}.image", width, self.width(width), (3, 3))
        if self.time > 1:
            yield from conv_shapes(half, f"{name}.time", width, 2 * width, (3, 1, 1))

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        batch = x.shape[0]
        if self.time > 1 and not run.first:
            x = _doubled(run, f"{name}.time", x)
        x = frames_apart(x)
        x = upsample(ops.cast(x, "fp32"), (2, 2))
        x = ops.cast(x, run.weights.dtype)
        x = conv(x, *run.affine(f"{name}.image"))
        return frames_together(x, batch)


def _doubled(run: Passing, name: str, x: Tensor) -> Tensor:
    """Two frames of each, by a convolution that looks back at the chunks before."""
    batch, channels, frames, height, width = x.shape
    old = run.before.get(name)
    kept = ops.copy(x[:, :, -2:])
    if kept.shape[2] < 2:
        kept = ops.concat([ops.zeros(kept) if old is None else old[:, :, -1:], kept], 2)
    y = x if old is None else ops.concat([old, x], 2)
    y = padded(y, ((2 - (0 if old is None else old.shape[2]), 0), (0, 0), (0, 0)))
    x = conv(y, *run.affine(name), pad=((0, 0),) * 3)
    del y
    run.after[name] = kept
    x = x.reshape(batch, 2, channels, frames, height, width).permute(0, 2, 3, 1, 4, 5)
    return ops.copy(x, (batch, channels, 2 * frames, height, width))


@dataclass(frozen=True)
class DownCached(Layer):
    """A convolution with a stride of 2 a frame; but for the first chunk, then one in time (Wan)."""

    tag = "down_cached"
    time: Count = 1
    """Frames made into one."""

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, f"{name}.image", width, width, (3, 3))
        if self.time > 1:
            yield from conv_shapes(half, f"{name}.time", width, width, (3, 1, 1))

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        batch = x.shape[0]
        x = frames_apart(x)
        x = padded(x, BEHIND)
        x = conv(x, *run.affine(f"{name}.image"), stride=(2, 2), pad=((0, 0), (0, 0)))
        x = frames_together(x, batch)
        if self.time == 1:
            return x
        if run.first:
            run.after[f"{name}.time"] = ops.copy(x)
            return x
        kept = ops.copy(x[:, :, -1:])
        y = ops.concat([run.before[f"{name}.time"][:, :, -1:], x], 2)
        y = padded(y, ((0, 0),) * 3)
        x = conv(y, *run.affine(f"{name}.time"), stride=(2, 1, 1), pad=((0, 0),) * 3)
        run.after[f"{name}.time"] = kept
        return x


@dataclass(frozen=True)
class UpShuffled(Layer):
    """A convolution to more channels, which are unfolded into time and space (LTX-Video, DC-AE)."""

    tag = "up_shuffled"
    to: Count
    """Channels."""
    time: Count = 1
    """Frames made of one; the first of all is made into one."""
    shortcut: Literal["none", "each", "all"] = "none"
    """What is unfolded and added besides: each channel of the input repeated (DC-AE), or all of
    them after the unfolding (LTX-Video)."""
    interpolate: bool = False
    """Cells are repeated before the convolution in place of the unfolding; the shortcut stays."""

    def width(self, width: int) -> int:
        return self.to

    def _factors(self, half: Half) -> tuple[int, ...]:
        return (2, 2) if half.flat else (self.time, 2, 2)

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        more = 1 if self.interpolate else prod(self._factors(half))
        yield from conv_shapes(half, name, width, self.to * more)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        factors = self._factors(run.half)
        drop = self.time - 1
        beside = None
        if self.shortcut == "all":
            beside = depth_to_space(x, factors)
            beside = ops.concat([beside] * (self.to // beside.shape[1]), 1)[:, :, drop:]
        if self.interpolate:
            y = upsample(x, factors)
            y = convolved(run, name, y)
        else:
            y = convolved(run, name, x)
            y = depth_to_space(y, factors)
        if self.shortcut == "each":
            beside = repeated(x, self.to * prod(factors) // x.shape[1])
            beside = depth_to_space(beside, factors)
        y = y[:, :, drop:] if drop else y
        return y if beside is None else ops.add(y, beside)


@dataclass(frozen=True)
class DownShuffled(Layer):
    """A convolution to fewer channels, and time and space folded into them (LTX-Video, DC-AE)."""

    tag = "down_shuffled"
    to: Count
    """Channels."""
    time: Count = 1
    """Frames made into one; the first is repeated to be one."""
    space: Count = 2
    """Rows and columns made into one."""
    shortcut: bool = True
    """The input is folded, averaged by groups of channels, and added."""
    strided: bool = False
    """The convolution has a stride in place of the folding; the shortcut stays."""

    def width(self, width: int) -> int:
        return self.to

    def _factors(self, half: Half) -> tuple[int, ...]:
        space = (self.space, self.space)
        return space if half.flat else (self.time, *space)

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        fewer = 1 if self.strided else prod(self._factors(half))
        yield from conv_shapes(half, name, width, self.to // fewer)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        factors = self._factors(run.half)
        if not run.half.flat:
            x = ops.concat([x[:, :, : self.time - 1], x], 2)
            beside = grouped_mean(space_to_depth(x, factors), self.to)
            y = convolved(run, name, x)
            return ops.add(space_to_depth(y, factors), beside)
        if self.strided:
            y = convolved(run, name, x, factors)
        else:
            y = convolved(run, name, x)
            y = space_to_depth(y, factors)
        if not self.shortcut:
            return y
        beside = space_to_depth(x, factors)
        return ops.add(y, grouped_mean(beside, self.to))


@dataclass(frozen=True)
class UpLinear(Layer):
    """A product of each cell to more channels, which are unfolded into time and space (Mochi)."""

    tag = "up_linear"
    to: Count
    """Channels."""
    time: Count = 1
    """Frames made of one."""

    def width(self, width: int) -> int:
        return self.to

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, name, width, self.to * self.time * 4, 1)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        x = conv(x, *run.affine(name))
        return depth_to_space(x, (self.time, 2, 2))
