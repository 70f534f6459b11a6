"""A Sora-class model: one transformer over the spacetime patches of a clip of any duration,
resolution and aspect ratio (OpenAI 2024, "Video generation models as world simulators").

That report names patches, a diffusion transformer and training at native size, and no sizes. The
blocks are those of the largest published model of the kind, Movie Gen (Meta 2024): Llama's, with
attention in all directions, cross-attention to the text, and modulation by the timestep. Places are
three coordinates of a patch, so any grid has them (NaViT, Dehghani et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from dcsim.models import ops, passes
from dcsim.models.denoiser import Denoiser, Latent, Numerics, Takes
from dcsim.models.parallel import ALONE, all_gather, check_execution
from dcsim.models.passes import Pass, Wave, layer
from dcsim.models.positions import axis_angles, grid_places
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, CountOrZero, Least, Positive
from dcsim.spec import Layout

Three = Annotated[tuple[Count, ...], Least(3)]


@dataclass(frozen=True)
class Spacetime(Denoiser):
    """Blocks of self-attention over all patches, cross-attention to the text, and SwiGLU."""

    tag = "spacetime"

    depth: Count
    """Blocks."""
    heads: Count
    ffn: Count
    """Width inside a feed-forward half."""
    head: Count = 128
    """Channels of a head."""
    patch: Three = (2, 2, 2)
    """Latent frames, rows and columns of a patch."""
    channels: Count = 16
    text_width: Count = 4096
    axes: Annotated[tuple[CountOrZero, ...], Least(3)] = (32, 48, 48)
    """Channels of a head that turn with the frame, the row and the column."""
    theta: Positive = 10000.0
    likeness: bool = False
    """A recording of someone or something to be shown runs beside the clip, as tokens behind its
    own (a "cameo"; as Phantom, Liu et al. 2025, has references)."""
    hears: CountOrZero = 0
    """Width of the tokens of a clip that are attended to beside the text: of what makes a clip's
    soundtrack. 0: the text alone."""

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
        return True

    @property
    def blocks(self) -> int:
        return self.depth

    @property
    def takes(self) -> Takes:
        return "tokens" if self.likeness else "nothing"

    def brought(self, encoded: Tensor, latent: Latent) -> Tensor:
        """What is shown, with blank frames before where patches need more."""
        batch, channels, frames, rows, columns = encoded.shape
        more = self.padded((frames, rows, columns))[0] - frames
        if not self.likeness or not more:
            return encoded
        blank = ops.blank(encoded.tape, (batch, channels, more, rows, columns), encoded.dtype)
        return ops.concat([blank, encoded], 2)

    def wrong(self, layout: Layout) -> str | None:
        if self.ffn % layout.tp:
            return f"tp {layout.tp} does not divide the feed-forward width {self.ffn}"
        return super().wrong(layout)

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part, inner = self.width, self.width // tp, self.ffn // tp
        cells = self.channels * passes.elements(self.grain)
        yield from layer("embed", h, cells)
        yield from layer("time.0", h, passes.TIME_WIDTH)
        yield from layer("time.1", h, h)
        yield from layer("modulation", 6 * h, h)
        yield from layer("text", h, self.text_width)
        if self.hears:
            yield from layer("heard", h, self.hears)
        for i in range(self.depth):
            yield f"{i}.offset", (6, h)
            for name in ("norm", "cross.norm", "ffn.norm"):
                yield f"{i}.{name}", (h,)
            yield from passes.attention_shapes(f"{i}", h, part, norm=self.head, bias=False)
            yield from passes.attention_shapes(f"{i}.cross", h, part, norm=self.head, bias=False)
            for name in ("gate", "up"):
                yield from layer(f"{i}.{name}", inner, h, bias=False)
            yield from layer(f"{i}.down", h, inner, bias=False)
        yield "final.norm", (h,)
        yield "final.offset", (2, h)
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
        frames, rows, columns = (n // g for n, g in zip(latents.shape[2:], self.grain, strict=True))
        x = p.linear("embed", passes.patchify(latents, self.grain, numerics.dtype, layout.sp))
        x = ops.cast(x, numerics.residual)
        wave = passes.rotary(
            tape,
            (1, x.shape[1], 1, self.head),
            lambda: axis_angles(grid_places(frames, rows, columns), self.axes, self.theta),
        )
        signal = passes.scalar(p, "time", steps, batch, tape)
        six = p.linear("modulation", ops.silu(signal)).reshape(batch, 6, self.width)
        text = p.linear("text", condition[0])
        if self.hears:
            text = ops.concat([passes.share(text, layout.sp), p.linear("heard", condition[1])], 1)

        block = partial(_block, self, p, six, text, wave)
        state = [x]
        del x
        repeated(tape, self.depth, lambda i, held: [block(i, held.pop())], state)
        ends = ops.add(signal.reshape(batch, 1, self.width), _offset(p, "final"))
        x = _modulated(p, "final.norm", state.pop(), ends[:, 0], ends[:, 1])
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        return passes.unpatchify(x, latents.shape, self.grain, self.channels)


def _offset(p: Pass, name: str) -> Tensor:
    table = p.w[f"{name}.offset"]
    return table.reshape(1, *table.shape)


def _modulated(p: Pass, name: str, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`norm(x) * (1 + scale) + shift`, the norm with a weight."""
    normal = ops.rms_norm(x, p.w[name], p.eps, p.numerics.modulation)
    return passes.modulated(p, normal, shift, scale)


