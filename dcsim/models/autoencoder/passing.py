"""What the layers of an autoencoder share: its convolutions and norms, as its code has them.

A public implementation is as much in what it copies as in what it computes: padding outside of a
convolution, features kept of the frames before, norms in several kernels. Each is a word of the
`Half` that a file describes, and tensors live as long as its variables do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Literal

import numpy as np

from dcsim.models import ops
from dcsim.models.conv import Sides, conv, frames_apart, frames_together, padded
from dcsim.models.parallel import summed_statistics
from dcsim.models.tape import MEMORY, Array, Shape, Tensor, nbytes
from dcsim.models.weights import Parameters, Weights
from dcsim.reading.concept import Concept, Count, Positive

LARGE = 2 * 2**30
"""Bytes of an input (at two an element) beyond which `in_parts` splits a convolution in time."""


Kept = Literal["none", "renewed", "replaced"]
"""What becomes of the features of the frames before."""


@dataclass(frozen=True)
class Half(Concept):
    """How the layers of an encoder or a decoder pad, normalise and add."""

    flat: bool = False
    """Frames are images of a batch: all kernels are of two dimensions."""
    padding: Literal["replicate", "zeros", "first", "edges"] = "replicate"
    """Of kernels in time. `replicate`: the edges of time and space repeated, in a copy before
    the convolution; `zeros`: zeros, so too; `first`: the first frame repeated in time, zeros in
    space by the kernel itself; `edges`: the first and the last frame. All but that are causal."""
    cached: Kept = "none"
    """Whether convolutions keep the last frames that they have seen, for the frames that follow:
    `renewed`, beside what was kept of the frames before, which goes when all have run; `replaced`,
    one by one as they run."""
    in_parts: bool = False
    """Convolutions of more than 2 GiB (at two bytes an element) run in parts, one after another."""
    norm: Literal["group", "frames", "rms", "unit", "conditioned"] = "group"
    """`group`: over groups of channels and all of space; `frames`: that, frame by frame, eight at
    once; `rms`: length of the channels, with a weight; `unit`: the same without one; `conditioned`:
    `group`, scaled and shifted by the latents."""
    groups: Count = 32
    """Groups of channels of `group`, `frames` and `conditioned`."""
    eps: Positive = 1e-6
    """Added to variances."""
    shortcut: Literal["last", "first", "normed"] = "last"
    """Of a residual block whose channels change: when the shortcut is computed, after the block or
    before it; `normed`: after it, of normalised channels."""
    rescaled: bool = False
    """Sums are divided by an output scale of 1, in new memory."""


@dataclass
class Passing:
    """One pass of some frames through a half."""

    half: Half
    weights: Weights
    latents: Tensor
    """What is decoded, or encoded."""
    before: dict[str, Tensor] = field(default_factory=dict)
    """Features of the frames before, by convolution."""
    after: dict[str, Tensor] = field(default_factory=dict)
    """Those of these frames; the same mapping where they are replaced one by one."""
    first: bool = True
    """Whether these are the first frames."""

    def affine(self, name: str) -> tuple[Tensor, Tensor]:
        """Weight and bias."""
        return self.weights.linear(name)


def conv_shapes(
    half: Half,
    name: str,
    width: int,
    to: int,
    kernel: int | tuple[int, ...] = 3,
    *,
    bias: bool = True,
) -> Parameters:
    """Names and shapes of a convolution; a `kernel` of one number is as wide on every axis."""
    sides = (kernel,) * (2 if half.flat else 3) if isinstance(kernel, int) else kernel
    yield f"{name}.weight", (to, width, *sides)
    if bias:
        yield f"{name}.bias", (to,)


def affine_shapes(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of a weight and a bias a channel."""
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def norm_shapes(half: Half, name: str, width: int, latent: int) -> Parameters:
    """Names and shapes of a norm of `width` channels; `latent` channels condition it."""
    match half.norm:
        case "rms":
            yield f"{name}.weight", (width,)
        case "group" | "frames":
            yield from affine_shapes(name, width)
        case "conditioned":
            yield from affine_shapes(f"{name}.group", width)
            yield from conv_shapes(half, f"{name}.scale", latent, width, 1)
            yield from conv_shapes(half, f"{name}.shift", latent, width, 1)


# Convolutions


