"""Ops on tensors: each records what it allocates, computes and moves, and computes if asked.

FLOPs are counted for matrix products and convolutions only (multiply and add as two), as
PyTorch's FlopCounterMode does. Elementwise ops and normalisations cost their HBM traffic.
Every op allocates its output, as PyTorch does in eager mode, unless its name ends in `_`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from dcsim.models.tape import ATTENTION, DENSE, MEMORY, Array, Shape, Tensor, promote

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


def _silu(x: Array) -> Array:
    out: Array = x / (1 + np.exp(-x))
    return out


def _gelu(x: Array) -> Array:
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    out: Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return out


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form."""
    return pointwise("gelu", _gelu, x)


def gated(kind: str, gate: Tensor, up: Tensor) -> Tensor:
    """`act(gate) * up` in one kernel; kind `silu` or `gelu`."""
    act = _silu if kind == "silu" else _gelu
    return pointwise(f"{kind}_mul", lambda g, u: act(g) * u, gate, up)


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


def rms_norm_(x: Tensor, weight: Tensor, eps: float) -> None:
    """`rms_norm` in place."""
    if x.tape.execute:
        x.data[...] = _rms(x.data, weight.data, eps)
    x.tape.record("rms_norm", MEMORY, (x, weight), x.nbytes)


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


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    kernel: str = "fused",
    scale: float | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """Softmax attention; q (batch, n, heads, width), k and v (batch, m, kv heads, width).

    `kernel` is `fused` (no n x m matrix in memory; a float32 log-sum-exp per row) or `math`
    (scores and probabilities in memory). `causal` lines the last query up with the last key;
    FLOPs are then those of the pairs computed. Returns (batch, n, heads, width).
    """
    batch, n, heads, width = q.shape
    m = k.shape[1]
    scale = width**-0.5 if scale is None else scale
    pairs = n * (m - n) + n * (n + 1) // 2 if causal else n * m
    half = 2 * batch * heads * width * pairs
    tape = q.tape
    if kernel == "fused" and bias is None:
        return tape.run(
            "attention",
            ATTENTION,
            (q, k, v),
            q.shape,
            q.dtype,
            lambda: _softmax_attention(q.data, k.data, v.data, scale, causal),
            flops=2 * half,
            scratch=FLOAT * batch * heads * n,
        )
    square = (batch, heads, n, m)
    scores = tape.run(
        "scores",
        ATTENTION,
        (q, k),
        square,
        q.dtype,
        lambda: np.einsum("bnhd,bmhd->bhnm", q.data, _repeat(k.data, heads)) * np.float32(scale),
        flops=half,
    )
    if bias is not None:
        scores = add(scores, bias)
    probs = tape.run(
        "softmax", MEMORY, (scores,), square, q.dtype, lambda: _softmax(scores.data, causal)
    )
    return tape.run(
        "mix",
        ATTENTION,
        (probs, v),
        q.shape,
        q.dtype,
        lambda: np.einsum("bhnm,bmhd->bnhd", probs.data, _repeat(v.data, heads)),
        flops=half,
    )


def _repeat(d: Array, heads: int) -> Array:
    return d if d.shape[2] == heads else np.repeat(d, heads // d.shape[2], axis=2)


def _softmax(scores: Array, causal: bool) -> Array:
    if causal:
        n, m = scores.shape[-2:]
        scores = np.where(np.tri(n, m, m - n, dtype=bool), scores, np.float32(-np.inf))
    e = np.exp(scores - scores.max(-1, keepdims=True))
    out: Array = e / e.sum(-1, keepdims=True)
    return out


def _softmax_attention(q: Array, k: Array, v: Array, scale: float, causal: bool) -> Array:
    """One head at a time, so that a long sequence fits the host."""
    group = q.shape[2] // k.shape[2]
    out = np.empty_like(q)
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            scores = q[b, :, h] @ k[b, :, h // group].T * np.float32(scale)
            out[b, :, h] = _softmax(scores, causal) @ v[b, :, h // group]
    return out
