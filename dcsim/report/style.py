"""How plots look: one palette, told apart by the colour-blind; figures without a display."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dcsim.report.frame import SIZE

__all__ = [
    "CAPACITY",
    "CATEGORY_COLORS",
    "CYCLE",
    "DEMAND",
    "LINES",
    "SHORTFALL",
    "Floats",
    "draw_area",
    "draw_line",
    "heading",
    "legend_below",
    "new_figure",
    "place",
    "save",
]

Floats = NDArray[np.float64]

# Okabe & Ito, Color Universal Design (2008), in an order of clear steps in lightness.
CATEGORY_COLORS = {
    "weights": "#0072B2",
    "live": "#E69F00",
    "transient": "#F0E442",
    "cache": "#009E73",
    "artifacts": "#CC79A7",
    "adapters": "#56B4E9",
}
DEMAND = "#000000"
CAPACITY = "#D55E00"
SHORTFALL = "#F6D5C3"
CYCLE = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

_LETTER = 0.08
"""Width of a letter of that size, and height of a row of a legend, in inches."""
_ROW = 0.22


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches, drawn without a display and without global state."""
    figure = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(figure)
    return figure


def heading(figure: Figure, text: str) -> None:
    """What a figure shows, at a fixed distance from its top, however tall it is."""
    y = 1 - 0.12 / figure.get_figheight()
    figure.suptitle(text, x=0.01, y=y, ha="left", va="top", fontsize=12)


def place(
    figure: Figure, *, names: Iterable[str] = (), legend_rows: int = 1, right: float = 0.2
) -> None:
    """Margins in inches around the panels: titles and tick labels, `names` of rows at the left,
    the legend below. Fixed ones: solving for them takes longer than drawing."""
    width, height = figure.get_size_inches()
    left = max(0.85, min(0.3 + _LETTER * max(map(len, names), default=0), width / 2))
    bottom = 0.6 + _ROW * legend_rows
    grid = figure.axes[0].get_gridspec() if figure.axes else None
    rows = 1 if grid is None else grid.nrows
    panel = (height - 0.72 - bottom - 0.5 * (rows - 1)) / rows
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        top=1 - 0.72 / height,
        bottom=bottom / height,
        hspace=0.5 / max(panel, 0.1),
        wspace=0.12,
    )


def draw_line(axes: Any, edges: Floats, values: Floats, **look: Any) -> None:
    """A line of steps: `values` float64[B] between `edges` float64[B+1]."""
    axes.plot(np.repeat(edges, 2)[1:-1], np.repeat(values, 2), **look)


def draw_area(axes: Any, edges: Floats, low: Floats, high: Floats, **look: Any) -> None:
    """A filled area between steps: from `low` to `high`, float64[B], between `edges`."""
    corners = np.repeat(edges, 2)[1:-1]
    axes.fill_between(corners, np.repeat(low, 2), np.repeat(high, 2), **look)


def legend_below(
    figure: Figure,
    handles: Sequence[Any],
    columns: int = 5,
    *,
    names: Iterable[str] = (),
    right: float = 0.2,
) -> None:
    """One legend for the whole figure, under the axes, where no data is; it and the margins (see
    `place`) come last."""
    place(figure, names=names, legend_rows=-(-len(handles) // columns), right=right)
    figure.legend(
        handles=list(handles),
        loc="lower center",
        ncols=columns,
        fontsize=SIZE,
        frameon=False,
        handlelength=2.6,
    )


def save(figure: Figure, path: Path | BinaryIO) -> None:
    """Write a PNG that is the same byte for byte whenever it is drawn from the same data."""
    for text in figure.texts:
        text.set_parse_math(False)  # titles have names of the user's: `$` is a dollar there
    with warnings.catch_warnings():
        # Letters that the font does not have are drawn as boxes; that is no news.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(path, metadata={"Software": None}, pil_kwargs={"compress_level": 1})
