"""Rate curves: values, integrals, the shape of a day."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsim.spec import Rate

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR


def test_flat() -> None:
    rate = Rate.flat(5.0)
    times = np.array([0, SECOND, DAY])
    assert rate.at(times).tolist() == [5.0] * 3
    assert rate.integral(times).tolist() == [0.0, 5.0, 5.0 * 86_400]
    assert rate.max() == 5.0


def test_steps_and_lines() -> None:
    times = np.array([0, 1, 2, 3, 5]) * SECOND
    step = Rate((0, 2 * SECOND), (1.0, 3.0), "step")
    assert step.at(times).tolist() == [1, 1, 3, 3, 3]
    assert step.integral(times).tolist() == [0, 1, 2, 5, 11]
    line = Rate((0, 2 * SECOND), (1.0, 3.0), "linear")
    assert line.at(times).tolist() == [1, 2, 3, 3, 3]
    assert line.integral(times).tolist() == [0, 1.5, 4, 7, 13]


def test_repeats() -> None:
    times = np.array([3, 4, 5, 8]) * SECOND
    step = Rate((0, 2 * SECOND), (1.0, 3.0), "step", 4 * SECOND)
    assert step.at(times).tolist() == [3, 1, 1, 1]
    assert step.integral(times).tolist() == [5, 8, 9, 16]
    line = Rate((0, 2 * SECOND), (1.0, 3.0), "linear", 4 * SECOND)
    assert line.at(times).tolist() == [2, 1, 2, 1]
    assert line.integral(times).tolist() == [6.5, 8, 9.5, 16]


@pytest.mark.parametrize("peak_to_mean", [1.0, 1.35, 2.2, 3.5, 12.0])
def test_a_day_has_its_mean_and_its_peak(peak_to_mean: float) -> None:
    day = Rate.diurnal(2.0, peak_to_mean, 20 * HOUR)
    assert day.integral(np.array([DAY, 3 * DAY])) == pytest.approx([2 * 86_400, 6 * 86_400])
    assert day.at(np.array([20 * HOUR, 44 * HOUR])) == pytest.approx([2 * peak_to_mean] * 2)
    assert day.max() == pytest.approx(2 * peak_to_mean)
    assert min(day.values) >= 0


knots = st.lists(
    st.tuples(st.integers(1, 1000), st.floats(0, 100, allow_subnormal=False)),
    min_size=1,
    max_size=6,
)


@given(knots, st.sampled_from(["step", "linear"]), st.none() | st.integers(1, 1000), st.data())
def test_the_integral_is_that_of_the_rate(
    points: list[tuple[int, float]], how: str, gap: int | None, data: st.DataObject
) -> None:
    times = np.cumsum([0] + [width * SECOND for width, _ in points[1:]]).tolist()
    period = None if gap is None else times[-1] + gap * SECOND
    rate = Rate(tuple(times), tuple(v for _, v in points), how, period)  # type: ignore[arg-type]
    end = data.draw(st.integers(0, 5000)) * SECOND
    grid = np.linspace(0, end, 20_001).astype(np.int64)
    numeric = float(np.trapezoid(rate.at(grid), grid / 1e9))
    exact = float(rate.integral(np.array([end]))[0])
    assert exact == pytest.approx(
        numeric, rel=1e-2, abs=max(1.0, end / SECOND / 200) * 0.5 * rate.max()
    )
    several = rate.integral(np.sort(grid[::997]))
    assert np.all(np.diff(several) >= -1e-9 * (1 + several[:-1])), "never falls"
