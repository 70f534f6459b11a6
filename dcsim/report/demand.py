"""Demand, occupancy and capacity of each tier over time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dcsim.engine import CATEGORIES, TIERS
from dcsim.report.quantities import byte_unit, bytes_text, time_unit
from dcsim.report.style import (
    CAPACITY,
    CATEGORY_COLORS,
    DEMAND,
    SHORTFALL,
    draw_area,
    draw_line,
    legend_below,
    new_figure,
    save,
    tidy,
)
from dcsim.report.words import TIER_NAMES
from dcsim.results import Results

__all__ = ["TierSeries", "plot_demand", "tier_series", "time_axis", "vertical_range"]

_SUMS = ("capacity", *CATEGORIES, "peak", "demand", "demand_peak", "shortfall")
_FAR = 3.0
"""A capacity this many times above all data is named, not drawn: the data would lie flat."""


@dataclass(frozen=True)
class TierSeries:
    """A tier over B bins: `edges` float64[B+1], ns; `columns`: bytes by name, int64[B], summed
    over the tier's pools (`capacity`, the categories, `peak`, `demand`, `demand_peak`,
    `shortfall`)."""

    edges: NDArray[np.float64]
    columns: dict[str, NDArray[np.int64]]

    def occupancy(self) -> NDArray[np.int64]:
        """Bytes held, all categories, int64[B]."""
        return np.asarray(sum(self.columns[category] for category in CATEGORIES))


def tier_series(results: Results, tier: str) -> TierSeries | None:
    """The timeline of a tier, its pools added up; None if it has no pool."""
    timeline = results.timeline()
    mine = timeline.filter(pc.equal(timeline["tier"], tier))
    if mine.num_rows == 0:
        return None
    start, row = np.unique(mine["start_ns"].to_numpy(), return_inverse=True)
    columns = {}
    for name in _SUMS:
        columns[name] = np.zeros(len(start), dtype=np.int64)
        np.add.at(columns[name], row, mine[name].to_numpy())
    end = mine["end_ns"].to_numpy().max()
    return TierSeries(np.append(start, end).astype(np.float64), columns)


def plot_demand(results: Results, path: Path) -> None:
    """Draw, for each tier, occupancy by category, demand and capacity over time, as a PNG."""
    figure = new_figure(9.0, 8.6)
    panels = figure.subplots(len(TIERS), 1, sharex=True)
    size, _ = time_unit(results.summary["duration_ns"])
    for axes, tier in zip(panels, TIERS, strict=True):
        series = tier_series(results, tier)
        if series is None or not _drawn(series):
            _draw_nothing(axes, tier)
        else:
            _draw_tier(axes, series, tier, size)
    time_axis(panels[-1], results.summary["duration_ns"])
    figure.suptitle(f"Memory demand: {results.summary['scenario']}", x=0.01, ha="left", fontsize=12)
    legend_below(figure, _handles())
    save(figure, path)


def time_axis(axes: Any, duration: int) -> None:
    """An axis over a whole run of `duration` ns, in the unit that suits it."""
    size, unit = time_unit(duration)
    axes.set_xlabel(f"time since the start ({unit})", fontsize=9)
    axes.set_xlim(0, duration / size)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, steps=[1, 2, 3, 5, 6, 10]))


def vertical_range(data: float, capacity: float) -> tuple[float, bool]:
    """The top of an axis of bytes for data up to `data`, and whether a capacity is drawn in it."""
    if data > 0 and capacity > _FAR * data:
        return 1.18 * data, False
    return 1.12 * max(data, capacity, 1.0), True


def _drawn(series: TierSeries) -> bool:
    return any(series.columns[name].any() for name in ("capacity", "demand_peak", "peak"))


def _draw_nothing(axes: Any, tier: str) -> None:
    tidy(axes, title=TIER_NAMES[tier])
    axes.set_yticks([])
    axes.text(
        0.5, 0.5, f"no {TIER_NAMES[tier]} in this topology", transform=axes.transAxes, ha="center"
    )


def _draw_tier(axes: Any, series: TierSeries, tier: str, time_size: int) -> None:
    edges, columns = series.edges / time_size, series.columns
    most = float(max(columns["demand_peak"].max(), columns["peak"].max()))
    capacity = float(columns["capacity"].max())
    top, within = vertical_range(most, capacity)
    size, unit = byte_unit(top)
    floor = np.zeros(len(edges) - 1)
    for category in CATEGORIES:
        roof = floor + columns[category] / size
        draw_area(axes, edges, floor, roof, color=CATEGORY_COLORS[category], lw=0)
        floor = roof
    if columns["shortfall"].any():
        covered = (columns["demand_peak"] - columns["shortfall"]) / size
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
    tidy(axes, y=unit, title=f"{TIER_NAMES[tier]}: {note}")
    axes.set_ylim(0, top / size)


def _handles() -> list[Any]:
    held = [Patch(color=color, label=name) for name, color in CATEGORY_COLORS.items()]
    return [
        *held,
        Line2D([], [], color=DEMAND, lw=1.3, label="demand (mean of bin)"),
        Line2D([], [], color=DEMAND, lw=0.9, ls=":", label="demand (peak in bin)"),
        Line2D([], [], color=CAPACITY, lw=1.8, ls="--", label="capacity"),
        Patch(color=SHORTFALL, label="shortfall of a pool"),
    ]
