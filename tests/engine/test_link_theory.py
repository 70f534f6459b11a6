"""A link against queueing theory: transfers that share it are an M/G/1 processor-sharing queue."""

from __future__ import annotations

import numpy as np
import pytest

from dcsim.engine import Engine, Tables, table

TICKS = 65536
BANDWIDTH = 10**9
"""Bytes a second: one a nanosecond."""
MEAN = 1_000_000
"""Bytes of a transfer, so ns that it takes alone."""
TRANSFERS = 80_000
ROUNDS = 5

SIZES = {
    "equal": ([MEAN], [1.0]),
    "two sizes": ([MEAN // 5, 9 * MEAN], [10 / 11, 1 / 11]),
    # 16 quantiles of the exponential distribution
    "exponential": (
        [int(MEAN * -np.log1p(-(i + 0.5) / 16)) for i in range(16)],
        [1 / 16] * 16,
    ),
}


def sojourns(sizes: list[int], shares: list[float], load: float, seed: int) -> np.ndarray:
    """Mean time (ns) that a transfer of each size takes, by Little's law.

    Transfers start by a Poisson process as requests of a ns end, each size a class of its own: the
    bytes of a class in DRAM, by the bytes of one, are its transfers under way.
    """
    random = np.random.default_rng(seed)
    mean = float(np.dot(sizes, shares))
    arrival = np.cumsum(random.exponential(mean / load, TRANSFERS)).astype(np.int64)
    kind = random.choice(len(sizes), TRANSFERS, p=shares)
    nothing = np.zeros(TRANSFERS, dtype=np.int64)
    tables: Tables = {
        "pools": table("pools", [{"tier": tier, "capacity": 1 << 62} for tier in range(3)]),
        "channels": table("channels", [{"bandwidth": BANDWIDTH}]),
        "path_start": np.array([0, 1], dtype=np.int64),
        "path_channels": np.array([0], dtype=np.int64),
        "phases": table("phases", [{"launch": TICKS}]),
        "segments": table("segments", [{"steps": 1}]),
        "works": table("works", [{"segments": 1, "artifact": size} for size in sizes]),
        "services": table("services", [{"replicas": 1, "max_jobs": 1 << 40, "max_tokens": 1}]),
        "classes": table("classes", [{"artifact_dram": 1} for _ in sizes]),
        "replicas": table("replicas", [{"dram": 1, "home": 2, "store": 2, "start": 1}]),
        "arrival": arrival,
        "klass": kind.astype(np.int64),
        "work": kind.astype(np.int64),
        "prompt": nothing,
        "output": nothing,
    }
    horizon = int(arrival[-1]) + 100 * max(sizes)
    out = Engine(tables, horizon, horizon).finish()
    total = out["moved"].sum()
    assert total == np.take(sizes, kind).sum()
    rows = [row for row, (pool, category, _, _) in enumerate(out["accounts"].tolist())
            if (pool, category) == (1, 4)]  # fmt: skip
    held = out["mean"][rows, 0].astype(np.float64) * horizon
    spent: np.ndarray = held / sizes / np.bincount(kind, minlength=len(sizes))
    return spent


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("law", SIZES)
def test_a_shared_link_is_processor_sharing(law: str, load: float) -> None:
    """A transfer of `b` bytes takes `b / B / (1 - rho)` on average, whatever the other sizes are;
    so the mean over all is `E[b] / B / (1 - rho)`. Within 4 standard errors of a few rounds."""
    sizes, shares = SIZES[law]
    rounds = np.array([sojourns(sizes, shares, load, seed) for seed in range(ROUNDS)])
    mean = rounds @ np.array(shares)
    expected = np.dot(sizes, shares) / (1 - load)
    error = mean.std(ddof=1) / np.sqrt(ROUNDS)
    assert abs(mean.mean() - expected) < 4 * error + 0.001 * expected
    assert error < 0.02 * expected
    for size, spent in zip(sizes, rounds.mean(axis=0), strict=True):
        assert spent == pytest.approx(size / (1 - load), rel=0.08)
