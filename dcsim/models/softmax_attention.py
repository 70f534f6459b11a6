"""Softmax attention, fused or with its scores in memory."""

from __future__ import annotations

import numpy as np

from dcsim.models import ops
from dcsim.models.tape import ATTENTION, MEMORY, Array, Tensor


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    kernel: str = "fused",
    scale: float | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    sinks: Tensor | None = None,
    softcap: float | None = None,
    pairs: int | None = None,
) -> Tensor:
    """Softmax attention; q and k (batch, n or m, heads or kv heads, width), v (.., value width).

    `kernel` is `fused` (no n x m matrix in memory; a float32 log-sum-exp per row), `math`
    (scores and probabilities in memory) or `wide` (that, with the softmax in float32). `bias`
    (1 or batch, 1 or heads, n, m) is added to the scores. `causal` lines the last query up with the
    last key; FLOPs are then those of the pairs computed. Fused and causal only: `window` keys at
    most that a query sees, its own the last;
    `sinks` (heads,), a logit a head that takes its share of the softmax and gives no value;
    `softcap`, within which of zero a tanh keeps the scores. `pairs`: how many are computed, where
    it is not all of these, on average over GPUs.
    Returns (batch, n, heads, value width).
    """
    batch, n, heads, width = q.shape
    m = k.shape[1]
    scale = width**-0.5 if scale is None else scale
    if pairs is None:
        pairs = causal_pairs(n, m - n, window) if causal else n * m
    half = 2 * batch * heads * width * pairs
    tape = q.tape
    if kernel == "fused":
        value = v.shape[3]
        more = [each for each in (sinks, bias) if each is not None]
        return tape.run(
            "attention",
            ATTENTION,
            (q, k, v, *more),
            (batch, n, heads, value),
            q.dtype,
            lambda: _attended(
                q.data,
                k.data,
                v.data,
                scale,
                causal,
                window,
                None if sinks is None else sinks.data,
                None if bias is None else bias.data,
                softcap,
            ),
            flops=half + 2 * batch * heads * value * pairs,
            scratch=ops.FLOAT * batch * heads * n,
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
        scores = ops.add(scores, bias)
    probs = _probabilities(scores, causal, kernel == "wide")
    if kernel == "wide":
        del scores
    return tape.run(
        "mix",
        ATTENTION,
        (probs, v),
        q.shape,
        q.dtype,
        lambda: np.einsum("bhnm,bmhd->bnhd", probs.data, _repeat(v.data, heads)),
        flops=half,
    )


def _probabilities(scores: Tensor, causal: bool, wide: bool) -> Tensor:
    """The softmax, in float32 and back where it is `wide`."""
    kind, shape = scores.dtype, scores.shape
    given = [ops.cast(scores, "fp32") if wide else scores]
    del scores
    return ops.cast(
        given[0].tape.run(
            "softmax",
            MEMORY,
            given,
            shape,
            given[0].dtype,
            lambda: _softmax(given[0].data, causal),
        ),
        kind,
    )


def _repeat(d: Array, heads: int) -> Array:
    return d if d.shape[2] == heads else np.repeat(d, heads // d.shape[2], axis=2)


def causal_pairs(n: int, before: int, window: int | None = None) -> int:
    """Pairs of a query and a key it sees, of `n` queries after `before` earlier tokens."""
    if window is None or before + n <= window:
        return n * before + n * (n + 1) // 2
    if before >= window:
        return n * window
    short = window - before
    return short * before + short * (short + 1) // 2 + (n - short) * window


def _softmax(
    scores: Array, causal: bool, window: int | None = None, sink: float | None = None
) -> Array:
    if causal:
        n, m = scores.shape[-2:]
        seen = np.tri(n, m, m - n, dtype=bool)
        if window is not None:
            seen &= ~np.tri(n, m, m - n - window, dtype=bool)
        scores = np.where(seen, scores, np.float32(-np.inf))
    most = scores.max(-1, keepdims=True)
    if sink is not None:
        most = np.maximum(most, np.float32(sink))
    e = np.exp(scores - most)
    total = e.sum(-1, keepdims=True)
    if sink is not None:
        total = total + np.exp(np.float32(sink) - most)
    out: Array = e / total
    return out


def _attended(
    q: Array,
    k: Array,
    v: Array,
    scale: float,
    causal: bool,
    window: int | None = None,
    sinks: Array | None = None,
    bias: Array | None = None,
    softcap: float | None = None,
) -> Array:
    """One head at a time, so that a long sequence fits the host."""
    group = q.shape[2] // k.shape[2]
    out = np.empty((*q.shape[:3], v.shape[3]), q.dtype)
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            scores = q[b, :, h] @ k[b, :, h // group].T * np.float32(scale)
            if softcap is not None:
                scores = ops.capped(scores, softcap)
            if bias is not None:
                scores = scores + bias[b % len(bias), h % bias.shape[1]]
            sink = None if sinks is None else float(sinks[h])
            out[b, :, h] = _softmax(scores, causal, window, sink) @ v[b, :, h // group]
    return out
