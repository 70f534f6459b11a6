"""Demand, occupancy and capacity of each tier over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dcsim.engine import TIERS
from dcsim.report.frame import Ticks, frame, ticks
from dcsim.report.outline import Outline, TierSeries
from dcsim.report.quantities import byte_unit, bytes_text, time_unit
from dcsim.report.style import (
    CAPACITY,
    CATEGORY_COLORS,
    DEMAND,
    SHORTFALL,
    Floats,
    draw_area,
    draw_line,
    heading,
    legend_below,
    new_figure,
    save,
)
from dcsim.report.words import TIER_NAMES

__all__ = ["plot_demand", "time_axis", "vertical_range"]

_FAR = 3.0
"""A capacity this many times above all data is named, not drawn: the data would lie flat."""


def plot_demand(outline: Outline, path: Path) -> None:
    """Draw, for each tier, occupancy by category, demand and capacity over time, as a PNG."""
    figure = new_figure(9.0, 8.6)
    panels = figure.subplots(len(TIERS), 1, sharex=True)
    duration = outline.summary["duration_ns"]
    edges = outline.edges / time_unit(duration)[0]
    for axes, tier in zip(panels, TIERS, strict=True):
        times, label = time_axis(axes, duration)
        series = outline.tiers.get(tier)
        title, unit = TIER_NAMES[tier], ""
        y: Ticks = {}
        if series is None or not _drawn(series):
            _draw_nothing(axes, tier)
        else:
            note, y, unit = _draw_tier(axes, series, edges)
            title += f": {note}"
        last = label if axes is panels[-1] else None
        frame(axes, times, y, title=title, x_label=last, y_label=unit)
    heading(figure, f"Memory demand: {outline.summary['scenario']}")
    legend_below(figure, _handles(outline))
    save(figure, path)


def time_axis(axes: Any, duration: int) -> tuple[Ticks, str]:
    """Limits for a run of `duration` ns, in the unit that suits it; its ticks and its label."""
    size, unit = time_unit(duration)
    axes.set_xlim(0, duration / size)
    times = ticks(0, duration / size, 12, (1, 2, 3, 5, 6, 10))
    return times, f"time since the start ({unit})"


def vertical_range(data: float, capacity: float) -> tuple[float, bool]:
    """The top of an axis of bytes for data up to `data`, and whether a capacity is drawn in it."""
    if data > 0 and capacity > _FAR * data:
        return 1.18 * data, False
    return 1.12 * max(data, capacity, 1.0), True


def _drawn(series: TierSeries) -> bool:
    return any(series.columns[name].any() for name in ("capacity", "demand_peak", "peak"))


def _draw_nothing(axes: Any, tier: str) -> None:
    text = f"no {TIER_NAMES[tier]} in this topology"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center")


def _draw_tier(axes: Any, series: TierSeries, edges: Floats) -> tuple[str, Ticks, str]:
    """Draws a tier; a note on its capacity, the ticks of the bytes and their unit."""
    columns = series.columns
    most = float(max(columns["demand_peak"].max(), columns["peak"].max()))
    capacity = float(columns["capacity"].max())
    top, within = vertical_range(most, capacity)
    size, unit = byte_unit(top)
    floor = np.zeros(len(edges) - 1)
    for category in series.categories:
        roof = floor + columns[category] / size
        draw_area(axes, edges, floor, roof, color=CATEGORY_COLORS[category], lw=0)
        floor = roof
    if columns["shortfall"].any():
        covered = np.maximum(columns["demand_peak"] - columns["shortfall"], 0) / size
        demanded = columns["demand_peak"] / size
        draw_area(axes, edges, covered, demanded, color=SHORTFALL, lw=0)
    draw_line(axes, edges, columns["demand_peak"] / size, color=DEMAND, lw=0.9, ls=":")
    draw_line(axes, edges, columns["demand"] / size, color=DEMAND, lw=1.3)
    note = f"capacity {bytes_text(columns['capacity'][0])}"
    if (columns["capacity"] != columns["capacity"][0]).any():
        note += " at first"
    if within:
        draw_line(axes, edges, columns["capacity"] / size, color=CAPACITY, lw=1.8, ls="--")
    else:
        note += " (above this axis)"
    axes.set_ylim(0, top / size)
    return note, ticks(0, top / size, 6), unit


def _handles(outline: Outline) -> list[Any]:
    """The legend."""
    held = [Patch(color=CATEGORY_COLORS[name], label=name) for name in outline.categories]
    return [
        *held,
        Line2D([], [], color=DEMAND, lw=1.3, label="demand (mean of bin)"),
        Line2D([], [], color=DEMAND, lw=0.9, ls=":", label="demand (peak in bin)"),
        Line2D([], [], color=CAPACITY, lw=1.8, ls="--", label="capacity"),
        Patch(color=SHORTFALL, label="shortfall of a pool"),
    ]
