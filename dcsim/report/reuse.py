"""Context that is used again: loaded from each tier over time, and taken in there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from dcsim.report.demand import time_axis
from dcsim.report.frame import Ticks, frame, ticks
from dcsim.report.outline import Outline
from dcsim.report.quantities import byte_unit, time_unit
from dcsim.report.style import Floats, draw_area, legend_below, new_figure, save
from dcsim.report.words import TIER_NAMES

__all__ = ["plot_reuse", "reuses"]

_PANELS = {
    "read": "Loaded instead of computed, from",
    "taken": "Taken in, contexts and clips, by",
}
_COLORS = {"dram": "#56B4E9", "nand": "#D55E00"}
_HBM = {"hbm": "#009E73"}


def reuses(outline: Outline) -> bool:
    """Whether any job loads what was kept."""
    return any(job.get("reuse") for job in outline.summary["jobs"].values())


def plot_reuse(outline: Outline, path: Path) -> None:
    """Draw the bytes a second that each tier gives to requests, and takes in, as a PNG."""
    figure = new_figure(9.0, 6.0)
    panels = figure.subplots(len(_PANELS), 1, sharex=True)
    duration = outline.summary["duration_ns"]
    edges = outline.edges / time_unit(duration)[0]
    found = "hbm" in outline.tiers and outline.tiers["hbm"].columns["read"].any()
    seen = _HBM | _COLORS if found else _COLORS
    for axes, (column, title) in zip(panels, _PANELS.items(), strict=True):
        times, label = time_axis(axes, duration)
        shown = seen if column == "read" else _COLORS
        y, unit = _draw(axes, outline, column, shown, edges)
        text = f"{title} {' and '.join(TIER_NAMES[tier] for tier in _COLORS)}"
        if len(shown) > len(_COLORS):
            text = f"Found in HBM, or {text[0].lower()}{text[1:]}"
        last = label if axes is panels[-1] else None
        frame(axes, times, y, title=text, x_label=last, y_label=f"{unit}/s")
    name = outline.summary["scenario"]
    figure.suptitle(f"Context that is used again: {name}", x=0.01, ha="left", fontsize=12)
    legend_below(figure, [Patch(color=c, label=TIER_NAMES[tier]) for tier, c in seen.items()])
    save(figure, path)


def _draw(
    axes: Any, outline: Outline, column: str, colors: dict[str, str], edges: Floats
) -> tuple[Ticks, str]:
    """One area above the other; the ticks of the rates and their unit."""
    rates = {t: outline.tiers[t].columns[column] for t in colors if t in outline.tiers}
    most = 1.12 * max(float(np.max(sum(rates.values()))), 1.0)
    size, unit = byte_unit(most)
    floor = np.zeros(len(edges) - 1)
    for tier, rate in rates.items():
        roof = floor + rate / size
        draw_area(axes, edges, floor, roof, color=colors[tier], lw=0)
        floor = roof
    axes.set_ylim(0, most / size)
    return ticks(0, most / size, 6), unit
