"""Sinusoidal embeddings of time and place, and rotary embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dcsim.models.tape import Array


def timestep_embedding(steps: Array, width: int = 256, shift: int = 0) -> Array:
    """Cosines then sines of a timestep, (batch, width), float32.

    Frequencies 10000^(-i / (width/2 - shift)): shift 0 in the DiT paper's code, 1 in diffusers'
    `DiTTransformer2DModel`.
    """
    half = width // 2
    exponent = -np.log(10000.0) * np.arange(half, dtype=np.float32) / (half - shift)
    angles = np.asarray(steps, np.float32)[:, None] * np.exp(exponent)[None].astype(np.float32)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _sincos(length: int, width: int, scale: float = 1.0) -> Array:
    omega = 1.0 / 10000.0 ** (np.arange(width // 2, dtype=np.float64) / (width / 2))
    angles = np.arange(length, dtype=np.float64)[:, None] / scale * omega[None]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def axis_widths(width: int, frames: int) -> tuple[int, int, int]:
    """How the channels of a position are split over (time, column, row).

    An image gives half to each of its axes (Peebles & Xie); a video a quarter to time and
    three eighths to each axis of space (as CogVideoX does).
    """
    time = width // 4 if frames > 1 else 0
    return time, (width - time) // 2, (width - time) // 2


def grid_positions(
    frames: int,
    rows: int,
    columns: int,
    width: int,
    video: bool,
    scales: tuple[float, float] = (1.0, 1.0),
) -> Array:
    """Fixed positions of a grid of patches, (frames * rows * columns, width), float32; rows and
    columns so many times closer."""
    wt, wc, wr = axis_widths(width, 2 if video else 1)
    grid = np.empty((frames, rows, columns, width), dtype=np.float32)
    grid[..., :wt] = _sincos(frames, wt)[:, None, None] if wt else 0
    grid[..., wt : wt + wc] = _sincos(columns, wc, scales[1])[None, None]
    grid[..., wt + wc :] = _sincos(rows, wr, scales[0])[None, :, None]
    return grid.reshape(-1, width)


def rotate(x: Array, start: int, theta: float) -> Array:
    """Rotary embedding of x (batch, n, heads, width), first token at position `start`."""
    n, width = x.shape[1], x.shape[3]
    freq = theta ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    angles = np.arange(start, start + n, dtype=np.float64)[:, None] * freq[None]
    cos = np.cos(angles).astype(np.float32)[None, :, None]
    sin = np.sin(angles).astype(np.float32)[None, :, None]
    a, b = x[..., : width // 2], x[..., width // 2 :]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def axis_angles(places: Array, widths: Sequence[int], theta: float) -> Array:
    """Angles of rotary positions on several axes, (tokens, channels), pairs of neighbours alike.

    `places` (tokens, axes) are positions, `widths` the channels that turn with each axis.
    """
    parts = []
    for axis, width in enumerate(widths):
        frequencies = theta ** (-np.arange(0, width, 2, dtype=np.float64) / width)
        angles = places[:, axis, None].astype(np.float64) * frequencies
        parts.append(np.repeat(angles, 2, axis=1))
    return np.concatenate(parts, axis=1)


def grid_places(frames: int, rows: int, columns: int) -> Array:
    """Frame, row and column of each patch of a grid, (patches, 3)."""
    return np.indices((frames, rows, columns)).reshape(3, -1).T
