"""Conversations: turns that follow each other, and the beginnings that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dcsim.reading.concept import BytesOrZero, Concept, Instant
from dcsim.reading.forms import Number, up_to
from dcsim.spec.draws import Draw, Fixed, Numbers


@dataclass(frozen=True)
class SystemPrompts(Concept):
    """What sessions begin with, the same in many."""

    tokens: Annotated[int, Number(1, within=up_to(2**31 - 1), whole=True)]
    """Tokens of each."""
    count: Annotated[int, Number(1, within=up_to(10**6), whole=True)] = 1
    """How many different ones there are."""
    zipf: Annotated[float, Number(0, high=10)] = 0.0
    """Popularity: the i-th is asked for in proportion to 1 / i^zipf; 0: all alike."""


ONE: Draw = Fixed(1)


@dataclass(frozen=True)
class Step(Concept):
    """Requests of another job that a job in steps makes, once what they wait for has ended."""

    job: str
    """The job that serves it, which has no arrivals of its own; its `shape` is what is asked."""
    after: tuple[str, ...] = ()
    """Steps above that it waits for, all requests of each; absent: it comes at once."""
    delay: Instant = 0
    """Time from the end of what it waits for until it comes."""
    tool: Instant = 0
    """Mean of what comes on top: the calls of a tool. The times are exponential."""
    count: Numbers = ONE
    """So many at once, such as sub-agents."""
    turns: Numbers = ONE
    """So many one after the other, as a tool's answer leads to the next; the prompt of an LLM is
    all that was said in the turns before, and what is new."""
    hand_over: BytesOrZero = 0
    """Bytes that each request it waits for hands over to it, over the network."""


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
