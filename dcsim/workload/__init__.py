"""Requests: arrival processes, shapes, and the replay of request logs."""

from __future__ import annotations

from dcsim.workload.adapters import under_adapters
from dcsim.workload.blocks import BlockLog, Blocks, read_blocks
from dcsim.workload.graph import Graph
from dcsim.workload.logs import LogError, RequestLog, read_log
from dcsim.workload.requests import Content, Requests, generate
from dcsim.workload.shapes import Clip
from dcsim.workload.streams import stream
from dcsim.workload.windows import WINDOW, Stream, stream_of

__all__ = [
    "WINDOW",
    "BlockLog",
    "Blocks",
    "Clip",
    "Content",
    "Graph",
    "LogError",
    "RequestLog",
    "Requests",
    "Stream",
    "generate",
    "read_blocks",
    "read_log",
    "stream",
    "stream_of",
    "under_adapters",
]
