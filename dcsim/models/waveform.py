"""A decoder of audio: latents to a waveform, after Stable Audio Open's Oobleck (Evans et al. 2024).

Numbers and lifetimes as the decoder of diffusers' `AutoencoderOobleck`, its weight norms folded
into the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Annotated

import numpy as np

from dcsim.models import ops
from dcsim.models.conv import conv, conv_transposed
from dcsim.models.tape import Shape, Tensor
from dcsim.models.weights import Parameters, Weights
from dcsim.reading.concept import Concept, Count, Least

KERNEL = 7
DILATIONS = (1, 3, 9)
"""Of the residual units of a block."""


@dataclass(frozen=True)
class WaveDecoder(Concept):
    """Convolutions that grow a sequence of latents to samples; the defaults are those of
    Stable Audio Open."""

    channels: Count = 64
    """Of the latents."""
    rate: Count = 44_100
    """Samples a second."""
    sides: Count = 2
    """Channels of the waveform."""
    hidden: Count = 128
    """Channels before the last convolution."""
    multiples: Annotated[tuple[Count, ...], Least(1)] = (1, 2, 4, 8, 16)
    """Channels of each level over `hidden`, the level of samples first."""
    strides: Annotated[tuple[Count, ...], Least(1)] = (2, 4, 4, 8, 8)
    """Steps that a level makes of one of the next."""

    def check(self) -> None:
        if len(self.multiples) != len(self.strides):
            raise ValueError(f"strides: {len(self.strides)} of {len(self.multiples)} multiples")
        if odd := [stride for stride in self.strides if stride % 2]:
            raise ValueError(f"strides: {odd[0]} is odd, and would lose a sample")

    @property
    def hop(self) -> int:
        """Samples of a latent."""
        return prod(self.strides)

    @property
    def blocks(self) -> int:
        """Residual units, whose launches cost time."""
        return len(self.strides) * len(DILATIONS)

    def levels(self) -> list[tuple[int, int, int]]:
        """Channels in, channels out and stride of each block, in order."""
        wide = [self.hidden * m for m in (1, *self.multiples)]
        return [(wide[i + 1], wide[i], self.strides[i]) for i in reversed(range(len(self.strides)))]

    def parameters(self) -> Parameters:
        """Names and shapes."""
        top = self.hidden * self.multiples[-1]
        yield from _conv("first", top, self.channels, KERNEL)
        for i, (wide, narrow, stride) in enumerate(self.levels()):
            yield from _snake(f"{i}.snake", wide)
            yield f"{i}.up.weight", (wide, narrow, 2 * stride)
            yield f"{i}.up.bias", (narrow,)
            for j in range(len(DILATIONS)):
                yield from _snake(f"{i}.{j}.snake1", narrow)
                yield from _conv(f"{i}.{j}.conv1", narrow, narrow, KERNEL)
                yield from _snake(f"{i}.{j}.snake2", narrow)
                yield from _conv(f"{i}.{j}.conv2", narrow, narrow, 1)
        yield from _snake("snake", self.hidden)
        yield "last.weight", (self.sides, self.hidden, KERNEL)

    def decode(self, w: Weights, latents: Tensor) -> Tensor:
        """Samples (batch, sides, latents x hop) of latents (batch, channels, latents)."""
        x = conv(ops.cast(latents, w.dtype), *w.linear("first"))
        for i, (_, _, stride) in enumerate(self.levels()):
            y = _snaked(w, f"{i}.snake", x)
            pad = -(-stride // 2)
            y = conv_transposed(y, *w.linear(f"{i}.up"), stride=stride, pad=pad)
            for j, dilation in enumerate(DILATIONS):
                y = _unit(w, f"{i}.{j}", y, dilation)
            x = y
            del y
        x = _snaked(w, "snake", x)
        return conv(x, w["last.weight"])


def _conv(name: str, to: int, width: int, kernel: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (to, width, kernel)
    yield f"{name}.bias", (to,)


def _snake(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.alpha", (1, width, 1)
    yield f"{name}.beta", (1, width, 1)


def _snaked(w: Weights, name: str, x: Tensor) -> Tensor:
    """`x + sin(alpha x)^2 / beta`, a tensor each; alpha and beta are kept as logarithms."""
    alpha = ops.pointwise("exp", np.exp, w[f"{name}.alpha"])
    beta = ops.pointwise("exp", np.exp, w[f"{name}.beta"])
    over = ops.pointwise("reciprocal", np.reciprocal, ops.affine(beta, 1.0, 1e-9))
    wave = ops.pointwise("sin", np.sin, ops.mul(alpha, x))
    wave = ops.pointwise("square", np.square, wave)
    wave = ops.mul(over, wave)
    return ops.add(x, wave)


def _unit(w: Weights, name: str, x: Tensor, dilation: int) -> Tensor:
    far = (KERNEL - 1) * dilation // 2
    y = conv(
        _snaked(w, f"{name}.snake1", x),
        *w.linear(f"{name}.conv1"),
        dilation=dilation,
        pad=((far, far),),
    )
    y = conv(_snaked(w, f"{name}.snake2", y), *w.linear(f"{name}.conv2"))
    return ops.add(x, y)
