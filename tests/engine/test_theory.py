"""The engine against queueing theory and closed forms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from dcsim.engine import Engine, Tables, table

TICKS = 65536
STEP = 1_000_000
"""ns that a decode step costs."""
REQUESTS = 200_000


def queue(
    outputs: npt.NDArray[np.int64], load: float, *, max_jobs: int, seed: int
) -> dict[str, npt.NDArray[np.int64]]:
    """A replica that costs each request STEP ns a step (and little else), Poisson arrivals.

    The output of n tokens takes n steps: the prefill of one token and n - 1 of decode.
    """
    random = np.random.default_rng(seed)
    gap = outputs.mean() * STEP / load
    arrival = np.cumsum(random.exponential(gap, len(outputs))).astype(np.int64)
    own = STEP * TICKS
    nothing = np.zeros(len(outputs), dtype=np.int64)
    tables: Tables = {
        "pools": table("pools", [{"tier": tier, "capacity": 1} for tier in range(3)]),
        "channels": table("channels", [{"bandwidth": 1}]),
        "path_start": np.array([0, 1], dtype=np.int64),
        "path_channels": np.array([0], dtype=np.int64),
        "phases": table("phases", [{"launch": 1}]),
        "segments": table(
            "segments", [{"rule": 1, "tokens": 8, "own": own}, {"rule": 2, "tokens": 1, "own": own}]
        ),
        "works": table("works", [{"segments": 2}]),
        "services": table(
            "services", [{"replicas": 1, "max_jobs": max_jobs, "max_tokens": 1 << 40}]
        ),
        "classes": table("classes", [{}]),
        "replicas": table("replicas", [{"dram": 1, "home": 2, "store": 2, "start": 1}]),
        "arrival": arrival,
        "klass": nothing,
        "work": nothing,
        "prompt": nothing + 1,
        "output": outputs,
    }
    horizon = int(arrival[-1]) + int(outputs.sum()) * STEP
    out = Engine(tables, horizon, horizon).finish()
    assert (out["outcome"] == 2).all()
    return {"arrival": arrival, "start": out["start"], "end": out["end"]}


def exponential(mean: float, seed: int) -> npt.NDArray[np.int64]:
    drawn = np.random.default_rng(seed).exponential(mean, REQUESTS)
    return np.maximum(1, np.rint(drawn)).astype(np.int64)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("kind", ["fixed", "exponential"])
def test_one_job_at_a_time_is_m_g_1(kind: str, load: float) -> None:
    """Mean wait of M/G/1, first come first served (Pollaczek and Khinchine):
    `lambda E[S^2] / (2 (1 - rho))`."""
    outputs = exponential(100, 5) if kind == "exponential" else np.full(REQUESTS, 100)
    run = queue(outputs, load, max_jobs=1, seed=7)
    service = outputs * float(STEP)
    rate = len(outputs) / float(run["arrival"][-1])
    rho = rate * service.mean()
    expected = rate * (service**2).mean() / (2 * (1 - rho))
    waited = (run["start"] - run["arrival"]).mean()
    assert waited == pytest.approx(expected, rel=0.06)
    # Work is conserved to the nanosecond: the server never idles while someone waits.
    busy = np.maximum.accumulate(run["end"])
    begins = np.maximum(run["arrival"][1:], busy[:-1])
    assert np.abs(run["start"][1:] - begins).max() <= 1


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_a_shared_batch_is_processor_sharing(load: float) -> None:
    """With an iteration that costs as many steps as it has requests, each gets its share: the mean
    time in an M/G/1 processor-sharing queue is `E[S] / (1 - rho)` whatever S is."""
    outputs = exponential(400, 11)
    run = queue(outputs, load, max_jobs=1 << 30, seed=13)
    service = outputs * float(STEP)
    rho = len(outputs) / float(run["arrival"][-1]) * service.mean()
    spent = (run["end"] - run["arrival"]).mean()
    assert spent == pytest.approx(service.mean() / (1 - rho), rel=0.06)


def test_littles_law() -> None:
    """Jobs in the system over time = arrivals a second x time in the system, by two counts."""
    run = queue(exponential(100, 17), 0.7, max_jobs=8, seed=19)
    begin, end = run["arrival"], run["end"]
    times = np.concatenate([begin, end])
    change = np.concatenate([np.ones(len(begin)), -np.ones(len(end))])
    order = np.argsort(times, kind="stable")
    inside = np.cumsum(change[order])[:-1]
    area = float((inside * np.diff(times[order])).sum())
    assert area == pytest.approx(float((end - begin).sum()), rel=1e-9)


def test_one_turn_alone_in_closed_form() -> None:
    """Prefill in chunks, decode with a growing context: the sum written out by hand."""
    launch, weights, dense, own, ctx, pair = 1000, 70_000_000, 90_000, 500, 700, 11
    prompt, output, chunk = 1300, 77, 512
    tables: Tables = {
        "pools": table("pools", [{"tier": 0, "capacity": 10**9}, {"tier": 1}, {"tier": 2}]),
        "channels": table("channels", [{"bandwidth": 1}]),
        "path_start": np.array([0, 1], dtype=np.int64),
        "path_channels": np.array([0], dtype=np.int64),
        "phases": table("phases", [{"launch": launch, "weights": weights}]),
        "segments": table(
            "segments",
            [
                {"rule": 1, "tokens": chunk, "first": 1}
                | (costs := {"dense": dense, "own": own, "ctx": ctx, "pair": pair, "live": 3}),
                {"rule": 2, "tokens": 1} | costs,
            ],
        ),
        "works": table("works", [{"segments": 2}]),
        "services": table("services", [{"replicas": 1, "max_jobs": 1, "max_tokens": chunk}]),
        "classes": table("classes", [{}]),
        "replicas": table("replicas", [{"dram": 1, "home": 2, "store": 2, "start": 1}]),
        "arrival": np.array([123], dtype=np.int64),
        "klass": np.zeros(1, dtype=np.int64),
        "work": np.zeros(1, dtype=np.int64),
        "prompt": np.array([prompt], dtype=np.int64),
        "output": np.array([output], dtype=np.int64),
    }
    ticks = 0
    for before, n in ((0, 512), (512, 512), (1024, 276)):
        attention = max(pair * sum(range(before + 1, before + n + 1)), ctx * (before + n))
        ticks += launch + max(weights, dense * n) + own * n + attention
    first = -(-ticks // TICKS)
    for context in range(prompt + 1, prompt + output):
        ticks += launch + max(weights, dense) + own + max(pair, ctx) * context
    out = Engine(tables, 10**9, 10**9).finish()
    assert out["first"].tolist() == [123 + first]
    assert out["end"].tolist() == [123 + -(-ticks // TICKS)]
