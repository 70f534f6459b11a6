"""What one request asks of a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil
from typing import Any


@dataclass(frozen=True)
class Clip:
    """A clip: pixels, frames (1 is an image) and sampler steps."""

    width: int
    height: int
    frames: int = 1
    steps: int = 50
    given: int = 0
    """Frames that the request brings, the first of the clip: 1 is an image; 0: text alone."""
    strength: float = 1.0
    """Share of the steps that an edit, which brings all frames, is denoised in."""

    @property
    def denoised(self) -> int:
        """Sampler steps that are run: of an edit the last `strength x steps`, rounded up as
        diffusers' pipelines of images do (its pipelines of clips round down)."""
        share = Fraction(self.strength).limit_denominator(10**6)
        return max(1, ceil(share * self.steps))


@dataclass(frozen=True)
class Turn:
    """A turn: prompt and output tokens, and the chunk in which the prompt is fed."""

    prompt: int
    output: int
    chunk: int = 2048


RequestShape = Clip | Turn


def figures(shape: RequestShape) -> dict[str, Any]:
    """The fields of a shape by name; of what is brought only where something is."""
    found = asdict(shape)
    if found.get("given") == 0:
        del found["given"], found["strength"]
    return found
