"""Encoding and decoding with an autoencoder: whole, in tiles, in runs or chunks of frames.

Pieces of one shape cost the same: a tape that does not execute has only the last of them, recorded
as so many (`Tape.times`), beside the room that the others' results take meanwhile. So the bytes
held, the peak and all sums are those of running every one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dcsim.models import ops
from dcsim.models.autoencoder.layers import through
from dcsim.models.autoencoder.passing import Passing
from dcsim.models.conv import depth_to_space, frames_apart, frames_together, space_to_depth
from dcsim.models.parallel import all_gather
from dcsim.models.tape import Array, Shape, Tensor
from dcsim.models.vae import Chunks, Coder, Overlapping, Pieces, Tiling, Vae
from dcsim.models.weights import Weights


def decode(
    c: Vae, w: Weights, latents: Tensor, *, tiling: Tiling = "none", gpus: int = 1
) -> Tensor:
    """Pixels (batch, 3, frames, height, width) of latents (batch, channels, frames, rows, columns).

    `gpus`: they have a share of the rows each, the last what is left, counted as the others; all
    have the pixels in the end.
    """
    way = _Way(c, w, "decoder", tiling)
    x = ops.affine(ops.cast(latents, w.dtype), 1 / c.scale)
    rows = x.shape[3]
    x.tape.sharing = gpus
    y = _in_time(way, x[:, :, :, : -(-rows // gpus)] if gpus > 1 else x)
    x.tape.sharing = 1
    if c.patch > 1:
        y = depth_to_space(y, (1, c.patch, c.patch), columns_first=True)
    if c.clamped:
        y = ops.pointwise("clamp", lambda d: np.clip(d, -1, 1), y)
    return all_gather(y, gpus, 3)[:, :, :, : rows * c.space] if gpus > 1 else y


def encode(c: Vae, w: Weights, pixels: Tensor, *, tiling: Tiling = "none") -> Tensor:
    """Latents of pixels in [-1, 1]: the mean of the posterior, scaled; shapes as in `decode`."""
    way = _Way(c, w, "encoder", tiling)
    x = ops.cast(pixels, w.dtype)
    if c.patch > 1:
        x = space_to_depth(x, (1, c.patch, c.patch), columns_first=True)
    moments = _in_time(way, x)
    return ops.affine(moments[:, : c.channels], c.scale)


def passes(c: Vae, latent: tuple[int, int, int], tiling: Tiling) -> int:
    """Passes through the decoder that a decode takes."""
    frames, rows, columns = latent
    count = 1
    if _has_runs(c, tiling, frames):
        assert isinstance(c.frames, Overlapping)
        count *= len(range(0, frames, c.frames.stride // c.time))
    (size, stride), space = _tile(c, c.space), (rows, columns)
    if tiling in ("spatial", "spacetime") and any(n > s for n, s in zip(space, size, strict=True)):
        for n, s in zip(space, stride, strict=True):
            count *= len(range(0, n, s))
    if isinstance(c.frames, Chunks):
        count *= len(c.frames.sizes(frames, 1))
    if isinstance(c.frames, Pieces):
        count *= len(range(0, frames, 1 + (c.frames.size - 1) // c.time))
    return count


def _has_runs(c: Vae, tiling: Tiling, frames: int) -> bool:
    """Whether so many latent frames are cut into overlapping runs."""
    cut = c.frames
    wanted = tiling in ("temporal", "spacetime")
    return wanted and isinstance(cut, Overlapping) and frames > cut.size // c.time


def _tile(c: Vae, cell: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Size and stride of a tile in cells of so many pixels."""
    return tuple(n // cell for n in c.tile.size), tuple(n // cell for n in c.tile.stride)


@dataclass(frozen=True)
class _Way:
    """Which way, with what and how."""

    vae: Vae
    weights: Weights
    name: str
    tiling: Tiling

    @property
    def down(self) -> bool:
        return self.name == "encoder"

    @property
    def coder(self) -> Coder:
        return self.vae.encoder if self.down else self.vae.decoder

    @property
    def cells(self) -> tuple[int, int]:
        """Pixels of a cell's edge, of what goes in and of what comes out."""
        c = self.vae
        return (c.patch, c.space) if self.down else (c.space, c.patch)

    def frames_out(self, frames: int, first: bool = True) -> int:
        """Frames that come out of so many, the first of all among them or not."""
        time, alone = self.vae.time, first and not self.vae.lead
        if self.down:
            return -(-frames // time)
        return 1 + (frames - 1) * time if alone else frames * time

    def shape(self, x: Shape, first: bool = True) -> Shape:
        """Of what comes out of a pass."""
        batch, width, frames, rows, columns = x
        a, b = self.cells
        out = self.frames_out(frames, first)
        return (batch, self.coder.width(width), out, rows * a // b, columns * a // b)

    def run(self, x: Tensor, run: Passing) -> Tensor:
        """One pass."""
        run.latents = x
        if self.coder.flat:
            batch = x.shape[0]
            y = through(run, self.name, self.coder.layers, frames_apart(x))
            y = frames_together(y, batch)
        else:
            y = through(run, self.name, self.coder.layers, x)
        return y


def _each(
    pieces: Sequence[Tensor], of: Callable[[Tensor], Tensor], shape: Callable[[Shape], Shape]
) -> list[Tensor]:
    """What becomes of each piece; of pieces alike only the last is run, for all, on a tape that
    does not execute."""
    tape = pieces[0].tape
    if tape.execute:
        return [of(piece) for piece in pieces]
    alike = Counter(piece.shape for piece in pieces)
    left, made = dict(alike), []
    for piece in pieces:
        left[piece.shape] -= 1
        if left[piece.shape]:
            made.append(tape.tensor(shape(piece.shape), piece.dtype))
        else:
            with tape.times(alike[piece.shape]):
                made.append(of(piece))
    return made


def _in_time(way: _Way, x: Tensor) -> Tensor:
    """In pieces, if that is how it is cut; or in overlapping runs of frames, if so wanted."""
    c, time = way.vae, way.vae.time
    if isinstance(c.frames, Pieces):
        size = c.frames.size if way.down else 1 + (c.frames.size - 1) // time
        cuts = [x[:, :, at : at + size] for at in range(0, x.shape[2], size)]
        parts = _each(cuts, lambda cut: _in_space(way, cut), way.shape)
        return ops.concat(parts, 2) if len(parts) > 1 else parts[0]
    frames = 1 + (x.shape[2] - 1) // time if way.down else x.shape[2]
    if not _has_runs(c, way.tiling, frames):
        return _in_space(way, x)
    assert isinstance(c.frames, Overlapping)
    unit, made = (1, time) if way.down else (time, 1)
    size, stride = c.frames.size // unit, c.frames.stride // unit
    blend = (c.frames.size - c.frames.stride) // made
    kept = c.frames.stride // made
    pieces = [x[:, :, at : at + size + 1] for at in range(0, x.shape[2], stride)]
    runs = _each(pieces, lambda piece: _in_space(way, piece), way.shape)
    runs[1:] = [run[:, :, 1:] for run in runs[1:]]
    parts = [runs[0][:, :, : kept + 1]]
    for before, run in pairwise(runs):
        _blend(before, run, blend, 2)
        parts.append(run[:, :, :kept])
    return ops.concat(parts, 2)[:, :, : way.frames_out(x.shape[2])]


def _in_space(way: _Way, x: Tensor) -> Tensor:
    """In tiles, if so wanted and it is larger than one."""
    size, stride = _tile(way.vae, way.cells[0])
    whole = all(n <= s for n, s in zip(x.shape[3:], size, strict=True))
    if way.tiling not in ("spatial", "spacetime") or whole:
        return _in_chunks(way, x)
    starts = [range(0, n, s) for n, s in zip(x.shape[3:], stride, strict=True)]
    pieces = [x[:, :, :, i : i + size[0], j : j + size[1]] for i in starts[0] for j in starts[1]]
    tiles = _each(pieces, lambda piece: _in_chunks(way, piece), way.shape)
    across = len(starts[1])
    rows = [tiles[at : at + across] for at in range(0, len(tiles), across)]
    return _joined(way, rows)[..., : way.shape(x.shape)[3], : way.shape(x.shape)[4]]


def _joined(way: _Way, rows: list[list[Tensor]]) -> Tensor:
    """Tiles blended with those above and to the left, cut to the stride, and joined."""
    size, stride = _tile(way.vae, way.cells[1])
    blend = [n - s for n, s in zip(size, stride, strict=True)]
    made = []
    for i, row in enumerate(rows):
        parts = []
        for j, tile in enumerate(row):
            if i:
                _blend(rows[i - 1][j], tile, blend[0], 3)
            if j:
                _blend(row[j - 1], tile, blend[1], 4)
            parts.append(tile[..., : stride[0], : stride[1]])
        made.append(ops.concat(parts, 4))
    return ops.concat(made, 3)


def _blend(before: Tensor, x: Tensor, extent: int, axis: int) -> None:
    """The first `extent` of x along an axis fade in over the last of the one before, in place."""
    extent = min(before.shape[axis], x.shape[axis], extent)
    if not extent:
        return
    ahead = (slice(None),) * axis
    start = before.shape[axis] - extent
    share = np.arange(extent, dtype=np.float32) / np.float32(extent)
    share = share.reshape(-1, *(1,) * (len(x.shape) - axis - 1))

    def faded(new: Array, old: Array) -> Array:
        out: Array = old * (1 - share) + new * share
        return out

    ops.write_(x[(*ahead, slice(0, extent))], before[(*ahead, slice(start, None))], faded)


def _in_chunks(way: _Way, x: Tensor) -> Tensor:
    """In chunks of frames, if that is how it is cut."""
    c, lead = way.vae, 0 if way.down else way.vae.lead
    if not isinstance(c.frames, Chunks):
        y = way.run(x, Passing(way.coder, way.weights, x))
        return y[:, :, lead:] if lead else y
    sizes = c.frames.sizes(x.shape[2], c.time if way.down else 1)
    made: list[Tensor] = []
    before: dict[str, Tensor] = {}
    at = 0
    for i, size in enumerate(sizes):
        piece = x[:, :, at : at + size]
        at += size
        # From the third on they are alike: the first two find nothing or less kept.
        alike = len(sizes) - 2 if i >= 2 and not x.tape.execute else 1
        if alike > 1 and i < len(sizes) - 1:
            y = x.tape.tensor(way.shape(piece.shape, False), x.dtype)
        else:
            after = before if way.coder.cached == "replaced" else {}
            run = Passing(way.coder, way.weights, piece, before, after, i == 0)
            with x.tape.times(alike):
                y = way.run(piece, run)
            before = after
            del run, after
        # The newest stays beside what grows until there is another.
        made = [ops.concat([made[0], y], 2), y] if c.frames.growing and i else [*made, y]
        del y
    del before
    if c.frames.growing:
        return made[0]
    y = ops.concat(made, 2)
    return y[:, :, lead:] if lead else y
