"""Mochi 1 (Genmo 2024): text and video attend to each other as in MM-DiT, but the text's stream is
narrower; norms in float32, rotations that are learned, gates after the norms.

Numbers and lifetimes as diffusers' `MochiTransformer3DModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.denoiser import Denoiser, Latent, Numerics
from dcsim.models.parallel import ALONE, all_gather, check_execution
from dcsim.models.passes import Heads, Pass, layer
from dcsim.models.positions import grid_places
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import DENSE, MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count
from dcsim.spec import Layout

WIDE = "fp32"
POOLER_HEADS = 8
HEAD_EPS = 1e-5
REACH = 192
"""Rows and columns that the positions of any clip are stretched to."""


@dataclass(frozen=True)
class Mochi(Denoiser):
    """Mochi's asymmetric video transformer."""

    tag = "mochi"

    depth: Count
    """Blocks; in the last the text is only read."""
    heads: Count = 24
    head: Count = 128
    """Channels of a head."""
    text: Count = 1536
    """Width of the text's stream."""
    patch: Count = 2
    """Latent rows and columns of a patch."""
    channels: Count = 12
    text_width: Count = 4096

    @property
    def width(self) -> int:
        """Width of a token of the video."""
        return self.heads * self.head

    @property
    def grain(self) -> Latent:
        return 1, self.patch, self.patch

    @property
    def frames(self) -> bool:
        return True

    @property
    def blocks(self) -> int:
        return self.depth

    def beside(self, words: int) -> int:
        return words * self.text

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part, wide = self.width, self.width // tp, self.text_width
        cells = self.channels * self.patch**2
        yield from layer("embed", h, cells)
        yield from layer("time.0", h, passes.TIME_WIDTH)
        yield from layer("time.1", h, h)
        yield from layer("pooler.kv", 2 * wide, wide)
        yield from layer("pooler.q", wide, wide)
        yield from layer("pooler.out", h, wide)
        yield from layer("text", self.text, wide)
        yield "turns", (3, self.heads // tp, self.head // 2)
        for i in range(self.depth):
            last = i == self.depth - 1
            yield from layer(f"{i}.modulation", 4 * h, h)
            yield from layer(f"{i}.text.modulation", (1 if last else 4) * self.text, h)
            yield from _attention_shapes(f"{i}", h, part, self.head, back=True)
            yield from _attention_shapes(f"{i}.text", self.text, part, self.head, back=not last)
            yield from _gated_shapes(f"{i}", h, tp)
            if not last:
                yield from _gated_shapes(f"{i}.text", self.text, tp)
        yield from layer("final.modulation", 2 * h, h)
        yield from layer("final.out", cells, h)

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
        signal = passes.scalar(p, "time", steps, batch, tape)
        signal = ops.add(signal, _pooled(p, condition[0]))
        text = p.linear("text", passes.share(condition[0], layout.sp))
        x = p.linear("embed", passes.patchify(latents, self.grain, numerics.dtype, layout.sp))
        x = ops.cast(x, numerics.residual)
        wave = _wave(self, p, latents, x.shape[1])
        state = [text, x]
        del text, x
        block = partial(_block, self, p, signal, wave)
        passes.streams(tape, 0, self.depth - 1, block, state)
        passes.streams(tape, self.depth - 1, 1, block, state)
        x = state.pop()
        scale, shift = p.linear("final.modulation", ops.silu(signal)).chunk(2, -1)
        x = passes.modulated(p, passes.normal(p, x), shift, scale)
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        return passes.unpatchify(x, latents.shape, self.grain, self.channels)


def _attention_shapes(
    name: str, width: int, part: int, head: int, *, back: bool
) -> Iterator[tuple[str, Shape]]:
    for each in ("q", "k", "v"):
        yield f"{name}.{each}.weight", (part, width)
    yield f"{name}.q_norm", (head,)
    yield f"{name}.k_norm", (head,)
    if back:
        yield from layer(f"{name}.out", width, part)


def _gated_shapes(name: str, width: int, tp: int) -> Iterator[tuple[str, Shape]]:
    inner = 8 * width // 3 // tp
    yield f"{name}.up.weight", (2 * inner, width)
    yield f"{name}.down.weight", (width, inner)


def _pooled(p: Pass, text: Tensor) -> Tensor:
    """The text summed up by attention from its mean, (batch, hidden)."""
    batch, tokens, width = text.shape
    mean = text.tape.run(
        "mean",
        MEMORY,
        (text,),
        (batch, 1, width),
        text.dtype,
        lambda: text.data.mean(1, keepdims=True),
    )
    every = ops.concat([mean, text], 1)
    head = width // POOLER_HEADS
    kv = p.linear("pooler.kv", every).reshape(batch, tokens + 1, 2, POOLER_HEADS, head)
    q = p.linear("pooler.q", every[:, 0]).reshape(batch, 1, POOLER_HEADS, head)
    z = softmax_attention(q, kv[:, :, 0], kv[:, :, 1], kernel=p.numerics.kernel)
    return p.linear("pooler.out", z.reshape(batch, width))


def _wave(c: Mochi, p: Pass, latents: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (1, tokens, heads, half a head): each head learns how it turns."""
    frames, rows, columns = latents.shape[2], *(n // c.patch for n in latents.shape[3:])
    turns, tape = p.w["turns"], latents.tape
    shape = (1, tokens, *turns.shape[1:])

    def angles() -> Array:
        stretch = (REACH**2 / (rows * columns)) ** 0.5
        places = grid_places(frames, rows, columns).astype(np.float64)
        for axis, size in ((1, rows), (2, columns)):
            places[:, axis] = (places[:, axis] + 0.5 - size / 2) * stretch
        found: Array = np.einsum("nd,dhf->nhf", places.astype(np.float32), turns.data)[None]
        return found

    flops = 2 * 3 * tokens * turns.shape[1] * turns.shape[2]
    angle = tape.run("rotary", DENSE, (turns,), shape, WIDE, angles, flops=flops)
    return ops.pointwise("cos", np.cos, angle), ops.pointwise("sin", np.sin, angle)


def _normal(p: Pass, x: Tensor, eps: float) -> Tensor:
    """Unit mean square, in float32."""
    wide = ops.cast(x, WIDE)
    return ops.mul(wide, ops.root_of_mean(wide, eps))


def _scaled(p: Pass, x: Tensor, scale: Tensor) -> Tensor:
    """`norm(x) * scale`, scale (batch, width), in float32 and back."""
    batch, width = scale.shape
    return ops.cast(ops.mul(_normal(p, x, p.eps), scale.reshape(batch, 1, width)), p.numerics.dtype)


def _raised(scale: Tensor) -> Tensor:
    return ops.affine(ops.cast(scale, WIDE), 1.0, 1.0)


def _tanh(gate: Tensor) -> Tensor:
    return ops.pointwise("tanh", np.tanh, gate)


def _block(
    c: Mochi,
    p: Pass,
    signal: Tensor,
    wave: tuple[Tensor, Tensor],
    i: int,
    text: Tensor,
    x: Tensor,
) -> tuple[Tensor, Tensor]:
    last = i == c.depth - 1
    four = p.linear(f"{i}.modulation", ops.silu(signal)).chunk(4, -1)
    y = _scaled(p, x, _raised(four[0]))
    of_text = p.linear(f"{i}.text.modulation", ops.silu(signal)).chunk(1 if last else 4, -1)
    t = _scaled(p, text, _raised(of_text[0]))
    z, z_text = _attention(c, p, i, y, t, wave)
    x = passes.added(p, x, _scaled(p, z, _tanh(four[1])))
    y = _scaled(p, x, _raised(four[2]))
    f = _feed_forward(p, f"{i}", y)
    x = passes.added(p, x, _scaled(p, f, _tanh(four[3])))
    if last:
        return text, x
    text = passes.added(p, text, _scaled(p, z_text, _tanh(of_text[1])))
    t = _scaled(p, text, _raised(of_text[2]))
    f_text = _feed_forward(p, f"{i}.text", t)
    return passes.added(p, text, _scaled(p, f_text, _tanh(of_text[3]))), x


def _feed_forward(p: Pass, name: str, x: Tensor) -> Tensor:
    both = ops.linear(x, p.w[f"{name}.up.weight"])
    value, gate = both.chunk(2, -1)
    value = ops.mul(value, ops.silu(gate))
    del both, gate
    return passes.summed(p, ops.linear(value, p.w[f"{name}.down.weight"]))


def _projected(c: Mochi, p: Pass, name: str, x: Tensor) -> Heads:
    heads = c.heads // p.layout.tp
    q, k, v = (
        passes.split_heads(ops.linear(x, p.w[f"{name}.{part}.weight"]), heads)
        for part in ("q", "k", "v")
    )
    q = _head_norm(p, f"{name}.q_norm", q)
    k = _head_norm(p, f"{name}.k_norm", k)
    return q, k, v


def _head_norm(p: Pass, name: str, x: Tensor) -> Tensor:
    means = ops.root_of_mean(ops.cast(x, WIDE), HEAD_EPS)
    return ops.cast(ops.mul(ops.mul(x, means), p.w[name]), x.dtype)


def _turned(x: Tensor, wave: tuple[Tensor, Tensor]) -> Tensor:
    """Pairs of neighbours turned in float32, the two halves by themselves, and joined anew."""
    cos, sin = wave
    even, odd = ops.cast(x[..., 0::2], WIDE), ops.cast(x[..., 1::2], WIDE)
    a = ops.cast(ops.sub(ops.mul(even, cos), ops.mul(odd, sin)), x.dtype)
    b = ops.cast(ops.add(ops.mul(even, sin), ops.mul(odd, cos)), x.dtype)
    return x.tape.run(
        "stack",
        MEMORY,
        (a, b),
        x.shape,
        x.dtype,
        lambda: np.stack([a.data, b.data], -1).reshape(x.shape),
    )


def _attention(
    c: Mochi, p: Pass, i: int, y: Tensor, t: Tensor, wave: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """What video and text make of each other, one branch after the other: a prompt is as long as
    it is. Each is padded to the longest (here they are) and joined again."""
    q, k, v = _projected(c, p, f"{i}", y)
    tq, tk, tv = _projected(c, p, f"{i}.text", t)
    q = _turned(q, wave)
    k = _turned(k, wave)
    found = []
    for b in range(y.shape[0]):
        one = slice(b, b + 1)
        both_q = ops.concat([q[one], tq[one]], 1)
        both_k = ops.concat([k[one], tk[one]], 1)
        both_v = ops.concat([v[one], tv[one]], 1)
        z = passes.attend(p, both_q, both_k, both_v)
        z = ops.copy(z)
        found.append(z)
    z = ops.concat(found, 0)
    z = ops.copy(z)
    tokens = y.shape[1]
    of_video = passes.out(p, f"{i}.out", passes.dense(z[:, :tokens]))
    of_text = z[:, tokens:]
    if i < c.depth - 1:
        of_text = passes.out(p, f"{i}.text.out", passes.dense(of_text))
    return of_video, of_text
