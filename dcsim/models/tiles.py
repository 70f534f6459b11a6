"""Cutting a VAE decode into overlapping tiles of equal size, blended by linear ramps.

Sizes as HunyuanVideo's VAE has them in space: 32 x 32 latent cells (256 pixels), every 24.
In time: 5 latent frames (17 frames), every 4, so that tiles share one frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dcsim.models.tape import Array

SPACE, SPACE_STRIDE = 32, 24
TIME, TIME_STRIDE = 5, 4


def starts(length: int, tile: int, stride: int) -> tuple[int, ...]:
    """Where tiles begin along an axis; the last is moved back to end with it."""
    if length <= tile:
        return (0,)
    count = 1 + -(-(length - tile) // stride)
    return tuple(min(i * stride, length - tile) for i in range(count))


@dataclass(frozen=True)
class Tiles:
    """The tiles of a latent (frames, rows, columns)."""

    latent: tuple[int, int, int]
    tiling: str
    """`none`, `spatial`, `temporal` or `spacetime`."""

    @property
    def size(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns of every tile."""
        t, h, w = self.latent
        if self.tiling == "none":
            return self.latent
        if self.tiling != "spatial":
            t = min(t, TIME)
        return (t, h, w) if self.tiling == "temporal" else (t, min(h, SPACE), min(w, SPACE))

    def axes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Starts along each axis."""
        (t, h, w), (a, b, c) = self.latent, self.size
        return (
            starts(t, a, TIME_STRIDE),
            starts(h, b, SPACE_STRIDE),
            starts(w, c, SPACE_STRIDE),
        )

    def all(self) -> list[tuple[int, int, int]]:
        """Start of every tile, in the order in which they are decoded."""
        times, rows, columns = self.axes()
        return [(t, r, c) for t in times for r in rows for c in columns]

    def mask(self, at: tuple[int, int, int], pixels: Callable[[int, int], slice]) -> Array:
        """Blending weights of the tile at `at`, (frames, height, width); over tiles they add to 1.

        `pixels(axis, start)` is where a tile that starts at `start` lands along an axis.
        """
        parts = []
        for axis, begins in enumerate(self.axes()):
            total = np.zeros(max(pixels(axis, b).stop for b in begins))
            for begin in begins:
                total[pixels(axis, begin)] += _ramp(pixels(axis, begin))
            mine = pixels(axis, at[axis])
            parts.append(_ramp(mine) / total[mine])
        t, h, w = parts
        return (t[:, None, None] * h[None, :, None] * w[None, None]).astype(np.float32)


def _ramp(cut: slice) -> Array:
    n = cut.stop - cut.start
    return np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)).astype(np.float64)
