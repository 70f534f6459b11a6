"""Priced works as rows of the engine's tables: seconds become ticks, rules their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil

from dcsim.engine.border import RULES, TICKS_PER_NS
from dcsim.traces import WorkPhase, WorkSegment

TICKS_PER_SECOND = TICKS_PER_NS * 10**9

Row = Mapping[str, int]


def ticks(seconds: Fraction) -> int:
    """The engine's unit of time, rounded up."""
    return ceil(seconds * TICKS_PER_SECOND)


def phase_row(phase: WorkPhase) -> Row:
    """A row of `phases`."""
    return {"launch": ticks(phase.launch), "weights": ticks(phase.weights)}


def segment_row(segment: WorkSegment) -> Row:
    """A row of `segments`; `phase` counts from 0 within the work."""
    s, cost = segment.demand, segment.cost
    row = {
        "rule": RULES.index(s.rule),
        "phase": segment.phase,
        "steps": s.steps,
        "tokens": s.tokens,
        "dense": ticks(cost.dense),
        "live": s.live,
        "live_slope": s.live_slope,
        "peak": s.peak,
        "mean": segment.mean,
        "first": int(s.first),
    }
    if s.rule == "fixed":
        row["own"] = ticks(cost.other + max(cost.attention, cost.reading))
        row["own_slope"] = ticks(max(cost.attention_slope, cost.reading_slope))
    else:
        row["own"] = ticks(cost.other)
        row["pair"], row["ctx"] = ticks(cost.attention), ticks(cost.reading)
    return row
