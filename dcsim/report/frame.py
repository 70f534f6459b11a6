"""The frame of a panel: spines, grid, ticks and their labels, of few artists.

Matplotlib's own axes make five artists of each tick, which took half of the time of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKLEFT
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

__all__ = ["SIZE", "Ticks", "frame", "powers", "rows", "ticks"]

SIZE = 9.0
"""Points, of all labels."""
_TICK = 3.5
_GAP = 3.5
_LINE = {"color": "#000000", "lw": 0.8, "clip_on": False, "zorder": 2.5}
_GRID = "#DDDDDD"
_INCH = 72.0
"""Points."""
_LETTER = 0.6 * SIZE

Ticks = Mapping[float, str]
"""Labels by their place."""


def ticks(low: float, high: float, most: int, steps: Sequence[float] = (1, 2, 2.5, 5, 10)) -> Ticks:
    """Round numbers from `low` to `high`, at most `most` and one, of a linear axis."""
    places = MaxNLocator(nbins=most, steps=list(steps)).tick_values(low, high)
    slack = 1e-9 * (high - low)
    inside = [float(each) for each in places if low - slack <= each <= high + slack]
    decimals = next(d for d in range(10) if all(_round(each, d, high - low) for each in inside))
    return {each: f"{each:.{decimals}f}" for each in inside}


def _round(value: float, decimals: int, span: float) -> bool:
    return math.isclose(round(value, decimals), value, rel_tol=0, abs_tol=1e-6 * span)


def powers(low: float, high: float, most: int) -> list[float]:
    """Powers of ten from `low` to `high`, evenly apart and at most `most`, of a logarithmic
    axis."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(-(-(last - first + 1) // most), 1)
    return [10.0**power for power in range(first, last + 1, step)]


def rows(names: Sequence[str]) -> Ticks:
    """A row a name, from 0."""
    return {float(row): name for row, name in enumerate(names)}


def frame(
    axes: Any,
    x: Ticks,
    y: Ticks,
    *,
    title: str = "",
    x_label: str | None = None,
    y_label: str = "",
    y_ticks: bool = True,
) -> None:
    """Ticks at `x` and `y` with a light grid, and no box, within limits that have been set.

    The ticks of x have their labels where it has one itself (of panels above each other the
    lowest), those of y where `y_ticks` (of panels side by side the first).
    """
    axes.set_axis_off()
    # Where y is given it is not searched for; a name may have a `$`, which is none of formulas.
    axes.set_title(title, fontsize=SIZE + 1, loc="left", y=1.0).set_parse_math(False)
    over, up = axes.get_xaxis_transform(), axes.get_yaxis_transform()
    grid: dict[str, Any] = {"color": _GRID, "lw": 0.6, "zorder": 0.5}
    places, ends = _segments(list(x))
    _strokes(axes, places, ends, over, **grid)
    places, ends = _segments(list(y))
    _strokes(axes, ends, places, up, **grid)
    _strokes(axes, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], axes.transAxes, **_LINE)
    marks = {"ls": "", "ms": _TICK, "mew": 0.8, **_LINE}
    _strokes(axes, list(x), [0.0] * len(x), over, marker=TICKDOWN, **marks)
    _strokes(axes, [0.0] * len(y), list(y), up, marker=TICKLEFT, **marks)
    away = _TICK + _GAP
    if x_label is not None:
        _write(axes, {(place, 0.0): text for place, text in x.items()}, over, (0, -away))
        _write(axes, {(0.5, 0.0): x_label}, axes.transAxes, (0, -away - 1.7 * SIZE))
    if y_ticks:
        _write(axes, {(0.0, place): text for place, text in y.items()}, up, (-away, 0))
    if y_label:
        far = away + 1.3 * SIZE + _LETTER * max(map(len, y.values()), default=0)
        _write(axes, {(0.0, 0.5): y_label}, axes.transAxes, (-far, 0), rotation=90)


def _segments(places: list[float]) -> tuple[list[float], list[float]]:
    """A line of pieces across the panel, one at each place, with gaps between."""
    gap = math.nan
    return [x for place in places for x in (place, place, gap)], [0.0, 1.0, gap] * len(places)


def _strokes(axes: Any, x: list[float], y: list[float], transform: Any, **look: Any) -> None:
    """One artist of lines or marks, which no limit depends on."""
    axes.add_artist(Line2D(x, y, transform=transform, **look))


def _write(
    axes: Any,
    texts: Mapping[tuple[float, float], str],
    transform: Any,
    away: tuple[float, float],
    **look: Any,
) -> None:
    """Texts by their place, `away` from it in points: below or to the left."""
    moved = ScaledTranslation(away[0] / _INCH, away[1] / _INCH, axes.figure.dpi_scale_trans)
    look |= {"transform": transform + moved, "fontsize": SIZE, "parse_math": False}
    beside = "center" if "rotation" in look else "center_baseline"
    look["ha"], look["va"] = ("center", "top") if away[1] else ("right", beside)
    for (x, y), text in texts.items():
        axes.text(x, y, text, **look)
