"""Plots are drawn from every kind of results, and are the same whenever drawn again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib.image as mpimg
import numpy as np
import pytest
from results_scene import GB, jobs, made_up, make_plan, make_results
from workload_scenes import scene

from dcsim.report import plot_run, write_comparison, write_run
from dcsim.report.contents import plot_contents
from dcsim.report.demand import plot_demand, tier_series, vertical_range
from dcsim.report.latency import plot_latency, time_label
from dcsim.report.style import CATEGORY_COLORS, CYCLE
from dcsim.results import Results
from dcsim.spec import Scenario

Plot = Callable[[Results, Path], None]
PLOTS = [plot_demand, plot_contents, plot_latency]


def without(results: Results, tier: str) -> Results:
    """The results as if there were no pool of a tier."""
    tables = dict(results.tables)
    for name in ("timeline", "contents"):
        rows = [row != tier for row in tables[name]["tier"].to_pylist()]
        tables[name] = tables[name].filter(rows)
    return Results(results.summary, results.manifest, tables)


@pytest.mark.parametrize("plot", PLOTS)
def test_a_plot_is_the_same_whenever_drawn(plot: Plot, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        plot(made_up(), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    image = mpimg.imread(tmp_path / "one.png")
    assert image.shape[0] > 300
    assert image.shape[1] > 900
    assert len(np.unique(image[:, :, :3].reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize("plot", PLOTS)
def test_plots_of_little(plot: Plot, tmp_path: Path) -> None:
    plot(without(made_up(), "nand"), tmp_path / "no_nand.png")
    plot(make_results(make_plan(jobless())), tmp_path / "no_jobs.png")


def jobless() -> Scenario:
    """Ten seconds in which nothing arrives."""
    return replace(scene(*jobs(0.0, 0.0), seconds=10.0), bin=4 * 10**9)


def test_occupancy_of_a_tier_is_the_sum_of_its_pools() -> None:
    series = tier_series(made_up(), "hbm")
    assert series is not None
    assert len(series.edges) == 121
    mean = made_up().summary["tiers"]["hbm"]["occupancy"]["mean"]
    assert series.occupancy().mean() == pytest.approx(mean, rel=1e-6)
    assert tier_series(without(made_up(), "nand"), "nand") is None


def test_a_far_capacity_does_not_flatten_the_data() -> None:
    for data, capacity, top, drawn in (
        (10.0, 12.0, 13.44, True),
        (10.0, 100.0, 11.8, False),
        (0.0, 5.0, 5.6, True),
    ):
        got = vertical_range(data, capacity)
        assert got[0] == pytest.approx(top)
        assert got[1] is drawn


def test_colours_differ_in_lightness() -> None:
    """Neighbours in a stack stay apart in grey, hence for every kind of colour-blindness."""

    def grey(color: str) -> float:
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    stack = [grey(color) for color in CATEGORY_COLORS.values()]
    assert min(abs(a - b) for a, b in pairwise(stack)) > 20
    assert len(set(CYCLE)) == len(CYCLE)


def test_ticks_of_time() -> None:
    assert [time_label(value) for value in (0.001, 0.1, 1.0, 1000.0)] == [
        "1 ms",
        "0.1 s",
        "1 s",
        "1000 s",
    ]


def test_a_run_with_its_plots(tmp_path: Path) -> None:
    write_run(made_up(), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"demand.png", "contents.png", "latency.png", "summary.json"} <= names
    plot_run(made_up(), tmp_path)
    for name in ("demand.png", "contents.png", "latency.png"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_comparison_with_its_plots(tmp_path: Path) -> None:
    more = make_results(make_plan(dram=1400 * GB))
    comparison = write_comparison({"base": made_up(), "more": more}, tmp_path / "out")
    assert comparison.names == ("base", "more")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "base",
        "more",
        "comparison.json",
        "comparison.parquet",
        "demand.png",
        "latency.png",
        "outcomes.png",
        "manifest.json",
    }
    assert Results.read(tmp_path / "out" / "more").summary == more.summary


def test_variants_need_names_that_directories_can_have(tmp_path: Path) -> None:
    for name in ("a/b", "..", "", "manifest.json"):
        with pytest.raises(ValueError, match="cannot be called"):
            write_comparison({"base": made_up(), name: made_up()}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
