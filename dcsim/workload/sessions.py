"""Turns of conversations: a chain of requests a session, and the content that they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.spec import Closed, Session

__all__ = ["MOST_TOKENS", "Stream", "Turns", "closed_turns", "draw_turns", "popular"]

Ints = NDArray[np.int64]
Numbers = Callable[[str, int], Ints]
"""Draws of a purpose: (`turns`, `prompt` or `output`, how many)."""
Stream = Callable[[str], np.random.Generator]
"""A random stream by purpose."""

MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True)
class Turns:
    """N turns of S sessions, session by session, in order.

    `session` int64[N]: which; `after` int64[N]: the turn before, -1 for a first one; `delay`
    int64[N], ns: the think time before a turn that has one before; `prompt`, `output` int64[N],
    tokens. With reuse `nodes` int64[M, 2] are (parent, tokens) of a prefix forest, `reads` and
    `leaves` int64[N] rows of it, -1 for none; else all are -1 and there is no node.
    """

    session: Ints
    after: Ints
    delay: Ints
    prompt: Ints
    output: Ints
    nodes: Ints
    reads: Ints
    leaves: Ints


def draw_turns(
    session: Session,
    starts: int,
    numbers: Numbers,
    random: Stream,
    block: int,
    *,
    answers: bool = True,
) -> Turns:
    """The turns of as many sessions as there are `starts`; `block`: tokens, 0 without reuse.

    `answers`: whether a turn leaves the KV of its answer beside that of its prompt.
    """
    turns = numbers("turns", starts)
    begin = np.cumsum(turns) - turns
    of = np.repeat(np.arange(starts, dtype=np.int64), turns)
    first = begin[of]
    count = len(of)
    system = 0 if session.system is None else session.system.tokens
    new, output = numbers("prompt", count), numbers("output", count)
    think = np.rint(random("think").exponential(session.think, count)).astype(np.int64)
    # What was said before a turn: the sum of the session's turns up to it.
    said = np.cumsum(new + output)
    before = said - (new + output)
    prompt = before - before[first] + system + new if count else new
    most = MOST_TOKENS if session.context is None else session.context
    row = np.arange(count, dtype=np.int64)
    # Contexts only grow, so what is left of a session is its beginning.
    kept = (prompt + output <= most) | (row == first)
    number = np.cumsum(kept) - 1
    after = np.where(row == first, -1, number - 1)[kept]
    turn = Turns(
        session=of[kept],
        after=after,
        delay=np.where(after < 0, 0, think[kept]),
        prompt=prompt[kept],
        output=output[kept],
        nodes=np.empty((0, 2), dtype=np.int64),
        reads=np.full(int(kept.sum()), -1, dtype=np.int64),
        leaves=np.full(int(kept.sum()), -1, dtype=np.int64),
    )
    return _with_content(turn, session, starts, random, block, answers) if block else turn


def closed_turns(arrivals: Closed, random: np.random.Generator) -> Turns:
    """The requests of clients in turn: each waits for the one that its client sent before."""
    count, clients = arrivals.requests, arrivals.clients
    row = np.arange(count, dtype=np.int64)
    after = np.where(row < clients, -1, row - clients)
    think = np.rint(random.exponential(arrivals.think, count)).astype(np.int64)
    none = np.zeros(count, dtype=np.int64)
    return Turns(
        session=row % clients,
        after=after,
        delay=np.where(after < 0, 0, think),
        prompt=none,
        output=none,
        nodes=np.empty((0, 2), dtype=np.int64),
        reads=none - 1,
        leaves=none - 1,
    )


def _with_content(
    turn: Turns, session: Session, starts: int, random: Stream, block: int, answers: bool
) -> Turns:
    """Each turn leaves the full blocks that it adds to what it began with."""
    system = session.system
    prompts = 0 if system is None else system.count
    shared = 0 if system is None else system.tokens // block * block
    begins = np.full(starts, -1, dtype=np.int64)
    if system is not None:
        begins = popular(system.count, system.zipf, starts, random("system"))
    first = turn.after < 0
    row = np.arange(len(turn.session), dtype=np.int64)
    leaves = prompts + row
    reads = np.where(first, begins[turn.session] if starts else row, leaves - 1)
    whole = turn.prompt + turn.output - 1 if answers else turn.prompt
    depth = whole // block * block
    added = depth - np.where(first, shared, np.roll(depth, 1))
    roots = np.stack([np.full(prompts, -1), np.full(prompts, shared)], axis=1)
    nodes = np.concatenate([roots, np.stack([reads, added], axis=1)])
    return Turns(
        turn.session, turn.after, turn.delay, turn.prompt, turn.output, nodes, reads, leaves
    )


def popular(count: int, zipf: float, draws: int, random: np.random.Generator) -> Ints:
    """Which of `count` things each draw takes, the i-th in proportion to 1 / i^zipf."""
    weight = np.arange(1, count + 1, dtype=np.float64) ** -zipf
    share = np.cumsum(weight) / weight.sum()
    found = np.searchsorted(share, random.random(draws), side="right")
    return np.minimum(found, count - 1).astype(np.int64)
