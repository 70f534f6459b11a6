"""Queues that grow without end are told from those that do not."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dcsim.results.queue import queue_figures

SECOND = 10**9
RUN = 10_000
"""Seconds; one request a second arrives."""

Floats = NDArray[np.float64]


def played(arrival: Floats, service: Floats, servers: int = 1, run: int = RUN) -> dict[str, Any]:
    """The figures of a queue that is served in order by some servers."""
    free, starts = [0.0] * servers, []
    for at, takes in zip(arrival, service, strict=True):
        starts.append(max(at, heapq.heappop(free)))
        heapq.heappush(free, starts[-1] + takes)
    start = np.where(np.array(starts) < run, starts, -1e-9)
    return queue_figures(whole(arrival), whole(start), run * SECOND)


def whole(seconds: Floats) -> NDArray[np.int64]:
    return np.round(seconds * SECOND).astype(np.int64)


def bursty(rng: np.random.Generator, cv: float, run: int = RUN) -> Floats:
    """Arrivals at one a second on average, with a coefficient of variation of their gaps."""
    gaps = rng.gamma(cv**-2, cv**2, 2 * run)
    return np.cumsum(gaps)[np.cumsum(gaps) < run]


@pytest.mark.parametrize("cv", [1.0, 3.0])
@pytest.mark.parametrize("load", [0.5, 0.9, 0.97])
def test_a_stable_queue_does_not_grow(load: float, cv: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        arrival = bursty(rng, cv)
        figures = played(arrival, rng.exponential(load, len(arrival)))
        assert not figures["grows"], figures


@pytest.mark.parametrize(("load", "cv"), [(1.2, 1.0), (1.5, 3.0)])
def test_a_saturated_queue_grows(load: float, cv: float) -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        arrival = bursty(rng, cv)
        figures = played(arrival, rng.exponential(load * 4, len(arrival)), servers=4)
        assert figures["grows"], figures
        assert figures["arrivals_per_s"] == pytest.approx(1.0, rel=0.1 * cv)
        assert figures["admissions_per_s"] == pytest.approx(1 / load, rel=0.1 * cv)
        assert figures["waiting"] == pytest.approx(RUN * (1 - 1 / load), rel=0.2 * cv)


@pytest.mark.parametrize("at", [0.1, 0.4, 0.7, 0.95])
def test_one_burst_is_not_growth(at: float) -> None:
    """Four thousand at once, which take two thousand seconds: at the end they may still wait."""
    arrival = np.sort(np.append(np.arange(RUN, dtype=np.float64), np.full(4000, at * RUN)))
    figures = played(arrival, np.full(len(arrival), 1 / 3))
    assert not figures["grows"]
    assert (figures["waiting"] > 1000) == (at == 0.95)


def test_a_load_that_comes_to_be_too_much_is_growth() -> None:
    """From halfway on two requests a second come where one and a half can be served."""
    arrival = np.append(np.arange(0.0, RUN / 2), np.arange(RUN / 2, RUN, 0.5))
    assert played(arrival, np.full(len(arrival), 1 / 1.5))["grows"]
    early = np.append(np.arange(0.0, RUN / 2, 0.5), np.arange(RUN / 2, RUN))
    assert not played(early, np.full(len(early), 1 / 1.5))["grows"]


def test_nothing_is_ever_admitted() -> None:
    arrival = np.arange(RUN, dtype=np.int64) * SECOND
    assert queue_figures(arrival, np.full(RUN, -1), RUN * SECOND) == {
        "waiting": RUN,
        "grows": True,
        "arrivals_per_s": 1.0,
        "admissions_per_s": 0.0,
    }


def test_too_few_to_say() -> None:
    arrival = np.arange(8, dtype=np.int64) * (RUN // 8) * SECOND
    assert not queue_figures(arrival, np.full(8, -1), RUN * SECOND)["grows"]
    none = np.zeros(0, dtype=np.int64)
    assert queue_figures(none, none, RUN * SECOND)["waiting"] == 0
