"""Names of what crosses the engine's border; the meanings are in ``docs/engine.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NotRequired, TypeAlias, TypedDict, cast

import numpy as np
import numpy.typing as npt

from dcsim.engine import _core

Int64: TypeAlias = npt.NDArray[np.int64]
Tables: TypeAlias = dict[str, Int64]

TIERS = ("hbm", "dram", "nand")
RULES = ("fixed", "prefill", "decode")
STARTS = ("cold", "warm", "down")
OUTCOMES = ("queued", "running", "completed", "rejected", "awaited", "abandoned")
CATEGORIES = ("weights", "live", "transient", "cache", "artifacts", "adapters")
CAUSES = ("taken", "moved", "expired", "evicted", "lost", "dropped", "spilled", "read")
EVENTS = ("loading", "up", "down", "capacity")
STATES = ("down", "loading", "up")

EVICTIONS: tuple[str, ...] = _core.evictions()
"""Which leaf goes first; in the order of the engine's numbers for them."""

ROUTERS: tuple[str, ...] = _core.routers()
"""Which replica gets a request; likewise."""

TICKS_PER_NS = 65536

COLUMNS: dict[str, tuple[str, ...]] = _core.columns()
"""Columns of each input table, as the compiled engine names them."""


ACCOUNTS = ("pool", "category", "service", "class")
CONTROL = ("time", "kind", "subject", "value")
"""Columns of the tables ``accounts`` and ``events`` of the outputs."""


REQUESTS = ("arrival", "klass", "work", "prompt", "output")
"""Columns of the requests, which may come in slices."""


class Rows(TypedDict):
    """What is written down of some requests; times in ns."""

    arrived: Int64
    start: Int64
    first: Int64
    end: Int64
    outcome: npt.NDArray[np.int8]
    preemptions: npt.NDArray[np.int32]
    replica: npt.NDArray[np.int32]
    hit_hbm: NotRequired[Int64]
    hit_dram: NotRequired[Int64]
    hit_nand: NotRequired[Int64]
    hit_again: NotRequired[Int64]
    brought_hbm: NotRequired[Int64]
    brought_dram: NotRequired[Int64]
    brought_nand: NotRequired[Int64]
    brought_library: NotRequired[Int64]
    brought_again: NotRequired[Int64]
    handed: NotRequired[Int64]
    swaps: NotRequired[npt.NDArray[np.int32]]


RouteFunction = Callable[[int, int, int, int, int, list[tuple[int, int, int, int]]], int]
"""Of a request the time in ns, the class, tokens of prompt and output, and the replica that the one
before it was on (-1: none); of each replica that it can go to the row, requests and prompt tokens
that are there, and four times the tokens that what is found there saves: the row of its choice."""

ROWS: tuple[str, ...] = tuple(Rows.__annotations__)
"""Columns of what is written down of requests, those of content and hand-overs among them."""


def cut(rows: Rows, first: int, last: int) -> Rows:
    """Some of the rows; of outputs these columns alone."""
    return cast(Rows, {n: rows[n][first:last] for n in ROWS if n in rows})  # type: ignore[literal-required]


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows one after another."""
    names = parts[0].keys()
    return cast(Rows, {n: np.concatenate([each[n] for each in parts]) for n in names})  # type: ignore[literal-required]


class Outputs(Rows):
    """What ``Engine.finish`` returns; shapes in ``docs/engine.md``, times in ns, sizes in bytes."""

    accounts: Int64
    mean: Int64
    top: Int64
    tier_top: Int64
    flow: Int64
    useful: NotRequired[Int64]
    reused: NotRequired[Int64]
    moved: Int64
    events: Int64
    stats: dict[str, int]


def table(name: str, rows: Iterable[Mapping[str, int]]) -> Int64:
    """One input table from rows by column name; columns that a row leaves out are 0.

    Raises:
        KeyError: a row names a column that the table does not have.
    """
    columns = {column: i for i, column in enumerate(COLUMNS[name])}
    rows = list(rows)
    out = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for i, row in enumerate(rows):
        for column, value in row.items():
            out[i, columns[column]] = value
    return out
