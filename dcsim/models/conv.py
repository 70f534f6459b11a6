"""Convolutions and resampling over (batch, channels, *space)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from math import prod

import numpy as np

from dcsim.models.tape import CONV, MEMORY, Array, Tensor


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: tuple[int, ...] | None = None,
    pad: tuple[tuple[int, int], ...] | None = None,
) -> Tensor:
    """N-dimensional convolution; weight (out, in, *kernel), zero padding (before, after) an axis.

    Default: stride 1 and half the kernel on both sides.
    """
    out, channels, *kernel = weight.shape
    steps = stride or (1,) * len(kernel)
    sides = pad or tuple((k // 2, k // 2) for k in kernel)
    size = [
        (n + a + b - k) // s + 1
        for n, k, s, (a, b) in zip(x.shape[2:], kernel, steps, sides, strict=True)
    ]

    def compute() -> Array:
        padded = np.pad(x.data, ((0, 0), (0, 0), *sides))
        total = np.zeros((x.shape[0], out, prod(size)), dtype=np.float32)
        for tap, at in enumerate(product(*(range(k) for k in kernel))):
            cut = (slice(a, a + s * n, s) for a, s, n in zip(at, steps, size, strict=True))
            piece = padded[_behind(cut)].reshape(x.shape[0], channels, -1)
            total += weight.data.reshape(out, channels, -1)[:, :, tap] @ piece
        return total.reshape(x.shape[0], out, *size) + bias.data.reshape(1, -1, *(1,) * len(size))

    shape = (x.shape[0], out, *size)
    flops = 2 * prod(shape) * channels * prod(kernel)
    return x.tape.run("conv", CONV, (x, weight, bias), shape, x.dtype, compute, flops=flops)


def _behind(cut: Iterable[slice]) -> tuple[slice, ...]:
    """An index of space as one of (batch, channels, *space)."""
    return (slice(None), slice(None), *cut)


def upsample(x: Tensor, factors: tuple[int, ...], drop: int = 0) -> Tensor:
    """Nearest neighbours repeated `factors` times an axis of space.

    `drop` frames are cut from the front of the first axis of space: a causal VAE keeps its
    first frame single.
    """
    space = [n * f for n, f in zip(x.shape[2:], factors, strict=True)]
    space[0] -= drop

    def compute() -> Array:
        y = x.data
        for axis, f in enumerate(factors):
            y = np.repeat(y, f, axis + 2) if f > 1 else y
        return y[:, :, drop:]

    shape = (*x.shape[:2], *space)
    return x.tape.run("upsample", MEMORY, (x,), shape, x.dtype, compute)
