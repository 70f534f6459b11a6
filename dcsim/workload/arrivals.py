"""When requests arrive: renewal processes of rate one, brought to a changing rate."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dcsim.workload.curve import Curve

__all__ = ["renewal_pieces", "renewal_times", "unit_counts"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_ALL = 2**62


def renewal_times(curve: Curve, random: np.random.Generator, cv: float, duration: int) -> Ints:
    """All of `renewal_pieces`, int64[N]."""
    pieces = renewal_pieces(curve, random, cv, duration, _ALL)
    return np.concatenate([np.empty(0, dtype=np.int64), *pieces])


def renewal_pieces(
    curve: Curve, random: np.random.Generator, cv: float, duration: int, size: int
) -> Iterator[Ints]:
    """Arrival times in `[0, duration)` ns, ascending, at the rate of `curve`, `size` at a time.

    Arrivals of a stationary process of rate one (see `unit_counts`) are put where the expected
    number of arrivals reaches them. So one stream serves every rate: at twice the rate the same
    requests come twice as fast, and request i stays request i. The coefficient of variation `cv`
    is that of the gaps before this change of time: the rate's own ups and downs do not count.
    """
    # A little past the end and then cut in whole ns: which side of the end an arrival falls on
    # must not depend on where the run ends.
    expected = curve.expected(duration / 1e9) * (1 + 1e-9) + 1e-6
    for counts in _unit_pieces(min(expected, float(curve.total[-1])), random, cv, size):
        times = np.floor(curve.times(counts) * 1e9).astype(np.int64)
        yield times[times < duration]


def unit_counts(expected: float, random: np.random.Generator, cv: float) -> Floats:
    """Event times float64[N] in `(0, expected)` of a stationary renewal process of rate one.

    Gaps have mean 1 and coefficient of variation `cv`: all equal at 0, exponential at 1 (a
    Poisson process), else Gamma of shape `1/cv^2`. The first gap is the rest of one under way at
    time 0, else a bursty process would begin with a burst: a uniform part of a length-biased gap,
    which for a Gamma of shape s is a Gamma of shape s + 1 (Cox, Renewal Theory, 1962). Equal gaps
    begin with half of one. A longer run of the same stream only appends.
    """
    return np.concatenate([np.empty(0), *_unit_pieces(expected, random, cv, _ALL)])


def _unit_pieces(
    expected: float, random: np.random.Generator, cv: float, size: int
) -> Iterator[Floats]:
    """`unit_counts`, some `size` at a time: each time is the one before and a gap, so pieces of any
    size give the same."""
    if cv == 0.0:
        count = max(0, math.ceil(expected - 0.5))
        for first in range(0, count, size):
            yield np.arange(first, min(first + size, count), dtype=np.float64) + 0.5
        return
    shape, scale = 1.0 / (cv * cv), cv * cv
    reached = random.random() * random.standard_gamma(shape + 1.0) * scale
    skip = 0  # the first is an event; later pieces begin with one that has been
    while not skip or reached < expected:
        missing = max(0.0, expected - reached)
        gaps = min(size, int(missing + 6.0 * cv * math.sqrt(missing)) + 16)
        if cv == 1.0:
            more = random.standard_exponential(gaps)
        else:
            more = random.standard_gamma(shape, gaps) * scale
        counts = np.cumsum(np.append(reached, more))
        end = int(np.searchsorted(counts, expected, side="left"))
        yield np.asarray(counts[skip:end], dtype=np.float64)
        reached, skip = float(counts[-1]), 1
