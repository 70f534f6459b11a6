"""When requests arrive: renewal processes of rate one, brought to a changing rate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dcsim.workload.curve import Curve

__all__ = ["renewal_times", "unit_counts"]

Floats = NDArray[np.float64]


def renewal_times(
    curve: Curve, random: np.random.Generator, cv: float, duration: int
) -> NDArray[np.int64]:
    """Arrival times in `[0, duration)` ns, int64[N], ascending, at the rate of `curve`.

    Arrivals of a stationary process of rate one (see `unit_counts`) are put where the expected
    number of arrivals reaches them. So one stream serves every rate: at twice the rate the same
    requests come twice as fast, and request i stays request i. The coefficient of variation `cv`
    is that of the gaps before this change of time: the rate's own ups and downs do not count.
    """
    # A little past the end and then cut in whole ns: which side of the end an arrival falls on
    # must not depend on where the run ends.
    expected = curve.expected(duration / 1e9) * (1 + 1e-9) + 1e-6
    counts = unit_counts(min(expected, float(curve.total[-1])), random, cv)
    times = np.floor(curve.times(counts) * 1e9).astype(np.int64)
    return np.asarray(times[times < duration])


def unit_counts(expected: float, random: np.random.Generator, cv: float) -> Floats:
    """Event times float64[N] in `(0, expected)` of a stationary renewal process of rate one.

    Gaps have mean 1 and coefficient of variation `cv`: all equal at 0, exponential at 1 (a
    Poisson process), else Gamma of shape `1/cv^2`. The first gap is the rest of one under way at
    time 0, else a bursty process would begin with a burst: a uniform part of a length-biased gap,
    which for a Gamma of shape s is a Gamma of shape s + 1 (Cox, Renewal Theory, 1962). Equal gaps
    begin with half of one. A longer run of the same stream only appends.
    """
    if cv == 0.0:
        return np.arange(0.5, expected, 1.0)
    shape, scale = 1.0 / (cv * cv), cv * cv
    first = random.random() * random.standard_gamma(shape + 1.0) * scale
    gaps = [np.array([first])]
    reached = first
    while reached < expected:
        missing = expected - reached
        size = int(missing + 6.0 * cv * math.sqrt(missing)) + 16
        if cv == 1.0:
            more = random.standard_exponential(size)
        else:
            more = random.standard_gamma(shape, size) * scale
        gaps.append(more)
        reached += float(more.sum())
    counts = np.cumsum(np.concatenate(gaps))
    return np.asarray(counts[: np.searchsorted(counts, expected, side="left")])
