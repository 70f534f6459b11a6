"""The pictures of a run and of a comparison."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from functools import partial
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
from dcsim.report.links import plot_links
from dcsim.report.outline import Outline
from dcsim.report.reuse import plot_reuse, reuses
from dcsim.report.style import draw_area, legend_below, new_figure, save
from dcsim.report.wear import plot_wear, wears

if TYPE_CHECKING:
    from dcsim.results import Results

__all__ = [
    "pictures_of_comparison",
    "pictures_of_run",
    "plot_comparison",
    "plot_run",
    "warm_up",
]

Picture = Callable[[], None]
"""Draws one file, on its own."""


def plot_run(results: Results, directory: str | PathLike[str]) -> None:
    """Draw `demand.png`, `contents.png`, `latency.png`, `links.png`, where context is used again
    `reuse.png`, and where NAND is written `wear.png`, into a directory that exists."""
    for picture in pictures_of_run(Outline.of(results), Path(directory)):
        picture()


def plot_comparison(results: Mapping[str, Results], directory: str | PathLike[str]) -> None:
    """Draw `demand.png`, `latency.png` and `outcomes.png` of variants, the first the base, into a
    directory that exists."""
    outlines = {name: Outline.of(each) for name, each in results.items()}
    for picture in pictures_of_comparison(outlines, Path(directory)):
        picture()


def pictures_of_run(outline: Outline, directory: Path) -> list[Picture]:
    """Those of `plot_run`; the longest to draw first."""
    drawn = {
        "demand.png": plot_demand,
        "contents.png": plot_contents,
        "links.png": plot_links,
        "latency.png": plot_latency,
    }
    if reuses(outline):
        drawn["reuse.png"] = plot_reuse
    if wears(outline):
        drawn["wear.png"] = plot_wear
    return [partial(draw, outline, directory / name) for name, draw in drawn.items()]


def pictures_of_comparison(outlines: Mapping[str, Outline], directory: Path) -> list[Picture]:
    """Those of `plot_comparison`."""
    drawn = {
        "demand.png": plot_demands,
        "latency.png": plot_latencies,
        "outcomes.png": plot_outcomes,
    }
    return [partial(draw, outlines, directory / name) for name, draw in drawn.items()]


def warm_up() -> None:
    """Load what the first picture of a process loads: the font with its letters and figures, the
    code that writes a PNG."""
    figure = new_figure(3.0, 2.0)
    axes = figure.subplots()
    draw_area(axes, np.arange(2.0), np.zeros(1), np.ones(1), hatch="//")
    frame(axes, ticks(0, 1, 6), {}, title=string.ascii_letters + string.digits)
    legend_below(figure, [Line2D([], [], label="demand")])
    save(figure, BytesIO())
