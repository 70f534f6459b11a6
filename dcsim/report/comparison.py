"""Plots of variants of a scenario side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from dcsim.engine import OUTCOMES, TIERS
from dcsim.report.demand import time_axis, vertical_range
from dcsim.report.frame import Ticks, frame, rows, ticks
from dcsim.report.latency import (
    MEASURES,
    TIME_LABEL,
    draw_ranges,
    range_handles,
    seconds_range,
)
from dcsim.report.outline import Outline, TierSeries
from dcsim.report.quantities import byte_unit, bytes_text, time_unit
from dcsim.report.style import CYCLE, LINES, draw_line, heading, legend_below, new_figure, save
from dcsim.report.words import TIER_NAMES

__all__ = ["plot_demands", "plot_latencies", "plot_outcomes"]

_OUTCOME_STYLES = {
    "completed": ("#009E73", ""),
    "running": ("#56B4E9", "//"),
    "queued": ("#E69F00", ".."),
    "rejected": ("#D55E00", "xx"),
}


def plot_demands(outlines: Mapping[str, Outline], path: Path) -> None:
    """Draw occupancy and demand of each tier over time, a line a variant, as a PNG."""
    figure = new_figure(11.0, 8.6)
    panels = figure.subplots(len(TIERS), 2, sharex=True, sharey="row", squeeze=False)
    duration = max(each.summary["duration_ns"] for each in outlines.values())
    for pair, tier in zip(panels, TIERS, strict=True):
        times, label = time_axis(pair[0], duration)
        last = label if tier == TIERS[-1] else None
        note, y, unit = _draw_variants(pair, tier, outlines, time_unit(duration)[0])
        title = TIER_NAMES[tier]
        frame(pair[0], times, y, title=f"{title} held{note}", x_label=last, y_label=unit)
        frame(pair[1], times, y, title=f"{title} demanded", x_label=last, y_ticks=False)
    _title(figure, "Occupancy and demand", outlines)
    handles = [
        Line2D([], [], color=color, ls=style, lw=1.6, label=name)
        for name, (color, style) in _styles(outlines).items()
    ]
    handles.append(Line2D([], [], color="#888888", lw=0.8, label="capacity (thin, same style)"))
    legend_below(figure, handles)
    save(figure, path)


def plot_latencies(outlines: Mapping[str, Outline], path: Path) -> None:
    """Draw latency percentiles, a row of panels a job class and a line a variant, as a PNG."""
    jobs = _jobs(outlines)
    figure = new_figure(11.0, 1.4 + len(jobs) * (0.7 + 0.26 * len(outlines)))
    panels = figure.subplots(len(jobs), len(MEASURES), sharex="col", sharey=True, squeeze=False)
    for column, (measure, title) in zip(panels.T, MEASURES.items(), strict=True):
        spreads = {
            job: {n: each.summary["jobs"].get(job, {}).get(measure) for n, each in outlines.items()}
            for job in jobs
        }
        limits = seconds_range(each for mine in spreads.values() for each in mine.values())
        for axes, (job, mine) in zip(column, spreads.items(), strict=True):
            last = axes is column[-1]
            label = (TIME_LABEL if measure == "first_ns" else "") if last else None
            first = axes in panels[:, 0]
            text = f"{job}: {title}" if first else title
            draw_ranges(axes, mine, limits, most=4, title=text, x_label=label, y_ticks=first)
    _title(figure, "Latency by job class", outlines)
    legend_below(figure, range_handles(), names=outlines)
    save(figure, path)


def plot_outcomes(outlines: Mapping[str, Outline], path: Path) -> None:
    """Draw what became of the requests, a panel a job class and a bar a variant, as a PNG."""
    jobs = _jobs(outlines)
    figure = new_figure(9.0, 1.6 + len(jobs) * (0.6 + 0.26 * len(outlines)))
    panels = figure.subplots(len(jobs), 1, sharex=True, squeeze=False)[:, 0]
    for axes, job in zip(panels, jobs, strict=True):
        figures = [each.summary["jobs"].get(job) for each in outlines.values()]
        _draw_bars(axes, figures)
        axes.set_xlim(0, 100)
        axes.set_ylim(len(outlines) - 0.5, -0.5)
        label = "share of the requests that arrived (%)" if axes is panels[-1] else None
        frame(axes, ticks(0, 100, 10), rows(list(outlines)), title=job, x_label=label)
    _title(figure, "Outcomes", outlines)
    handles = [
        Patch(facecolor=color, hatch=hatch, edgecolor="white", label=name)
        for name, (color, hatch) in _OUTCOME_STYLES.items()
    ]
    legend_below(figure, handles, names=outlines, right=1.2)
    save(figure, path)


def _styles(outlines: Mapping[str, object]) -> dict[str, tuple[str, Any]]:
    return {
        name: (CYCLE[row % len(CYCLE)], LINES[row % len(LINES)])
        for row, name in enumerate(outlines)
    }


def _jobs(outlines: Mapping[str, Outline]) -> list[str]:
    return list(dict.fromkeys(job for each in outlines.values() for job in each.summary["jobs"]))


def _title(figure: Any, what: str, outlines: Mapping[str, Outline]) -> None:
    scenario = next(iter(outlines.values())).summary["scenario"]
    heading(figure, f"{what}: {scenario}")


def _draw_variants(
    pair: NDArray[Any], tier: str, outlines: Mapping[str, Outline], time_size: int
) -> tuple[str, Ticks, str]:
    """Left what is held, right what is demanded, on one scale; a note on capacities that do not
    fit in, the ticks of the bytes and their unit."""
    there = {n: each.tiers[tier] for n, each in outlines.items() if tier in each.tiers}
    most = max((float(_most(each)) for each in there.values()), default=0.0)
    capacities = [float(each.columns["capacity"].max()) for each in there.values()]
    shown = [value for value in capacities if vertical_range(most, value)[1]]
    top = vertical_range(most, max(shown, default=0.0))[0]
    size, unit = byte_unit(top)
    styles = _styles(outlines)
    widths = {name: max(3.0 - 0.6 * row, 1.0) for row, name in enumerate(outlines)}
    for name, each in there.items():
        color, style = styles[name]
        edges = outlines[name].edges / time_size
        for axes, values in zip(pair, (each.occupancy(), each.columns["demand"]), strict=True):
            look = {"color": color, "ls": style}
            draw_line(axes, edges, values / size, lw=widths[name], **look)
            draw_line(axes, edges, each.columns["capacity"] / size, lw=0.8, alpha=0.8, **look)
    hidden = len(capacities) - len(shown)
    note = f" ({hidden} capacities above this axis)" if hidden else ""
    if hidden and len(set(capacities)) == 1:
        note = f" (capacity {bytes_text(capacities[0])}, above this axis)"
    pair[0].set_ylim(0, top / size)
    return note, ticks(0, top / size, 6), unit


def _most(series: TierSeries) -> int:
    return int(max(series.occupancy().max(), series.columns["demand"].max()))


def _draw_bars(axes: Any, figures: list[dict[str, Any] | None]) -> None:
    left = np.zeros(len(figures))
    arrived = np.array([0 if each is None else each["arrived"] for each in figures])
    for outcome in _order():
        color, hatch = _OUTCOME_STYLES[outcome]
        count = np.array([0 if each is None else each["outcomes"][outcome] for each in figures])
        share = 100.0 * count / np.maximum(arrived, 1)
        axes.barh(
            range(len(figures)), share, left=left, color=color, hatch=hatch, ec="white", lw=0.4
        )
        left += share
    for row, each in enumerate(figures):
        text = "no such job" if each is None else f"{each['arrived']:,} arrived"
        axes.text(
            1.01, row, text, transform=axes.get_yaxis_transform(), va="center",
            fontsize=8,
        )  # fmt: skip


def _order() -> list[str]:
    """Outcomes as drawn, the good one first."""
    return [name for name in _OUTCOME_STYLES if name in OUTCOMES]
