"""Means and percentiles against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsim.results import statistics
from dcsim.results.statistics import PERCENTILES, Spread, spread, weighted_percentile


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=60))
def test_a_percentile_is_the_least_value_that_enough_do_not_exceed(values: list[int]) -> None:
    figures = spread(np.array(values))
    assert figures is not None
    assert figures["count"] == len(values)
    assert figures["max"] == max(values)
    for p in PERCENTILES:
        enough = [v for v in values if 100 * sum(w <= v for w in values) >= p * len(values)]
        assert figures[f"p{p}"] == min(enough)


def test_nothing_has_no_percentiles() -> None:
    assert spread(np.empty(0, dtype=np.int64)) is None


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 9)), min_size=1, max_size=20),
    st.sampled_from([1, 50, 95, 100]),
)
def test_a_weighted_percentile_is_that_of_repeated_values(
    pairs: list[tuple[int, int]], p: int
) -> None:
    values, weights = np.array(pairs).T
    repeated = np.sort(np.repeat(values, weights))
    rank = -(-len(repeated) * p // 100)
    assert weighted_percentile(values, weights, p) == repeated[rank - 1]


@given(
    st.lists(st.lists(st.integers(0, 2**62) | st.integers(0, 50), max_size=12), max_size=6),
    st.integers(1, 20),
)
def test_what_comes_bit_by_bit_has_the_figures_of_all(parts: list[list[int]], held: int) -> None:
    """Whether it is held or lies in a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_HELD", held)
        some = Spread()
        for part in parts:
            some.add(np.array(part, dtype=np.int64))
        found = some.figures()
    values = [value for part in parts for value in part]
    assert found == spread(np.array(values, dtype=np.int64))
    if values:
        assert found is not None
        assert found["mean"] == round(sum(values) / len(values))
        assert found["p50"] == sorted(values)[-(-len(values) // 2) - 1]
