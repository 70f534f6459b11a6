"""PixArt-alpha (Chen et al. 2023), PixArt-Sigma and Latte (Ma et al. 2024): self-attention, then
cross-attention to the text, one modulation for all blocks (adaLN-single). Latte's blocks attend
within frames and along time by turns.

Numbers and lifetimes as diffusers' `PixArtTransformer2DModel` and `LatteTransformer3DModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.denoiser import Denoiser, Latent, Numerics
from dcsim.models.parallel import ALONE, all_gather, check_execution
from dcsim.models.passes import Pass, layer
from dcsim.models.positions import grid_positions, timestep_embedding
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, CountOrZero, Positive
from dcsim.spec import Layout


@dataclass(frozen=True)
class PixArt(Denoiser):
    """PixArt's transformer, and Latte's, whose every second block attends along time."""

    tag = "pixart"

    depth: Count
    """Blocks; of Latte pairs of one within frames and one along time."""
    heads: Count
    table: Count
    """Patches along a side of the image whose positions are kept."""
    head: Count = 72
    """Channels of a head."""
    patch: Count = 2
    """Latent rows and columns of a patch."""
    channels: Count = 4
    out_channels: Count = 8
    """Twice the latent's, as the variance is learned."""
    text_width: Count = 4096
    scale: Positive = 1.0
    """Positions turn so much slower along rows and columns."""
    sizes: bool = False
    """It is told the resolution and the aspect ratio."""
    time: CountOrZero = 0
    """Latent frames whose positions are kept; 0: it makes images."""

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.heads * self.head

    @property
    def grain(self) -> Latent:
        return 1, self.patch, self.patch

    @property
    def frames(self) -> bool:
        return self.time > 0

    @property
    def blocks(self) -> int:
        return 2 * self.depth if self.time else self.depth

    @property
    def cut(self) -> tuple[str, ...]:
        return () if self.time else ("depth",)

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part, cells = self.width, self.width // tp, self.patch**2
        yield from layer("embed", h, self.channels * cells)
        yield from layer("time.0", h, passes.TIME_WIDTH)
        yield from layer("time.1", h, h)
        if self.sizes:
            for name in ("resolution", "aspect"):
                yield from layer(f"{name}.0", h // 3, passes.TIME_WIDTH)
                yield from layer(f"{name}.1", h // 3, h // 3)
        yield from layer("modulation", 6 * h, h)
        yield from layer("text.0", h, self.text_width)
        yield from layer("text.1", h, h)
        for i in range(self.blocks):
            yield f"{i}.offset", (6, h)
            yield from passes.attention_shapes(f"{i}", h, part)
            if not (self.time and i % 2):
                yield from passes.attention_shapes(f"{i}.cross", h, part)
            yield from passes.mlp_shapes(f"{i}", h, 4 * part)
        yield "final.offset", (2, h)
        yield from layer("final.out", self.out_channels * cells, h)

    def buffers(self) -> Iterator[tuple[str, Shape]]:
        yield "positions", (self.table**2, self.width)
        if self.time:
            yield "times", (self.time, self.width)

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
        x = passes.patchify(latents, self.grain, numerics.dtype, 1)
        x = x.reshape(batch * frames, places, self.channels * self.patch**2)
        x = p.linear("embed", passes.share(x, layout.sp))
        x = ops.add(x, _positions(self, p, latents, x.shape[1]), dtype=numerics.residual)
        signal = _signal(self, p, latents, steps)
        six = p.linear("modulation", ops.silu(signal))
        text = passes.two_layers(p, "text", condition[0], ops.gelu)
        if self.time:
            text = _repeated(text, frames)
            mine = x.shape[1]
            along = _repeated(six, mine).reshape(batch * mine, 6, h)
            six = _repeated(six, frames)
        six = six.reshape(batch * frames, 6, h)
        block = partial(_block, self, p, six, text)

        def pair(first: int, i: int, state: list[Tensor]) -> list[Tensor]:
            x = block(2 * (first + i), state.pop())
            x = passes.swapped(x, batch)
            if first + i == 0 and frames > 1:
                x = ops.add(x, _times(self, p, frames), dtype=numerics.residual)
            x = _block(self, p, along, None, 2 * (first + i) + 1, x)
            return [passes.swapped(x, batch)]

        state = [x]
        del x
        if self.time:
            repeated(tape, 1, partial(pair, 0), state)
            repeated(tape, self.depth - 1, partial(pair, 1), state, stride=2)
        else:
            repeated(tape, self.depth, lambda i, held: [block(i, held.pop())], state)
        if self.time:
            signal = _repeated(signal, frames)
        ends = ops.add(_offset(p, "final", 2), signal.reshape(batch * frames, 1, h))
        x = passes.normal(p, state.pop())
        x = passes.shifted(p, x, ends[:, :1], ends[:, 1:])
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        x = x[:, :places].reshape(batch, frames * places, self.out_channels * self.patch**2)
        return passes.unpatchify(x, latents.shape, self.grain, self.out_channels)


def _positions(c: PixArt, p: Pass, latents: Tensor, tokens: int) -> Tensor:
    """Sines of the places of a frame, kept for one size and made anew for others."""
    rows, columns = (n // c.patch for n in latents.shape[3:])
    if rows == columns == c.table and p.layout.sp == 1:
        return p.w["positions"].reshape(1, tokens, c.width)
    scales = rows / c.table * c.scale, columns / c.table * c.scale
    return latents.tape.run(
        "positions",
        MEMORY,
        (),
        (1, tokens, c.width),
        p.numerics.dtype,
        lambda: grid_positions(1, rows, columns, c.width, False, scales)[None],
    )


def _times(c: PixArt, p: Pass, frames: int) -> Tensor:
    """Sines of the frames; of more than are kept, made anew."""
    if frames <= c.time:
        return p.w["times"][:frames].reshape(1, frames, c.width)
    tape = p.w["times"].tape
    shape, kind = (1, frames, c.width), p.numerics.dtype
    return tape.run("positions", MEMORY, (), shape, kind, lambda: _sines(frames, c))


def _sines(frames: int, c: PixArt) -> Array:
    """Sines of `frames` places on one axis, (1, frames, hidden)."""
    half = timestep_embedding(np.arange(frames), c.width)
    cos, sin = np.split(half, 2, axis=1)
    return np.concatenate([sin, cos], axis=1)[None]


def _signal(c: PixArt, p: Pass, latents: Tensor, steps: Array) -> Tensor:
    """What modulates all blocks, (batch, hidden)."""
    batch, tape = latents.shape[0], latents.tape
    signal = passes.scalar(p, "time", steps, batch, tape)
    if not c.sizes:
        return signal
    cell = 8  # pixels of a latent cell of the VAE it is trained with
    height, width = (n * cell for n in latents.shape[3:])
    sides = np.tile(np.array([height, width], np.float32), batch)
    ratio = np.full(batch, height / width, np.float32)
    of_size = passes.scalar(p, "resolution", sides, 2 * batch, tape)
    of_ratio = passes.scalar(p, "aspect", ratio, batch, tape)
    more = ops.concat([of_size.reshape(batch, 2 * (c.width // 3)), of_ratio], 1)
    return ops.add(signal, more)


def _repeated(x: Tensor, times: int) -> Tensor:
    """Each row `times` over: a copy for each frame or place."""
    shape = (x.shape[0] * times, *x.shape[1:])
    return x.tape.run("repeat", MEMORY, (x,), shape, x.dtype, lambda: np.repeat(x.data, times, 0))


def _offset(p: Pass, name: str, count: int) -> Tensor:
    table = p.w[f"{name}.offset"]
    return table.reshape(1, count, table.shape[1])


def _block(c: PixArt, p: Pass, six: Tensor, text: Tensor | None, i: int, x: Tensor) -> Tensor:
    every = ops.add(_offset(p, f"{i}", 6), six)
    shift, scale, gate, shift2, scale2, gate2 = every.chunk(6, 1)
    y = passes.normal(p, x)
    y = passes.shifted(p, y, shift, scale)
    z = _attention(c, p, f"{i}", y, None)
    z = ops.mul(gate, z)
    x = passes.added(p, z, x)
    if text is not None:
        y = ops.cast(x, p.numerics.dtype)
        z = _attention(c, p, f"{i}.cross", y, text)
        x = passes.added(p, z, x)
    y = passes.normal(p, x)
    y = passes.shifted(p, y, shift2, scale2)
    f = passes.mlp(p, f"{i}", y)
    f = ops.mul(gate2, f)
    return passes.added(p, f, x)


def _attention(c: PixArt, p: Pass, name: str, y: Tensor, text: Tensor | None) -> Tensor:
    """Within what is a row: a frame, or along time a place. Only frames are spread over GPUs."""
    other, heads = y if text is None else text, c.heads // p.layout.tp
    q = passes.split_heads(p.linear(f"{name}.q", y), heads)
    k = passes.split_heads(p.linear(f"{name}.k", other), heads)
    v = passes.split_heads(p.linear(f"{name}.v", other), heads)
    along = c.time and int(name.partition(".")[0]) % 2
    if text is None and not along:
        z = passes.attend(p, q, k, v)
    else:
        z = softmax_attention(q, k, v, kernel=p.numerics.kernel)
        z = z.reshape(*y.shape[:2], z.shape[2] * z.shape[3])
    z = passes.out(p, f"{name}.out", z)
    return ops.affine(z, 1.0)  # diffusers divides by a factor, which is 1
