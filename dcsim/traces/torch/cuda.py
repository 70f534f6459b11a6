"""What CUDA's allocator itself says of a run: its history, read from PyTorch's snapshot.

Lifetimes of storages are exact under fake tensors; this adds what they do not show, workspaces
above all, from a run on a real GPU with random weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from dcsim.models.tape import CATEGORIES, GRAIN
from dcsim.traces.record import Holding, Record

MOST_EVENTS = 10_000_000


@dataclass(frozen=True)
class Measured:
    """Bytes of one device, from the first event of a history to its last."""

    allocated: int
    """The most that was allocated at once beyond what was at the beginning; blocks rounded up to
    512 bytes, as `torch.cuda.max_memory_allocated` counts them."""
    reserved: int
    """The most that the allocator had taken from the driver by then, all in all."""
    left: int
    """Still allocated at the end, of what was allocated since the beginning."""


def measured(snapshot: Mapping[str, Any], device: int = 0) -> Measured:
    """The peaks in the history of a snapshot (`torch.cuda.memory._snapshot`).

    Counts `alloc` and `free_completed`, `segment_alloc` and `segment_free`; a block whose freeing
    was only requested is still held. ValueError where the history is not whole: memory is freed
    that nobody allocated, but for what was there before, or events are missing.
    """
    traces = snapshot.get("device_traces") or []
    if device >= len(traces) or not traces[device]:
        raise ValueError(f"the snapshot has no history of device {device}")
    events: Iterable[Mapping[str, Any]] = traces[device]
    blocks: dict[int, int] = {}
    held = most = 0
    for event in events:
        match event["action"]:
            case "alloc":
                size = -(-event["size"] // GRAIN) * GRAIN
                if event["addr"] in blocks:
                    raise ValueError(f"address {event['addr']:#x} is allocated twice")
                blocks[event["addr"]] = size
                held += size
                most = max(most, held)
            case "free_completed":
                held -= blocks.pop(event["addr"], 0)
            case "oom":
                raise ValueError("the run ran out of memory")
    return Measured(most, _reserved(snapshot, events, device), held)


def _reserved(snapshot: Mapping[str, Any], events: Iterable[Mapping[str, Any]], device: int) -> int:
    """The most bytes of segments: back from those at the end through the history."""
    now: int = sum(
        segment["total_size"]
        for segment in snapshot.get("segments", ())
        if segment.get("device", 0) == device
    )
    most = now
    for event in reversed(list(events)):
        if event["action"] in ("segment_alloc", "segment_map"):
            now -= event["size"]
        elif event["action"] in ("segment_free", "segment_unmap"):
            now += event["size"]
        most = max(most, now)
    return most


def run(call: Callable[[], Any]) -> Measured:
    """The history of one call on the current device, after a first one that warms up."""
    memory = torch.cuda.memory
    with torch.no_grad():
        call()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        memory._record_memory_history(max_entries=MOST_EVENTS, stacks="python")
        try:
            result = call()
            torch.cuda.synchronize()
            snapshot = memory._snapshot()
            del result
        finally:
            memory._record_memory_history(enabled=None)
    return measured(snapshot, torch.cuda.current_device())


def with_workspace(record: Record, inputs: int, found: Measured) -> Record:
    """A record whose fullest op holds what the allocator says; `inputs`: bytes that were allocated
    before the run. What lifetimes do not show is its workspace."""
    held = record.held.copy()
    totals = held.sum(axis=1)
    fullest = int(totals.argmax())
    more = max(0, found.allocated - (int(totals[fullest]) - inputs))
    held[fullest, CATEGORIES.index("workspace")] += more
    scratch = (Holding("", "", "workspace", 1, more),) if more else ()
    every = sorted((*record.holdings, *scratch), key=lambda each: -each.bytes)
    return replace(record, held=held, holdings=tuple(every))
