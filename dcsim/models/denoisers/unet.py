"""The U-Net of latent diffusion (Rombach et al. 2022) and of SDXL (Podell et al. 2023): residual
blocks of convolutions and, behind them, transformers over the cells, at several resolutions. What
each block on the way down makes is held until the way up joins it.

Numbers and lifetimes as diffusers' `UNet2DConditionModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.conv import upsample
from dcsim.models.denoiser import Denoiser, Latent, Numerics, widths_differ
from dcsim.models.encoder import Encoder, Encoding
from dcsim.models.options import DIT, Option
from dcsim.models.parallel import ALONE, check_execution
from dcsim.models.passes import Pass, conv_layer, layer
from dcsim.models.positions import timestep_embedding
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, CountOrZero
from dcsim.spec import Layout

GROUPS = 32
EPS, NORM_EPS = 1e-5, 1e-6
"""Of norms, and of the norm before a transformer."""
SIZES = 6
"""Numbers that a network with `pooled` is told of an image: its sides, crop, and sides meant."""
CELL = 8
"""Pixels of a latent cell of the VAE it is trained with."""


@dataclass(frozen=True)
class Piece:
    """A residual block and the transformer blocks behind it."""

    number: int
    """Of the residual block among all blocks; those of the transformer follow."""
    into: int
    """Channels of its input."""
    width: int
    depth: int
    """Transformer blocks."""
    heads: int


@dataclass(frozen=True)
class Plan:
    """The blocks of a network, in order."""

    down: tuple[tuple[Piece, ...], ...]
    """By level; but after the last the image is halved."""
    middle: tuple[Piece, ...]
    up: tuple[tuple[Piece, ...], ...]
    """By level, the coarsest first; but after the last the image is doubled."""


@dataclass(frozen=True)
class Unet(Denoiser):
    """A U-Net with cross-attention to the text."""

    tag = "unet"

    widths: tuple[Count, ...]
    """Channels by level, the finest first."""
    depths: tuple[CountOrZero, ...]
    """Transformer blocks behind each residual block, by level; 0: none."""
    middle: Count
    """Transformer blocks between the way down and the way up."""
    layers: Count = 2
    """Residual blocks of a level on the way down; one more on the way up."""
    heads: Count = 8
    """Attention heads; where `head` is given, of the finest level that has any."""
    head: Count | None = None
    """Channels of a head, as many heads as they make; absent: `heads` at every level."""
    linear: bool = False
    """Transformers begin and end with linear layers; else with convolutions of a cell."""
    text_width: Count = 768
    pooled: CountOrZero = 0
    """Width of the pooled encoding of the last encoder, which it is told beside sizes of the image;
    0: neither."""
    channels: Count = 4

    def check(self) -> None:
        if len(self.widths) != len(self.depths):
            raise ValueError(f"depths: {len(self.depths)} of {len(self.widths)} levels")
        for width in self.widths:
            if width % GROUPS:
                raise ValueError(f"widths: {GROUPS} groups do not divide {width}")
            if width % (self.head or self.heads):
                what = "head" if self.head else "heads"
                raise ValueError(f"{what}: {self.head or self.heads} does not divide {width}")

    @property
    def width(self) -> int:
        return self.widths[-1]

    @property
    def signal(self) -> int:
        """Width of the embedding of time."""
        return 4 * self.widths[0]

    @property
    def grain(self) -> Latent:
        """A token is a cell of the coarsest level."""
        side: int = 2 ** (len(self.widths) - 1)
        return 1, side, side

    @property
    def frames(self) -> bool:
        return False

    @property
    def blocks(self) -> int:
        plan = self.plan()
        pieces = [*plan.middle, *(each for level in (*plan.down, *plan.up) for each in level)]
        return sum(1 + piece.depth for piece in pieces)

    def options(self) -> Mapping[str, Option]:
        """All is in `dtype`; the feature caches there are skip blocks of transformers."""
        plain = ("residual_dtype", "modulation_dtype")
        kept = {name: replace(DIT[name], allowed=("as dtype",)) for name in plain}
        return {**kept, "feature_cache": replace(DIT["feature_cache"], allowed=("none",))}

    def wrong(self, layout: Layout) -> str | None:
        if layout.tp * layout.sp == 1:
            return None
        return "a U-Net is whole on each GPU: only cfg: 2 spreads a request"

    def unfit(self, encoders: Sequence[Encoder]) -> str | None:
        pooled = encoders[-1].pooled_width if self.pooled else 0
        return super().unfit(encoders) or widths_differ("pooled:", self.pooled, pooled)

    def condition(self, encodings: Sequence[Encoding]) -> tuple[Tensor, ...]:
        parts = [each.sequence for each in encodings]
        text = ops.concat(parts, -1) if len(parts) > 1 else parts[0]
        last = encodings[-1].pooled
        return (text, last) if self.pooled and last is not None else (text,)

    def plan(self) -> Plan:
        """Its blocks, with their numbers and widths."""
        number, width, kept = 0, self.widths[0], [self.widths[0]]

        def piece(into: int, level: int, depth: int) -> Piece:
            nonlocal number, width
            width = self.widths[level]
            heads = width // self.head if self.head else self.heads
            found = Piece(number, into, width, depth, heads)
            number += 1 + depth
            return found

        down, up = [], []
        last = len(self.widths) - 1
        for level, depth in enumerate(self.depths):
            pieces = []
            for _ in range(self.layers):
                pieces.append(piece(width, level, depth))
                kept.append(width)
            down.append(tuple(pieces))
            kept += [width] * (level < last)
        middle = piece(width, last, self.middle), piece(width, last, 0)
        for level in reversed(range(len(self.widths))):
            pieces = [
                piece(width + kept.pop(), level, self.depths[level]) for _ in range(self.layers + 1)
            ]
            up.append(tuple(pieces))
        return Plan(tuple(down), middle, tuple(up))

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        plan, first, signal = self.plan(), self.widths[0], self.signal
        yield from conv_layer("embed", first, self.channels, 3)
        yield from layer("time.0", signal, first)
        yield from layer("time.1", signal, signal)
        if self.pooled:
            yield from layer("pooled.0", signal, self.pooled + SIZES * passes.TIME_WIDTH)
            yield from layer("pooled.1", signal, signal)
        for way, levels in (("down", plan.down), ("middle", (plan.middle,)), ("up", plan.up)):
            for i, pieces in enumerate(levels):
                for piece in pieces:
                    yield from self._residual_shapes(piece)
                    yield from self._transformer_shapes(piece)
                if i < len(levels) - 1:
                    width = pieces[-1].width
                    yield from conv_layer(f"{way}{i}", width, width, 3)
        yield from _norm("final.norm", first)
        yield from conv_layer("final.out", self.channels, first, 3)

    def _residual_shapes(self, piece: Piece) -> Iterator[tuple[str, Shape]]:
        name, width = f"{piece.number}", piece.width
        yield from _norm(f"{name}.norm1", piece.into)
        yield from conv_layer(f"{name}.conv1", width, piece.into, 3)
        yield from layer(f"{name}.signal", width, self.signal)
        yield from _norm(f"{name}.norm2", width)
        yield from conv_layer(f"{name}.conv2", width, width, 3)
        if piece.into != width:
            yield from conv_layer(f"{name}.skip", width, piece.into, 1)

    def _transformer_shapes(self, piece: Piece) -> Iterator[tuple[str, Shape]]:
        first, width = piece.number + 1, piece.width
        if not piece.depth:
            return
        outer = layer if self.linear else partial(conv_layer, kernel=1)
        yield from _norm(f"{first}.norm", width)
        yield from outer(f"{first}.into", width, width)
        for i in range(first, first + piece.depth):
            for part in ("norm1", "norm2", "norm3"):
                yield from _norm(f"{i}.{part}", width)
            for name, wide in ((f"{i}", width), (f"{i}.cross", self.text_width)):
                yield from layer(f"{name}.q", width, width, bias=False)
                yield from layer(f"{name}.k", width, wide, bias=False)
                yield from layer(f"{name}.v", width, wide, bias=False)
                yield from layer(f"{name}.out", width, width)
            yield from layer(f"{i}.up", 8 * width, width)
            yield from layer(f"{i}.down", width, 4 * width)
        yield from outer(f"{first}.back", width, width)

    def forward(
        self,
        w: Weights,
        latents: Tensor,
        steps: Array,
        condition: Sequence[Tensor],
        *,
        numerics: Numerics,
        layout: Layout = ALONE,
        guidance: float | None = None,
    ) -> Tensor:
        check_execution(latents.tape, layout)
        p, plan = Pass(w, numerics, layout, EPS), self.plan()
        batch, channels, _, rows, columns = latents.shape
        signal = _signal(self, p, latents, steps, condition)
        piece = partial(_piece, self, p, signal, condition[0])
        image = ops.cast(latents, numerics.dtype).reshape(batch, channels, rows, columns)
        x = p.conv("embed", image)
        del image
        kept = [x]
        for i, pieces in enumerate(plan.down):
            for each in pieces:
                x = piece(each, [x])
                kept.append(x)
            if i < len(plan.down) - 1:
                x = p.conv(f"down{i}", x, stride=2)
                kept.append(x)
        for each in plan.middle:
            x = piece(each, [x])
        for i, pieces in enumerate(plan.up):
            cut = len(kept) - len(pieces)
            joined = kept[cut:]  # held until those of the next level are taken
            del kept[cut:]
            x = _rise(p, piece, pieces, joined, f"up{i}" if i < len(plan.up) - 1 else "", x)
        x = _normed(p, "final.norm", x, EPS)
        x = ops.silu(x)
        return p.conv("final.out", x).reshape(*latents.shape)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _normed(p: Pass, name: str, x: Tensor, eps: float) -> Tensor:
    return ops.group_norm(x, *p.w.linear(name), GROUPS, eps)


def _signal(c: Unet, p: Pass, latents: Tensor, steps: Array, condition: Sequence[Tensor]) -> Tensor:
    """What the residual blocks are told, (batch, 4 x the finest width)."""
    batch, tape = latents.shape[0], latents.tape
    signal = passes.scalar(p, "time", steps, batch, tape, c.widths[0])
    if not c.pooled:
        return signal
    height, width = (n * CELL for n in latents.shape[3:])
    sizes = np.tile(np.array([height, width, 0, 0, height, width], np.float32), batch)
    count = SIZES * passes.TIME_WIDTH
    wave = tape.run(
        "sinusoid",
        MEMORY,
        (),
        (batch, count),
        "fp32",
        lambda: timestep_embedding(sizes, passes.TIME_WIDTH).reshape(batch, count),
    )
    told = ops.cast(ops.concat([ops.cast(condition[1], "fp32"), wave], 1), p.numerics.dtype)
    return ops.add(signal, passes.two_layers(p, "pooled", told))


def _piece(
    c: Unet, p: Pass, signal: Tensor, text: Tensor, piece: Piece, given: list[Tensor]
) -> Tensor:
    """Of the tensor in `given`, which is held until the residual block has ended."""
    x = given.pop()
    x = _residual(p, piece, signal, x)
    return _transformer(c, p, piece, text, x) if piece.depth else x


def _rise(
    p: Pass,
    piece: partial[Tensor],
    pieces: Sequence[Piece],
    joined: Sequence[Tensor],
    name: str,
    x: Tensor,
) -> Tensor:
    """A level on the way up; what came in is held to its end."""
    h = x
    for each, skip in zip(pieces, reversed(joined), strict=True):
        given = [ops.concat([h, skip], 1)]
        del h
        h = piece(each, given)
    if not name:
        return h
    wide = upsample(h, (2, 2))
    return p.conv(name, wide)


def _residual(p: Pass, piece: Piece, signal: Tensor, x: Tensor) -> Tensor:
    name = f"{piece.number}"
    h = _normed(p, f"{name}.norm1", x, EPS)
    h = ops.silu(h)
    h = p.conv(f"{name}.conv1", h)
    told = p.linear(f"{name}.signal", ops.silu(signal)).reshape(x.shape[0], piece.width, 1, 1)
    h = ops.add(h, told)
    h = _normed(p, f"{name}.norm2", h, EPS)
    h = ops.silu(h)
    h = p.conv(f"{name}.conv2", h)
    skip = x if piece.into == piece.width else p.conv(f"{name}.skip", x)
    return ops.affine(ops.add(skip, h), 1.0)  # diffusers divides by a factor, which is 1


def _transformer(c: Unet, p: Pass, piece: Piece, text: Tensor, x: Tensor) -> Tensor:
    batch, width, rows, columns = x.shape
    first, cells = piece.number + 1, rows * columns
    h = _normed(p, f"{first}.norm", x, NORM_EPS)
    if not c.linear:
        h = p.conv(f"{first}.into", h)
    h = h.reshape(batch, width, cells).permute(0, 2, 1)
    if c.linear:
        h = p.linear(f"{first}.into", h)
    state = [h]
    del h
    block = partial(_block, p, piece.heads, text, first)
    repeated(x.tape, piece.depth, lambda i, held: [block(i, held.pop())], state)
    (h,) = state
    y = p.linear(f"{first}.back", h) if c.linear else h
    y = ops.copy(y.reshape(batch, rows, columns, width).permute(0, 3, 1, 2))
    if not c.linear:
        y = p.conv(f"{first}.back", y)
    return ops.add(y, x)


def _block(p: Pass, heads: int, text: Tensor, first: int, i: int, x: Tensor) -> Tensor:
    name = f"{first + i}"
    y = ops.layer_norm_learned(x, *p.w.linear(f"{name}.norm1"), EPS)
    z = _attention(p, name, heads, y, y)
    h = ops.add(z, x)
    y = ops.layer_norm_learned(h, *p.w.linear(f"{name}.norm2"), EPS)
    z = _attention(p, f"{name}.cross", heads, y, text)
    h = ops.add(z, h)
    y = ops.layer_norm_learned(h, *p.w.linear(f"{name}.norm3"), EPS)
    return ops.add(_feed_forward(p, name, y), h)


def _attention(p: Pass, name: str, heads: int, y: Tensor, other: Tensor) -> Tensor:
    q, k, v = (
        passes.split_heads(p.linear(f"{name}.{part}", given), heads)
        for part, given in (("q", y), ("k", other), ("v", other))
    )
    z = softmax_attention(q, k, v, kernel=p.numerics.kernel)
    z = p.linear(f"{name}.out", z.reshape(*y.shape))
    return ops.affine(z, 1.0)  # as above


def _feed_forward(p: Pass, name: str, y: Tensor) -> Tensor:
    hidden = _gated(p.linear(f"{name}.up", y))
    return p.linear(f"{name}.down", hidden)


def _gated(both: Tensor) -> Tensor:
    value, gate = both.chunk(2, -1)
    return ops.mul(value, ops.erf_gelu(gate))
