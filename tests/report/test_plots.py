"""Plots are drawn from every kind of results, and are the same whenever drawn again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib.image as mpimg
import numpy as np
import pyarrow as pa
import pytest
from results_scene import GB, jobs, made_up, make_plan, make_results
from workload_scenes import scene

from dcsim.report import plot_run, write_comparison, write_run
from dcsim.report.contents import plot_contents
from dcsim.report.demand import plot_demand, vertical_range
from dcsim.report.frame import powers, ticks
from dcsim.report.latency import plot_latency, seconds_range, time_label
from dcsim.report.links import _round_above, plot_links
from dcsim.report.outline import MOST_STRETCHES, Outline
from dcsim.report.painter import Painter
from dcsim.report.style import CATEGORY_COLORS, CYCLE
from dcsim.report.wear import plot_wear
from dcsim.results import Results
from dcsim.results.links import like_links
from dcsim.spec import Scenario

Plot = Callable[[Outline, Path], None]
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
        plot(Outline.of(made_up()), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    image = mpimg.imread(tmp_path / "one.png")
    assert image.shape[0] > 300
    assert image.shape[1] > 900
    assert len(np.unique(image[:, :, :3].reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize("plot", PLOTS)
def test_plots_of_little(plot: Plot, tmp_path: Path) -> None:
    plot(Outline.of(without(made_up(), "nand")), tmp_path / "no_nand.png")
    plot(Outline.of(make_results(make_plan(jobless()))), tmp_path / "no_jobs.png")


def jobless() -> Scenario:
    """Ten seconds in which nothing arrives."""
    return replace(scene(*jobs(0.0, 0.0), seconds=10.0), bin=4 * 10**9)


def test_occupancy_of_a_tier_is_the_sum_of_its_pools() -> None:
    outline = Outline.of(made_up())
    assert len(outline.edges) == 121
    mean = made_up().summary["tiers"]["hbm"]["occupancy"]["mean"]
    assert outline.tiers["hbm"].occupancy().mean() == pytest.approx(mean, rel=1e-6)
    tops = [row["peak"] for row in made_up().tiers().to_pylist() if row["tier"] == "hbm"]
    assert outline.tiers["hbm"].columns["peak"].tolist() == tops
    for name in ("demand", "shortfall"):
        by_bin: dict[int, int] = {}
        for row in made_up().timeline().select(["tier", "start_ns", name]).to_pylist():
            if row["tier"] == "hbm":
                by_bin[row["start_ns"]] = by_bin.get(row["start_ns"], 0) + row[name]
        assert outline.tiers["hbm"].columns[name].tolist() == list(by_bin.values())
    assert "nand" not in Outline.of(without(made_up(), "nand")).tiers


def test_held_bytes_are_those_of_the_contents() -> None:
    held = Outline.of(made_up()).held
    rows = made_up().contents().to_pylist()
    assert held.keys() == {(row["tier"], row["category"], row["job"]) for row in rows}
    for (tier, category, job), sizes in held.items():
        mine = [
            row["mean_bytes"]
            for row in rows
            if (row["tier"], row["category"], row["job"]) == (tier, category, job)
        ]
        assert sizes.tolist() == mine


def test_a_long_run_is_drawn_in_stretches() -> None:
    """120 bins, or as many again of each: means stay, the tops stay, and there are few points."""
    whole = Outline.of(made_up())
    times = 25
    tables = dict(made_up().tables)
    for name in ("timeline", "tiers", "contents", "channels", "wear"):
        table = tables[name]
        rows = np.arange(table.num_rows).repeat(times)
        width = table["end_ns"].to_numpy() - table["start_ns"].to_numpy()
        start = table["start_ns"].to_numpy()[rows] * times
        start = start + np.tile(np.arange(times), table.num_rows) * width[rows]
        long = table.take(rows)
        at = long.column_names.index("start_ns")
        long = long.set_column(at, "start_ns", pa.array(start))
        at = long.column_names.index("end_ns")
        tables[name] = long.set_column(at, "end_ns", pa.array(start + width[rows]))
    long_outline = Outline.of(Results(made_up().summary, made_up().manifest, tables))
    assert 120 * times > MOST_STRETCHES
    assert MOST_STRETCHES / 2 < len(long_outline.edges) <= MOST_STRETCHES + 1
    assert long_outline.edges[-1] == whole.edges[-1] * times
    for tier, series in whole.tiers.items():
        long_series = long_outline.tiers[tier]
        assert long_series.columns["peak"].max() == series.columns["peak"].max()
        means = np.average(long_series.occupancy(), weights=np.diff(long_outline.edges))
        assert means == pytest.approx(series.occupancy().mean(), rel=1e-6)


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


def test_ticks_are_round() -> None:
    assert ticks(0, 2.74, 6) == {
        0.0: "0.0",
        0.5: "0.5",
        1.0: "1.0",
        1.5: "1.5",
        2.0: "2.0",
        2.5: "2.5",
    }
    assert list(ticks(0, 120, 12, (1, 2, 3, 5, 6, 10)).values())[:3] == ["0", "10", "20"]
    assert list(ticks(0, 100, 10).values())[-1] == "100"
    assert ticks(0, 1.0, 4) == {0.0: "0.00", 0.25: "0.25", 0.5: "0.50", 0.75: "0.75", 1.0: "1.00"}
    assert powers(0.002, 900, 8) == [0.01, 0.1, 1.0, 10.0, 100.0]
    assert powers(0.002, 900, 4) == [0.01, 1.0, 100.0]


def test_latencies_within_a_decade_have_ticks() -> None:
    spread = {"p50": 2 * 10**9, "p90": 3 * 10**9, "p99": 4 * 10**9}
    assert seconds_range([spread, None]) == (1.0, 10.0)
    assert seconds_range([None]) == pytest.approx((0.001 / 1000**0.05, 1000**0.05))


def test_what_draws_does_not_matter(tmp_path: Path, two_cores: None) -> None:
    """Another process draws the same, byte for byte."""
    for name, painter in (("here", Painter()), ("there", Painter(True))):
        with painter:
            write_run(made_up(), tmp_path / name, painter=painter)
    for name in ("demand.png", "contents.png", "latency.png"):
        there = (tmp_path / "there" / name).read_bytes()
        assert there == (tmp_path / "here" / name).read_bytes()


def test_what_goes_wrong_while_another_process_draws(tmp_path: Path, two_cores: None) -> None:
    def ask(painter: Painter) -> None:
        with painter.all_drawn():
            painter.draw("pictures_of_run", Outline.of(made_up()), tmp_path / "missing")

    with Painter(True) as painter, pytest.raises(FileNotFoundError) as error:
        ask(painter)
    assert error.value.filename == str(tmp_path / "missing" / "demand.png")


def test_a_painter_that_is_killed_is_said_to_be(tmp_path: Path, two_cores: None) -> None:
    with Painter(True) as painter:
        assert painter._process
        painter._process.kill()
        with pytest.raises(OSError, match="was killed"):
            write_run(made_up(), tmp_path / "out", painter=painter)
    assert not any(tmp_path.iterdir())


def test_the_painter_ends_when_the_run_fails(
    tmp_path: Path, two_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(results: Results, directory: Path) -> None:
        raise RuntimeError("disk")

    monkeypatch.setattr(Results, "save", fail)
    with Painter(True) as painter:
        process = painter._process
        assert process
        with pytest.raises(RuntimeError, match="disk"):
            write_run(made_up(), tmp_path / "out", painter=painter)
        assert process.poll() is not None
    assert not any(tmp_path.iterdir())


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were two, whatever the machine has."""
    monkeypatch.setattr("dcsim.report.painter.cores", lambda: 2)


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


