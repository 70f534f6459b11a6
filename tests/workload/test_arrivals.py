"""Arrival processes against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_scenes import SECOND, job, scene

from dcsim.spec import Constant, GammaArrivals, Poisson, Rate
from dcsim.workload import generate, stream
from dcsim.workload.arrivals import renewal_times, unit_counts
from dcsim.workload.curve import Curve

HOUR = 3600 * SECOND


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    """Rates with knots, level stretches, zeros, steps and periods."""
    gaps = draw(st.lists(st.integers(1, 500 * SECOND), max_size=5))
    times = tuple(np.cumsum([0, *gaps]).tolist())
    value = st.floats(0.001, 50.0) | st.just(0.0)
    values = draw(st.lists(value, min_size=len(times), max_size=len(times)))
    if not any(values):
        values[0] = 1.0
    return Rate(
        times,
        tuple(values),
        draw(st.sampled_from(["step", "linear"])),
        draw(st.none() | st.integers(SECOND, 300 * SECOND).map(lambda rest: times[-1] + rest)),
    )


@given(rates(), st.integers(1, 3000 * SECOND), st.floats(1e-9, 1.0))
def test_the_curve_inverts_the_integral_of_the_rate(rate: Rate, duration: int, part: float) -> None:
    curve = Curve.of(rate, duration)
    whole = float(rate.integral(np.array([duration]))[0])
    expected = curve.expected(duration / 1e9)
    assert expected == pytest.approx(whole, rel=1e-9, abs=1e-9)
    if whole > 1e-6:
        count = np.array([part * expected])
        seconds = curve.times(count)
        assert 0 <= seconds[0] <= duration / 1e9 * (1 + 1e-12)
        back = rate.integral(np.rint(seconds * 1e9).astype(np.int64))
        assert back[0] == pytest.approx(count[0], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("edges", "left", "right", "why"),
    [
        ([0.0, 2.0, 1.0], [1.0, 1.0], [1.0, 1.0], "increase"),
        ([0.0, 0.0], [1.0], [1.0], "increase"),
        ([0.0, 1.0], [-1.0], [1.0], "negative"),
        ([0.0, 1.0], [np.nan], [1.0], "finite"),
        ([0.0, 1.0], [np.inf], [1.0], "finite"),
    ],
)
def test_a_curve_refuses_what_is_none(
    edges: list[float], left: list[float], right: list[float], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        Curve.through(np.array(edges), np.array(left), np.array(right))


def test_constant_arrivals_come_at_equal_gaps() -> None:
    got = generate(scene(job("a", Constant(Rate.flat(4.0))), seconds=10.0)).arrival
    assert got.tolist() == [SECOND // 8 + i * SECOND // 4 for i in range(40)]


def test_constant_arrivals_follow_a_step() -> None:
    rate = Rate((0, 10 * SECOND), (1.0, 5.0), "step")
    got = generate(scene(job("a", Constant(rate)), seconds=20.0)).arrival
    assert np.histogram(got, bins=[0, 10 * SECOND, 20 * SECOND])[0].tolist() == [10, 50]


@pytest.mark.parametrize("cv", [0.3, 1.0, 3.0])
def test_gaps_have_mean_one_and_the_coefficient_of_variation(cv: float) -> None:
    gaps = np.diff(unit_counts(200_000.0, stream(1, "gaps"), cv))
    assert gaps.mean() == pytest.approx(1.0, abs=0.01 * max(cv, 1.0))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.02)


@pytest.mark.parametrize("cv", [0.2, 1.0, 4.0])
def test_counts_have_the_right_mean_from_the_start(cv: float) -> None:
    """A stationary process: 5 expected in [0, 5), even if the gaps vary wildly."""
    counts = [len(unit_counts(5.0, stream(seed, "start"), cv)) for seed in range(4000)]
    error = np.std(counts) / np.sqrt(len(counts))
    assert abs(np.mean(counts) - 5.0) < 4 * error + 1e-9


def test_poisson_counts_have_variance_equal_to_their_mean() -> None:
    got = generate(scene(job("a", Poisson(Rate.flat(20.0))), seconds=5000.0)).arrival
    counts = np.bincount(got // SECOND, minlength=5000)
    assert counts.mean() == pytest.approx(20.0, rel=0.02)
    assert counts.var() / counts.mean() == pytest.approx(1.0, rel=0.1)


def test_diurnal_arrivals_peak_when_they_should() -> None:
    rate = Rate.diurnal(mean=5.0, peak_to_mean=3.0, peak_at=19 * HOUR)
    got = generate(scene(job("a", Poisson(rate)), seconds=86400.0)).arrival
    by_hour = np.bincount(got // HOUR, minlength=24)
    assert by_hour.sum() == pytest.approx(5.0 * 86400, rel=0.01)
    assert by_hour.argmax() in (18, 19)
    assert by_hour.max() / by_hour.mean() == pytest.approx(3.0, rel=0.05)


@given(st.floats(0.5, 2.0), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_a_changed_rate_moves_the_same_arrivals(factor: float, cv: float) -> None:
    """Common random numbers: request i at `factor` times the rate comes `factor` times sooner."""

    def arrivals(rate: float, seconds: float) -> np.ndarray:
        process = GammaArrivals(Rate.flat(rate), cv) if cv else Constant(Rate.flat(rate))
        return generate(scene(job("a", process), seconds=seconds)).arrival

    base, fast = arrivals(2.0, 100.0), arrivals(2.0 * factor, 100.0 / factor)
    assert abs(len(base) - len(fast)) <= 1
    both = min(len(base), len(fast))
    assert np.abs(base[:both] - fast[:both] * factor).max(initial=0) <= 4


def test_a_longer_run_begins_as_the_shorter_one() -> None:
    process = GammaArrivals(Rate.flat(3.0), 2.5)
    short = generate(scene(job("a", process), seconds=500.0)).arrival
    long = generate(scene(job("a", process), seconds=5000.0)).arrival
    assert short.tolist() == long[: len(short)].tolist()
    assert long[len(short)] >= 500 * SECOND


def test_an_arrival_at_the_very_end_of_a_run_falls_on_the_same_side_in_a_longer_one() -> None:
    """Found by `check_longer`: the last cell of a curve was cut at the end of the run."""
    second = 10**9
    rate = Rate((0, 30 * second, 60 * second, 90 * second), (0.2, 0.1, 0.2, 0.1))
    runs = []
    for duration in (300 * second, 400 * second):
        random = np.random.default_rng(0)
        times = renewal_times(Curve.of(rate, duration), random, 0.0, duration)
        runs.append(times[times < 300 * second].tolist())
    assert runs[0] == runs[1]
