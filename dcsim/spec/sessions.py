"""Conversations: turns that follow each other, and the beginnings that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dcsim.reading.concept import Concept, Instant
from dcsim.reading.forms import Number, up_to
from dcsim.spec.draws import Numbers


@dataclass(frozen=True)
class SystemPrompts(Concept):
    """What sessions begin with, the same in many."""

    tokens: Annotated[int, Number(1, within=up_to(2**31 - 1), whole=True)]
    """Tokens of each."""
    count: Annotated[int, Number(1, within=up_to(10**6), whole=True)] = 1
    """How many different ones there are."""
    zipf: Annotated[float, Number(0, high=10)] = 0.0
    """Popularity: the i-th is asked for in proportion to 1 / i^zipf; 0: all alike."""


@dataclass(frozen=True)
class Session(Concept):
    """Conversations: `arrivals` are their starts, the prompt of `shape` what is new in a turn. A
    turn's prompt is all that was said before and what is new."""

    turns: Numbers
    """Turns of a session."""
    think: Instant = 0
    """Mean time from an answer to the next turn; the times are exponential."""
    context: Annotated[int | None, Number(1, within=up_to(2**31 - 1), whole=True)] = None
    """After its first turn a session ends before it would hold more tokens than this."""
    system: SystemPrompts | None = None
    """What sessions begin with."""
