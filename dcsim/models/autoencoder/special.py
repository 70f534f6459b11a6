"""Layers of one family alone: DC-AE's blocks, Mochi's attention over time and its inputs, and what
joins Open-Sora's autoencoder in time to that of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcsim.models import ops
from dcsim.models.autoencoder.layers import Layer
from dcsim.models.autoencoder.passing import (
    Half,
    Passing,
    affine_shapes,
    conv_shapes,
    convolved,
    norm_shapes,
    normed,
    unit,
)
from dcsim.models.conv import conv, depth_to_space, grouped_mean, padded, repeated
from dcsim.models.linear_attention import linear_attention, with_ones
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import ATTENTION, Array, Tensor
from dcsim.models.weights import Parameters
from dcsim.reading.concept import Count

EPS = 1e-5


@dataclass(frozen=True)
class Widened(Layer):
    """A convolution beside the channels themselves, each repeated (DC-AE's decoder)."""

    tag = "widened"
    to: Count
    """Channels."""

    @property
    def undivided(self) -> bool:
        return True

    def width(self, width: int) -> int:
        return self.to

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, name, width, self.to)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        beside = repeated(x, self.to // x.shape[1])
        return ops.add(convolved(run, name, x), beside)


@dataclass(frozen=True)
class Narrowed(Layer):
    """A convolution beside the means of groups of channels (DC-AE's encoder)."""

    tag = "narrowed"
    to: Count
    """Channels."""

    @property
    def undivided(self) -> bool:
        return True

    def width(self, width: int) -> int:
        return self.to

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, name, width, self.to)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        beside = grouped_mean(x, self.to)
        return ops.add(convolved(run, name, x), beside)


@dataclass(frozen=True)
class PostNorm(Layer):
    """Convolution, SiLU, convolution without a bias, RMS norm, beside a shortcut (DC-AE)."""

    tag = "post_norm"
    times: Count = 1
    """How many, one after another."""

    @property
    def undivided(self) -> bool:
        return True

    @property
    def blocks(self) -> int:
        return 1

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, f"{name}.conv1", width, width)
        yield from conv_shapes(half, f"{name}.conv2", width, width, bias=False)
        yield from affine_shapes(f"{name}.norm", width)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        h = convolved(run, f"{name}.conv1", x)
        h = ops.silu(h)
        h = conv(h, run.weights[f"{name}.conv2.weight"])
        h = unit(h, EPS, *run.affine(f"{name}.norm"))
        return ops.add(h, x)


