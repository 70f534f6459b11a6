"""Whose bytes are in each tier over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch
from numpy.typing import NDArray

from dcsim.engine import CATEGORIES, TIERS
from dcsim.report.demand import time_axis
from dcsim.report.frame import frame, ticks
from dcsim.report.outline import Outline
from dcsim.report.quantities import byte_unit, time_unit
from dcsim.report.style import (
    CATEGORY_COLORS,
    Floats,
    draw_area,
    heading,
    legend_below,
    new_figure,
    save,
)
from dcsim.report.words import TIER_NAMES

__all__ = ["plot_contents"]

Bytes = NDArray[np.int64]
Held = Mapping[tuple[str, str, str], Bytes]
"""Bytes in each stretch by tier, category and job."""

_OTHERS = "all other jobs"
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo")
_INK = (0.0, 0.0, 0.0, 0.45)


def plot_contents(outline: Outline, path: Path) -> None:
    """Draw the bytes held in each tier over time, a colour a category, a hatch a job, as a PNG.

    The jobs that hold most have hatches of their own.
    """
    held: Held = outline.held
    jobs = _largest_jobs(held, len(_HATCHES) - 1)
    held = _merge_others(held, jobs)
    if any(job == _OTHERS for _, _, job in held):
        jobs = [*jobs, _OTHERS]
    figure = new_figure(9.0, 8.6)
    panels = figure.subplots(len(TIERS), 1, sharex=True)
    duration = outline.summary["duration_ns"]
    edges = outline.edges / time_unit(duration)[0]
    for axes, tier in zip(panels, TIERS, strict=True):
        times, label = time_axis(axes, duration)
        most, unit = _draw(axes, tier, edges, held, jobs)
        title = TIER_NAMES[tier] + ("" if unit else ": empty")
        last = label if axes is panels[-1] else None
        frame(axes, times, ticks(0, most, 6), title=title, x_label=last, y_label=unit)
    name = outline.summary["scenario"]
    heading(figure, f"Bytes held, by category and job: {name}")
    categories = [Patch(color=CATEGORY_COLORS[each], label=each) for each in outline.categories]
    owners = [
        Patch(facecolor="#EEEEEE", edgecolor=_INK, hatch=hatch, lw=0.6, label=job)
        for job, hatch in zip(jobs, _HATCHES, strict=False)
    ]
    handles = [*categories, *owners]
    legend_below(figure, handles, columns=7 if len(handles) <= 7 else 6)
    save(figure, path)


def _largest_jobs(held: Held, most: int) -> list[str]:
    """The jobs that have the largest share of some tier, by name."""
    whole = {
        tier: 1.0 + sum(b.sum() for key, b in held.items() if key[0] == tier) for tier in TIERS
    }
    share: dict[str, float] = {}
    for (tier, _, job), sizes in held.items():
        share[job] = share.get(job, 0.0) + float(sizes.sum() / whole[tier])
    return sorted(sorted(share, key=lambda job: (-share[job], job))[:most])


def _merge_others(held: Held, jobs: Sequence[str]) -> dict[tuple[str, str, str], Bytes]:
    merged: dict[tuple[str, str, str], Bytes] = {}
    for (tier, category, job), sizes in held.items():
        key = (tier, category, job if job in jobs else _OTHERS)
        merged[key] = merged[key] + sizes if key in merged else sizes
    return merged


def _draw(
    axes: Any, tier: str, edges: Floats, held: Held, jobs: Sequence[str]
) -> tuple[float, str]:
    """Draws a tier; the top of its axis and the unit, none where it is empty."""
    mine = [sizes for key, sizes in held.items() if key[0] == tier]
    most = float(np.sum(mine, axis=0).max()) if mine else 0.0
    size, unit = byte_unit(most)
    floor = np.zeros(len(edges) - 1)
    for category in CATEGORIES:
        for job, hatch in zip(jobs, _HATCHES, strict=False):
            sizes = held.get((tier, category, job))
            if sizes is None:
                continue
            roof = floor + sizes / size
            look = {"facecolor": CATEGORY_COLORS[category], "edgecolor": _INK, "hatch": hatch}
            draw_area(axes, edges, floor, roof, lw=0, **look)
            floor = roof
    top = 1.12 * most / size if most else 1.0
    axes.set_ylim(0, top)
    return top, unit if most else ""
