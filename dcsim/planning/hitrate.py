"""How often a prefix cache holds what a prompt begins with. The rules are in docs/hitrate.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcsim.engine import EVICTIONS, Forest
from dcsim.spec import Problem, SpecError, did_you_mean
from dcsim.workload import BlockLog, read_blocks

__all__ = [
    "HitCurve",
    "HitRates",
    "PrefixLog",
    "hit_rate_curve",
    "hit_rates",
    "read_prefixes",
    "whole_blocks",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_TOKENS = 2.0**62
"""The largest capacity: as many blocks still fit 64 bits."""


@dataclass(frozen=True)
class PrefixLog:
    """A log as a prefix forest, with the full blocks of each prompt, int64[N]."""

    block_tokens: int
    forest: Forest
    full: Ints

    def __len__(self) -> int:
        return len(self.full)

    def rate(self, hits: Ints) -> float:
        """Of hits by request, int64[N], the share of all full blocks."""
        return float(np.minimum(hits, self.full).sum() / self.full.sum())

    @property
    def unlimited(self) -> float:
        """The hit rate with room for all, whatever is evicted first."""
        return self.rate(self.forest.hits("lru", self.forest.blocks))


@dataclass(frozen=True)
class HitRates:
    """Hit rates of one log and policy, by capacity: float64[K] both; and with room for all."""

    policy: str
    capacity_tokens: Floats
    hit_rate: Floats
    unlimited: float


@dataclass(frozen=True)
class HitCurve:
    """The hit rate of an LRU cache of any size.

    Hits are linear in the capacity between `blocks`, int64[K], from 0 to room for all; there they
    are `hits`, int64[K], of `full` blocks that could hit.
    """

    block_tokens: int
    full: int
    blocks: Ints
    hits: Ints

    @property
    def capacity_tokens(self) -> Floats:
        """Capacities at which the slope changes, float64[K]."""
        return np.asarray(self.blocks * float(self.block_tokens), dtype=np.float64)

    @property
    def hit_rate(self) -> Floats:
        """The hit rates there, float64[K]."""
        return np.asarray(self.hits / self.full, dtype=np.float64)

    @property
    def unlimited(self) -> float:
        """The hit rate with room for all."""
        return float(self.hit_rate[-1])

    @property
    def enough_tokens(self) -> float:
        """The least capacity that hits as often as room for all."""
        return float(self.capacity_tokens[np.argmax(self.hits == self.hits[-1])])

    def at(self, capacity_tokens: Sequence[float] | Floats) -> Floats:
        """Hit rates at other capacities: as `hit_rates` gives them, to the last bit."""
        hits = np.interp(whole_blocks(capacity_tokens, self.block_tokens), self.blocks, self.hits)
        return np.asarray(hits / self.full, dtype=np.float64)


def whole_blocks(tokens: Sequence[float] | Floats, block_tokens: int) -> Ints:
    """Blocks that find room in capacities in tokens.

    Raises ValueError for a capacity below 0 or without an end.
    """
    given = np.asarray(tokens, dtype=np.float64)
    if not ((given >= 0) & (given <= MOST_TOKENS)).all():
        raise ValueError(f"a capacity is 0 to 2^62 tokens: {tokens}")
    return np.asarray(given // block_tokens, dtype=np.int64)


def read_prefixes(log: Path | str | BlockLog, block_tokens: int = 512) -> PrefixLog:
    """A Mooncake-style log, by its file or as read, as a prefix forest.

    `block_tokens` is what an id of the file stands for; a log that was read has its own.
    Raises SpecError with every broken row, or where no prompt fills a block.
    """
    path = None if isinstance(log, BlockLog) else Path(log)
    rows = log if isinstance(log, BlockLog) else read_blocks(Path(log), block_tokens)
    if not rows.full.any():
        message = f"no prompt fills a block of {rows.block_tokens} tokens, so nothing can hit"
        raise SpecError([Problem(path, None, None, "", message)])
    return PrefixLog(rows.block_tokens, Forest(rows.start, rows.blocks), rows.full)


def hit_rates(
    log: Path | str | BlockLog | PrefixLog,
    capacity_tokens: Sequence[float] | Floats,
    policy: str = "lru",
    block_tokens: int = 512,
) -> HitRates:
    """Hit rates of one cache that evicts by `lru`, `lfu` or `fifo`, at each capacity.

    Raises SpecError as `read_prefixes`, ValueError for another policy or a capacity below 0.
    """
    if policy not in EVICTIONS:
        raise ValueError(f"no policy {policy!r}; {did_you_mean(policy, EVICTIONS)}")
    prefixes = log if isinstance(log, PrefixLog) else read_prefixes(log, block_tokens)
    rates = [
        prefixes.rate(prefixes.forest.hits(policy, int(blocks)))
        for blocks in whole_blocks(capacity_tokens, prefixes.block_tokens)
    ]
    capacities = np.array(capacity_tokens, dtype=float)
    return HitRates(policy, capacities, np.array(rates), prefixes.unlimited)


def hit_rate_curve(log: Path | str | BlockLog | PrefixLog, block_tokens: int = 512) -> HitCurve:
    """The hit rate of an LRU cache at all capacities, in one pass (stack distances).

    Raises SpecError as `read_prefixes`.
    """
    prefixes = log if isinstance(log, PrefixLog) else read_prefixes(log, block_tokens)
    hits = prefixes.forest.lru_hits(prefixes.full)
    bends = np.flatnonzero(np.diff(hits, 2)) + 1
    blocks = np.unique(np.concatenate([[0], bends, [len(hits) - 1]])).astype(np.int64)
    return HitCurve(prefixes.block_tokens, int(prefixes.full.sum()), blocks, hits[blocks])