def _block(
    c: Spacetime, p: Pass, six: Tensor, text: Tensor, wave: Wave, i: int, x: Tensor
) -> Tensor:
    every = ops.add(six, _offset(p, f"{i}"))
    shift, scale, gate, shift2, scale2, gate2 = (every[:, j] for j in range(6))
    y = _modulated(p, f"{i}.norm", x, shift, scale)
    x = passes.added(p, x, passes.gated(gate, _self_attention(c, p, i, y, wave)))
    y = ops.rms_norm(x, p.w[f"{i}.cross.norm"], p.eps, p.numerics.dtype)
    x = passes.added(p, x, _cross_attention(c, p, i, y, text))
    y = _modulated(p, f"{i}.ffn.norm", x, shift2, scale2)
    return passes.added(p, x, passes.gated(gate2, _feed_forward(p, i, y)))


def _self_attention(c: Spacetime, p: Pass, i: int, y: Tensor, wave: Wave) -> Tensor:
    q, k, v = passes.projected(p, f"{i}", y, c.heads, norm=True)
    q = wave.turned(q)
    k = wave.turned(k)
    return passes.out(p, f"{i}.out", passes.attend(p, q, k, v))


def _cross_attention(c: Spacetime, p: Pass, i: int, y: Tensor, text: Tensor) -> Tensor:
    """Every GPU has all of the text, so nothing is sent; of a clip that is heard its share."""
    heads, name = c.heads // p.layout.tp, f"{i}.cross"
    q, k, v = (
        passes.split_heads(p.linear(f"{name}.{part}", of), heads)
        for part, of in (("q", y), ("k", text), ("v", text))
    )
    q, k = passes.normed_heads(p, name, q, k)
    if c.hears:
        return passes.out(p, f"{name}.out", passes.attend(p, q, k, v))
    z = softmax_attention(q, k, v, kernel=p.numerics.kernel)
    return passes.out(p, f"{name}.out", z.reshape(*y.shape[:2], z.shape[2] * z.shape[3]))


def _feed_forward(p: Pass, i: int, y: Tensor) -> Tensor:
    gate = ops.silu(p.linear(f"{i}.gate", y))
    hidden = ops.mul(gate, p.linear(f"{i}.up", y))
    del gate
    return passes.out(p, f"{i}.down", hidden)
