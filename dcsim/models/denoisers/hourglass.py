"""The hourglass diffusion transformer, HDiT (Crowson et al. 2024): pixels without an autoencoder,
in levels of ever fewer and wider tokens, neighbourhood attention at the fine ones.

Numbers and lifetimes as `ImageTransformerDenoiserModelV2` of crowsonkb/k-diffusion, whose norms,
GEGLU, scaling and turning of queries and keys are compiled to a kernel each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from math import gcd, pi
from typing import Annotated

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.denoiser import Denoiser, Latent, Numerics
from dcsim.models.neighbourhood import neighbourhood_attention
from dcsim.models.options import DIT, Option
from dcsim.models.parallel import ALONE, all_gather, all_to_all, check_execution
from dcsim.models.passes import Pass, layer
from dcsim.models.repeat import repeated
from dcsim.models.tape import MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Concept, Count, CountOrZero, Least
from dcsim.spec import Layout

AUGMENTATIONS = 9
"""Numbers that say how a training image was augmented; zeros here."""
NOISE = (1e-2, 160.0)
"""Least and most noise that it is told."""
Grid = tuple[int, int]
"""Rows of this GPU, and columns."""


@dataclass(frozen=True)
class Level(Concept):
    """Layers on tokens of one size."""

    depth: Count
    """Layers on the way down, and as many on the way up; of the last level all."""
    width: Count
    neighbours: CountOrZero = 0
    """Rows and columns around a token that it attends to; 0: all tokens."""


@dataclass(frozen=True)
class Hourglass(Denoiser):
    """Levels, each with a quarter of the tokens of the one before."""

    tag = "hourglass"

    levels: Annotated[tuple[Level, ...], Least(1)]
    """The finest first."""
    patch: Count = 4
    """Rows and columns of pixels of a token of the finest level."""
    head: Count = 64
    """Channels of a head."""
    ratio: Count = 3
    """Width of a feed-forward half over that of its level."""
    mapping: Count = 256
    """Width of the network that makes the modulation of noise and class."""
    mapping_depth: Count = 2
    classes: Count | None = None
    """Classes of the label condition (one more row stands for "none"); absent: it is told none."""
    channels: Count = 3

    def check(self) -> None:
        if self.head % 8:
            raise ValueError(f"head: 8 does not divide {self.head}")
        for level in self.levels:
            if level.width % self.head:
                raise ValueError(f"head: {self.head} does not divide {level.width}")

    @property
    def heads(self) -> int:  # type: ignore[override]
        """What divides the heads of every level."""
        return gcd(*(level.width // self.head for level in self.levels))

    @property
    def grain(self) -> Latent:
        """A token is a cell of the coarsest level."""
        side: int = self.patch * 2 ** (len(self.levels) - 1)
        return 1, side, side

    @property
    def frames(self) -> bool:
        return False

    @property
    def blocks(self) -> int:
        return len(self.places())

    @property
    def width(self) -> int:
        return self.levels[-1].width

    @property
    def labelled(self) -> bool:
        return True

    def options(self) -> Mapping[str, Option]:
        """All is in `dtype`; levels have skips, so no block's residual stands for the others."""
        plain = ("residual_dtype", "modulation_dtype")
        kept = {name: replace(DIT[name], allowed=("as dtype",)) for name in plain}
        return {**kept, "feature_cache": replace(DIT["feature_cache"], allowed=("none",))}

    def wrong(self, layout: Layout) -> str | None:
        if layout.ring > 1:
            return "neighbourhoods have no K and V that could go round in a ring"
        return super().wrong(layout)

    def places(self) -> list[Level]:
        """The level of each layer, in order."""
        down, last = self.levels[:-1], self.levels[-1]
        found = [level for level in down for _ in range(level.depth)]
        return [*found, *[last] * last.depth, *reversed(found)]

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        cells, inner = self.channels * self.patch**2, self.ratio * self.mapping
        line = partial(layer, bias=False)
        yield from line("embed", self.levels[0].width, cells)
        for name in ("time", "augment"):
            yield from line(name, self.mapping, self.mapping)
        if self.classes is not None:
            yield "label", (self.classes + 1, self.mapping)
        yield "mapping.in_norm", (self.mapping,)
        for i in range(self.mapping_depth):
            yield f"mapping.{i}.norm", (self.mapping,)
            yield from line(f"mapping.{i}.up", 2 * inner, self.mapping)
            yield from line(f"mapping.{i}.down", self.mapping, inner)
        yield "mapping.out_norm", (self.mapping,)
        for i, level in enumerate(self.places()):
            width, part, ffn = level.width, level.width // tp, self.ratio * level.width // tp
            yield from line(f"{i}.norm", width, self.mapping)
            yield from line(f"{i}.qkv", 3 * part, width)
            yield f"{i}.scale", (part // self.head,)
            yield from line(f"{i}.out", width, part)
            yield from line(f"{i}.ffn.norm", width, self.mapping)
            yield from line(f"{i}.up", 2 * ffn, width)
            yield from line(f"{i}.down", width, ffn)
        for i, (fine, coarse) in enumerate(zip(self.levels, self.levels[1:], strict=False)):
            yield from line(f"merge.{i}", coarse.width, 4 * fine.width)
            yield from line(f"split.{i}", 4 * fine.width, coarse.width)
            yield f"skip.{i}", (1,)
        yield "final.norm", (self.levels[0].width,)
        yield from line("final.out", cells, self.levels[0].width)

    def buffers(self) -> Iterator[tuple[str, Shape]]:
        """Frequencies, drawn once."""
        yield "time.waves", (self.mapping // 2, 1)
        yield "augment.waves", (self.mapping // 2, AUGMENTATIONS)

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
        p = Pass(w, numerics, layout)
        coarsest = latents.shape[3] // self.grain[1]
        rows = -(-coarsest // layout.sp) * self.grain[1] // self.patch  # the last GPU's are padded
        grid = (rows, latents.shape[4] // self.patch)
        patches = passes.patchify(latents, (1, self.patch, self.patch), numerics.dtype, 1)
        x = p.linear("embed", patches[:, : grid[0] * grid[1]])
        del patches
        signal = _mapped(self, p, steps, condition[0], latents.shape[0])
        skips: list[tuple[Tensor, Grid]] = []
        starts = [0, *accumulate(level.depth for level in self.levels[:-1])]
        last = len(self.levels) - 1
        for i, level in enumerate(self.levels):
            x = _run(self, p, level, signal, grid, starts[i], x)
            if i < last:
                skips.append((x, grid))
                x = p.linear(f"merge.{i}", _merged(x, grid))
                grid = (grid[0] // 2, grid[1] // 2)
        for i in reversed(range(last)):
            level = self.levels[i]
            skip, grid = skips[i]
            at = self.blocks - starts[i] - level.depth
            x = _split(p.linear(f"split.{i}", x), grid)
            x = ops.pointwise("addcmul", lambda a, b, c: a + b * c, x, skip, p.w[f"skip.{i}"])
            x = _run(self, p, level, signal, grid, at, x)
        x = ops.rms_norm(x, p.w["final.norm"], p.eps)
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        return passes.unpatchify(x, latents.shape, (1, self.patch, self.patch), self.channels)


def _waves(p: Pass, name: str, values: Array) -> Tensor:
    """Random Fourier features of values (batch, numbers), through a layer."""
    table = p.w[f"{name}.waves"]

    def compute() -> Array:
        turns = 2 * pi * values.astype(np.float32) @ table.data.T
        return np.concatenate([np.cos(turns), np.sin(turns)], 1).astype(np.float32)

    shape = (len(values), 2 * table.shape[0])
    wave = table.tape.run("sinusoid", MEMORY, (table,), shape, p.numerics.dtype, compute)
    return p.linear(name, wave)


def told(steps: Array) -> Array:
    """What a timestep of 1000 means to it: a quarter of the logarithm of the noise, t / (1000 - t)
    of the image as a rectified flow has it."""
    share = np.asarray(steps, np.float64) / 1000
    noise = share / np.maximum(1 - share, 1e-9)
    return np.log(np.clip(noise, *NOISE)) / 4


def _mapped(c: Hourglass, p: Pass, steps: Array, label: Tensor, batch: int) -> Tensor:
    """What modulates all layers, (batch, mapping)."""
    x = _waves(p, "time", told(steps)[:, None])
    x = ops.add(x, _waves(p, "augment", np.zeros((batch, AUGMENTATIONS))))
    if c.classes is not None:
        x = ops.add(x, ops.embedding(p.w["label"], label, p.numerics.dtype))
    x = ops.rms_norm(x, p.w["mapping.in_norm"], p.eps)
    for i in range(c.mapping_depth):
        y = ops.rms_norm(x, p.w[f"mapping.{i}.norm"], p.eps)
        y = _gated(p.linear(f"mapping.{i}.up", y))
        x = ops.add(p.linear(f"mapping.{i}.down", y), x)
    return ops.rms_norm(x, p.w["mapping.out_norm"], p.eps)


def _gated(both: Tensor) -> Tensor:
    """GEGLU: the second half, through GELU, times the first."""
    half = both.shape[-1] // 2
    x, gate = both[..., :half], both[..., half:]
    return ops.pointwise("geglu", lambda a, b: a * ops.exact_gelu(b), x, gate)


def _normal(p: Pass, name: str, x: Tensor, signal: Tensor) -> Tensor:
    """RMS norm with a weight that follows from the signal."""
    gain = ops.affine(p.linear(name, signal), 1.0, 1.0)
    return ops.rms_norm(x, gain.reshape(gain.shape[0], 1, gain.shape[1]), p.eps)


def _run(
    c: Hourglass, p: Pass, level: Level, signal: Tensor, grid: Grid, first: int, x: Tensor
) -> Tensor:
    """The layers of a level on one way; what comes in is held until they are through."""
    state = [x]

    def step(i: int, held: list[Tensor]) -> list[Tensor]:
        given = held.pop()
        y = _attended(c, p, level, signal, grid, first + i, given)
        return [_fed(p, signal, first + i, y)]

    repeated(x.tape, level.depth, step, state)
    return state.pop()


def _attended(
    c: Hourglass, p: Pass, level: Level, signal: Tensor, grid: Grid, i: int, x: Tensor
) -> Tensor:
    batch, n, width = x.shape
    heads = width // c.head // p.layout.tp
    y = _normal(p, f"{i}.norm", x, signal)
    qkv = p.linear(f"{i}.qkv", y).reshape(batch, n, 3, heads, c.head)
    q, k, v = (qkv[:, :, j] for j in range(3))
    scale = p.w[f"{i}.scale"].reshape(1, 1, heads, 1)
    # Attention to all tokens divides by the root of a head's channels.
    more = 1.0 if level.neighbours else c.head**0.5
    q, k = (ops.pointwise("cosine", partial(_unit, more), each, scale) for each in (q, k))
    wave = _places(c, q, grid)
    for each in (q, k):
        ops.write_(each, wave, _turned)
    del wave
    near = level.neighbours
    y = _near(p, near, grid, q, k, v) if near else passes.attend(p, q, k, v)
    y = passes.out(p, f"{i}.out", y)
    return ops.add(y, x)


def _fed(p: Pass, signal: Tensor, i: int, x: Tensor) -> Tensor:
    y = _normal(p, f"{i}.ffn.norm", x, signal)
    y = _gated(p.linear(f"{i}.up", y))
    y = passes.out(p, f"{i}.down", y)
    return ops.add(y, x)


def _near(p: Pass, side: int, grid: Grid, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Neighbourhood attention; over several GPUs each has some heads of all rows."""
    sp, (batch, n, heads, width) = p.layout.sp, q.shape

    def every(x: Tensor) -> Tensor:
        return all_to_all(x, sp, (batch, n * sp, heads // sp, width))

    whole = (grid[0] * sp, grid[1])
    kernel = p.numerics.kernel
    y = neighbourhood_attention(every(q), every(k), every(v), whole, side, kernel=kernel)
    return all_to_all(y, sp, (batch, n, heads, width)).reshape(batch, n, heads * width)


def _unit(more: float, x: Array, scale: Array) -> Array:
    """Of the length of the root of a head's scale, `more` times as large."""
    length = np.sqrt((x * x).sum(-1, keepdims=True) + np.float32(1e-6))
    out: Array = x * (np.sqrt(scale * np.float32(more)) / length)
    return out


def _places(c: Hourglass, like: Tensor, grid: Grid) -> Tensor:
    """Cosines, then sines of the place of each token, (1, tokens, 1, half a head)."""
    rates = np.exp(np.linspace(np.log(pi), np.log(10 * pi), c.head // 8 + 1)[:-1])

    def compute() -> Array:
        most = max(grid)
        rows, columns = ((np.arange(n) * 2 + 1 - n) / most for n in grid)
        down = np.repeat(rows[:, None] * rates, grid[1], 0)
        across = np.tile(columns[:, None] * rates, (grid[0], 1))
        turns = np.concatenate([down, across], 1)
        both = np.concatenate([np.cos(turns), np.sin(turns)], 1)
        return both[None, :, None].astype(np.float32)

    shape = (1, like.shape[1], 1, c.head // 2)
    return like.tape.run("rotary", MEMORY, (), shape, like.dtype, compute)


def _turned(x: Array, wave: Array) -> Array:
    """The first half of the channels turned, its first quarter with its second."""
    part = wave.shape[-1] // 2
    cos, sin = wave[..., :part], wave[..., part:]
    out = np.array(x)
    a, b = x[..., :part], x[..., part : 2 * part]
    out[..., :part], out[..., part : 2 * part] = a * cos - b * sin, b * cos + a * sin
    return out


def _merged(x: Tensor, grid: Grid) -> Tensor:
    """Squares of four tokens as one, in new memory."""
    batch, n, width = x.shape
    rows, columns = grid
    cells = x.reshape(batch, rows // 2, 2, columns // 2, 2, width).permute(0, 1, 3, 2, 4, 5)
    return ops.copy(cells, (batch, n // 4, 4 * width))


def _split(x: Tensor, grid: Grid) -> Tensor:
    """Each token as a square of four, in new memory; `grid`: of what comes out."""
    batch, n, width = x.shape
    rows, columns = grid
    cells = x.reshape(batch, rows // 2, columns // 2, 2, 2, width // 4).permute(0, 1, 3, 2, 4, 5)
    return ops.copy(cells, (batch, 4 * n, width // 4))
