"""The encoder of T5 v1.1 (gated GELU, relative positions): what a text condition costs.

With random weights it is a stub, its output means nothing; its parameters, memory, FLOPs and
traffic are those of the published size. T5-XXL: 4.762 B parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcsim.models import ops
from dcsim.models.tape import MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights

EPS = 1e-6
FURTHEST = 128
"""Distances beyond this share the last bucket."""


@dataclass(frozen=True)
class T5Config:
    """Architecture of a T5 encoder; the default is XXL."""

    layers: int = 24
    width: int = 4096
    heads: int = 64
    head: int = 64
    ffn: int = 10240
    vocabulary: int = 32128
    buckets: int = 32


def parameters(c: T5Config) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the parameters."""
    inner = c.heads * c.head
    yield "embed", (c.vocabulary, c.width)
    yield "relative", (c.buckets, c.heads)
    for i in range(c.layers):
        yield f"{i}.norm1", (c.width,)
        for part in ("q", "k", "v"):
            yield f"{i}.{part}", (inner, c.width)
        yield f"{i}.out", (c.width, inner)
        yield f"{i}.norm2", (c.width,)
        yield f"{i}.gate", (c.ffn, c.width)
        yield f"{i}.up", (c.ffn, c.width)
        yield f"{i}.down", (c.width, c.ffn)
    yield "norm", (c.width,)


def encode(c: T5Config, w: Weights, ids: Tensor) -> Tensor:
    """Embeddings (batch, tokens, width) of token ids (batch, tokens), in the weights' dtype."""
    batch, tokens = ids.shape
    x = ops.embedding(w["embed"], ids, w.dtype)
    bias = x.tape.run(
        "relative_bias",
        MEMORY,
        (w["relative"],),
        (1, c.heads, tokens, tokens),
        w.dtype,
        lambda: w["relative"].data[_buckets(tokens, c.buckets)].transpose(2, 0, 1)[None],
    )
    for i in range(c.layers):
        y = ops.rms_norm(x, w[f"{i}.norm1"], EPS)
        q, k, v = (
            ops.linear(y, w[f"{i}.{part}"]).reshape(batch, tokens, c.heads, c.head)
            for part in ("q", "k", "v")
        )
        y = ops.attention(q, k, v, kernel="math", scale=1.0, bias=bias)
        del q, k, v
        y = ops.linear(y.reshape(batch, tokens, c.heads * c.head), w[f"{i}.out"])
        x = ops.add(x, y)
        y = ops.rms_norm(x, w[f"{i}.norm2"], EPS)
        y = ops.gated("gelu", ops.linear(y, w[f"{i}.gate"]), ops.linear(y, w[f"{i}.up"]))
        x = ops.add(x, ops.linear(y, w[f"{i}.down"]))
    return ops.rms_norm(x, w["norm"], EPS)


def _buckets(tokens: int, buckets: int) -> Array:
    """Bucket of every (query, key) distance, after the T5 paper: exact near, logarithmic far."""
    half = buckets // 2
    exact = half // 2
    distance = np.arange(tokens)[None, :] - np.arange(tokens)[:, None]
    away = np.abs(distance)
    far = exact + (
        np.log(np.maximum(away, 1) / exact) / np.log(FURTHEST / exact) * (half - exact)
    ).astype(np.int64)
    bucket: Array = np.where(away < exact, away, np.minimum(far, half - 1))
    bucket[distance > 0] += half
    return bucket
