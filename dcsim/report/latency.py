"""Latency percentiles by job class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D

from dcsim.report.frame import frame, powers, rows
from dcsim.report.outline import Outline
from dcsim.report.style import heading, legend_below, new_figure, save

__all__ = [
    "MEASURES",
    "TIME_LABEL",
    "draw_ranges",
    "plot_latency",
    "range_handles",
    "seconds_range",
]

Spread = Mapping[str, int] | None
"""Statistics of a latency; None where no request has come so far."""

MEASURES = {
    "wait_ns": "wait until admitted",
    "first_ns": "until the first token or denoise step",
    "latency_ns": "until completed",
}
"""Latencies of a job class in the summary, and what they measure; all from the arrival."""

_MARKS = {"p50": ("o", "#0072B2", 9.0), "p90": ("s", "#E69F00", 6.5), "p99": ("D", "#D55E00", 4.0)}
"""Mark, colour and size; the later lie on the earlier and let them be seen."""
_FLOOR = 1e-3
"""Seconds; less is drawn here, since an axis of logarithms has no 0."""

TIME_LABEL = "time (logarithmic; 1 ms stands for all below)"


def plot_latency(outline: Outline, path: Path) -> None:
    """Draw 50th, 90th and 99th percentiles of three latencies, a row a job class, as a PNG."""
    jobs = outline.summary["jobs"]
    figure = new_figure(9.0, 1.6 + 3 * (0.55 + 0.28 * max(len(jobs), 1)))
    panels = figure.subplots(len(MEASURES), 1, sharex=True)
    spreads = [{name: figures[m] for name, figures in jobs.items()} for m in MEASURES]
    limits = seconds_range(each for measured in spreads for each in measured.values())
    for axes, title, measured in zip(panels, MEASURES.values(), spreads, strict=True):
        label = TIME_LABEL if axes is panels[-1] else None
        draw_ranges(axes, measured, limits, title=title, x_label=label)
    name = outline.summary["scenario"]
    heading(figure, f"Latency by job class: {name}")
    legend_below(figure, range_handles(), names=jobs)
    save(figure, path)


def seconds_range(spreads: Iterable[Spread]) -> tuple[float, float]:
    """Limits of a logarithmic axis for these, with some room and two powers of ten at least."""
    seconds = [max(each[p] / 1e9, _FLOOR) for each in spreads if each is not None for p in _MARKS]
    low, high = (min(seconds), max(seconds)) if seconds else (_FLOOR, 1.0)
    room = max(high / low, 10.0) ** 0.05
    low, high = low / room, high * room
    if len(powers(low, high, 2)) < 2:
        low, high = 10.0 ** floor(log10(low)), 10.0 ** ceil(log10(high))
    return low, high


def draw_ranges(
    axes: Any,
    spreads: Mapping[str, Spread],
    limits: tuple[float, float],
    *,
    most: int = 8,
    **look: Any,
) -> None:
    """A row a name from the top: its percentiles as marks on a line, in seconds, with at most
    `most` ticks; `look` as of `frame`."""
    for row, spread in enumerate(spreads.values()):
        if spread is None:
            axes.text(
                0.5, row, "none", transform=axes.get_yaxis_transform(), va="center", color="#666666"
            )
            continue
        seconds = {p: max(spread[p] / 1e9, _FLOOR) for p in _MARKS}
        axes.plot(_ends(list(seconds.values())), [row, row], color="#999999", lw=1.4, zorder=1)
        for p, (mark, color, size) in _MARKS.items():
            axes.plot(seconds[p], row, mark, color=color, ms=size, mec="white", mew=0.5, zorder=2)
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.set_ylim(len(spreads) - 0.5, -0.5)
    times = {x: time_label(x) for x in powers(*limits, most)}
    frame(axes, times, rows(list(spreads)), **look)


def range_handles() -> list[Any]:
    """The legend of `draw_ranges`."""
    return [
        Line2D([], [], ls="", marker=mark, color=color, ms=size, label=f"{p[1:]}th percentile")
        for p, (mark, color, size) in _MARKS.items()
    ]


def time_label(seconds: float) -> str:
    """A tick of an axis of seconds: `1 ms`, `10 s`, `1000 s`."""
    return f"{seconds * 1e3:g} ms" if seconds < 0.1 else f"{seconds:g} s"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
