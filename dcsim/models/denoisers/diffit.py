"""Latent DiffiT (Hatamizadeh et al. 2023): queries, keys and values are each a sum of what a token
and what the timestep gives (time-dependent attention), with a learned bias by relative place.

Numbers and lifetimes as `DiffiT` of NVlabs/DiffiT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.denoiser import Denoiser, Latent, Numerics
from dcsim.models.parallel import ALONE, all_gather, all_to_all, check_execution
from dcsim.models.passes import Pass, layer
from dcsim.models.positions import grid_positions
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import ATTENTION, MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count
from dcsim.spec import Layout


@dataclass(frozen=True)
class Diffit(Denoiser):
    """A vision transformer of image latents with time-dependent attention."""

    tag = "diffit"

    depth: Count
    """Blocks."""
    hidden: Count
    heads: Count
    table: Count
    """Patches along a side of the one size that it is made for."""
    classes: Count
    """Classes of the label condition; one more row stands for "none"."""
    patch: Count = 2
    """Latent rows and columns of a patch."""
    channels: Count = 4

    def check(self) -> None:
        if self.hidden % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide {self.hidden}")

    @property
    def width(self) -> int:
        return self.hidden

    @property
    def grain(self) -> Latent:
        return 1, self.patch, self.patch

    @property
    def frames(self) -> bool:
        return False

    @property
    def blocks(self) -> int:
        return self.depth

    @property
    def labelled(self) -> bool:
        return True

    def wrong(self, layout: Layout) -> str | None:
        if layout.ring > 1:
            return "a bias of all pairs has no part that could go round in a ring"
        return super().wrong(layout)

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part, cells = self.hidden, self.hidden // tp, self.channels * self.patch**2
        yield from layer("embed", h, cells)
        yield from layer("time.0", h, passes.TIME_WIDTH)
        yield from layer("time.1", h, h)
        yield "label", (self.classes + 1, h)
        for i in range(self.depth):
            yield from layer(f"{i}.told", 3 * part, h)
            yield from layer(f"{i}.qkv", 3 * part, h)
            yield f"{i}.bias", ((2 * self.table - 1) ** 2, self.heads // tp)
            yield from layer(f"{i}.out", h, part)
            yield from passes.mlp_shapes(f"{i}", h, 4 * part)
        yield from layer("final.out", 2 * cells, h)

    def buffers(self) -> Iterator[tuple[str, Shape]]:
        yield "positions", (self.table**2, self.hidden)

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
        p, batch = Pass(w, numerics, layout), latents.shape[0]
        grid = (latents.shape[3] // self.patch, latents.shape[4] // self.patch)
        x = p.linear("embed", passes.patchify(latents, self.grain, numerics.dtype, layout.sp))
        x = ops.add(x, _positions(self, p, grid, x.shape[1]), dtype=numerics.residual)
        signal = passes.scalar(p, "time", steps, batch, latents.tape)
        signal = ops.add(signal, ops.embedding(w["label"], condition[0], numerics.dtype))
        state = [x]
        del x

        def block(i: int, held: list[Tensor]) -> list[Tensor]:
            return [_block(self, p, signal, grid, i, held.pop())]

        repeated(latents.tape, self.depth, block, state)
        x = ops.silu(ops.cast(passes.normal(p, state.pop()), numerics.dtype))
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        return passes.unpatchify(x, latents.shape, self.grain, 2 * self.channels)


def _positions(c: Diffit, p: Pass, grid: tuple[int, int], tokens: int) -> Tensor:
    """Sines of the places, kept for one size and made anew for others."""
    table = p.w["positions"]
    if grid == (c.table, c.table) and p.layout.sp == 1:
        return table.reshape(1, tokens, c.hidden)
    shape = (1, tokens, c.hidden)

    def compute() -> Array:
        return grid_positions(1, *grid, c.hidden, False)[None]

    return table.tape.run("positions", MEMORY, (), shape, p.numerics.dtype, compute)


def _block(c: Diffit, p: Pass, signal: Tensor, grid: tuple[int, int], i: int, x: Tensor) -> Tensor:
    y = ops.cast(passes.normal(p, x), p.numerics.dtype)
    x = passes.added(p, x, _attended(c, p, signal, grid, i, y))
    y = ops.cast(passes.normal(p, x), p.numerics.dtype)
    return passes.added(p, x, passes.mlp(p, f"{i}", y))


def _attended(
    c: Diffit, p: Pass, signal: Tensor, grid: tuple[int, int], i: int, y: Tensor
) -> Tensor:
    batch, tokens, _ = y.shape
    heads, width, sp = c.heads // p.layout.tp, c.hidden // c.heads, p.layout.sp
    told = p.linear(f"{i}.told", signal)
    qkv = ops.add(told.reshape(batch, 1, 3 * heads * width), p.linear(f"{i}.qkv", y))
    parts = qkv.reshape(batch, tokens, 3, heads, width)
    every = (batch, tokens * sp, heads // sp, width)
    q, k, v = (all_to_all(parts[:, :, j], sp, every) for j in range(3))
    z = _mixed(p, q, k, v, p.w[f"{i}.bias"][:, : heads // sp], c.table, grid)
    z = all_to_all(z, sp, (batch, tokens, heads, width))
    return passes.out(p, f"{i}.out", z.reshape(batch, tokens, heads * width))


def _mixed(
    p: Pass, q: Tensor, k: Tensor, v: Tensor, table: Tensor, side: int, grid: tuple[int, int]
) -> Tensor:
    """Attention with a bias a head and pair of places: (batch, tokens, heads, width)."""
    batch, n, heads, width = q.shape
    tape, dtype, square = q.tape, q.dtype, (batch, heads, n, n)
    half = 2 * batch * heads * width * n * n
    scores = None
    if p.numerics.kernel == "math":
        scaled = ops.affine(q, width**-0.5)
        scores = tape.run(
            "scores",
            ATTENTION,
            (scaled, k),
            square,
            dtype,
            lambda: np.einsum("bnhd,bmhd->bhnm", scaled.data, k.data),
            flops=half,
        )
        scaled = q
    # Every GPU's tokens together may be more than the grid, by the padding of the last.
    picked = tape.run(
        "embedding", MEMORY, (), (n * n, heads), dtype, lambda: table.data[_places(side, grid)]
    )
    bias = ops.copy(picked.reshape(n, n, heads).permute(2, 0, 1), (1, heads, n, n))
    if scores is None:
        return softmax_attention(q, k, v, bias=bias)
    scores = ops.add(scores, bias)
    del bias
    scores = tape.run("softmax", MEMORY, (scores,), square, dtype, partial(_softmax, scores))
    z = tape.run(
        "mix",
        ATTENTION,
        (scores, v),
        (batch, heads, n, width),
        dtype,
        lambda: np.einsum("bhnm,bmhd->bhnd", scores.data, v.data),
        flops=half,
    )
    return ops.copy(z.permute(0, 2, 1, 3))


def _softmax(scores: Tensor) -> Array:
    e = np.exp(scores.data - scores.data.max(-1, keepdims=True))
    out: Array = e / e.sum(-1, keepdims=True)
    return out


def _places(side: int, grid: tuple[int, int]) -> Array:
    """The row of the table for each pair of places; beyond its size its edge stands."""
    down, across = (at.reshape(-1) for at in np.indices(grid))
    rows, columns = (
        np.clip(at[:, None] - at[None], 1 - side, side - 1) + side - 1 for at in (down, across)
    )
    found: Array = (rows * (2 * side - 1) + columns).reshape(-1)
    return found
