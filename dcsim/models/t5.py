"""The encoder of T5 v1.1 (gated GELU, relative positions): what a text condition costs.

With random weights it is a stub, its output means nothing; its parameters, memory, FLOPs and
traffic are those of the published size. T5-XXL: 4.762 B parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcsim.models import ops
from dcsim.models.encoder import Encoder, Encoding
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import MEMORY, Array, Shape, Tape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count

EPS = 1e-6
FURTHEST = 128
"""Distances beyond this share the last bucket."""


@dataclass(frozen=True)
class T5(Encoder):
    """A T5 encoder; the default is XXL."""

    tag = "t5"

    layers: Count = 24
    width: Count = 4096
    heads: Count = 64
    head: Count = 64
    ffn: Count = 10240
    vocabulary: Count = 32128
    buckets: Count = 32
    own_bias: bool = False
    """A table of relative positions in each layer (umT5); else the first layer's is all layers'."""

    @property
    def out_width(self) -> int:
        return self.width

    @property
    def blocks(self) -> int:
        return self.layers

    def parameters(self) -> Iterator[tuple[str, Shape]]:
        inner = self.heads * self.head
        yield "embed", (self.vocabulary, self.width)
        if not self.own_bias:
            yield "relative", (self.buckets, self.heads)
        for i in range(self.layers):
            if self.own_bias:
                yield f"{i}.relative", (self.buckets, self.heads)
            yield f"{i}.norm1", (self.width,)
            for part in ("q", "k", "v"):
                yield f"{i}.{part}", (inner, self.width)
            yield f"{i}.out", (self.width, inner)
            yield f"{i}.norm2", (self.width,)
            yield f"{i}.gate", (self.ffn, self.width)
            yield f"{i}.up", (self.ffn, self.width)
            yield f"{i}.down", (self.width, self.ffn)
        yield "norm", (self.width,)

    def encode(self, w: Weights, ids: Tensor) -> Encoding:
        return Encoding(_encode(self, w, ids))


def _encode(c: T5, w: Weights, ids: Tensor) -> Tensor:
    batch, tokens = ids.shape
    x = ops.embedding(w["embed"], ids, w.dtype)
    given = x  # transformers names it to the end
    shared = None if c.own_bias else _bias(c, w, "relative", tokens, x.tape)

    def layer(i: int, state: list[Tensor]) -> list[Tensor]:
        # What the half before has left is held until it is named anew.
        x, *before = state
        state.clear()
        y = ops.rms_norm(x, w[f"{i}.norm1"], EPS)
        before.clear()
        q, k, v = (
            ops.linear(y, w[f"{i}.{part}"]).reshape(batch, tokens, c.heads, c.head)
            for part in ("q", "k", "v")
        )
        bias = shared or _bias(c, w, f"{i}.relative", tokens, x.tape)
        bias = ops.copy(bias)
        y = softmax_attention(q, k, v, scale=1.0, bias=bias)
        del q, k, v, bias
        y = ops.linear(y.reshape(batch, tokens, c.heads * c.head), w[f"{i}.out"])
        x = ops.add(x, y)
        y = ops.rms_norm(x, w[f"{i}.norm2"], EPS)
        y = ops.gated("gelu", ops.linear(y, w[f"{i}.gate"]), ops.linear(y, w[f"{i}.up"]))
        return [ops.add(x, ops.linear(y, w[f"{i}.down"])), y]

    state = [x]
    del x
    repeated(ids.tape, c.layers, layer, state)
    y = ops.rms_norm(state[0], w["norm"], EPS)
    del given
    return y


def _bias(c: T5, w: Weights, name: str, tokens: int, tape: Tape) -> Tensor:
    """What is added to the scores, (1, heads, tokens, tokens)."""
    return tape.run(
        "relative_bias",
        MEMORY,
        (w[name],),
        (1, c.heads, tokens, tokens),
        w.dtype,
        lambda: w[name].data[_buckets(tokens, c.buckets)].transpose(2, 0, 1)[None],
    )


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