def test_links_that_are_alike_are_one() -> None:
    """Two replicas' links together, drives by themselves; the load is what they moved."""
    outline = Outline.of(made_up())
    assert outline.links["node.nand.read"].count == 1
    channels = made_up().arrays("channels")
    mine = channels["channel"] == "node.nand.write"
    moved = channels["bytes"][mine].sum() / (30 * GB * 7200)
    series = outline.links["node.nand.write"]
    assert np.average(series.mean, weights=np.diff(outline.edges)) == pytest.approx(moved, rel=1e-6)
    assert like_links(["a/0/up", "b/up", "a/12/up", "a/x1/up"]) == {
        "a/*/up": [0, 2],
        "b/up": [1],
        "a/x1/up": [3],
    }


def test_the_strips_of_links(tmp_path: Path) -> None:
    for load, above in ((0.011, 0.02), (0.02, 0.02), (0.31, 0.5), (0.0007, 0.001)):
        assert _round_above(load) == pytest.approx(above)
    idle = replace(Outline.of(made_up()), links={})
    plot_links(idle, tmp_path / "idle.png")
    plot_links(Outline.of(made_up()), tmp_path / "links.png")
    plot_wear(Outline.of(made_up()), tmp_path / "wear.png")
    sizes = [(tmp_path / name).stat().st_size for name in ("idle.png", "links.png", "wear.png")]
    assert 1_000 < sizes[0] < sizes[1]
    assert sizes[2] > 5_000


def test_who_draws_imports_no_results() -> None:
    """The process of the pictures has to be ready before the run is."""
    code = "import sys, dcsim.report.pictures; print({'pyarrow', 'dcsim.results'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
