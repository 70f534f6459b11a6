"""Preemption by swap: how often, and the bytes that it moved."""

from __future__ import annotations

from typing import Any

from dcsim.engine import CATEGORIES, CAUSES, Outputs
from dcsim.engine.border import ACCOUNTS
from dcsim.results.columns import by_name

__all__ = ["swap_figures"]

MOVED = {"out_bytes": "taken", "back_bytes": "moved", "no_room_bytes": "dropped"}
MOVED |= {"lost_bytes": "lost"}


def swap_figures(built: Outputs, klass: int, swaps: int, recomputed: int) -> dict[str, Any]:
    """Of a job class: preemptions by swap and by recompute, and bytes out of HBM, back, without
    room in DRAM, and lost there. Nothing where its replicas do not swap."""
    accounts = by_name(built["accounts"], ACCOUNTS)
    rows = (accounts["category"] == CATEGORIES.index("live")) & (accounts["class"] == klass)
    if not rows.any():
        return {}
    flow = built["flow"][rows].sum(axis=(0, 2))
    moved = {name: int(flow[CAUSES.index(cause)]) for name, cause in MOVED.items()}
    return {"swap": {"preemptions": swaps, "recomputed": recomputed, **moved}}
