"""Convolutions and resampling over (batch, channels, *space)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from math import prod
from typing import Literal

import numpy as np

from dcsim.models import ops
from dcsim.models.parallel import beside
from dcsim.models.tape import CONV, MEMORY, Array, Shape, Tensor, nbytes

Sides = tuple[tuple[int, int], ...]
"""How far an axis of space is padded, before and after."""


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, ...] | None = None,
    pad: Sides | None = None,
    groups: int = 1,
    dilation: int = 1,
) -> Tensor:
    """N-dimensional convolution; weight (out, in / groups, *kernel), zeros at the borders.

    Default: stride 1 and half the kernel on both sides. The padding is the kernel's own and takes
    no memory. Cells of the kernel are `dilation` apart on each axis.
    """
    out, channels, *kernel = weight.shape
    steps = stride or (1,) * len(kernel)
    sides = pad or tuple((k // 2, k // 2) for k in kernel)
    size = [
        (n + a + b - dilation * (k - 1) - 1) // s + 1
        for n, k, s, (a, b) in zip(x.shape[2:], kernel, steps, sides, strict=True)
    ]

    def compute() -> Array:
        padded = np.pad(x.data, ((0, 0), (0, 0), *sides))
        total = np.zeros((x.shape[0], groups, out // groups, prod(size)), dtype=np.float32)
        taps = weight.data.reshape(groups, out // groups, channels, -1)
        for tap, at in enumerate(product(*(range(k) for k in kernel))):
            first = (dilation * a for a in at)
            cut = (slice(a, a + s * n, s) for a, s, n in zip(first, steps, size, strict=True))
            piece = padded[_behind(cut)].reshape(x.shape[0], groups, channels, -1)
            total += taps[..., tap] @ piece
        y = total.reshape(x.shape[0], out, *size)
        return y if bias is None else y + bias.data.reshape(1, -1, *(1,) * len(size))

    shape = (x.shape[0], out, *size)
    flops = 2 * prod(shape) * channels * prod(kernel)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    edges = beside(x, kernel[-2] - steps[-2]) if len(kernel) > 1 else None
    # Convolutions of single channels run by kernels that need no other layout.
    copies = nbytes(x.shape, x.dtype) + nbytes(shape, x.dtype) if groups == 1 else 0
    held = x.tape.allocate(copies, "workspace") if x.tape.transposes and copies else None
    y = x.tape.run("conv", CONV, inputs, shape, x.dtype, compute, flops=flops)
    del held, edges
    return y


def conv_transposed(x: Tensor, weight: Tensor, bias: Tensor, *, stride: int, pad: int) -> Tensor:
    """The reverse of a strided convolution over one axis.

    x is (batch, in, n), the weight (in, out, kernel). Each entry adds a kernel `stride` further on;
    `pad` entries are cut off at both ends.
    """
    width, out, kernel = weight.shape
    batch, _, n = x.shape
    long = (n - 1) * stride + kernel

    def compute() -> Array:
        total = np.zeros((batch, out, long), np.float32)
        for tap in range(kernel):
            piece = np.einsum("bin,io->bon", x.data, weight.data[:, :, tap])
            total[:, :, tap : tap + (n - 1) * stride + 1 : stride] += piece
        return total[:, :, pad : long - pad] + bias.data.reshape(1, -1, 1)

    shape = (batch, out, long - 2 * pad)
    flops = 2 * batch * n * width * out * kernel
    inputs = (x, weight, bias)
    return x.tape.run("conv_transposed", CONV, inputs, shape, x.dtype, compute, flops=flops)


def _behind(cut: Iterable[slice]) -> tuple[slice, ...]:
    """An index of space as one of (batch, channels, *space)."""
    return (slice(None), slice(None), *cut)


def padded(x: Tensor, sides: Sides, mode: Literal["zeros", "edges"] = "zeros") -> Tensor:
    """A copy with more at the borders of space: zeros, or the edge repeated."""
    space = [n + a + b for n, (a, b) in zip(x.shape[2:], sides, strict=True)]
    how: Literal["constant", "edge"] = "constant" if mode == "zeros" else "edge"

    def compute() -> Array:
        return np.pad(x.data, ((0, 0), (0, 0), *sides), mode=how)

    return x.tape.run("pad", MEMORY, (x,), (*x.shape[:2], *space), x.dtype, compute)


def upsample(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Nearest neighbours repeated `factors` times an axis of space."""
    space = [n * f for n, f in zip(x.shape[2:], factors, strict=True)]

    def compute() -> Array:
        y = x.data
        for axis, f in enumerate(factors):
            y = np.repeat(y, f, axis + 2) if f > 1 else y
        return y

    return x.tape.run("upsample", MEMORY, (x,), (*x.shape[:2], *space), x.dtype, compute)


