"""The pictures of a run and of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from dcsim.report.comparison import plot_demands, plot_latencies, plot_outcomes
from dcsim.report.contents import plot_contents
from dcsim.report.demand import plot_demand
from dcsim.report.latency import plot_latency
from dcsim.results import Results

__all__ = ["plot_comparison", "plot_run"]


def plot_run(results: Results, directory: str | PathLike[str]) -> None:
    """Draw `demand.png`, `contents.png` and `latency.png` into a directory that exists."""
    directory = Path(directory)
    plot_demand(results, directory / "demand.png")
    plot_contents(results, directory / "contents.png")
    plot_latency(results, directory / "latency.png")


def plot_comparison(results: Mapping[str, Results], directory: str | PathLike[str]) -> None:
    """Draw `demand.png`, `latency.png` and `outcomes.png` of variants, the first the base, into a
    directory that exists."""
    directory = Path(directory)
    plot_demands(results, directory / "demand.png")
    plot_latencies(results, directory / "latency.png")
    plot_outcomes(results, directory / "outcomes.png")
