"""Open-Sora 1.2's STDiT3 (Zheng et al. 2024): blocks of attention within frames and along time by
turns, each with cross-attention to the text and one modulation for all.

Numbers and lifetimes as `STDiT3` of hpcaitech/Open-Sora (opensora/models/stdit/stdit3.py), which
attends by flash attention where a sequence is longer than the batch, and in steps elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.denoiser import Denoiser, Latent, Numerics
from dcsim.models.parallel import ALONE, all_gather, all_to_all, check_execution
from dcsim.models.passes import Pass, Wave, layer
from dcsim.models.positions import axis_angles, grid_positions
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, Positive
from dcsim.spec import Layout

CELL = 8
"""Pixels of a latent cell of the VAE it is trained with."""
THETA = 10000.0


@dataclass(frozen=True)
class Stdit(Denoiser):
    """STDiT3's transformer."""

    tag = "stdit"

    depth: Count
    """Pairs of a block within frames and one along time."""
    heads: Count
    head: Count = 72
    """Channels of a head."""
    patch: Count = 2
    """Latent rows and columns of a patch."""
    channels: Count = 4
    out_channels: Count = 8
    """Twice the latent's: a variance that nothing reads beside the velocity."""
    text_width: Count = 4096
    text_tokens: Count = 300
    """Tokens of the negative prompt that is kept."""
    sides: Count = 512
    """Pixels of a side at which positions are a patch apart."""
    fps: Positive = 24.0
    """Frames a second that it is told."""

    def check(self) -> None:
        if self.head % 2 or self.width % 4:
            raise ValueError(f"head: {self.head} of {self.heads} heads has no pairs to turn")

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.heads * self.head

    @property
    def grain(self) -> Latent:
        return 1, self.patch, self.patch

    @property
    def frames(self) -> bool:
        return True

    @property
    def blocks(self) -> int:
        return 2 * self.depth

    def wrong(self, layout: Layout) -> str | None:
        if layout.ring > 1:
            return f"ring {layout.ring}: attention in steps has no ring, sp swaps heads"
        return super().wrong(layout)

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part, cells = self.width, self.width // tp, self.patch**2
        yield from layer("embed", h, self.channels * cells)
        for name in ("time", "fps"):
            yield from layer(f"{name}.0", h, passes.TIME_WIDTH)
            yield from layer(f"{name}.1", h, h)
        yield from layer("modulation", 6 * h, h)
        yield from layer("text.0", h, self.text_width)
        yield from layer("text.1", h, h)
        for i in range(self.blocks):
            yield f"{i}.offset", (6, h)
            yield from layer(f"{i}.qkv", 3 * part, h)
            yield f"{i}.q_norm", (self.head,)
            yield f"{i}.k_norm", (self.head,)
            yield from layer(f"{i}.out", h, part)
            yield from layer(f"{i}.cross.q", part, h)
            yield from layer(f"{i}.cross.kv", 2 * part, h)
            yield from layer(f"{i}.cross.out", h, part)
            yield from passes.mlp_shapes(f"{i}", h, 4 * part)
        yield "final.offset", (2, h)
        yield from layer("final.out", self.out_channels * cells, h)

    def buffers(self) -> Iterator[tuple[str, Shape]]:
        yield "negative", (self.text_tokens, self.text_width)

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
        p, tape = Pass(w, numerics, layout), latents.tape
        batch, _, frames, rows, columns = latents.shape
        places, h = rows * columns // self.patch**2, self.width
        signal = passes.scalar(p, "time", steps, batch, tape)
        rate = np.full(batch, self.fps, np.float32)
        signal = ops.add(signal, passes.scalar(p, "fps", rate, batch, tape))
        six = p.linear("modulation", ops.silu(signal)).reshape(batch, 6, h)
        text = passes.two_layers(p, "text", condition[0], ops.gelu)
        x = passes.patchify(latents, self.grain, numerics.dtype, 1)
        x = x.reshape(batch * frames, places, self.channels * self.patch**2)
        x = p.linear("embed", passes.share(x, layout.sp))
        x = ops.add(x, _positions(self, p, latents, x.shape[1]), dtype=numerics.residual)
        wave = _wave(self, p, x, frames)
        block = partial(_block, self, p, six, text, wave, frames)
        state = [x.reshape(batch, frames * x.shape[1], h)]
        del x

        def pair(i: int, held: list[Tensor]) -> list[Tensor]:
            given = [block(2 * i, held.pop())]
            return [block(2 * i + 1, given.pop())]

        repeated(tape, self.depth, pair, state, stride=2)
        ends = ops.add(_offset(p, "final"), signal.reshape(batch, 1, h))
        x = passes.normal(p, state.pop())
        x = passes.shifted(p, x, ends[:, :1], ends[:, 1:])
        x = p.linear("final.out", x)
        width = x.shape[2]
        x = all_gather(x.reshape(batch * frames, x.shape[1] // frames, width), layout.sp, axis=1)
        x = x[:, :places].reshape(batch, frames * places, width)
        x = passes.unpatchify(x, latents.shape, self.grain, self.out_channels)
        return ops.cast(x, "fp32")


def _offset(p: Pass, name: str) -> Tensor:
    table = p.w[f"{name}.offset"]
    return table.reshape(1, *table.shape)


def _positions(c: Stdit, p: Pass, latents: Tensor, tokens: int) -> Tensor:
    """Sines of the places of a frame, as far apart as in a square frame of as many patches."""
    rows, columns = (n // c.patch for n in latents.shape[3:])
    pixels = CELL * (latents.shape[3] * latents.shape[4]) ** 0.5
    closer = pixels / c.sides / round((rows * columns) ** 0.5)
    return latents.tape.run(
        "positions",
        MEMORY,
        (),
        (1, tokens, c.width),
        p.numerics.dtype,
        lambda: grid_positions(1, rows, columns, c.width, False, (rows * closer, columns * closer))[
            None
        ],
    )


def _wave(c: Stdit, p: Pass, x: Tensor, frames: int) -> Wave:
    """Rotations of a head by the frame."""
    places = np.arange(frames)[:, None]
    return passes.rotary(
        x.tape, (1, frames, 1, c.head), lambda: axis_angles(places, (c.head,), THETA)
    )


def _block(
    c: Stdit, p: Pass, six: Tensor, text: Tensor, wave: Wave, frames: int, i: int, x: Tensor
) -> Tensor:
    batch, tokens, width = x.shape
    every = ops.add(_offset(p, f"{i}"), six)
    shift, scale, gate, shift2, scale2, gate2 = every.chunk(6, 1)
    y = passes.shifted(p, passes.normal(p, x), shift, scale)
    y = y.reshape(batch * frames, tokens // frames, width)
    if i % 2:
        y = passes.swapped(y, batch)
        y = _attention(c, p, f"{i}", y, wave)
        y = passes.swapped(y, batch)
    else:
        y = _attention(c, p, f"{i}", y, None)
    y = y.reshape(batch, tokens, width)
    z = ops.mul(gate, y)
    h = passes.added(p, x, z)
    h = passes.added(p, h, _cross_attention(c, p, i, ops.cast(h, p.numerics.dtype), text))
    y = passes.shifted(p, passes.normal(p, h), shift2, scale2)
    y = passes.mlp(p, f"{i}", y)
    z = ops.mul(gate2, y)
    return passes.added(p, h, z)


def _attention(c: Stdit, p: Pass, name: str, y: Tensor, wave: Wave | None) -> Tensor:
    """Within what is a row: a frame, or with `wave` along time a place. Only frames are spread over
    GPUs."""
    many, tokens, _ = y.shape
    heads = c.heads // p.layout.tp
    q, k, v = (passes.split_heads(part, heads) for part in p.linear(f"{name}.qkv", y).chunk(3, 2))
    q = _unit(p, f"{name}.q_norm", q)
    k = _unit(p, f"{name}.k_norm", k)
    if wave is not None:
        q = wave.turned(q)
        k = wave.turned(k)
    if p.numerics.kernel == "fused" and tokens * (1 if wave else p.layout.sp) > many:
        z = passes.attend(p, q, k, v) if wave is None else _joined(softmax_attention(q, k, v))
    else:
        z = _in_steps(p, q, k, v, 1 if wave else p.layout.sp)
    return passes.out(p, f"{name}.out", z)


def _joined(z: Tensor) -> Tensor:
    return z.reshape(*z.shape[:2], z.shape[2] * z.shape[3])


def _in_steps(p: Pass, q: Tensor, k: Tensor, v: Tensor, sp: int) -> Tensor:
    """Scores in memory, the softmax in float32."""
    many, tokens, heads, width = q.shape
    shape = (many, tokens * sp, heads // sp, width)
    q, k, v = (all_to_all(each, sp, shape) for each in (q, k, v))
    q = ops.affine(q, width**-0.5)
    z = softmax_attention(q, k, v, kernel="wide", scale=1.0)
    return _joined(ops.copy(all_to_all(z, sp, (many, tokens, heads, width))))


def _unit(p: Pass, name: str, x: Tensor) -> Tensor:
    """RMS norm of a head in float32, a tensor each, as Llama's."""
    wide = ops.cast(x, "fp32")
    wide = ops.mul(wide, ops.root_of_mean(wide, p.eps))
    return ops.mul(p.w[name], ops.cast(wide, x.dtype))


def _cross_attention(c: Stdit, p: Pass, i: int, y: Tensor, text: Tensor) -> Tensor:
    """Every GPU has all of the text; within frames the heads are spread, along time the tokens."""
    sp = 1 if i % 2 else p.layout.sp
    batch, tokens, _ = y.shape
    heads, name = c.heads // p.layout.tp, f"{i}.cross"
    q = passes.split_heads(p.linear(f"{name}.q", y), heads)
    k, v = (passes.split_heads(part, heads) for part in p.linear(f"{name}.kv", text).chunk(2, 2))
    mine = heads // sp
    q = all_to_all(q, sp, (batch, tokens * sp, mine, c.head))
    z = softmax_attention(q, k[:, :, :mine], v[:, :, :mine], kernel=p.numerics.kernel)
    z = all_to_all(z, sp, (batch, tokens, heads, c.head))
    return passes.out(p, f"{name}.out", _joined(z))
