"""Variants against their base."""

from __future__ import annotations

import pytest
from results_scene import GB, made_up, make_plan, make_results

from dcsim.results import Comparison, Figure, Results, compare


def test_every_figure_has_its_difference_to_the_base() -> None:
    base = make_results(make_plan(dram=1400 * GB))
    comparison = compare({"base": base, "less": made_up()})
    assert comparison.names == ("base", "less")
    by_name = {(f.section, f.subject, f.name): f for f in comparison.figures}
    assert len(by_name) == len(comparison.figures)
    dram = by_name["tier", "dram", "capacity"]
    assert dram.values == (1400 * GB, 700 * GB)
    assert dram.differences() == (0, -700 * GB)
    assert dram.ratios() == (0, -0.5)
    short = by_name["tier", "dram", "first_shortfall_ns"]
    assert short.values[0] is None
    assert short.differences() == (None, None)
    p99 = by_name["job", "chat", "latency_ns.p99"]
    assert p99.values == tuple(
        each.summary["jobs"]["chat"]["latency_ns"]["p99"] for each in (base, made_up())
    )
    assert ("job", "video", "per_token_ns.p50") not in by_name
    assert ("tier", "nand", "wear.lifetime_years") in by_name


def test_as_a_table_and_as_plain_data() -> None:
    comparison = compare({"base": made_up(), "same": made_up()})
    table = comparison.table()
    assert table.num_rows == 2 * len(comparison.figures)
    assert set(table["variant"].to_pylist()) == {"base", "same"}
    assert set(table["difference"].drop_null().to_pylist()) == {0.0}
    plain = comparison.plain()
    assert plain["base"] == "base"
    assert plain["figures"][0]["values"].keys() == {"base", "same"}


def test_a_job_that_only_one_variant_has() -> None:
    summary = {**made_up().summary, "jobs": {"chat": made_up().summary["jobs"]["chat"]}}
    fewer = Results(summary, made_up().manifest, made_up().tables)
    figures = compare({"base": made_up(), "fewer": fewer}).figures
    video = [figure for figure in figures if figure.subject == "video"]
    assert video
    assert all(figure.values[1] is None for figure in video)


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="at least one"):
        compare({})


def test_a_pod_has_more_bytes_than_a_double_counts() -> None:
    """13.3 PB are above 2**53: a table took them for integers and refused them."""
    bytes_ = 2**53 + 1
    figure = Figure("tier", "nand", "capacity", "bytes", (bytes_, 2 * bytes_))
    table = Comparison(("base", "other"), (figure,)).table().to_pydict()
    assert table["value"] == [float(bytes_), float(2 * bytes_)]
    assert table["difference"] == [0.0, float(bytes_)]
