"""Plots and tables of results. Names are imported on first use: plots are slow to import."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcsim.report.pictures import plot_run
    from dcsim.report.terminal import comparison_table, summary_table
    from dcsim.report.write import write_comparison, write_run

_HOMES = {
    "comparison_table": "dcsim.report.terminal",
    "plot_run": "dcsim.report.pictures",
    "summary_table": "dcsim.report.terminal",
    "write_comparison": "dcsim.report.write",
    "write_run": "dcsim.report.write",
}

__all__ = ["comparison_table", "plot_run", "summary_table", "write_comparison", "write_run"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
