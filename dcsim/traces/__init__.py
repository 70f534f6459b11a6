"""Memory traces: record, save, load, scale, price, show."""

from __future__ import annotations

from dcsim.traces.api import default_shape, token_work, trace
from dcsim.traces.files import load, save
from dcsim.traces.plot import plot
from dcsim.traces.price import Work, WorkPhase, price
from dcsim.traces.report import report
from dcsim.traces.shapes import DitShape, TokenShape
from dcsim.traces.trace import MemoryTrace, Phase, Record, Segment

__all__ = [
    "DitShape",
    "MemoryTrace",
    "Phase",
    "Record",
    "Segment",
    "TokenShape",
    "Work",
    "WorkPhase",
    "default_shape",
    "load",
    "plot",
    "price",
    "report",
    "save",
    "token_work",
    "trace",
]