@dataclass(frozen=True)
class LinearAttention(Layer):
    """Linear attention at several scales, then a gated depthwise convolution (EfficientViT)."""

    tag = "linear_attention"
    head: Count = 32
    """Width of a head."""
    scales: tuple[Count, ...] = ()
    """Kernels of the depthwise convolutions that make a further q, k and v each."""
    ratio: Count = 4
    """Width of the convolution over the channels."""
    times: Count = 1
    """How many, one after another."""

    @property
    def undivided(self) -> bool:
        return True

    @property
    def blocks(self) -> int:
        return 2

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        for part in ("q", "k", "v"):
            yield f"{name}.{part}.weight", (width, width)
        for i, kernel in enumerate(self.scales):
            yield f"{name}.scale{i}.depth.weight", (3 * width, 1, kernel, kernel)
            yield f"{name}.scale{i}.point.weight", (3 * width, self.head, 1, 1)
        yield f"{name}.out.weight", (width, width * (1 + len(self.scales)))
        yield from affine_shapes(f"{name}.norm", width)
        inner = self.ratio * width
        yield from conv_shapes(half, f"{name}.up", width, 2 * inner, 1)
        yield from conv_shapes(half, f"{name}.depth", 1, 2 * inner)
        yield f"{name}.down.weight", (width, inner, 1, 1)
        yield from affine_shapes(f"{name}.down_norm", width)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        x = self._attend(run, name, x)
        h = conv(x, *run.affine(f"{name}.up"))
        h = ops.silu(h)
        weight, bias = run.affine(f"{name}.depth")
        h = conv(h, weight, bias, groups=weight.shape[0])
        h, gate = h.chunk(2, 1)
        h = ops.mul(h, ops.silu(gate))
        h = conv(h, run.weights[f"{name}.down.weight"])
        del gate
        h = unit(h, EPS, *run.affine(f"{name}.down_norm"))
        return ops.add(h, x)

    def _attend(self, run: Passing, name: str, x: Tensor) -> Tensor:
        batch, width, height, columns = x.shape
        cells = height * columns
        rows = x.permute(0, 2, 3, 1).reshape(batch, cells, width)
        h = ops.concat([ops.linear(rows, run.weights[f"{name}.{p}.weight"]) for p in "qkv"], 2)
        h = h.permute(0, 2, 1).reshape(batch, 3 * width, height, columns)
        parts = [h]
        for i, _ in enumerate(self.scales):
            y = conv(h, run.weights[f"{name}.scale{i}.depth.weight"], groups=3 * width)
            weight = run.weights[f"{name}.scale{i}.point.weight"]
            parts.append(conv(y, weight, groups=3 * width // self.head))
            del y
        h = ops.concat(parts, 1)
        linear = cells > self.head
        h = ops.cast(h, "fp32") if linear else h
        q, k, v = h.reshape(batch, h.shape[1] // (3 * self.head), 3 * self.head, cells).chunk(3, 2)
        q, k = ops.relu(q), ops.relu(k)
        h = linear_attention(q, k, with_ones(v)) if linear else _quadratic(q, k, v)
        h = ops.cast(h, x.dtype)
        del q, k, v, parts
        h = h.reshape(batch, width * (1 + len(self.scales)), cells).permute(0, 2, 1)
        h = ops.linear(h, run.weights[f"{name}.out.weight"])
        h = h.permute(0, 2, 1).reshape(*x.shape)
        h = unit(h, EPS, *run.affine(f"{name}.norm"))
        return ops.add(h, x)


def _quadratic(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention, cell by cell: cheaper for fewer cells than a head is wide."""
    batch, heads, width, cells = v.shape
    flops = 2 * batch * heads * cells**2 * width
    square = (batch, heads, cells, cells)
    scores = v.tape.run(
        "scores",
        ATTENTION,
        (q, k),
        square,
        v.dtype,
        lambda: k.data.swapaxes(-1, -2) @ q.data,
        flops=flops,
    )
    scores = ops.cast(scores, "fp32")
    shares = ops.pointwise(
        "normalize", lambda d: d / (d.sum(2, keepdims=True) + np.float32(1e-15)), scores
    )
    shares = ops.cast(shares, v.dtype)
    return v.tape.run(
        "mix",
        ATTENTION,
        (v, shares),
        v.shape,
        v.dtype,
        lambda: v.data @ shares.data,
        flops=flops,
    )


@dataclass(frozen=True)
class TimeAttention(Layer):
    """Causal attention over the frames of each cell, with heads of unit q and k (Mochi)."""

    tag = "time_attention"
    head: Count = 32
    """Width of a head."""

    @property
    def undivided(self) -> bool:
        return True

    @property
    def blocks(self) -> int:
        return 1

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from norm_shapes(half, f"{name}.norm", width, latent)
        for part in ("q", "k", "v"):
            yield f"{name}.{part}.weight", (width, width)
        yield f"{name}.out.weight", (width, width)
        yield f"{name}.out.bias", (width,)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        batch, width, frames, height, columns = x.shape
        rows, heads = batch * height * columns, width // self.head
        h = normed(run, f"{name}.norm", x)
        h = ops.copy(h.permute(0, 3, 4, 2, 1), (rows, frames, width))
        split = (rows, frames, heads, self.head)
        if frames == 1:
            h = ops.linear(h, run.weights[f"{name}.v.weight"])
        else:
            q, k, v = (
                ops.linear(h, run.weights[f"{name}.{p}.weight"]).reshape(*split) for p in "qkv"
            )
            q, k = (ops.pointwise("normalize", _of_unit_length, each) for each in (q, k))
            h = softmax_attention(q, k, v, causal=True).reshape(rows, frames, width)
            del q, k, v
        h = ops.linear(h, *run.affine(f"{name}.out"))
        h = ops.affine(h, 1.0)
        h = h.reshape(batch, height, columns, frames, width).permute(0, 4, 3, 1, 2)
        return ops.add(x, h)


def _of_unit_length(d: Array) -> Array:
    length = np.sqrt((d * d).sum(-1, keepdims=True))
    out: Array = d / np.maximum(length, np.float32(1e-12))
    return out


@dataclass(frozen=True)
class Waves(Layer):
    """Sines and cosines of the pixels beside them, at two frequencies (Mochi's encoder)."""

    tag = "waves"
    first: Count = 6
    """Frequencies are 2^first and 2^(first + 1) turns."""

    @property
    def undivided(self) -> bool:
        return True

    def width(self, width: int) -> int:
        return 5 * width

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = ops.cast(x, "fp32")
        h = repeated(x, 2)
        turns = np.float32(2.0) ** np.arange(self.first, self.first + 2, dtype=np.float32)
        each = np.tile(turns * np.float32(2 * np.pi), x.shape[1])[None, :, None, None, None]
        h = ops.pointwise("turn", lambda d: each * d, h)
        waves = [ops.pointwise("sin", np.sin, h), ops.pointwise("cos", np.cos, h)]
        y = ops.concat([x, *waves], 1)
        del h, waves
        return ops.cast(y, dtype)


@dataclass(frozen=True)
class UpFrames(Layer):
    """A convolution to as many times the channels, which are unfolded into frames (Open-Sora)."""

    tag = "up_frames"
    time: Count = 2
    """Frames made of one."""

    def parameters(self, half: Half, name: str, width: int, latent: int) -> Parameters:
        yield from conv_shapes(half, name, width, width * self.time)

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        x = convolved(run, name, x)
        return depth_to_space(x, (self.time, 1, 1))


@dataclass(frozen=True)
class Front(Layer):
    """Frames of zeros in front (Open-Sora's encoder)."""

    tag = "front"
    frames: Count
    """How many."""

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        return padded(x, ((self.frames, 0), (0, 0), (0, 0)))


@dataclass(frozen=True)
class Dropped(Layer):
    """The first frames are left out (Open-Sora's decoder)."""

    tag = "dropped"
    frames: Count
    """How many."""

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        return x[:, :, self.frames :]


@dataclass(frozen=True)
class Mean(Layer):
    """Of the moments of an autoencoder within, the mean: the first half of the channels."""

    tag = "mean"

    def width(self, width: int) -> int:
        return width // 2

    def forward(self, run: Passing, name: str, x: Tensor) -> Tensor:
        return x[:, : x.shape[1] // 2]
