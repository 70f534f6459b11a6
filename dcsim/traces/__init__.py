"""Memory traces: record, save, load, scale, price, show."""

from __future__ import annotations

from dcsim.models.shapes import Clip, Turn
from dcsim.traces.api import options_of, recorded, request_of, streams, trace, wrong
from dcsim.traces.budget import KvBudget, kv
from dcsim.traces.files import load, save
from dcsim.traces.parts import handed_over, part
from dcsim.traces.plot import plot
from dcsim.traces.price import Cost, Work, WorkPhase, WorkSegment, price
from dcsim.traces.record import Holding, Record
from dcsim.traces.report import report
from dcsim.traces.segments import Phase, Segment
from dcsim.traces.server import token_work
from dcsim.traces.trace import MemoryTrace

__all__ = [
    "Clip",
    "Cost",
    "Holding",
    "KvBudget",
    "MemoryTrace",
    "Phase",
    "Record",
    "Segment",
    "Turn",
    "Work",
    "WorkPhase",
    "WorkSegment",
    "handed_over",
    "kv",
    "load",
    "options_of",
    "part",
    "plot",
    "price",
    "recorded",
    "report",
    "request_of",
    "save",
    "streams",
    "token_work",
    "trace",
    "wrong",
]
