"""How busy the links are over time, against what they can move."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dcsim.report.demand import time_axis
from dcsim.report.frame import SIZE, Ticks, frame
from dcsim.report.outline import LinkSeries, Outline
from dcsim.report.quantities import bytes_text, time_unit
from dcsim.report.style import (
    CAPACITY,
    Floats,
    draw_area,
    draw_line,
    heading,
    legend_below,
    new_figure,
    save,
)

__all__ = ["plot_links"]

_MOST = 8
"""Strips: links beyond are idler than those, and counted below."""
_LEAST = 0.001
"""Load of the busiest stretch from which on links have a strip."""
_NEAR = 0.5
"""A load from which on a strip goes up to the limit."""
_PITCH = 1.6
"""From strip to strip, in heights of a strip."""
_MEAN, _BUSIEST = "#56B4E9", "#000000"


def plot_links(outline: Outline, path: Path) -> None:
    """Draw the load of links over time, a strip for those that are alike, the busiest first, as a
    PNG. A strip ends at a round load above its peak, and at the limit where it comes near.

    All strips are in one panel: to make a panel takes longer than to draw a strip.
    """
    used = [name for name, links in outline.links.items() if links.busiest.any()]
    names = sorted(used, key=lambda name: (-_peak(outline.links[name]), name))
    shown = [name for name in names[:_MOST] if _peak(outline.links[name]) >= _LEAST]
    rest = [outline.links[name] for name in names if name not in shown]
    figure = new_figure(9.0, 1.9 + 0.95 * max(len(shown), 1))
    axes = figure.subplots()
    duration = outline.summary["duration_ns"]
    edges = outline.edges / time_unit(duration)[0]
    y: dict[float, str] = {}
    for row, name in enumerate(shown):
        base = _PITCH * (len(shown) - 1 - row)
        y |= _draw(axes, edges, outline.links[name], base)
        text = f" {_title(name, outline.links[name])}"
        axes.text(0, base + 1.08, text, fontsize=SIZE, va="bottom", parse_math=False)
    axes.set_ylim(0, _PITCH * max(len(shown), 1))
    times, label = time_axis(axes, duration)
    frame(axes, times, y, x_label=label, title="" if shown else "no link comes to 0.1 %")
    title = f"Load of links, share of their bandwidth: {outline.summary['scenario']}"
    heading(figure, title)
    legend_below(figure, _legend([outline.links[name] for name in shown], rest))
    save(figure, path)


def _peak(links: LinkSeries) -> float:
    return float(links.busiest.max())


def _draw(axes: Any, edges: Floats, links: LinkSeries, base: float) -> Ticks:
    """The mean of like links as an area, the busiest of each stretch as a line, in a strip of
    height 1 from `base`; its ticks."""
    top = 1.0 if _peak(links) > _NEAR else _round_above(_peak(links))
    floor = np.full(len(edges) - 1, base)
    draw_area(axes, edges, floor, base + links.mean / top, color=_MEAN, lw=0)
    if links.count > 1:
        draw_line(axes, edges, base + links.busiest / top, color=_BUSIEST, lw=0.8)
    if top == 1.0:
        axes.plot(edges[[0, -1]], [base + 1, base + 1], color=CAPACITY, lw=1.4)
    return {base: "0 %", base + 1: f"{100 * top:g} %"}


def _round_above(load: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below it."""
    power = 10.0 ** math.floor(math.log10(load))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= load * (1 - 1e-9))


def _title(name: str, links: LinkSeries) -> str:
    each = f"{bytes_text(links.bandwidth)}/s"
    return f"{name}: {links.count} links of {each}" if links.count > 1 else f"{name}: {each}"


def _legend(shown: list[LinkSeries], rest: list[LinkSeries]) -> list[Any]:
    handles: list[Any] = [Patch(color=_MEAN, label="load, mean of like links")]
    if any(links.count > 1 for links in shown):
        handles.append(Line2D([], [], color=_BUSIEST, lw=0.8, label="the busiest of them"))
    if any(_peak(links) > _NEAR for links in shown):
        handles.append(Line2D([], [], color=CAPACITY, lw=1.4, label="limit"))
    if rest:
        most = 100 * max(_peak(links) for links in rest)
        text = f"{len(rest)} more kinds of links, at most {most:.2g} %"
        handles.append(Line2D([], [], lw=0, label=text))
    return handles
