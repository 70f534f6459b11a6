"""Ops on tensors: each records what it allocates, computes and moves, and computes if asked.

FLOPs are counted for matrix products and convolutions only (multiply and add as two), as
PyTorch's FlopCounterMode does. Elementwise ops and normalisations cost their HBM traffic.
Every op allocates its output, as PyTorch does in eager mode, unless its name ends in `_`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from dcsim.models.tape import DENSE, MEMORY, Array, Shape, Tape, Tensor, promote

FLOAT = 4
"""Bytes of a float32, the dtype in which kernels keep their statistics."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`; x (..., in), weight (out, in), bias (out,)."""
    out, width = weight.shape
    rows = prod(x.shape[:-1])

    def compute() -> Array:
        y = x.data.reshape(rows, width) @ weight.data.T
        y = y if bias is None else y + bias.data
        return y.reshape(*x.shape[:-1], out)

    inputs = (x, weight) if bias is None else (x, weight, bias)
    shape = (*x.shape[:-1], out)
    flops = 2 * rows * width * out
    return x.tape.run("linear", DENSE, inputs, shape, x.dtype, compute, flops=flops)


def embedding(table: Tensor, ids: Tensor, dtype: str) -> Tensor:
    """Rows of `table` (rows, width) picked by integer `ids`: (*ids, width)."""
    shape = (*ids.shape, table.shape[1])
    # The op reads the rows it picks, not the table.
    return table.tape.run(
        "embedding", MEMORY, (ids,), shape, dtype, lambda: table.data[ids.data.astype(np.int64)]
    )


def pointwise(
    name: str, fn: Callable[..., Array], *inputs: Tensor, dtype: str | None = None
) -> Tensor:
    """`fn` elementwise over tensors that broadcast; output in `dtype` or the widest of theirs."""
    first = inputs[0]
    shape, kind = first.shape, first.dtype
    for other in inputs[1:]:
        if other.shape != shape:
            shape = np.broadcast_shapes(shape, other.shape)
        kind = promote(kind, other.dtype)
    return first.tape.run(
        name, MEMORY, inputs, shape, dtype or kind, lambda: fn(*(t.data for t in inputs))
    )


def add(a: Tensor, b: Tensor, dtype: str | None = None) -> Tensor:
    """`a + b`."""
    return pointwise("add", np.add, a, b, dtype=dtype)


def sub(a: Tensor, b: Tensor) -> Tensor:
    """`a - b`."""
    return pointwise("sub", np.subtract, a, b)


def mul(a: Tensor, b: Tensor) -> Tensor:
    """`a * b`."""
    return pointwise("mul", np.multiply, a, b)


def affine(x: Tensor, scale: float, shift: float = 0.0) -> Tensor:
    """`scale * x + shift` with host scalars."""
    return pointwise("affine", lambda a: np.float32(scale) * a + np.float32(shift), x)


def cast(x: Tensor, dtype: str) -> Tensor:
    """A copy in another dtype, or x itself where it has that dtype already."""
    return x if x.dtype == dtype else pointwise("cast", lambda a: a, x, dtype=dtype)


def copy(x: Tensor, shape: Shape | None = None) -> Tensor:
    """A contiguous copy under another shape: what reshaping a permuted view costs."""
    shape = shape or x.shape
    return x.tape.run(
        "copy", MEMORY, (x,), shape, x.dtype, lambda: np.ascontiguousarray(x.data).reshape(shape)
    )


def concat(parts: Sequence[Tensor], axis: int) -> Tensor:
    """The parts joined along an axis, in new memory."""
    axis %= len(parts[0].shape)
    size = sum(p.shape[axis] for p in parts)
    shape = (*parts[0].shape[:axis], size, *parts[0].shape[axis + 1 :])
    return parts[0].tape.run(
        "concat",
        MEMORY,
        parts,
        shape,
        parts[0].dtype,
        lambda: np.concatenate([p.data for p in parts], axis),
    )


def padded(x: Tensor, width: int) -> Tensor:
    """Zeros after the last axis, up to a width."""
    more = width - x.shape[-1]
    shape = (*x.shape[:-1], width)
    around = [(0, 0)] * (len(shape) - 1) + [(0, more)]
    return x.tape.run("pad", MEMORY, (x,), shape, x.dtype, lambda: np.pad(x.data, around))


def write_(target: Tensor, source: Tensor, fn: Callable[[Array, Array], Array]) -> None:
    """`target = fn(target, source)` in place, target a view of memory held already."""
    if target.tape.execute:
        target.data[...] = fn(target.data, source.data)
    target.tape.record("write", MEMORY, (target, source), target.nbytes)


def add_(target: Tensor, source: Tensor) -> None:
    """`target += source` in place."""
    write_(target, source, np.add)


def silu(x: Tensor) -> Tensor:
    """`x * sigmoid(x)`."""
    return pointwise("silu", _silu, x)


def relu(x: Tensor) -> Tensor:
    """`x` where it is positive, else 0."""
    return pointwise("relu", lambda d: np.maximum(d, np.float32(0)), x)


def zeros(like: Tensor) -> Tensor:
    """Zeros of a tensor's shape and dtype."""
    return blank(like.tape, like.shape, like.dtype)


def blank(tape: Tape, shape: Shape, dtype: str) -> Tensor:
    """Zeros."""
    return tape.run("zeros", MEMORY, (), shape, dtype, lambda: np.zeros(shape, np.float32))


def _silu(x: Array) -> Array:
    with np.errstate(over="ignore"):  # of what is far below 0: divided by infinity
        out: Array = x / (1 + np.exp(-x))
    return out


def _gelu(x: Array) -> Array:
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    out: Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return out


