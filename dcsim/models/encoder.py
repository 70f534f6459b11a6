"""Text encoders: what a family of them has to say of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from dcsim.models.tape import Array, Tape, Tensor
from dcsim.models.weights import Parameters, Weights
from dcsim.reading.concept import Concept


@dataclass(frozen=True)
class Encoding:
    """What a text encoder makes of a prompt."""

    sequence: Tensor
    """(batch, tokens, width)."""
    pooled: Tensor | None = None
    """(batch, width), of an encoder that sums a prompt up."""


@dataclass(frozen=True)
class Encoder(Concept, ABC):
    """A text encoder; one with a tag is a family."""

    by = "family"

    @property
    @abstractmethod
    def out_width(self) -> int:
        """Width of the sequence."""

    @property
    def pooled_width(self) -> int:
        """Width of the pooled encoding; 0 of an encoder that makes none."""
        return 0

    @property
    @abstractmethod
    def blocks(self) -> int:
        """Layers that a pass runs, each with a launch overhead."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """Names and shapes of the parameters."""

    @property
    def of_image(self) -> bool:
        """Whether it encodes an image, which all guidance branches share, not a text."""
        return False

    def fed(self, tape: Tape, tokens: int, dtype: str, data: Array | None = None) -> Tensor:
        """What it encodes one of: token ids (1, tokens)."""
        return tape.tensor((1, tokens), "int64", data)

    @abstractmethod
    def encode(self, w: Weights, ids: Tensor) -> Encoding:
        """Encodes token ids (batch, tokens), or what `fed` gives."""
