"""The pictures of a run and of a comparison."""

from __future__ import annotations

import string
from collections.abc import Mapping
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from dcsim.report.comparison import plot_demands, plot_latencies, plot_outcomes
from dcsim.report.contents import plot_contents
from dcsim.report.demand import plot_demand
from dcsim.report.frame import frame, ticks
from dcsim.report.latency import plot_latency
from dcsim.report.outline import Outline
from dcsim.report.reuse import plot_reuse, reuses
from dcsim.report.style import draw_area, legend_below, new_figure, save

if TYPE_CHECKING:
    from dcsim.results import Results

__all__ = ["draw_comparison", "draw_run", "plot_comparison", "plot_run", "warm_up"]


def plot_run(results: Results, directory: str | PathLike[str]) -> None:
    """Draw `demand.png`, `contents.png`, `latency.png` and, where context is used again,
    `reuse.png` into a directory that exists."""
    draw_run(Outline.of(results), Path(directory))


def plot_comparison(results: Mapping[str, Results], directory: str | PathLike[str]) -> None:
    """Draw `demand.png`, `latency.png` and `outcomes.png` of variants, the first the base, into a
    directory that exists."""
    outlines = {name: Outline.of(each) for name, each in results.items()}
    draw_comparison(outlines, Path(directory))


def draw_run(outline: Outline, directory: Path) -> None:
    """As `plot_run`."""
    plot_demand(outline, directory / "demand.png")
    plot_contents(outline, directory / "contents.png")
    plot_latency(outline, directory / "latency.png")
    if reuses(outline):
        plot_reuse(outline, directory / "reuse.png")


def draw_comparison(outlines: Mapping[str, Outline], directory: Path) -> None:
    """As `plot_comparison`."""
    plot_demands(outlines, directory / "demand.png")
    plot_latencies(outlines, directory / "latency.png")
    plot_outcomes(outlines, directory / "outcomes.png")


def warm_up() -> None:
    """Load what the first picture of a process loads: the font with its letters and figures, the
    code that writes a PNG."""
    figure = new_figure(3.0, 2.0)
    axes = figure.subplots()
    draw_area(axes, np.arange(2.0), np.zeros(1), np.ones(1), hatch="//")
    frame(axes, ticks(0, 1, 6), {}, title=string.ascii_letters + string.digits)
    legend_below(figure, [Line2D([], [], label="demand")])
    save(figure, BytesIO())
