"""CogVideoX (Yang et al. 2024): text and video as one sequence with the same weights, but a
modulation of its own for each ("expert adaLN").

Numbers and lifetimes as diffusers' `CogVideoXTransformer3DModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.denoiser import Denoiser, Latent, Numerics, Takes
from dcsim.models.parallel import ALONE, all_gather, check_execution
from dcsim.models.passes import Pass, Wave, layer
from dcsim.models.positions import axis_angles, grid_places, grid_positions
from dcsim.models.tape import MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, CountOrZero, Least, Positive
from dcsim.spec import Layout

EPS, HEAD_EPS = 1e-5, 1e-6
OFFSET = 2.0
"""What diffusers' pipeline of images to clips tells the network of version 1.5."""


@dataclass(frozen=True)
class CogVideoX(Denoiser):
    """CogVideoX's video transformer."""

    tag = "cogvideox"

    depth: Count
    """Blocks."""
    heads: Count
    positions: Literal["sines", "rotary", "both"]
    """`sines`: added to the tokens at first (2B). `rotary`: queries and keys turn (5B). `both`: a
    table that was learned is added, and they turn (5B I2V)."""
    head: Count = 64
    """Channels of a head."""
    patch: Annotated[tuple[Count, ...], Least(3)] = (1, 2, 2)
    """Latent frames, rows and columns of a patch."""
    channels: Count = 16
    text_width: Count = 4096
    time_width: Count = 512
    """Width of what modulates the blocks."""
    table: Annotated[tuple[Count, ...], Least(3)] = (13, 30, 45)
    """Patches of a clip whose sines are kept; those of another are made anew in each pass."""
    scale: Positive = 1.875
    """Sines turn so much slower along rows and columns."""

    paired: bool = False
    """The latents of an image come beside those of the clip (I2V)."""
    offset_width: CountOrZero = 0
    """Width of a second number that modulates the blocks (1.5 I2V); 0: there is none."""

    def check(self) -> None:
        for name in ("patch", "table"):
            if len(getattr(self, name)) != 3:
                raise ValueError(f"{name}: needs 3 numbers")

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.heads * self.head

    @property
    def grain(self) -> Latent:
        return self.patch[0], self.patch[1], self.patch[2]

    @property
    def frames(self) -> bool:
        return True

    @property
    def blocks(self) -> int:
        return self.depth

    @property
    def takes(self) -> Takes:
        return "channels" if self.paired else "nothing"

    @property
    def shown(self) -> int:
        return 2 * self.channels if self.paired else self.channels

    def brought(self, encoded: Tensor, latent: Latent) -> Tensor:
        """The image's, and zeros for all other frames."""
        batch, channels, frames, rows, columns = encoded.shape
        blank = (batch, channels, latent[0] - frames, rows, columns)
        if not self.paired or not blank[2]:
            return encoded
        return ops.concat([encoded, ops.blank(encoded.tape, blank, encoded.dtype)], 2)

    def beside(self, words: int) -> int:
        return words * self.width

    @property
    def axes(self) -> tuple[int, int, int]:
        """Channels of a head that turn with the frame, the row and the column."""
        return self.head // 4, self.head // 8 * 3, self.head // 8 * 3

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part, cells = self.width, self.width // tp, passes.elements(self.grain)
        yield from layer("embed", h, self.shown * cells)
        yield from layer("time.0", self.time_width, h)
        yield from layer("time.1", self.time_width, self.time_width)
        if self.offset_width:
            yield from layer("offset.0", self.offset_width, self.offset_width)
            yield from layer("offset.1", self.time_width, self.offset_width)
        yield from layer("text", h, self.text_width)
        for i in range(self.depth):
            for norm in ("norm1", "norm2"):
                yield from layer(f"{i}.{norm}.modulation", 6 * h, self.time_width)
                yield from passes.norm_shapes(f"{i}.{norm}", h)
            yield from passes.attention_shapes(f"{i}", h, part)
            yield from passes.norm_shapes(f"{i}.q_norm", self.head)
            yield from passes.norm_shapes(f"{i}.k_norm", self.head)
            yield from passes.mlp_shapes(f"{i}", h, 4 * part)
        yield from passes.norm_shapes("final.norm1", h)
        yield from layer("final.modulation", 2 * h, self.time_width)
        yield from passes.norm_shapes("final.norm2", h)
        yield from layer("final.out", self.channels * cells, h)

    def buffers(self) -> Iterator[tuple[str, Shape]]:
        if self.positions != "rotary":
            frames, rows, columns = self.table
            yield "positions", (frames * rows * columns, self.width)

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
        p, tape, batch = Pass(w, numerics, layout, EPS), latents.tape, latents.shape[0]
        signal = passes.scalar(p, "time", steps, batch, tape, self.width)
        if self.offset_width:
            told = np.full(1, OFFSET)
            signal = ops.add(signal, passes.scalar(p, "offset", told, 1, tape, self.offset_width))
        text = p.linear("text", passes.share(condition[0], layout.sp))
        x = p.linear("embed", passes.patchify(latents, self.grain, numerics.dtype, layout.sp))
        grid = tuple(n // g for n, g in zip(latents.shape[2:], self.grain, strict=True))
        wave, words = None, text.shape[1]
        if self.positions != "sines":
            wave = passes.rotary(
                tape,
                (1, x.shape[1], 1, self.head),
                lambda: axis_angles(grid_places(*grid), self.axes, 10000.0),
            )
        x = ops.concat([text, x], 1)
        del text
        if self.positions != "rotary":
            x = _placed(self, p, x, words, grid)
        x = ops.cast(x, numerics.residual)
        state = [x[:, :words], x[:, words:]]
        del x
        passes.streams(tape, 0, self.depth, partial(_block, self, p, signal, wave), state)
        x = state.pop()
        state.clear()
        x = ops.layer_norm_learned(x, *p.w.linear("final.norm1"), EPS)
        shift, scale = p.linear("final.modulation", ops.silu(signal)).chunk(2, -1)
        x = passes.modulated(p, _normal(p, "final.norm2", x), shift, scale)
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        return passes.unpatchify(x, latents.shape, self.grain, self.channels, last=False)


def _placed(c: CogVideoX, p: Pass, x: Tensor, words: int, grid: tuple[int, ...]) -> Tensor:
    """Sines added to the tokens of the video, which follow the words."""
    frames, rows, columns = grid
    if grid == c.table and p.layout.sp == 1:
        places = p.w["positions"]
    else:
        places = x.tape.run(
            "positions",
            MEMORY,
            (),
            (x.shape[1] - words, c.width),
            x.dtype,
            lambda: grid_positions(frames, rows, columns, c.width, True, (c.scale, c.scale)),
        )

    def add(tokens: Array, sines: Array) -> Array:
        out = tokens.copy()
        out[:, words:] += sines
        return out

    return x.tape.run(
        "positions", MEMORY, (x, places), x.shape, x.dtype, lambda: add(x.data, places.data)
    )


def _normal(p: Pass, name: str, x: Tensor) -> Tensor:
    return ops.layer_norm_learned(x, *p.w.linear(name), EPS, p.numerics.modulation)


def _modulated(
    p: Pass, name: str, x: Tensor, text: Tensor, signal: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Video and text, each normed and modulated, and the gates of what comes of them."""
    six = p.linear(f"{name}.modulation", ops.silu(signal)).chunk(6, -1)
    y = passes.modulated(p, _normal(p, name, x), six[0], six[1])
    t = passes.modulated(p, _normal(p, name, text), six[3], six[4])
    return y, t, six[2], six[5]


def _block(
    c: CogVideoX, p: Pass, signal: Tensor, wave: Wave | None, i: int, text: Tensor, x: Tensor
) -> tuple[Tensor, Tensor]:
    words = text.shape[1]
    y, t, gate, text_gate = _modulated(p, f"{i}.norm1", x, text, signal)
    z = _attention(c, p, i, ops.concat([t, y], 1), words, wave)
    x = passes.added(p, x, passes.gated(gate, z[:, words:]))
    text = passes.added(p, text, passes.gated(text_gate, z[:, :words]))
    y, t, gate, text_gate = _modulated(p, f"{i}.norm2", x, text, signal)
    y = ops.concat([t, y], 1)
    f = passes.mlp(p, f"{i}", y)
    x = passes.added(p, x, passes.gated(gate, f[:, words:]))
    return passes.added(p, text, passes.gated(text_gate, f[:, :words])), x


def _attention(c: CogVideoX, p: Pass, i: int, y: Tensor, words: int, wave: Wave | None) -> Tensor:
    q, k, v = passes.projected(p, f"{i}", y, c.heads)
    q = ops.layer_norm_learned(q, *p.w.linear(f"{i}.q_norm"), HEAD_EPS)
    k = ops.layer_norm_learned(k, *p.w.linear(f"{i}.k_norm"), HEAD_EPS)
    if wave is not None:
        for each in (q, k):
            ops.write_(each[:, words:], wave.turned(each[:, words:]), lambda _, new: new)
    y = passes.attend(p, q, k, v)
    return passes.out(p, f"{i}.out", y)