def depth_to_space(x: Tensor, factors: tuple[int, ...], *, columns_first: bool = False) -> Tensor:
    """Channels unfolded into space: (b, c * prod(factors), *space) to (b, c, *space * factors).

    The channels run over c, then over the factors in the order of the axes; `columns_first`: over
    the last two in reverse.
    """
    batch, wide, *space = x.shape
    axes, order = len(factors), _order(len(factors), columns_first)
    split = tuple(factors[a] for a in order)
    channels = wide // prod(factors)
    shape = (batch, channels, *(n * f for n, f in zip(space, factors, strict=True)))

    def compute() -> Array:
        y = x.data.reshape(batch, channels, *split, *space)
        moved = [part for a in range(axes) for part in (2 + axes + a, 2 + order.index(a))]
        return np.ascontiguousarray(y.transpose(0, 1, *moved)).reshape(shape)

    return x.tape.run("depth_to_space", MEMORY, (x,), shape, x.dtype, compute)


def space_to_depth(x: Tensor, factors: tuple[int, ...], *, columns_first: bool = False) -> Tensor:
    """The reverse of `depth_to_space`."""
    batch, channels, *space = x.shape
    axes, order = len(factors), _order(len(factors), columns_first)
    small = [n // f for n, f in zip(space, factors, strict=True)]
    shape: Shape = (batch, channels * prod(factors), *small)

    def compute() -> Array:
        split = [part for n, f in zip(small, factors, strict=True) for part in (n, f)]
        y = x.data.reshape(batch, channels, *split)
        moved = [3 + 2 * a for a in order] + [2 + 2 * a for a in range(axes)]
        return np.ascontiguousarray(y.transpose(0, 1, *moved)).reshape(shape)

    return x.tape.run("space_to_depth", MEMORY, (x,), shape, x.dtype, compute)


def _order(axes: int, columns_first: bool) -> list[int]:
    order = list(range(axes))
    return [*order[:-2], order[-1], order[-2]] if columns_first else order


def repeated(x: Tensor, times: int, axis: int = 1) -> Tensor:
    """Each entry of an axis so many times in a row."""
    shape = (*x.shape[:axis], x.shape[axis] * times, *x.shape[axis + 1 :])
    return x.tape.run(
        "repeat", MEMORY, (x,), shape, x.dtype, lambda: np.repeat(x.data, times, axis)
    )


def grouped_mean(x: Tensor, channels: int) -> Tensor:
    """Means of neighbouring channels, so that `channels` are left."""
    shape = (x.shape[0], channels, *x.shape[2:])

    def compute() -> Array:
        y: Array = x.data.reshape(x.shape[0], channels, -1, *x.shape[2:]).mean(2)
        return y

    return x.tape.run("mean", MEMORY, (x,), shape, x.dtype, compute)


def frames_apart(x: Tensor) -> Tensor:
    """Frames as a batch of images: (b, c, t, h, w) to (b * t, c, h, w); a copy of several clips."""
    batch, channels, frames, height, width = x.shape
    y = x.permute(0, 2, 1, 3, 4)
    shape = (batch * frames, channels, height, width)
    return y.reshape(*shape) if batch == 1 or frames == 1 else ops.copy(y, shape)


def frames_together(x: Tensor, batch: int) -> Tensor:
    """The reverse: a view."""
    images, *rest = x.shape
    return x.reshape(batch, images // batch, *rest).permute(0, 2, 1, 3, 4)
