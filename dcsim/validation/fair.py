"""Max-min fair shares of links: a plain solver in exact fractions, and the engine against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from dcsim.engine import Engine, Tables, table

__all__ = ["ShareRow", "exact_rates", "share_rows"]


def exact_rates(bandwidths: list[int], paths: list[list[int]]) -> list[Fraction]:
    """Rate of a transfer over each path (channels, named once or more).

    Raises all together until a link is full, and goes on with those that have room.
    """
    rates = [Fraction(0) for _ in paths]
    rising = set(range(len(paths)))
    used = [Fraction(0) for _ in bandwidths]
    while rising:
        climbs = [sum(paths[i].count(channel) for i in rising) for channel in range(len(used))]
        rise = min(
            (Fraction(bandwidth) - taken) / climb
            for bandwidth, taken, climb in zip(bandwidths, used, climbs, strict=True)
            if climb
        )
        for i in rising:
            rates[i] += rise
        used = [taken + climb * rise for taken, climb in zip(used, climbs, strict=True)]
        full = {channel for channel, taken in enumerate(used) if taken == bandwidths[channel]}
        rising = {i for i in rising if not full.intersection(paths[i])}
    return rates


@dataclass(frozen=True)
class ShareRow:
    """Random networks of one size, and how far the engine's rates are from the exact ones."""

    networks: int
    links: int
    transfers: int
    slowest: float
    """The least exact rate, bytes/s."""
    off: float
    """The largest difference of a rate, bytes/s."""


SIZES = ((50, 1, 10), (50, 4, 20), (20, 12, 60), (4, 40, 200))


def share_rows(seed: int = 1) -> list[ShareRow]:
    """Links of 1 to 100 GB/s, transfers over one to four of them."""
    rows = []
    for i, (networks, links, transfers) in enumerate(SIZES):
        random = np.random.default_rng([seed, i])
        slowest, off = float("inf"), Fraction(0)
        for _ in range(networks):
            bandwidths = random.integers(10**9, 10**11, links, endpoint=True).tolist()
            hops = random.integers(1, min(4, links), transfers, endpoint=True).tolist()
            paths = [random.choice(links, n, replace=False).tolist() for n in hops]
            exact = exact_rates(bandwidths, paths)
            slowest = min(slowest, float(min(exact)))
            ours = engine_rates(bandwidths, paths)
            off = max(off, *(abs(a - b) for a, b in zip(ours, exact, strict=True)))
        rows.append(ShareRow(networks, links, transfers, slowest, float(off)))
    return rows


def engine_rates(bandwidths: Sequence[int], paths: Sequence[Sequence[int]]) -> list[int]:
    """Bytes that each transfer moves in a second in which all are under way.

    Each starts from a replica of its own, and has one more link to itself that counts its bytes and
    never limits it.
    """
    n, links = len(paths), len(bandwidths)
    whole = [[*path, links + i] for i, path in enumerate(paths)]
    zeros = np.zeros(n, dtype=np.int64)
    pools = [*({"tier": 0, "capacity": 1} for _ in paths)]
    tiers = [{"tier": tier, "capacity": 1 << 62} for tier in (1, 2)]
    common = {"dram": n, "home": n + 1, "store": n + 1, "start": 1}
    tables: Tables = {
        "pools": table("pools", [*pools, *tiers]),
        "channels": table(
            "channels", [{"bandwidth": b} for b in (*bandwidths, *(10**13 for _ in paths))]
        ),
        "path_start": np.cumsum([0, *map(len, whole)], dtype=np.int64),
        "path_channels": np.array([link for path in whole for link in path], dtype=np.int64),
        "phases": table("phases", [{"launch": 1}]),
        "segments": table("segments", [{"steps": 1}]),
        "works": table("works", [{"segments": 1, "artifact": 10**15}]),
        "services": table(
            "services", [{"router": 1, "replicas": n, "max_jobs": 1, "max_tokens": 1}]
        ),
        "classes": table("classes", [{"artifact_dram": 1}]),
        "replicas": table("replicas", [{"hbm": i, "offload": i} | common for i in range(n)]),
        "arrival": zeros,
        "klass": zeros,
        "work": zeros,
        "prompt": zeros,
        "output": zeros,
    }
    second = 10**9
    moved = Engine(tables, 2 * second, second).finish()["moved"]
    rates: list[int] = moved[links:, 1].tolist()
    return rates
