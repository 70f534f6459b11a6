"""CLIP's text encoder (Radford et al. 2021): a causal transformer of short prompts.

Numbers as transformers' `CLIPTextModelWithProjection`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dcsim.models import ops
from dcsim.models.encoder import Encoder, Encoding
from dcsim.models.repeat import repeated
from dcsim.models.tape import MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, CountOrZero

EPS = 1e-5


@dataclass(frozen=True)
class ClipText(Encoder):
    """A CLIP text encoder; the default is that of ViT-L/14."""

    tag = "clip"

    layers: Count = 12
    width: Count = 768
    heads: Count = 12
    ffn: Count = 3072
    vocabulary: Count = 49408
    positions: Count = 77
    """The longest prompt."""
    projection: CountOrZero = 768
    """Width that the pooled encoding is projected to; 0: it is not projected."""
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    skip: CountOrZero = 1
    """Layers after the one whose output is the sequence; they are computed for the pooled one."""

    def check(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide {self.width}")
        if self.skip >= self.layers:
            raise ValueError(f"skip: {self.skip} of {self.layers} layers")

    @property
    def out_width(self) -> int:
        return self.width

    @property
    def pooled_width(self) -> int:
        return self.projection or self.width

    @property
    def blocks(self) -> int:
        return self.layers

    def parameters(self) -> Iterator[tuple[str, Shape]]:
        def layer(name: str, out: int, width: int) -> Iterator[tuple[str, Shape]]:
            yield f"{name}.weight", (out, width)
            yield f"{name}.bias", (out,)

        def norm(name: str) -> Iterator[tuple[str, Shape]]:
            yield f"{name}.weight", (self.width,)
            yield f"{name}.bias", (self.width,)

        yield "embed", (self.vocabulary, self.width)
        yield "positions", (self.positions, self.width)
        for i in range(self.layers):
            yield from norm(f"{i}.norm1")
            for part in ("q", "k", "v", "out"):
                yield from layer(f"{i}.{part}", self.width, self.width)
            yield from norm(f"{i}.norm2")
            yield from layer(f"{i}.up", self.ffn, self.width)
            yield from layer(f"{i}.down", self.width, self.ffn)
        yield from norm("norm")
        if self.projection:
            yield "project.weight", (self.projection, self.width)

    def encode(self, w: Weights, ids: Tensor) -> Encoding:
        """The pooled encoding is of the token with the highest id, the end of the text."""
        batch, tokens = ids.shape
        x = ops.embedding(w["embed"], ids, w.dtype)
        x = ops.add(x, w["positions"][:tokens].reshape(1, tokens, self.width))
        state = [x]
        del x

        def layer(i: int, state: list[Tensor]) -> list[Tensor]:
            return [self._layer(w, f"{i}", state.pop())]

        repeated(ids.tape, self.layers - self.skip, layer, state)
        (sequence,) = (x,) = state
        for i in range(self.layers - self.skip, self.layers):
            x = self._layer(w, f"{i}", x)
        last = ops.layer_norm_learned(x, *w.linear("norm"), EPS)
        pooled = last.tape.run(
            "pick",
            MEMORY,
            (last[:, 0], ids),
            (batch, self.width),
            last.dtype,
            lambda: last.data[np.arange(batch), ids.data.argmax(1)],
        )
        if self.projection:
            pooled = ops.linear(pooled, w["project.weight"])
        return Encoding(sequence if self.skip else last, pooled)

    def _layer(self, w: Weights, name: str, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        y = ops.layer_norm_learned(x, *w.linear(f"{name}.norm1"), EPS)
        q, k, v = (
            ops.linear(y, *w.linear(f"{name}.{part}")).reshape(
                batch, tokens, self.heads, width // self.heads
            )
            for part in ("q", "k", "v")
        )
        y = ops.attention(q, k, v, causal=True).reshape(batch, tokens, width)
        del q, k, v
        x = ops.add(x, ops.linear(y, *w.linear(f"{name}.out")))
        y = ops.layer_norm_learned(x, *w.linear(f"{name}.norm2"), EPS)
        y = ops.linear(y, *w.linear(f"{name}.up"))
        quick = self.activation == "quick_gelu"
        y = ops.pointwise("quick_gelu", _quick, y) if quick else ops.erf_gelu(y)
        return ops.add(x, ops.linear(y, *w.linear(f"{name}.down")))


def _quick(x: Array) -> Array:
    return ops.times_sigmoid(x, np.float32(1.702) * x)
