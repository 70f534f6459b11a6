"""The halves of a decoder's block as files have them: kinds of attention and of feed-forward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dcsim.reading.concept import Concept


def divides(name: str, many: int, few: int) -> Iterator[str]:
    """What is wrong where one number must be a multiple of another."""
    if many % few:
        yield f"{name}: {few} does not divide {many}"


@dataclass(frozen=True)
class Part(Concept):
    """Half of a block."""

    by = "kind"

    def check(self) -> None:
        if wrong := list(self.faults()):
            raise ValueError("; ".join(wrong))

    def faults(self) -> Iterator[str]:
        """What its numbers cannot be together."""
        yield from ()


@dataclass(frozen=True)
class Mixer(Part):
    """Attention, or what stands in for it."""

    @property
    def shared(self) -> bool:
        """Whether context-parallel GPUs can have a share of the tokens each."""
        return False


@dataclass(frozen=True)
class FeedForward(Part):
    """The half that works on each token alone."""

    @property
    def wholes(self) -> int:
        """Experts of which each may be whole on a GPU."""
        return 0
