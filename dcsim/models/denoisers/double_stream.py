"""Blocks of two streams, then blocks of one: FLUX.1 (Black Forest Labs 2024) and those after it.

The first blocks are MM-DiT's, with rotary positions; in the others text and image are one sequence,
and attention and feed-forward half run side by side. Numbers and lifetimes as diffusers'
`FluxTransformer2DModel`, `HunyuanVideoTransformer3DModel` and `QwenImageTransformer2DModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.denoiser import Denoiser, Latent, Numerics, Takes, widths_differ
from dcsim.models.encoder import Encoder, Encoding
from dcsim.models.parallel import ALONE, all_gather, check_execution
from dcsim.models.passes import Pass, Wave, layer
from dcsim.models.positions import axis_angles, grid_places
from dcsim.models.refiner import Refiner
from dcsim.models.tape import Array, Shape, Tape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, CountOrZero, Least, Positive
from dcsim.spec import Layout

Three = Annotated[tuple[Count, ...], Least(3)]


@dataclass(frozen=True)
class DoubleStream(Denoiser):
    """FLUX.1 and its kin: `double` blocks of two streams, `single` blocks of one."""

    tag = "double_stream"

    double: Count
    single: CountOrZero
    heads: Count = 24
    head: Count = 128
    """Channels of a head."""
    patch: Three = (1, 2, 2)
    """Latent frames, rows and columns of a patch."""
    channels: Count = 16
    text_width: Count = 4096
    pooled_width: CountOrZero = 0
    """Of an encoding that sums the prompt up and is added to the timestep's; 0: there is none."""
    axes: Three = (16, 56, 56)
    """Channels of a head that turn with the frame, the row and the column."""
    theta: Positive = 10000.0
    rotate: Literal["joint", "image", "each"] = "joint"
    """`joint`: text and image as one sequence, the text at place 0 (FLUX). `image`: the image
    alone, which comes first (HunyuanVideo). `each`: by themselves, places counted from the middle
    of the image, the text beyond its edge (Qwen-Image)."""
    guidance: bool = False
    """It is told the guidance scale."""
    refiner: CountOrZero = 0
    """Blocks that refine the text before."""
    text_norm: bool = False
    """A norm of the text before its projection."""
    video: bool = False
    reference: bool = False
    """An image that is brought runs beside the one that is made, as tokens behind its own (FLUX.1
    Kontext, Qwen-Image-Edit)."""

    def check(self) -> None:
        for name in ("patch", "axes"):
            if len(getattr(self, name)) != 3:
                raise ValueError(f"{name}: needs 3 numbers")
        if sum(self.axes) != self.head:
            raise ValueError(f"axes: {' + '.join(map(str, self.axes))} is not head, {self.head}")

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.heads * self.head

    @property
    def grain(self) -> Latent:
        return self.patch[0], self.patch[1], self.patch[2]

    @property
    def frames(self) -> bool:
        return self.video

    @property
    def blocks(self) -> int:
        return self.refiner + self.double + self.single

    @property
    def takes(self) -> Takes:
        return "tokens" if self.reference else "nothing"

    @property
    def cut(self) -> tuple[str, ...]:
        return "double", "single"

    def beside(self, words: int) -> int:
        return words * self.width

    def unfit(self, encoders: Sequence[Encoder]) -> str | None:
        widest = max((each.out_width for each in encoders), default=0)
        pooled = sum(each.pooled_width for each in encoders)
        return widths_differ("text_width:", self.text_width, widest) or widths_differ(
            "pooled_width:", self.pooled_width, pooled
        )

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part = self.width, self.width // tp
        cells = self.channels * passes.elements(self.grain)
        yield from layer("embed", h, cells)
        for name in ("time", "guidance") if self.guidance else ("time",):
            yield from layer(f"{name}.0", h, passes.TIME_WIDTH)
            yield from layer(f"{name}.1", h, h)
        if self.pooled_width:
            yield from layer("pooled.0", h, self.pooled_width)
            yield from layer("pooled.1", h, h)
        if self.text_norm:
            yield "text_norm", (self.text_width,)
        yield from layer("text", h, self.text_width)
        if self.refiner:
            yield from Refiner(self.refiner, self.text_width, self.heads, h).parameters()
        for i in range(self.double):
            for name in (f"{i}", f"{i}.text"):
                yield from layer(f"{name}.modulation", 6 * part, h)
                yield from passes.attention_shapes(name, h, part, norm=self.head)
                yield from passes.mlp_shapes(name, h, 4 * part)
        for i in range(self.double, self.double + self.single):
            yield from layer(f"{i}.modulation", 3 * part, h)
            yield from passes.attention_shapes(f"{i}", h, part, norm=self.head, back=False)
            yield from layer(f"{i}.up", 4 * part, h)
            yield from layer(f"{i}.out", h, 5 * part)
        yield from layer("final.modulation", 2 * h, h)
        yield from layer("final.out", cells, h)

    def condition(self, encodings: Sequence[Encoding]) -> tuple[Tensor, ...]:
        (text,) = [e.sequence for e in encodings if e.sequence.shape[2] == self.text_width]
        pooled = [e.pooled for e in encodings if e.pooled is not None]
        return (text, *pooled)

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
        x = passes.patchify(latents, self.grain, numerics.dtype, layout.sp)
        x = ops.cast(p.linear("embed", x), numerics.residual)
        signal = _signal(self, p, latents, steps, condition[1:], guidance)
        text = _text(self, p, condition[0], steps)
        waves = _waves(self, tape, latents, x.shape[1], text.shape[1])
        state = [text, x]
        del text, x
        double, single = partial(_double, self, p, signal, waves), partial(_single, self, p, signal)
        passes.streams(tape, 0, self.double, double, state)
        passes.streams(tape, self.double, self.single, partial(single, waves), state)
        x = state.pop()
        state.clear()
        scale, shift = p.linear("final.modulation", ops.silu(signal)).chunk(2, -1)
        x = passes.modulated(p, passes.normal(p, x), shift, scale)
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        # FLUX's packing has the channel outermost in a patch, as the latents do; Qwen-Image's too.
        return passes.unpatchify(x, latents.shape, self.grain, self.channels, last=False)


