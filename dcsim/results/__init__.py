"""Results of a run: tables, timelines, summary and manifest."""

from __future__ import annotations

from dcsim.results.compare import Comparison, Figure, compare, jobs_of
from dcsim.results.files import check_target, replacing
from dcsim.results.record import Record
from dcsim.results.results import Pass, Results, collect, results_of

__all__ = [
    "Comparison",
    "Figure",
    "Pass",
    "Record",
    "Results",
    "check_target",
    "collect",
    "compare",
    "jobs_of",
    "replacing",
    "results_of",
]
