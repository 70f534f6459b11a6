"""What one request asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DitShape:
    """A clip: pixels, frames (1 is an image) and denoising steps."""

    width: int
    height: int
    frames: int = 1
    steps: int = 50


@dataclass(frozen=True)
class TokenShape:
    """A turn: prompt and output tokens, and the chunk in which the prompt is fed."""

    prompt: int
    output: int
    chunk: int = 2048


RequestShape = DitShape | TokenShape
