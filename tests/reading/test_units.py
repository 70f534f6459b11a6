"""Quantities: every unit, every near miss."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsim.reading import units


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("80 GB", units.SIZE, 80 * 10**9),
        ("80GB", units.SIZE, 80 * 10**9),
        (" 80 GiB ", units.SIZE, 80 * 2**30),
        ("400 Gb", units.SIZE, 50 * 10**9),
        ("1.5e3 kB", units.SIZE, 1_500_000),
        ("0.1 TB", units.SIZE, 10**11),
        ("0 B", units.SIZE, 0),
        ("8 TB/s", units.BANDWIDTH, 8 * 10**12),
        ("400 Gb/s", units.BANDWIDTH, 50 * 10**9),
        ("400 Gib/s", units.BANDWIDTH, 50 * 2**30),
        ("60 TB / min", units.BANDWIDTH, 10**12),
        ("45 TB/d", units.BANDWIDTH, 520_833_333),
        ("989.4 TFLOP/s", units.COMPUTE, 989_400 * 10**9),
        ("15 PFLOPS", units.COMPUTE, 15 * 10**15),
        ("1.5 h", units.TIME, 5400 * 10**9),
        ("15 us", units.TIME, 15_000),
        ("15 µs", units.TIME, 15_000),
        ("2 w", units.TIME, 14 * 86_400 * 10**9),
    ],
)
def test_whole_numbers_of_base_units(text: str, dimension: units.Dimension, expected: int) -> None:
    assert units.whole(text, dimension) == expected


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("30/s", units.RATE, Fraction(30)),
        ("90 /h", units.RATE, Fraction(1, 40)),
        ("25 USD/GB", units.UNIT_PRICE, Fraction(25, 10**9)),
        ("7.8 MUSD", units.MONEY, Fraction(7_800_000)),
        ("1.4 kW", units.POWER, Fraction(1400)),
    ],
)
def test_exact_quantities(text: str, dimension: units.Dimension, expected: Fraction) -> None:
    assert units.parse(text, dimension) == expected


@pytest.mark.parametrize(
    ("value", "dimension", "message"),
    [
        (80, units.SIZE, "80 is a bare number: a size with its unit is due, such as '80 GB'"),
        ("80", units.SIZE, "'80' is a bare number"),
        (1.5, units.TIME, "1.5 is a bare number: a time"),
        (True, units.SIZE, "true is no quantity"),
        (None, units.SIZE, "nothing is no quantity"),
        ({}, units.SIZE, "a mapping is no quantity"),
        ("lots", units.SIZE, "'lots' is no quantity"),
        ("nan GB", units.SIZE, "'nan GB' is no quantity"),
        ("inf s", units.TIME, "'inf s' is no quantity"),
        ("1_000 B", units.SIZE, "unit '_000 B' is not a size's"),
        ("80 gb", units.SIZE, "did you mean 'GB' or 'Gb'"),
        ("80 KB", units.SIZE, "write k for 1000, Ki for 1024"),
        ("8 TB", units.BANDWIDTH, "that is a size, here '8 TB/s' would do"),
        ("8 TB/s", units.SIZE, "that is a bandwidth, here '80 GB' would do"),
        ("5 parsecs", units.TIME, "the unit 'parsecs' is not a time's (units: ns, us"),
        ("1e30 B", units.SIZE, "more than 64 bits hold"),
        ("0.1 B", units.SIZE, "less than the smallest unit"),
        ("0.1 ns", units.TIME, "less than the smallest unit"),
    ],
)
def test_what_is_wrong_is_said(value: object, dimension: units.Dimension, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        units.whole(value, dimension)


@given(st.integers(0, 10**6), st.sampled_from(sorted(units.SIZE.units)))
def test_sizes_scale_exactly(number: int, unit: str) -> None:
    exact = number * units.SIZE.units[unit]
    assert units.parse(f"{number} {unit}", units.SIZE) == exact


def test_no_two_dimensions_share_a_unit() -> None:
    """Or a wrong dimension could pass for the right one."""
    dimensions = [units.SIZE, units.TIME, units.BANDWIDTH, units.COMPUTE, units.RATE, units.POWER]
    names = [unit for dimension in dimensions for unit in dimension.units]
    assert len(names) == len(set(names))


@given(st.integers(0, units.INT64))
def test_times_are_written_as_they_are_read(ns: int) -> None:
    assert units.whole(units.time_as_written(ns), units.TIME) == ns
