"""Shapes of requests: draws from the distributions of a job class."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcsim.spec.jobs import (
    Choice,
    ClipShape,
    Empirical,
    Fixed,
    FromLog,
    LogNormal,
    Numbers,
    Sizes,
    Uniform,
)
from dcsim.workload.logs import read_column

__all__ = ["Clip", "draw_clips", "draw_numbers"]

Ints = NDArray[np.int64]
Stream = Callable[[str], np.random.Generator]
"""A random stream by purpose."""


class Clip(NamedTuple):
    """What is asked of a diffusion model: pixels, frames (1: an image) and sampler steps."""

    width: int
    height: int
    frames: int
    steps: int


def draw_numbers(numbers: Numbers, count: int, random: np.random.Generator) -> Ints:
    """`count` draws, int64[count].

    A draw takes one value of the stream, so draw i of a changed distribution (another median,
    other weights) falls on the same quantile. A fixed number takes none. Raises `ValueError` for
    numbers that come from a request log, `LogError` where a file of values is broken.
    """
    match numbers:
        case Fixed(value):
            return np.full(count, value, dtype=np.int64)
        case Choice(values):
            return np.array(values, dtype=np.int64)[_choose(numbers, count, random)]
        case Uniform(low, high):
            steps = np.floor(random.random(count) * (high - low + 1))
            return np.asarray(low + steps.astype(np.int64))
        case LogNormal(median, sigma, low, high):
            drawn = np.exp(np.log(median) + sigma * random.standard_normal(count))
            return np.asarray(np.rint(np.clip(drawn, low, high)).astype(np.int64))
        case Empirical():
            pool = _values(numbers)
            return pool[np.floor(random.random(count) * len(pool)).astype(np.int64)]
        case FromLog():
            raise ValueError("numbers from a request log are read, not drawn")


def draw_clips(shape: ClipShape, count: int, stream: Stream) -> tuple[tuple[Clip, ...], Ints]:
    """The distinct clips that occur, sorted, and for each request its row, int64[count]."""
    size = _draw_sizes(shape.resolution, count, stream("resolution"))
    frames = draw_numbers(shape.frames, count, stream("frames"))
    steps = draw_numbers(shape.steps, count, stream("steps"))
    row = np.zeros(count, dtype=np.int64)
    for column in (size[:, 0], size[:, 1], frames, steps):
        levels, level = np.unique(column, return_inverse=True)
        row = np.unique(row * len(levels) + level, return_inverse=True)[1]
    first = np.unique(row, return_index=True)[1]
    clips = (Clip(int(size[i, 0]), int(size[i, 1]), int(frames[i]), int(steps[i])) for i in first)
    return tuple(clips), row


def _draw_sizes(sizes: Sizes, count: int, random: np.random.Generator) -> Ints:
    """int64[count, 2]: width and height."""
    match sizes:
        case Fixed(value):
            return np.broadcast_to(np.array(value, dtype=np.int64), (count, 2))
        case Choice(values):
            return np.array(values, dtype=np.int64)[_choose(sizes, count, random)]


def _choose(
    choice: Choice[int] | Choice[tuple[int, int]], count: int, random: np.random.Generator
) -> Ints:
    total = np.cumsum(choice.weights)
    row = np.searchsorted(total, random.random(count) * total[-1], side="right")
    return np.asarray(np.minimum(row, len(total) - 1))


def _values(empirical: Empirical) -> Ints:
    if empirical.values is not None:
        return np.array(empirical.values, dtype=np.int64)
    if empirical.file is None or empirical.column is None:
        raise ValueError("an empirical distribution has values, or a file and a column")
    return read_column(empirical.file, empirical.column)
