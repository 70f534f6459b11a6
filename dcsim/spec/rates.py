"""Rates over time: piecewise curves with an exact integral."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt

from dcsim.reading.concept import Concept, Duration, Instant, Least, PerSecond, form_of
from dcsim.reading.forms import Either, Made, Number, Unknown

DAY = 86_400 * 10**9
_KNOTS = 288  # one every five minutes of a day

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rate:
    """Arrivals a second as a function of time.

    A curve through knots: `values[i]` (per second) at `times[i]` (ns, the first is 0,
    ascending). `step` holds a value up to the next knot, `linear` joins the knots. After
    the last knot its value holds, or with a `period` (ns, after the last knot) the curve
    starts over; a linear one then runs from the last knot back to the first value.
    """

    times: tuple[int, ...]
    values: tuple[float, ...]
    interpolate: Literal["step", "linear"] = "linear"
    period: int | None = None

    @staticmethod
    def flat(per_second: float) -> Rate:
        """The same rate at all times."""
        return Rate(times=(0,), values=(per_second,))

    @staticmethod
    def diurnal(mean: float, peak_to_mean: float, peak_at: int) -> Rate:
        """A day with one peak: `mean * exp(k cos a) / I0(k)`, a the angle from the peak hour.

        The von Mises shape (a cosine would be negative for a peak over twice the mean); k is
        such that the peak is `peak_to_mean` times the mean. `peak_at` is ns into the day.
        """
        k = _concentration(peak_to_mean)
        times = np.arange(_KNOTS, dtype=np.int64) * (DAY // _KNOTS)
        weights = np.exp(k * (np.cos(2 * np.pi * (times - peak_at) / DAY) - 1))
        values = mean * weights / weights.mean()
        return Rate(
            times=tuple(times.tolist()),
            values=tuple(values.tolist()),
            interpolate="linear",
            period=DAY,
        )

    def at(self, t_ns: Ints) -> Floats:
        """The rate (per second) at each time (ns, >= 0); same shape as `t_ns`."""
        times, values = self._knots()
        within = np.asarray(t_ns, dtype=np.int64)
        if self.period is not None:
            within = within % self.period
        if self.interpolate == "linear":
            return np.interp(within, times, values)
        return np.asarray(values[np.searchsorted(times, within, side="right") - 1])

    def integral(self, t_ns: Ints) -> Floats:
        """Expected arrivals in [0, t] for each t (ns, >= 0); same shape as `t_ns`."""
        t = np.asarray(t_ns, dtype=np.int64)
        if self.period is None:
            return self._within(t)
        whole = self._within(np.asarray([self.period], dtype=np.int64))[0]
        return np.asarray((t // self.period) * whole + self._within(t % self.period))

    def max(self) -> float:
        """The highest rate, per second."""
        return max(self.values)

    def _knots(self) -> tuple[Ints, Floats]:
        times = np.asarray(self.times, dtype=np.int64)
        values = np.asarray(self.values, dtype=np.float64)
        if self.period is not None and self.times[-1] < self.period:
            closing = values[0] if self.interpolate == "linear" else values[-1]
            times = np.append(times, self.period)
            values = np.append(values, closing)
        return times, values

    def _within(self, t: Ints) -> Floats:
        """The integral from 0 to t, t within the first period."""
        times, values = self._knots()
        widths = np.diff(times) / 1e9
        heights = (values[:-1] + values[1:]) / 2 if self.interpolate == "linear" else values[:-1]
        before = np.concatenate(([0.0], np.cumsum(widths * heights)))
        last = np.searchsorted(times, t, side="right") - 1
        start = values[last]
        past = (t - times[last]) / 1e9
        if self.interpolate == "step":
            return np.asarray(before[last] + past * start)
        return np.asarray(before[last] + past * (start + np.interp(t, times, values)) / 2)


def _concentration(peak_to_mean: float) -> float:
    """k with exp(k) / I0(k) = peak_to_mean, by bisection (the left side rises with k)."""
    low, high = 0.0, 600.0
    for _ in range(200):
        middle = (low + high) / 2
        if np.exp(middle) / np.i0(middle) < peak_to_mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@dataclass(frozen=True)
class Diurnal(Concept):
    """A day with one peak, repeated."""

    mean: PerSecond
    """Mean rate of the day."""
    peak_to_mean: Annotated[float, Number(1, high=24)]
    """Peak rate over mean rate."""
    peak_at: Instant
    """Time of the peak, from the start of the day (which is the start of the run)."""


@dataclass(frozen=True)
class Point(Concept):
    """A point of a curve."""

    row = True

    time: Instant
    rate: PerSecond


@dataclass(frozen=True)
class RateCurve(Concept):
    """A rate that changes."""

    whole = True

    diurnal: Diurnal | None = None
    """A day with one peak."""
    piecewise: Annotated[tuple[Point, ...], Least(1)] | None = None
    """Points `[time, rate]`, the first at `0 s`, ascending."""
    interpolate: Literal["linear", "step"] = "linear"
    """Between points: a straight line, or the value of the point before."""
    repeat: Duration | None = None
    """Start over after this time."""

    def check(self) -> None:
        only_one(self, ("diurnal", "piecewise"), "a rate")
        times = [point.time for point in self.piecewise or ()]
        if times and times[0] != 0:
            raise ValueError("the first point of piecewise must be at 0 s")
        if any(b <= a for a, b in pairwise(times)):
            raise ValueError("the times of piecewise must ascend")
        if times and self.repeat is not None and self.repeat <= times[-1]:
            raise ValueError("repeat must be after the last point of piecewise")

    def rate(self) -> Rate:
        """The curve, through its knots."""
        if self.diurnal is not None:
            return Rate.diurnal(self.diurnal.mean, self.diurnal.peak_to_mean, self.diurnal.peak_at)
        points = self.piecewise or ()
        if not points:
            raise Unknown  # what keeps it from being read has been said
        times = tuple(point.time for point in points)
        return Rate(times, tuple(point.rate for point in points), self.interpolate, self.repeat)


def only_one(concept: Concept, names: tuple[str, ...], what: str) -> None:
    """Raises ValueError unless one of these fields is given."""
    given = [name for name in names if getattr(concept, name) is not None]
    if len(given) != 1:
        said = " and ".join(given) if given else "none"
        raise ValueError(f"{what} takes one of {', '.join(names)}; {said} is given")


RateOverTime = Annotated[
    Rate, Either(Made(form_of(PerSecond), Rate.flat), Made(form_of(RateCurve), RateCurve.rate))
]
