"""What one request asks of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Clip:
    """A clip: pixels, frames (1 is an image) and sampler steps."""

    width: int
    height: int
    frames: int = 1
    steps: int = 50


@dataclass(frozen=True)
class Turn:
    """A turn: prompt and output tokens, and the chunk in which the prompt is fed."""

    prompt: int
    output: int
    chunk: int = 2048


RequestShape = Clip | Turn