def capped(x: Array, most: float) -> Array:
    """`most * tanh(x / most)`."""
    out: Array = np.float32(most) * np.tanh(x / np.float32(most))
    return out


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form."""
    return pointwise("gelu", _gelu, x)


_erf = np.vectorize(math.erf, otypes=[np.float32])


def exact_gelu(x: Array) -> Array:
    """GELU in its exact form."""
    out: Array = np.float32(0.5) * x * (1 + _erf(x / np.float32(2**0.5)))
    return out


def erf_gelu(x: Tensor) -> Tensor:
    """GELU in its exact form."""
    return pointwise("gelu", exact_gelu, x)


def times_sigmoid(x: Array, gate: Array) -> Array:
    """`x * sigmoid(gate)`, for `write_`."""
    out: Array = x / (1 + np.exp(-gate))
    return out


def gated(kind: str, gate: Tensor, up: Tensor) -> Tensor:
    """`act(gate) * up` in one kernel; kind `silu`, `gelu`, or `clamped` (gpt-oss)."""
    if kind == "clamped":
        return pointwise("clamped_mul", _clamped, gate, up)
    act = _silu if kind == "silu" else _gelu
    return pointwise(f"{kind}_mul", lambda g, u: act(g) * u, gate, up)


def _clamped(gate: Array, up: Array) -> Array:
    """gpt-oss's SwiGLU: both sides clamped at 7, a steeper sigmoid, up shifted by one."""
    gate, up = np.minimum(gate, np.float32(7)), np.clip(up, np.float32(-7), np.float32(7))
    out: Array = (up + 1) * gate / (1 + np.exp(np.float32(-1.702) * gate))
    return out


def layer_norm(x: Tensor, eps: float, dtype: str | None = None) -> Tensor:
    """Zero mean and unit variance over the last axis, without learned parameters."""

    def compute() -> Array:
        d = x.data
        d = d - d.mean(-1, keepdims=True)
        return _unit(d, eps)

    rows = prod(x.shape[:-1])
    scratch = 2 * FLOAT * rows
    return x.tape.run(
        "layer_norm", MEMORY, (x,), x.shape, dtype or x.dtype, compute, scratch=scratch
    )


def layer_norm_learned(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: str | None = None
) -> Tensor:
    """`layer_norm`, times a learned weight and with a bias."""

    def compute() -> Array:
        out: Array = _unit(x.data - x.data.mean(-1, keepdims=True), eps) * weight.data + bias.data
        return out

    scratch = 2 * FLOAT * prod(x.shape[:-1])
    kind = dtype or x.dtype
    inputs = (x, weight, bias)
    return x.tape.run("layer_norm", MEMORY, inputs, x.shape, kind, compute, scratch=scratch)


def _unit(d: Array, eps: float) -> Array:
    """Scaled to unit mean square over the last axis."""
    out: Array = d / np.sqrt((d * d).mean(-1, keepdims=True) + np.float32(eps))
    return out


def _rms(d: Array, weight: Array, eps: float) -> Array:
    out: Array = _unit(d, eps) * weight
    return out


def rms_norm(x: Tensor, weight: Tensor, eps: float, dtype: str | None = None) -> Tensor:
    """Unit mean square over the last axis, times a learned weight."""
    return x.tape.run(
        "rms_norm",
        MEMORY,
        (x, weight),
        x.shape,
        dtype or x.dtype,
        lambda: _rms(x.data, weight.data, eps),
    )


def rms_norm_plain(x: Tensor, eps: float, dtype: str | None = None) -> Tensor:
    """Unit mean square over the last axis, without a weight, as a program in eager mode does it:
    squares and their mean, then the product, in float32."""
    means = root_of_mean(cast(x, "fp32"), eps)
    return cast(mul(x, means), dtype or x.dtype)


def root_of_mean(wide: Tensor, eps: float) -> Tensor:
    """One over the root of the mean square, (..., 1)."""
    squares = pointwise("square", np.square, wide)
    shape = (*wide.shape[:-1], 1)

    def compute() -> Array:
        found: Array = 1 / np.sqrt(squares.data.mean(-1, keepdims=True) + np.float32(eps))
        return found

    return wide.tape.run("mean", MEMORY, (squares,), shape, "fp32", compute)


def rms_norm_(x: Tensor, weight: Tensor, eps: float) -> None:
    """`rms_norm` in place."""
    if x.tape.execute:
        x.data[...] = _rms(x.data, weight.data, eps)
    x.tape.record("rms_norm", MEMORY, (x, weight), x.nbytes)


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Zero mean and unit variance over the channels; x (batch, channels, *space)."""
    per = (1, -1, *(1,) * (len(x.shape) - 2))

    def compute() -> Array:
        flat = x.data - x.data.mean(1, keepdims=True)
        flat = flat / np.sqrt((flat * flat).mean(1, keepdims=True) + np.float32(eps))
        out: Array = flat * weight.data.reshape(per) + bias.data.reshape(per)
        return out

    scratch = 2 * FLOAT * x.shape[0] * prod(x.shape[2:])
    return x.tape.run(
        "layer_norm", MEMORY, (x, weight, bias), x.shape, x.dtype, compute, scratch=scratch
    )


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """Normalised over `groups` of channels and all of space; x (batch, channels, *space)."""

    def compute() -> Array:
        flat = x.data.reshape(x.shape[0], groups, -1)
        flat = _unit(flat - flat.mean(-1, keepdims=True), eps)
        per = (1, -1, *(1,) * (len(x.shape) - 2))
        scaled = flat.reshape(x.shape) * weight.data.reshape(per)
        out: Array = scaled + bias.data.reshape(per)
        return out

    scratch = 2 * FLOAT * x.shape[0] * groups
    return x.tape.run(
        "group_norm", MEMORY, (x, weight, bias), x.shape, x.dtype, compute, scratch=scratch
    )
