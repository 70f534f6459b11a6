"""CLIP's encoders (Radford et al. 2021): of text a causal transformer of short prompts, of an image
one of its patches.

Numbers as transformers' `CLIPTextModelWithProjection` and `CLIPVisionModel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dcsim.models import ops
from dcsim.models.conv import conv
from dcsim.models.encoder import Encoder, Encoding
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import MEMORY, Array, Shape, Tape, Tensor
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
        yield "embed", (self.vocabulary, self.width)
        yield "positions", (self.positions, self.width)
        yield from _layer_shapes(self)
        yield from _shapes("norm", self.width)
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
            return [_layer(self, w, f"{i}", state.pop(), causal=True)]

        repeated(ids.tape, self.layers - self.skip, layer, state)
        (sequence,) = (x,) = state
        for i in range(self.layers - self.skip, self.layers):
            x = _layer(self, w, f"{i}", x, causal=True)
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


@dataclass(frozen=True)
class ClipVision(Encoder):
    """A CLIP image encoder; the default is that of ViT-H/14, the states before the last layer."""

    tag = "clip_vision"

    layers: Count = 32
    width: Count = 1280
    heads: Count = 16
    ffn: Count = 5120
    side: Count = 224
    """Pixels of the edge of what it is shown."""
    patch: Count = 14
    """Pixels of the edge of a patch."""
    activation: Literal["quick_gelu", "gelu"] = "gelu"

    def check(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide {self.width}")
        if self.side % self.patch:
            raise ValueError(f"patch: {self.patch} does not divide {self.side}")

    @property
    def out_width(self) -> int:
        return self.width

    @property
    def blocks(self) -> int:
        return self.layers

    @property
    def of_image(self) -> bool:
        return True

    @property
    def tokens(self) -> int:
        """Patches, and one for all."""
        return (self.side // self.patch) ** 2 + 1

    def parameters(self) -> Iterator[tuple[str, Shape]]:
        yield "class", (self.width,)
        yield "embed.weight", (self.width, 3, self.patch, self.patch)
        yield "positions", (self.tokens, self.width)
        yield from _shapes("before", self.width)
        yield from _layer_shapes(self)
        yield from _shapes("norm", self.width)

    def fed(self, tape: Tape, tokens: int, dtype: str, data: Array | None = None) -> Tensor:
        """An image (1, 3, side, side)."""
        return tape.tensor((1, 3, self.side, self.side), dtype, data)

    def encode(self, w: Weights, ids: Tensor) -> Encoding:
        """Of an image (1, 3, side, side); all layers are computed, the last for nothing."""
        cells = self.side // self.patch
        x = conv(ids, w["embed.weight"], stride=(self.patch,) * 2, pad=((0, 0),) * 2)
        x = x.reshape(1, self.width, cells * cells).permute(0, 2, 1)
        x = ops.concat([w["class"].reshape(1, 1, self.width), x], 1)
        x = ops.add(x, w["positions"].reshape(1, self.tokens, self.width))
        x = ops.layer_norm_learned(x, *w.linear("before"), EPS)
        state = [x]
        del x

        def layer(i: int, state: list[Tensor]) -> list[Tensor]:
            return [_layer(self, w, f"{i}", state.pop(), causal=False)]

        repeated(ids.tape, self.layers - 1, layer, state)
        (x,) = state
        last = _layer(self, w, f"{self.layers - 1}", x, causal=False)
        pooled = ops.layer_norm_learned(last[:, 0], *w.linear("norm"), EPS)
        del pooled
        return Encoding(x)


def _shapes(name: str, width: int, of: int = 0) -> Iterator[tuple[str, Shape]]:
    """A layer of so many inputs with its bias, or a norm."""
    yield f"{name}.weight", (width, of) if of else (width,)
    yield f"{name}.bias", (width,)


def _layer_shapes(c: ClipText | ClipVision) -> Iterator[tuple[str, Shape]]:
    for i in range(c.layers):
        yield from _shapes(f"{i}.norm1", c.width)
        for part in ("q", "k", "v", "out"):
            yield from _shapes(f"{i}.{part}", c.width, c.width)
        yield from _shapes(f"{i}.norm2", c.width)
        yield from _shapes(f"{i}.up", c.ffn, c.width)
        yield from _shapes(f"{i}.down", c.width, c.ffn)


def _layer(c: ClipText | ClipVision, w: Weights, name: str, x: Tensor, *, causal: bool) -> Tensor:
    batch, tokens, width = x.shape
    y = ops.layer_norm_learned(x, *w.linear(f"{name}.norm1"), EPS)
    q, k, v = (
        ops.linear(y, *w.linear(f"{name}.{part}")).reshape(batch, tokens, c.heads, width // c.heads)
        for part in ("q", "k", "v")
    )
    y = softmax_attention(q, k, v, causal=causal).reshape(batch, tokens, width)
    del q, k, v
    x = ops.add(x, ops.linear(y, *w.linear(f"{name}.out")))
    y = ops.layer_norm_learned(x, *w.linear(f"{name}.norm2"), EPS)
    y = ops.linear(y, *w.linear(f"{name}.up"))
    y = ops.pointwise("quick_gelu", _quick, y) if c.activation == "quick_gelu" else ops.erf_gelu(y)
    return ops.add(x, ops.linear(y, *w.linear(f"{name}.down")))


def _quick(x: Array) -> Array:
    return ops.times_sigmoid(x, np.float32(1.702) * x)