def convolved(run: Passing, name: str, x: Tensor, stride: tuple[int, ...] | None = None) -> Tensor:
    """A convolution, padded as the half pads, with its bias if it has one."""
    weight, bias = run.weights[f"{name}.weight"], run.weights.get(f"{name}.bias")
    kernel = weight.shape[2:]
    if len(kernel) == 2:
        return conv(x, weight, bias, stride=stride)
    back, space = kernel[0] - 1, tuple(((k - 1) // 2, (k - 1) // 2) for k in kernel[1:])
    inside: Sides
    match run.half.padding:
        case "replicate":
            y, inside = padded(x, ((back, 0), *space), "edges"), ((0, 0),) * 3
        case "zeros":
            # A stride in time ends a step of its own with the last frame.
            front = back - (stride[0] - 1 if stride else 0)
            y, inside = _after_zeros(run, name, x, front, space), ((0, 0),) * 3
        case "first":
            y, inside = _after_first(run, name, x, back), ((0, 0), *space)
        case "edges":
            y, inside = _between_edges(x, back // 2), ((0, 0), *space)
    if run.half.in_parts and prod(y.shape) * 2 > LARGE:
        return _in_parts(y, weight, bias, stride, inside)
    return conv(y, weight, bias, stride=stride, pad=inside)


def _after_zeros(run: Passing, name: str, x: Tensor, back: int, space: Sides) -> Tensor:
    """Zeros, or the frames before, in front; the last two frames are kept."""
    old = run.before.get(name) if back else None
    if back and run.half.cached != "none":
        kept = ops.copy(x[:, :, -2:])
        if kept.shape[2] < 2 and old is not None:
            kept = ops.concat([old[:, :, -1:], kept], 2)
        run.after[name] = kept
    y = x if old is None else ops.concat([old, x], 2)
    return padded(y, ((back - (0 if old is None else old.shape[2]), 0), *space))


def _after_first(run: Passing, name: str, x: Tensor, back: int) -> Tensor:
    """The first frame, or the frames before, in front; the last frames are kept."""
    old = run.before.get(name)
    if back:
        x = ops.concat([old, x] if old is not None else [*[x[:, :, :1]] * back, x], 2)
    if run.half.cached != "none":
        # A kernel of one frame keeps them all, as the slice from minus nothing does there.
        run.after[name] = ops.copy(x[:, :, -back:] if back else x)
    return x


def _between_edges(x: Tensor, far: int) -> Tensor:
    """The first frame repeated in front and the last behind; of a kernel of one a copy."""
    if not far:
        return ops.copy(x)
    ends = [ops.copy(x[:, :, :1])] * far, [ops.copy(x[:, :, -1:])] * far
    return ops.concat([*ends[0], x, *ends[1]], 2)


def _in_parts(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...] | None, pad: Sides
) -> Tensor:
    """Runs of frames that overlap by what the kernel looks back."""
    count = int(prod(x.shape) * 2 / LARGE) + 1
    size, back = -(-x.shape[2] // count), weight.shape[2] - 1
    cuts = [x[:, :, at : at + size] for at in range(0, x.shape[2], size)]
    if back:
        cuts[1:] = [ops.concat([before[:, :, -back:], cut], 2) for before, cut in pairwise(cuts)]
    return ops.concat([conv(cut, weight, bias, stride=stride, pad=pad) for cut in cuts], 2)


def pointwise_conv(run: Passing, name: str, x: Tensor) -> Tensor:
    """A convolution of kernel 1 that nothing is padded for."""
    return conv(x, run.weights[f"{name}.weight"], run.weights.get(f"{name}.bias"))


# Norms


def normed(run: Passing, name: str, x: Tensor) -> Tensor:
    """The norm of the half, in as many kernels and copies as its code takes."""
    match run.half.norm:
        case "group":
            return grouped(run, name, x)
        case "frames":
            return _framewise(run, name, x)
        case "rms":
            return _by_length(run, name, x)
        case "unit":
            return unit(x, 1e-8)
        case "conditioned":
            return _conditioned(run, name, x)


def grouped(run: Passing, name: str, x: Tensor) -> Tensor:
    """Group norm; of a picture whose rows are shared means and squares are added up."""
    summed_statistics(x, 2 * x.shape[0] * min(run.half.groups, x.shape[1]))
    return ops.group_norm(x, *run.affine(name), min(run.half.groups, x.shape[1]), run.half.eps)


def _framewise(run: Passing, name: str, x: Tensor) -> Tensor:
    batch = x.shape[0]
    x = frames_apart(x)
    at = range(0, x.shape[0], 8)
    # Eight frames are no piece of memory: the kernel is given a copy.
    x = ops.concat([grouped(run, name, ops.copy(x[i : i + 8])) for i in at], 0)
    return frames_together(x, batch)


def _by_length(run: Passing, name: str, x: Tensor) -> Tensor:
    """`x / |x| * sqrt(width) * weight + 0`, a tensor each, as in Wan's code."""
    weight, width = run.weights[f"{name}.weight"], x.shape[1]
    per = (1, width, *(1,) * (len(x.shape) - 2))

    def divided(d: Array) -> Array:
        length = np.sqrt((d * d).sum(1, keepdims=True))
        out: Array = d / np.maximum(length, np.float32(1e-12))
        return out

    normal = ops.pointwise("normalize", divided, ops.cast(x, "fp32"))
    normal = ops.cast(normal, x.dtype)
    y = ops.affine(normal, width**0.5)
    y = ops.mul(y, weight.reshape(*per))
    return ops.affine(y, 1.0)


def unit(x: Tensor, eps: float, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """RMS norm over the channels, at least in float32, as diffusers' `RMSNorm` has it."""
    per = (1, x.shape[1], *(1,) * (len(x.shape) - 2))
    variance = _mean_square(x)
    y = ops.pointwise(
        "normalize", lambda d, v: d / np.sqrt(v + np.float32(eps)), x, variance, dtype="fp32"
    )
    y = ops.cast(y, x.dtype)
    if weight is not None:
        y = ops.mul(y, weight.reshape(*per))
    return y if bias is None else ops.add(y, bias.reshape(*per))


def _mean_square(x: Tensor) -> Tensor:
    """Over the channels, in float32; the squares are held meanwhile."""
    wide = ops.cast(x, "fp32")
    square = ops.mul(wide, wide)
    del wide
    shape = (x.shape[0], 1, *x.shape[2:])
    given = [square]
    return x.tape.run(
        "mean", MEMORY, given, shape, "fp32", lambda: given[0].data.mean(1, keepdims=True)
    )


def _conditioned(run: Passing, name: str, x: Tensor) -> Tensor:
    """Group norm, times a scale and with a shift that follow from the latents (CogVideoX)."""
    z, frames = run.latents, x.shape[2]
    if frames > 1 and frames % 2:
        ends = [_stretched(z[:, :, :1], (1, *x.shape[3:]))]
        ends.append(_stretched(z[:, :, 1:], (frames - 1, *x.shape[3:])))
        z = ops.concat(ends, 2)
    else:
        z = _stretched(z, x.shape[2:])
    scale, shift = (convolved(run, f"{name}.{part}", z) for part in ("scale", "shift"))
    y = grouped(run, f"{name}.group", x)
    return ops.add(ops.mul(y, scale), shift)


def _stretched(x: Tensor, space: Shape) -> Tensor:
    """The nearest neighbours that fill a space."""

    def compute() -> Array:
        y = x.data
        for axis, n in enumerate(space, 2):
            y = np.take(y, np.arange(n) * y.shape[axis] // n, axis)
        return y

    return x.tape.run("stretch", MEMORY, (x,), (*x.shape[:2], *space), x.dtype, compute)


def added(run: Passing, a: Tensor, b: Tensor) -> Tensor:
    """`a + b`, and what the code does with it."""
    y = ops.add(a, b)
    return ops.affine(y, 1.0) if run.half.rescaled else y


def causal_mask(x: Tensor, frames: int, cells: int) -> Tensor:
    """0 where a cell sees another, of its frame or one before, minus infinity elsewhere.

    (1, 1, n, n) for n = frames * cells. Made in float32 from a comparison, then cast.
    """
    n = frames * cells
    frame = np.arange(n) // cells if x.tape.execute else np.zeros(0)
    seen = x.tape.allocate(nbytes((n, n), "uint8"))
    mask = x.tape.run(
        "causal_mask",
        MEMORY,
        (),
        (1, 1, n, n),
        "fp32",
        lambda: np.where(frame[None] <= frame[:, None], 0, -np.inf)[None, None].astype(np.float32),
    )
    del seen
    return ops.cast(mask, x.dtype)
