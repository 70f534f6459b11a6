"""SANA (Xie et al. 2024): linear attention among few tokens of a deeply compressed image, attention
to the text, and a gated feed-forward half whose depthwise convolution sees the neighbours.

Numbers and lifetimes as diffusers' `SanaTransformer2DModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.conv import conv
from dcsim.models.denoiser import Denoiser, Latent, Numerics
from dcsim.models.linear_attention import linear_attention, with_ones
from dcsim.models.parallel import ALONE, all_gather, check_execution, halo
from dcsim.models.passes import Pass, layer
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count
from dcsim.spec import Layout

TEXT_EPS = 1e-5


@dataclass(frozen=True)
class Sana(Denoiser):
    """SANA's transformer: a token a latent cell, and no positions."""

    tag = "sana"

    depth: Count
    """Blocks."""
    heads: Count
    """Of linear attention."""
    cross_heads: Count
    """Of attention to the text."""
    ffn: Count
    """Channels that the depthwise convolution gates; it has twice as many."""
    head: Count = 32
    """Channels of a head of linear attention."""
    channels: Count = 32
    text_width: Count = 2304

    def check(self) -> None:
        if self.width % self.cross_heads:
            raise ValueError(f"cross_heads: {self.cross_heads} does not divide {self.width}")

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.heads * self.head

    @property
    def grain(self) -> Latent:
        return 1, 1, 1

    @property
    def frames(self) -> bool:
        return False

    @property
    def blocks(self) -> int:
        return self.depth

    def wrong(self, layout: Layout) -> str | None:
        """`sp` shares rows of the image out, and may be any number."""
        for many, what in ((self.heads, "heads"), (self.cross_heads, "cross heads")):
            if many % layout.tp:
                return f"tp {layout.tp} does not divide {many} attention {what}"
        if self.ffn % layout.tp:
            return f"tp {layout.tp} does not divide {self.ffn} channels of the feed-forward half"
        if layout.ring > 1:
            return "linear attention has no K and V that could go round in a ring"
        return None

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part, inner = self.width, self.width // tp, self.ffn // tp
        yield from layer("embed", h, self.channels)
        yield from layer("time.0", h, passes.TIME_WIDTH)
        yield from layer("time.1", h, h)
        yield from layer("modulation", 6 * h, h)
        yield from layer("text.0", h, self.text_width)
        yield from layer("text.1", h, h)
        yield "text.norm", (h,)
        for i in range(self.depth):
            yield f"{i}.offset", (6, h)
            for name in ("q", "k", "v"):
                yield from layer(f"{i}.{name}", part, h, bias=False)
            yield from layer(f"{i}.out", h, part)
            yield from passes.attention_shapes(f"{i}.cross", h, part)
            yield from passes.conv_layer(f"{i}.up", 2 * inner, h, 1)
            yield from passes.conv_layer(f"{i}.depth", 2 * inner, 1, 3)
            yield from passes.conv_layer(f"{i}.down", h, inner, 1, bias=False)
        yield "final.offset", (2, h)
        yield from layer("final.out", self.channels, h)

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
        p, tape, batch = Pass(w, numerics, layout), latents.tape, latents.shape[0]
        rows, columns = latents.shape[3:]
        mine = -(-rows // layout.sp) * columns
        tokens = passes.patchify(latents, self.grain, numerics.dtype, 1)[:, :mine]
        x = ops.cast(p.linear("embed", tokens), numerics.residual)
        del tokens
        signal = passes.scalar(p, "time", steps, batch, tape)
        six = p.linear("modulation", ops.silu(signal)).reshape(batch, 6, self.width)
        text = passes.two_layers(p, "text", condition[0], ops.gelu)
        text = ops.rms_norm(text, w["text.norm"], TEXT_EPS)

        block = partial(_block, self, p, six, text, columns)
        state = [x]
        del x
        repeated(tape, self.depth, lambda i, held: [block(i, held.pop())], state)
        x = passes.normal(p, state.pop())
        ends = ops.add(_offset(p, "final"), signal.reshape(batch, 1, self.width))
        x = passes.shifted(p, x, ends[:, :1], ends[:, 1:])
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        return passes.unpatchify(x, latents.shape, self.grain, self.channels)


def _offset(p: Pass, name: str) -> Tensor:
    table = p.w[f"{name}.offset"]
    return table.reshape(1, *table.shape)


def _block(c: Sana, p: Pass, six: Tensor, text: Tensor, columns: int, i: int, x: Tensor) -> Tensor:
    every = ops.add(_offset(p, f"{i}"), six)
    shift, scale, gate, shift2, scale2, gate2 = every.chunk(6, 1)
    y = passes.shifted(p, passes.normal(p, x), shift, scale)
    z = _self_attention(c, p, i, y)
    x = passes.added(p, x, ops.mul(gate, z))
    z = _cross_attention(c, p, i, ops.cast(x, p.numerics.dtype), text)
    x = passes.added(p, z, x)
    y = passes.shifted(p, passes.normal(p, x), shift2, scale2)
    f = _feed_forward(p, f"{i}", y, columns)
    return passes.added(p, x, ops.mul(gate2, f))


def _self_attention(c: Sana, p: Pass, i: int, y: Tensor) -> Tensor:
    """In float32, whatever the network's dtype; what is summed is 33 x 32 numbers a head."""
    batch, tokens, _ = y.shape
    heads = c.heads // p.layout.tp

    def split(name: str) -> Tensor:
        x = p.linear(f"{i}.{name}", y)
        return x.reshape(batch, tokens, heads, c.head).permute(0, 2, 3, 1)

    q, k, v = split("q"), split("k"), split("v")
    q = ops.relu(q)
    k = ops.relu(k)
    q, k, v = (ops.cast(each, "fp32") for each in (q, k, v))
    v = with_ones(v)
    z = linear_attention(q, k, v, p.layout.sp)
    z = z.reshape(batch, heads * c.head, tokens).permute(0, 2, 1)
    z = passes.out(p, f"{i}.out", ops.cast(z, p.numerics.dtype))
    if p.numerics.dtype == "fp16":
        z = ops.pointwise("clip", lambda d: np.clip(d, np.float32(-65504), np.float32(65504)), z)
    return z


def _cross_attention(c: Sana, p: Pass, i: int, y: Tensor, text: Tensor) -> Tensor:
    """Every GPU has all of the text, so nothing is sent."""
    heads, name = c.cross_heads // p.layout.tp, f"{i}.cross"
    q, k, v = p.linear(f"{name}.q", y), p.linear(f"{name}.k", text), p.linear(f"{name}.v", text)
    q, k, v = (passes.split_heads(each, heads) for each in (q, k, v))
    z = softmax_attention(q, k, v, kernel=p.numerics.kernel)
    z = passes.out(p, f"{name}.out", z.reshape(*y.shape[:2], z.shape[2] * z.shape[3]))
    return ops.affine(z, 1.0)  # diffusers divides by a factor, which is 1


def _feed_forward(p: Pass, name: str, y: Tensor, columns: int) -> Tensor:
    """Of an image: channels widened, seen with their neighbours, gated, narrowed."""
    batch, tokens, width = y.shape
    sp = p.layout.sp
    x = y.reshape(batch, tokens // columns, columns, width).permute(0, 3, 1, 2)
    h = p.conv(f"{name}.up", x)
    h = halo(ops.silu(h), sp)
    weight, bias = p.w[f"{name}.depth.conv"], p.w[f"{name}.depth.bias"]
    around = ((0, 0), (1, 1)) if sp > 1 else None
    h = conv(h, weight, bias, pad=around, groups=weight.shape[0])
    h, gate = h.chunk(2, 1)
    h = ops.mul(h, ops.silu(gate))
    h = passes.summed(p, p.conv(f"{name}.down", h))
    return h.reshape(batch, width, tokens).permute(0, 2, 1)
