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
from dcsim.report.demand import TierSeries, tier_series, time_axis, vertical_range
from dcsim.report.latency import MEASURES, TIME_LABEL, draw_ranges, range_handles
from dcsim.report.quantities import byte_unit, bytes_text, time_unit
from dcsim.report.style import CYCLE, LINES, draw_line, legend_below, new_figure, save, tidy
from dcsim.report.words import TIER_NAMES
from dcsim.results import Results

__all__ = ["plot_demands", "plot_latencies", "plot_outcomes"]

_OUTCOME_STYLES = {
    "completed": ("#009E73", ""),
    "running": ("#56B4E9", "//"),
    "queued": ("#E69F00", ".."),
    "rejected": ("#D55E00", "xx"),
}


def plot_demands(results: Mapping[str, Results], path: Path) -> None:
    """Draw occupancy and demand of each tier over time, a line a variant, as a PNG."""
    figure = new_figure(11.0, 8.6)
    panels = figure.subplots(len(TIERS), 2, sharex=True, sharey="row", squeeze=False)
    duration = max(each.summary["duration_ns"] for each in results.values())
    for row, tier in enumerate(TIERS):
        series = {name: tier_series(each, tier) for name, each in results.items()}
        _draw_variants(panels[row], tier, series, time_unit(duration)[0])
    for axes in panels[-1]:
        time_axis(axes, duration)
    _title(figure, "Occupancy and demand", results)
    handles = [
        Line2D([], [], color=color, ls=style, lw=1.6, label=name)
        for name, (color, style) in _styles(results).items()
    ]
    handles.append(Line2D([], [], color="#888888", lw=0.8, label="capacity (thin, same style)"))
    legend_below(figure, handles)
    save(figure, path)


def plot_latencies(results: Mapping[str, Results], path: Path) -> None:
    """Draw latency percentiles, a row of panels a job class and a line a variant, as a PNG."""
    jobs = _jobs(results)
    figure = new_figure(11.0, 1.4 + len(jobs) * (0.7 + 0.26 * len(results)))
    panels = figure.subplots(len(jobs), len(MEASURES), sharex="col", sharey=True, squeeze=False)
    for row, job in zip(panels, jobs, strict=True):
        for axes, (measure, title) in zip(row, MEASURES.items(), strict=True):
            draw_ranges(
                axes,
                {
                    name: each.summary["jobs"].get(job, {}).get(measure)
                    for name, each in results.items()
                },
            )
            tidy(axes, title=f"{job}: {title}")
    panels[-1][1].set_xlabel(TIME_LABEL, fontsize=9)
    _title(figure, "Latency by job class", results)
    legend_below(figure, range_handles(), names=results)
    save(figure, path)


def plot_outcomes(results: Mapping[str, Results], path: Path) -> None:
    """Draw what became of the requests, a panel a job class and a bar a variant, as a PNG."""
    jobs = _jobs(results)
    figure = new_figure(9.0, 1.6 + len(jobs) * (0.6 + 0.26 * len(results)))
    panels = figure.subplots(len(jobs), 1, sharex=True, squeeze=False)[:, 0]
    for axes, job in zip(panels, jobs, strict=True):
        figures = [each.summary["jobs"].get(job) for each in results.values()]
        _draw_bars(axes, figures)
        axes.set_yticks(range(len(results)), list(results))
        axes.set_ylim(len(results) - 0.5, -0.5)
        tidy(axes, title=job)
    panels[-1].set_xlabel("share of the requests that arrived (%)", fontsize=9)
    panels[-1].set_xlim(0, 100)
    _title(figure, "Outcomes", results)
    handles = [
        Patch(facecolor=color, hatch=hatch, edgecolor="white", label=name)
        for name, (color, hatch) in _OUTCOME_STYLES.items()
    ]
    legend_below(figure, handles, names=results, right=1.2)
    save(figure, path)


def _styles(results: Mapping[str, object]) -> dict[str, tuple[str, Any]]:
    return {
        name: (CYCLE[row % len(CYCLE)], LINES[row % len(LINES)]) for row, name in enumerate(results)
    }


def _jobs(results: Mapping[str, Results]) -> list[str]:
    return list(dict.fromkeys(job for each in results.values() for job in each.summary["jobs"]))


def _title(figure: Any, what: str, results: Mapping[str, Results]) -> None:
    scenario = next(iter(results.values())).summary["scenario"]
    figure.suptitle(f"{what}: {scenario}", x=0.01, ha="left", fontsize=12)


def _draw_variants(
    pair: NDArray[Any], tier: str, series: Mapping[str, TierSeries | None], time_size: int
) -> None:
    """Left what is held, right what is demanded, on one scale."""
    there = {name: each for name, each in series.items() if each is not None}
    most = max((float(_most(each)) for each in there.values()), default=0.0)
    capacities = [float(each.columns["capacity"].max()) for each in there.values()]
    shown = [value for value in capacities if vertical_range(most, value)[1]]
    top = vertical_range(most, max(shown, default=0.0))[0]
    size, unit = byte_unit(top)
    styles = _styles(series)
    widths = {name: max(3.0 - 0.6 * row, 1.0) for row, name in enumerate(series)}
    for name, each in there.items():
        color, style = styles[name]
        edges = each.edges / time_size
        for axes, values in zip(pair, (each.occupancy(), each.columns["demand"]), strict=True):
            look = {"color": color, "ls": style}
            draw_line(axes, edges, values / size, lw=widths[name], **look)
            draw_line(axes, edges, each.columns["capacity"] / size, lw=0.8, alpha=0.8, **look)
    hidden = len(capacities) - len(shown)
    note = f" ({hidden} capacities above this axis)" if hidden else ""
    if hidden and len(set(capacities)) == 1:
        note = f" (capacity {bytes_text(capacities[0])}, above this axis)"
    tidy(pair[0], y=unit, title=f"{TIER_NAMES[tier]} held{note}")
    tidy(pair[1], title=f"{TIER_NAMES[tier]} demanded")
    pair[0].set_ylim(0, top / size)


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
    for row, count in enumerate(arrived.tolist()):
        axes.text(
            1.01, row, f"{count:,} arrived", transform=axes.get_yaxis_transform(), va="center",
            fontsize=8,
        )  # fmt: skip


def _order() -> list[str]:
    """Outcomes as drawn, the good one first."""
    return [name for name in _OUTCOME_STYLES if name in OUTCOMES]
