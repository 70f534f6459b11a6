"""Context that is used again: loaded from each tier over time, and taken in there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from dcsim.report.demand import time_axis
from dcsim.report.frame import Ticks, frame, ticks
from dcsim.report.outline import Ints, Outline
from dcsim.report.quantities import byte_unit, gap_text, time_unit
from dcsim.report.style import Floats, draw_area, heading, legend_below, new_figure, save
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
    figure = new_figure(9.0, 9.0)
    *panels, lowest = figure.subplots(len(_PANELS) + 1, 1, sharex=True)
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
        frame(axes, times, y, title=text, y_label=f"{unit}/s")
    gaps = dict(zip(outline.useful, _shades(len(outline.useful)), strict=True))
    y, unit = _stack(lowest, {gaps[gap]: held for gap, held in outline.useful.items()}, edges)
    text = "Demand by how long context waits to be used again (lifted)"
    frame(lowest, times, y, title=text, x_label=label, y_label=unit)
    name = outline.summary["scenario"]
    heading(figure, f"Context that is used again: {name}")
    tiers = [Patch(color=c, label=TIER_NAMES[tier]) for tier, c in seen.items()]
    legend_below(figure, tiers + [Patch(color=c, label=gap_text(*g)) for g, c in gaps.items()])
    save(figure, path)


def _draw(
    axes: Any, outline: Outline, column: str, colors: dict[str, str], edges: Floats
) -> tuple[Ticks, str]:
    """The tiers' rates; their ticks and their unit."""
    tiers = outline.tiers
    rates = {color: tiers[t].columns[column] for t, color in colors.items() if t in tiers}
    return _stack(axes, rates, edges)


_RAMP = ((253, 231, 37), (53, 183, 121), (49, 104, 142), (68, 1, 84))
"""From a short gap to a long one: some colours of viridis."""


def _shades(count: int) -> list[str]:
    """As many colours along the ramp."""
    places = np.linspace(0, len(_RAMP) - 1, count)
    at = np.arange(len(_RAMP))
    mixed = [np.interp(places, at, channel) for channel in zip(*_RAMP, strict=True)]
    return [f"#{int(r):02x}{int(g):02x}{int(b):02x}" for r, g, b in zip(*mixed, strict=True)]


def _stack(axes: Any, areas: Mapping[str, Ints], edges: Floats) -> tuple[Ticks, str]:
    """One area above the other, by colour; the ticks of the bytes and their unit."""
    most = 1.12 * max(float(np.max(sum(areas.values(), np.zeros(1)))), 1.0)
    size, unit = byte_unit(most)
    floor = np.zeros(len(edges) - 1)
    for color, values in areas.items():
        roof = floor + values / size
        draw_area(axes, edges, floor, roof, color=color, lw=0)
        floor = roof
    axes.set_ylim(0, most / size)
    return ticks(0, most / size, 6), unit
