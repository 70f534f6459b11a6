"""Quantities as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsim.report.quantities import bytes_text, rate_text, time_text, time_unit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (80 * 10**9, "80.0 GB"),
        (999_700_000_000, "1.00 TB"),
        (1_230_000_000_000, "1.23 TB"),
        (-42 * 10**9, "-42.0 GB"),
        (9_600 * 10**12, "9.60 PB"),
    ],
)
def test_bytes(value: int, text: str) -> None:
    assert bytes_text(value) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 s"),
        (12, "12 ns"),
        (350 * 10**6, "350 ms"),
        (12_500_000_000, "12.5 s"),
        (150 * 10**9, "2.50 min"),
        (26 * 3600 * 10**9, "26.0 h"),
        (-5 * 10**9, "-5.00 s"),
        (3 * 86_400 * 10**9, "3.00 d"),
    ],
)
def test_times(ns: int, text: str) -> None:
    assert time_text(ns) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1820.0, "1820 tok/s"), (0.03, "1.80 tok/min"), (0.001, "3.60 tok/h"), (0.0, "0.00 tok/d")],
)
def test_rates(rate: float, text: str) -> None:
    assert rate_text(rate, "tok") == text


@given(st.integers(1, 10**18))
def test_an_axis_of_time_has_readable_numbers(span: int) -> None:
    size, _ = time_unit(span)
    assert size <= max(span, 1000)
    if span < 86_400 * 10**9 * 1000:
        assert span / size <= 2000


@given(st.integers(-(10**18), 10**18))
def test_bytes_keep_three_digits(value: int) -> None:
    number, unit = bytes_text(value).split()
    scale = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}[unit]
    assert float(number) * scale == pytest.approx(value, rel=0.006, abs=0.5)