def _signal(
    c: DoubleStream,
    p: Pass,
    latents: Tensor,
    steps: Array,
    pooled: Sequence[Tensor],
    guidance: float | None,
) -> Tensor:
    """What modulates all blocks, (batch, hidden)."""
    batch, tape = latents.shape[0], latents.tape
    signal = passes.scalar(p, "time", steps, batch, tape)
    if c.guidance:
        told = np.full(batch, 1000.0 * (guidance or 1.0), np.float32)
        signal = ops.add(signal, passes.scalar(p, "guidance", told, batch, tape))
    for each in pooled:
        signal = ops.add(signal, passes.two_layers(p, "pooled", each))
    return signal


def _text(c: DoubleStream, p: Pass, text: Tensor, steps: Array) -> Tensor:
    """What this GPU has of the text, projected."""
    if c.refiner:
        refiner = Refiner(c.refiner, c.text_width, c.heads, c.width)
        return passes.share(refiner.refined(p, text, steps), p.layout.sp)
    text = passes.share(text, p.layout.sp)
    if c.text_norm:
        text = ops.rms_norm(text, p.w["text_norm"], p.eps)
    return p.linear("text", text)


def _waves(c: DoubleStream, tape: Tape, latents: Tensor, image: int, text: int) -> tuple[Wave, ...]:
    """Rotations: of text and image as one, of the image, or of the image and the text."""
    frames, rows, columns = (n // p for n, p in zip(latents.shape[2:], c.patch, strict=True))

    def angles(places: Array) -> Array:
        return axis_angles(places, c.axes, c.theta)

    grid = partial(grid_places, frames, rows, columns)
    if c.rotate == "image":
        return (passes.rotary(tape, (1, image, 1, c.head), lambda: angles(grid())),)
    if c.rotate == "joint":
        still = partial(np.zeros, (text, 3))
        both = (1, text + image, 1, c.head)
        return (passes.rotary(tape, both, lambda: angles(np.concatenate([still(), grid()]))),)
    middle = np.array([0, rows - rows // 2, columns - columns // 2])
    edge = max(rows // 2, columns // 2)
    beyond = partial(np.repeat, edge + np.arange(text)[:, None], 3, axis=1)
    kept = passes.rotary_complex(tape, (1, image, 1, c.head), lambda: angles(grid() - middle))
    of_text = passes.rotary_complex(tape, (1, text, 1, c.head), lambda: angles(beyond()))
    # Qwen-Image keeps the image's from step to step, and works with a copy.
    return passes.Wave((ops.copy(kept.parts[0]),)), of_text, kept


def _joined(c: DoubleStream, image: Tensor, text: Tensor) -> Tensor:
    return ops.concat([image, text] if c.rotate == "image" else [text, image], 1)


def _parts(c: DoubleStream, y: Tensor, text: int) -> tuple[Tensor, Tensor]:
    """Text and image of a joint sequence."""
    if c.rotate == "image":
        image = y.shape[1] - text
        return y[:, image:], y[:, :image]
    return y[:, :text], y[:, text:]


def _double(
    c: DoubleStream,
    p: Pass,
    signal: Tensor,
    waves: tuple[Wave, ...],
    i: int,
    text: Tensor,
    x: Tensor,
) -> tuple[Tensor, Tensor]:
    six = passes.modulation(p, f"{i}.modulation", signal, 6)
    of_text = passes.modulation(p, f"{i}.text.modulation", signal, 6)
    plain, plain_text = passes.normal(p, x), passes.normal(p, text)
    y = passes.modulated(p, plain, six[0], six[1])
    t = passes.modulated(p, plain_text, of_text[0], of_text[1])
    # Qwen-Image's block names every value anew, and so holds it to the end.
    held = [plain, plain_text, y, t] if c.rotate == "each" else []
    del plain, plain_text
    z, z_text = _attention(c, p, i, y, t, waves)
    if held:
        held += [z, z_text]
    z = passes.gated(six[2], z)
    x = passes.added(p, x, z)
    z_text = passes.gated(of_text[2], z_text)
    text = passes.added(p, text, z_text)
    plain = passes.normal(p, x)
    y = passes.modulated(p, plain, six[3], six[4])
    if held:
        del z, z_text
    else:
        del plain
    f = passes.mlp(p, f"{i}", y)
    f = passes.gated(six[5], f)
    x = passes.added(p, x, f)
    t = passes.modulated(p, passes.normal(p, text), of_text[3], of_text[4])
    return passes.added(p, text, passes.gated(of_text[5], passes.mlp(p, f"{i}.text", t))), x


def _attention(
    c: DoubleStream, p: Pass, i: int, y: Tensor, t: Tensor, waves: tuple[Wave, ...]
) -> tuple[Tensor, Tensor]:
    """What image and text make of each other."""
    q, k, v = passes.projected(p, f"{i}", y, c.heads, norm=True)
    if c.rotate != "joint":
        q = waves[0].turned(q)
        k = waves[0].turned(k)
    tq, tk, tv = passes.projected(p, f"{i}.text", t, c.heads, norm=True)
    if c.rotate == "each":
        tq = waves[1].turned(tq)
        tk = waves[1].turned(tk)
    q = _joined(c, q, tq)
    k = _joined(c, k, tk)
    v = _joined(c, v, tv)
    if c.rotate == "joint":
        q = waves[0].turned(q)
        k = waves[0].turned(k)
    of_text, of_image = _parts(c, passes.attend(p, q, k, v), t.shape[1])
    z = passes.out(p, f"{i}.out", passes.dense(of_image))
    return z, passes.out(p, f"{i}.text.out", passes.dense(of_text))


def _single(
    c: DoubleStream,
    p: Pass,
    signal: Tensor,
    waves: tuple[Wave, ...],
    i: int,
    text: Tensor,
    x: Tensor,
) -> tuple[Tensor, Tensor]:
    tokens = text.shape[1]
    both = _joined(c, x, text)
    three = passes.modulation(p, f"{i}.modulation", signal, 3)
    y = passes.modulated(p, passes.normal(p, both), three[0], three[1])
    f = p.linear(f"{i}.up", y)
    f = ops.gelu(f)
    z = _alone(c, p, i, y, tokens, waves[0])
    z = ops.concat([z, f], 2)
    z = passes.gated(three[2], passes.out(p, f"{i}.out", z))
    z = passes.added(p, both, z)
    return _parts(c, z, tokens)


def _alone(c: DoubleStream, p: Pass, i: int, y: Tensor, text: int, wave: Wave) -> Tensor:
    """Attention within the one stream."""
    if c.rotate != "image":
        q, k, v = passes.projected(p, f"{i}", y, c.heads, norm=True)
        q = wave.turned(q)
        k = wave.turned(k)
        return passes.attend(p, q, k, v)
    # HunyuanVideo's processor is given the two parts and joins them anew.
    y = ops.copy(y)
    q, k, v = passes.projected(p, f"{i}", y, c.heads, norm=True)
    image = y.shape[1] - text
    q = ops.concat([wave.turned(q[:, :image]), q[:, image:]], 1)
    k = ops.concat([wave.turned(k[:, :image]), k[:, image:]], 1)
    z = passes.attend(p, q, k, v)
    return ops.copy(z)
