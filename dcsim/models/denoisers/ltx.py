"""LTX-Video (HaCohen et al. 2024): few tokens of a deeply compressed video, each a latent cell;
self-attention, then cross-attention to the text. One modulation for all blocks.

Numbers and lifetimes as diffusers' `LTXVideoTransformer3DModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.denoiser import Denoiser, Latent, Numerics
from dcsim.models.parallel import ALONE, all_gather, check_execution
from dcsim.models.passes import Pass, Wave, layer
from dcsim.models.positions import grid_places
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, Positive
from dcsim.spec import Layout

HEAD_EPS = 1e-5
REACH = (20, 2048, 2048)
"""Frames (in 25ths of a second) and pixels over which positions go from 0 to 1."""


@dataclass(frozen=True)
class Ltx(Denoiser):
    """LTX-Video's transformer."""

    tag = "ltx"

    depth: Count
    """Blocks."""
    head: Count = 64
    """Channels of a head."""
    heads: Count = 32
    channels: Count = 128
    text_width: Count = 4096
    frame_rate: Positive = 25.0
    """Frames a second, which positions are counted in."""
    stride: tuple[Count, ...] = (8, 32, 32)
    """Frames and pixels of a latent cell."""

    def check(self) -> None:
        if len(self.stride) != 3:
            raise ValueError("stride: needs 3 numbers")

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.heads * self.head

    @property
    def grain(self) -> Latent:
        return 1, 1, 1

    @property
    def frames(self) -> bool:
        return True

    @property
    def blocks(self) -> int:
        return self.depth

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part = self.width, self.width // tp
        yield from layer("embed", h, self.channels)
        yield from layer("time.0", h, passes.TIME_WIDTH)
        yield from layer("time.1", h, h)
        yield from layer("modulation", 6 * h, h)
        yield from layer("text.0", h, self.text_width)
        yield from layer("text.1", h, h)
        for i in range(self.depth):
            yield f"{i}.offset", (6, h)
            yield from passes.attention_shapes(f"{i}", h, part, norm=part)
            yield from passes.attention_shapes(f"{i}.cross", h, part, norm=part)
            yield from passes.mlp_shapes(f"{i}", h, 4 * part)
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
        tokens = passes.patchify(latents, self.grain, numerics.dtype, layout.sp)
        wave = _wave(self, p, latents, tokens.shape[1])
        x = ops.cast(p.linear("embed", tokens), numerics.residual)
        del tokens
        signal = passes.scalar(p, "time", steps, batch, tape)
        six = p.linear("modulation", ops.silu(signal)).reshape(batch, 1, 6, self.width)
        signal = signal.reshape(batch, 1, 1, self.width)
        text = passes.two_layers(p, "text", condition[0], ops.gelu)

        block = partial(_block, self, p, six, text, wave)
        state = [x]
        del x
        repeated(tape, self.depth, lambda i, held: [block(i, held.pop())], state)
        ends = ops.add(_offset(p, "final", 2), signal)
        x = passes.normal(p, state.pop())
        x = passes.shifted(p, x, ends[:, :, 0], ends[:, :, 1])
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        return passes.unpatchify(x, latents.shape, self.grain, self.channels)


def _offset(p: Pass, name: str, count: int) -> Tensor:
    table = p.w[f"{name}.offset"]
    return table.reshape(1, 1, count, table.shape[1])


def _wave(c: Ltx, p: Pass, latents: Tensor, tokens: int) -> Wave:
    """Rotations of all channels of a token, before they are split into heads; a branch each."""
    batch, _, frames, rows, columns = latents.shape

    def angles() -> Array:
        each = np.array([c.stride[0] / c.frame_rate, *c.stride[1:]]) / np.array(REACH)
        places = grid_places(frames, rows, columns) * each * 2 - 1
        turns = 10000.0 ** np.linspace(0.0, 1.0, c.width // 6) * np.pi / 2
        found = (places[:, None, :] * turns[None, :, None]).reshape(len(places), -1)
        still = np.zeros((len(places), c.width % 6))
        return np.concatenate([still, np.repeat(found, 2, axis=1)], axis=1)

    # Places are counted for each branch, though all have the same.
    return passes.rotary(latents.tape, (batch, tokens, 1, c.width), angles)


def _block(c: Ltx, p: Pass, six: Tensor, text: Tensor, wave: Wave, i: int, x: Tensor) -> Tensor:
    y = ops.rms_norm_plain(x, p.eps, p.numerics.modulation)
    every = ops.add(_offset(p, f"{i}", 6), six)
    shift, scale, gate, shift2, scale2, gate2 = (every[:, :, j] for j in range(6))
    y = passes.shifted(p, y, shift, scale)
    z = _self_attention(c, p, i, y, wave)
    x = passes.added(p, x, ops.mul(z, gate))
    z = _cross_attention(c, p, i, ops.cast(x, p.numerics.dtype), text)
    x = passes.added(p, x, z)
    y = passes.shifted(p, ops.rms_norm_plain(x, p.eps, p.numerics.modulation), shift2, scale2)
    f = passes.mlp(p, f"{i}", y)
    return passes.added(p, x, ops.mul(f, gate2))


def _turned(x: Tensor, wave: Wave) -> Tensor:
    batch, tokens, width = x.shape
    return wave.turned(x.reshape(batch, tokens, 1, width)).reshape(batch, tokens, width)


def _self_attention(c: Ltx, p: Pass, i: int, y: Tensor, wave: Wave) -> Tensor:
    """Under tensor parallelism each GPU turns its share of the channels."""
    heads, part = c.heads // p.layout.tp, c.width // p.layout.tp
    if p.layout.tp > 1:
        wave = Wave(tuple(each[..., :part] for each in wave.parts))
    q, k, v = (p.linear(f"{i}.{part}", y) for part in ("q", "k", "v"))
    q = ops.rms_norm(q, p.w[f"{i}.q_norm"], HEAD_EPS)
    k = ops.rms_norm(k, p.w[f"{i}.k_norm"], HEAD_EPS)
    q = passes.split_heads(_turned(q, wave), heads)
    k = passes.split_heads(_turned(k, wave), heads)
    return passes.out(p, f"{i}.out", passes.attend(p, q, k, passes.split_heads(v, heads)))


def _cross_attention(c: Ltx, p: Pass, i: int, y: Tensor, text: Tensor) -> Tensor:
    """Every GPU has all of the text, so nothing is sent."""
    heads, name = c.heads // p.layout.tp, f"{i}.cross"
    q, k, v = p.linear(f"{name}.q", y), p.linear(f"{name}.k", text), p.linear(f"{name}.v", text)
    q = passes.split_heads(ops.rms_norm(q, p.w[f"{name}.q_norm"], HEAD_EPS), heads)
    k = passes.split_heads(ops.rms_norm(k, p.w[f"{name}.k_norm"], HEAD_EPS), heads)
    v = passes.split_heads(v, heads)
    z = softmax_attention(q, k, v, kernel=p.numerics.kernel)
    return passes.out(p, f"{name}.out", z.reshape(*y.shape[:2], z.shape[2] * z.shape[3]))
