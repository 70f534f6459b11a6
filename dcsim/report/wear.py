"""What is written to NAND over time, against what the drives stand and are allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dcsim.report.demand import time_axis
from dcsim.report.frame import Ticks, frame, ticks
from dcsim.report.outline import Outline, WearSeries
from dcsim.report.quantities import byte_unit, time_unit
from dcsim.report.style import (
    CAPACITY,
    DEMAND,
    Floats,
    draw_area,
    draw_line,
    heading,
    legend_below,
    new_figure,
    save,
)

__all__ = ["plot_wear", "wears"]

_MOST = 4
"""Panels: the pools that wear out first."""
_COLORS = {"artifacts": "#CC79A7", "contexts": "#009E73", "reused": "#56B4E9"}
_BUDGET = "#0072B2"
_LABELS = {
    "artifacts": "clips and images",
    "contexts": "contexts, kept",
    "reused": "contexts, used again",
}


def wears(outline: Outline) -> bool:
    """Whether anything is written to NAND."""
    return bool(outline.summary["tiers"]["nand"]["wear"]["bytes_written"])


def plot_wear(outline: Outline, path: Path) -> None:
    """Draw the bytes a second that each NAND pool takes, by what they are for, beside what its
    rating sustains and its budget lets through, as a PNG."""
    pools = outline.summary["tiers"]["nand"]["wear"]["pools"]

    def pace(name: str) -> float:
        sustained = pools[name]["sustained_drive_writes_per_day"]
        written: float = pools[name]["drive_writes_per_day"]
        return written / sustained if sustained else written

    worn = [name for name, figures in pools.items() if figures["bytes_written"]]
    worn.sort(key=lambda name: (-pace(name), name))
    shown = worn[:_MOST]
    figure = new_figure(9.0, 1.6 + 2.3 * len(shown))
    panels = np.atleast_1d(figure.subplots(len(shown), 1, sharex=True))
    duration = outline.summary["duration_ns"]
    edges = outline.edges / time_unit(duration)[0]
    for axes, name in zip(panels, shown, strict=True):
        times, label = time_axis(axes, duration)
        y, unit = _draw(axes, edges, outline.wear[name])
        last = label if axes is panels[-1] else None
        frame(axes, times, y, title=_title(name, pools[name]), x_label=last, y_label=f"{unit}/s")
    more = f" ({len(worn) - _MOST} more pools wear less)" if len(worn) > _MOST else ""
    title = f"Written to NAND: {outline.summary['scenario']}{more}"
    heading(figure, title)
    legend_below(figure, _legend([outline.wear[name] for name in shown]), columns=4)
    save(figure, path)


def _draw(axes: Any, edges: Floats, wear: WearSeries) -> tuple[Ticks, str]:
    """Areas on end for what is taken, lines for what is written and allowed; ticks and unit."""
    stack = sum(wear.taken.values())
    paces = [pace for pace in (wear.rated, wear.budget) if pace is not None]
    most = 1.12 * max(float(np.max(stack)), float(wear.written.max()), *paces, 1.0)
    size, unit = byte_unit(most)
    floor = np.zeros(len(edges) - 1)
    for name, rate in wear.taken.items():
        roof = floor + rate / size
        draw_area(axes, edges, floor, roof, color=_COLORS[name], lw=0)
        floor = roof
    draw_line(axes, edges, wear.written / size, color=DEMAND, lw=0.9)
    if wear.rated is not None:
        axes.axhline(wear.rated / size, color=CAPACITY, lw=1.6)
    if wear.budget is not None:
        axes.axhline(wear.budget / size, color=_BUDGET, lw=1.6, ls="--")
    axes.set_ylim(0, most / size)
    return ticks(0, most / size, 6), unit


def _title(name: str, figures: dict[str, Any]) -> str:
    text = f"{name}: {figures['drive_writes_per_day']:.3g} drive writes a day"
    if figures["lifetime_years"] is None:
        return text
    return f"{text}, lasts {figures['lifetime_years']:.3g} years"


def _legend(shown: list[WearSeries]) -> list[Any]:
    used = [name for name in _COLORS if any(wear.taken[name].any() for wear in shown)]
    handles: list[Any] = [Patch(color=_COLORS[name], label=_LABELS[name]) for name in used]
    handles.append(Line2D([], [], color=DEMAND, lw=0.9, label="written"))
    if any(wear.rated is not None for wear in shown):
        handles.append(Line2D([], [], color=CAPACITY, lw=1.6, label="what the rating sustains"))
    if any(wear.budget is not None for wear in shown):
        handles.append(Line2D([], [], color=_BUDGET, lw=1.6, ls="--", label="write budget"))
    return handles
