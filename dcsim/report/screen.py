"""Tables and trees on stdout, at a width at which nothing of them is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from dcsim.report.terminal import comparison_table, remarks, summary_table
from dcsim.report.topology import topology_tree
from dcsim.results import Comparison, Results
from dcsim.spec import Topology

__all__ = ["show_comparison", "show_summary", "show_topology"]

_NO_LIMIT = 10_000


def show_summary(results: Results, console: Console | None = None) -> None:
    """Prints what a run came to: tables whole, text wrapped."""
    console = console or _screen()
    for part in summary_table(results).renderables:
        if isinstance(part, str | Text):
            console.print(part)
        else:
            _print_whole(console, part)


def show_comparison(
    comparison: Comparison, results: Mapping[str, Results], console: Console | None = None
) -> None:
    """Prints variants side by side: below each other where a terminal is too narrow for all; then
    what is to be said of each."""
    console = console or _screen()
    parts = _parts(comparison, console) if console.is_terminal else [comparison]
    for part in parts:
        _print_whole(console, comparison_table(part))
    for name, each in results.items():
        for sentence in remarks(each.summary):
            console.print(Text(f"{name}: {sentence}"))


def show_topology(topology: Topology, console: Console | None = None) -> None:
    """Prints the tree of a topology; a terminal wraps its lines, a file gets them whole."""
    console = console or _screen()
    if console.is_terminal:
        console.print(topology_tree(topology))
    else:
        _print_whole(console, topology_tree(topology))


def _screen() -> Console:
    return Console(highlight=False)


def _print_whole(console: Console, what: Any) -> None:
    """Prints at the width it needs: a cell cut to `…` is of no use to anyone."""
    width = console.width
    console.width = max(width, _width(console, what))
    console.print(what)
    console.width = width


def _width(console: Console, what: Any) -> int:
    options = console.options.update(width=_NO_LIMIT)
    return Measurement.get(console, options, what).maximum


def _parts(comparison: Comparison, console: Console) -> Iterator[Comparison]:
    """The base with as many variants at a time as fit beside it, one at least."""
    held: list[int] = []
    for column in range(1, len(comparison.names)):
        wider = comparison_table(_of(comparison, [*held, column]))
        if held and _width(console, wider) > console.width:
            yield _of(comparison, held)
            held = []
        held.append(column)
    yield _of(comparison, held)


def _of(comparison: Comparison, columns: Sequence[int]) -> Comparison:
    rows = (0, *columns)
    figures = tuple(
        replace(figure, values=tuple(figure.values[row] for row in rows))
        for figure in comparison.figures
    )
    return Comparison(tuple(comparison.names[row] for row in rows), figures)
