"""Bins and capacities over time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from results_scene import make_plan

from dcsim.engine import EVENTS
from dcsim.results.series import Bins, _capacities

PLAN = make_plan()


@given(st.integers(1, 500), st.integers(1, 80))
def test_bins_cover_the_horizon(horizon: int, width: int) -> None:
    bins = Bins.of(horizon, width)
    assert bins.start[0] == 0
    assert bins.end[-1] == horizon
    assert (bins.start[1:] == bins.end[:-1]).all()
    assert (bins.length[:-1] == width).all()
    assert 0 < bins.length[-1] <= width


@given(
    st.integers(1, 60),
    st.integers(1, 25),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=6),
)
def test_capacity_by_bin_is_that_of_every_nanosecond(
    horizon: int, width: int, changes: list[tuple[int, int]]
) -> None:
    changes = sorted((t, c) for t, c in changes if t <= horizon)
    kind = EVENTS.index("capacity")
    events = np.array([(t, kind, 4, c) for t, c in changes], dtype=np.int64).reshape(-1, 4)
    bins = Bins.of(horizon, width)
    mean, low, high = _capacities(PLAN, events, bins)
    first = PLAN.pools[4].capacity
    each = [[first, *(c for t, c in changes if t <= ns)][-1] for ns in range(horizon)]
    for row, (start, end) in enumerate(zip(bins.start, bins.end, strict=True)):
        inside = each[start:end]
        assert mean[4, row] == sum(inside) // len(inside)
        assert (low[4, row], high[4, row]) == (min(inside), max(inside))
    assert (mean[5] == PLAN.pools[5].capacity).all()
