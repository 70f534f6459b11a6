"""Requests window by window are those that come at once, for any window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_scenes import job, scene

from dcsim.spec import (
    Arrivals,
    Choice,
    ClipShape,
    Closed,
    Constant,
    Empirical,
    Fixed,
    GammaArrivals,
    LogNormal,
    Poisson,
    Rate,
    Replay,
    Shape,
    SpecError,
    TokenShape,
    Uniform,
)
from dcsim.workload import Requests, Stream, generate, stream_of
from dcsim.workload.windows import WINDOW

COLUMNS = ("arrival", "klass", "shape", "prompt", "output")
RISING = Rate((0, 150 * 10**9), (0.05, 0.6))


def arrivals() -> st.SearchStrategy[Arrivals]:
    """Few and many, at equal times too, none at all."""
    flat = st.sampled_from([0.0, 0.01, 0.2, 1.0]).map(Rate.flat)
    rates = flat | st.just(RISING)
    return (
        st.builds(Constant, rates)
        | st.builds(Poisson, rates)
        | st.builds(GammaArrivals, rates, st.sampled_from([0.5, 3.0]))
    )


def shapes() -> st.SearchStrategy[Shape]:
    """Every distribution, and clips that first come late."""
    numbers = st.sampled_from(
        [
            Fixed(7),
            Uniform(1, 9),
            LogNormal(20, 1.0, 1, 90),
            Choice((3, 5), (1.0, 2.0)),
            Empirical((4, 8, 15)),
        ]
    )
    sizes = Choice(((64, 32), (32, 32), (96, 96)), (100.0, 50.0, 0.5))
    return st.builds(TokenShape, numbers, numbers) | st.builds(
        ClipShape, st.just(sizes), numbers, numbers
    )


@settings(deadline=None)
@given(
    st.lists(st.tuples(arrivals(), shapes()), min_size=1, max_size=3),
    st.sampled_from([1, 2, 3, 10, 64, 1000]),
)
def test_windows_are_what_comes_at_once(mix: list[tuple[Arrivals, Shape]], size: int) -> None:
    scenario = scene(*(job(f"j{i}", *each) for i, each in enumerate(mix)), seconds=200.0)
    whole, stream = generate(scenario), stream_of(scenario, size)
    windows = list(stream.windows())
    assert all(each.shapes == stream.shapes == whole.shapes for each in windows)
    for name in COLUMNS:
        expected = getattr(whole, name)
        assert np.array_equal(np.concatenate([getattr(w, name) for w in windows]), expected)
        assert np.array_equal(getattr(stream.whole(), name), expected)
    if isinstance(stream, Stream):
        again = list(stream.windows())
        assert [len(w) for w in again] == [len(w) for w in windows]
        # Little is at hand at once: of each job what is drawn at once, and what was left, among it
        # what comes at one instant, which is not parted.
        alike = int(np.unique(whole.arrival, return_counts=True)[1].max(initial=0))
        assert all(0 < len(w) <= (2 * size + alike) * len(mix) for w in windows)
    else:
        assert windows == [stream]


def test_few_come_at_once_and_many_in_windows() -> None:
    few = scene(job("a", Constant(Rate.flat(1.0))), seconds=100.0)
    assert isinstance(stream_of(few, 100), Requests)
    assert isinstance(stream_of(few, 99), Stream)
    assert isinstance(stream_of(few), Requests)
    many = scene(job("a", Constant(Rate.flat(WINDOW + 1.0))), seconds=1.0)
    assert isinstance(stream_of(many), Stream)


def test_equal_times_stay_in_order_over_the_edge_of_a_window() -> None:
    """Two jobs at the same times, drawn in pieces that end apart."""
    both = [job(name, Constant(Rate.flat(1.0))) for name in ("a", "b")]
    scenario = scene(*both, job("c", Constant(Rate.flat(0.5))), seconds=50.0)
    windows = list(stream_of(scenario, 3).windows())
    assert len(windows) > 5
    klass = np.concatenate([w.klass for w in windows])
    assert klass.tolist() == generate(scenario).klass.tolist()
    # Gaps of 1 s from 0.5 s on; c at 1, 3, ... s.
    assert klass[:8].tolist() == [0, 1, 2, 0, 1, 0, 1, 2]


def test_a_log_is_handed_on_in_windows(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    stamps = "".join(f"2023-11-16 18:{i // 60:02d}:{i % 60:02d},{i % 7 + 1},3\n" for i in range(90))
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + stamps, encoding="utf-8")
    scenario = scene(job("log", Replay(path, "azure")), job("b"), seconds=200.0)
    stream, whole = stream_of(scenario, 8), generate(scenario)
    assert isinstance(stream, Stream)
    for name in COLUMNS:
        found = np.concatenate([getattr(w, name) for w in stream.windows()])
        assert np.array_equal(found, getattr(whole, name))


def test_who_waits_is_known_beforehand() -> None:
    scenario = scene(job("a", Closed(3, 40, 10**9)), seconds=100.0)
    found = stream_of(scenario, 4)
    assert isinstance(found, Requests)
    assert found.graph is not None


def test_a_broken_file_of_values_is_told_before_anything_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    path.write_text("n\n1\nx\n", encoding="utf-8")
    shape = TokenShape(Empirical(None, path, "n"), Fixed(1))
    with pytest.raises(SpecError, match=r"values\.csv:3"):
        stream_of(scene(job("a", None, shape)), 10)
