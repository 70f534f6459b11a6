"""Shapes of requests: draws from the distributions of a job class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcsim.models.shapes import Clip
from dcsim.spec import ClipShape, Empirical
from dcsim.spec.draws import Draw
from dcsim.spec.shapes import frames_given
from dcsim.workload.logs import read_column

__all__ = ["Clip", "clip_sampler", "draw_clips", "draw_numbers", "sampler"]

Ints = NDArray[np.int64]
Stream = Callable[[str], np.random.Generator]
"""A random stream by purpose."""
Sampler = Callable[[int, np.random.Generator], Ints]
"""So many draws from a stream, int64[count]; called again it goes on."""


def sampler(numbers: Draw) -> Sampler:
    """How numbers are drawn: a file of values is read here, once.

    Raises `LogError` where a file of values is broken; what it returns `ValueError` for numbers
    that come from a request log.
    """
    match numbers:
        case Empirical(file=Path() as file, column=str(column)):
            values = read_column(file, column)
            return lambda count, random: numbers.pick(values, count, random)
    return numbers.draw


def draw_numbers(numbers: Draw, count: int, random: np.random.Generator) -> Ints:
    """`count` draws, int64[count]. Raises as `sampler`."""
    return sampler(numbers)(count, random)


def clip_sampler(
    shape: ClipShape, stream: Stream
) -> Callable[[int], tuple[tuple[Clip, ...], Ints]]:
    """How clips are drawn: of so many the distinct ones that occur, sorted, and for each request
    its row, int64[count]."""
    names = ("resolution", "frames", "steps")
    draws = [
        (sampler(numbers), stream(name))
        for numbers, name in zip((shape.resolution, shape.frames, shape.steps), names, strict=True)
    ]

    def draw(count: int) -> tuple[tuple[Clip, ...], Ints]:
        size, frames, steps = (numbers(count, random) for numbers, random in draws)
        row = np.zeros(count, dtype=np.int64)
        for column in (size[:, 0], size[:, 1], frames, steps):
            levels, level = np.unique(column, return_inverse=True)
            row = np.unique(row * len(levels) + level, return_inverse=True)[1]
        first = np.unique(row, return_index=True)[1]
        figures = np.column_stack([size, frames, steps])[first].tolist()
        clips = (
            Clip(w, h, many, n, frames_given(shape.input, many), shape.strength)
            for w, h, many, n in figures
        )
        return tuple(clips), row

    return draw


def draw_clips(shape: ClipShape, count: int, stream: Stream) -> tuple[tuple[Clip, ...], Ints]:
    """So many clips at once."""
    return clip_sampler(shape, stream)(count)
