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

__all__ = ["Clip", "draw_clips", "draw_numbers"]

Ints = NDArray[np.int64]
Stream = Callable[[str], np.random.Generator]
"""A random stream by purpose."""


def draw_numbers(numbers: Draw, count: int, random: np.random.Generator) -> Ints:
    """`count` draws, int64[count].

    Raises `ValueError` for numbers that come from a request log, `LogError` where a file of values
    is broken.
    """
    match numbers:
        case Empirical(file=Path() as file, column=str(column)):
            return numbers.pick(read_column(file, column), count, random)
    return numbers.draw(count, random)


def draw_clips(shape: ClipShape, count: int, stream: Stream) -> tuple[tuple[Clip, ...], Ints]:
    """The distinct clips that occur, sorted, and for each request its row, int64[count]."""
    size = shape.resolution.draw(count, stream("resolution"))
    frames = draw_numbers(shape.frames, count, stream("frames"))
    steps = draw_numbers(shape.steps, count, stream("steps"))
    row = np.zeros(count, dtype=np.int64)
    for column in (size[:, 0], size[:, 1], frames, steps):
        levels, level = np.unique(column, return_inverse=True)
        row = np.unique(row * len(levels) + level, return_inverse=True)[1]
    first = np.unique(row, return_index=True)[1]
    clips = (
        Clip(
            int(size[i, 0]),
            int(size[i, 1]),
            int(frames[i]),
            int(steps[i]),
            frames_given(shape.input, int(frames[i])),
            shape.strength,
        )
        for i in first
    )
    return tuple(clips), row
