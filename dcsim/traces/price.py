"""What a trace costs on a GPU: a roofline per op class, as integers for the engine.

A class takes `max(FLOPs / (peak x efficiency), bytes / (bandwidth x efficiency of memory))`;
a step takes the sum over its classes and the launch overhead of its layers. Matrix products
are split as the engine wants them: the weights they read once an iteration, and what each job
adds. Costs are ticks of 2^-16 ns, rounded up; memory is of the replica.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dcsim.models.options import ModelError
from dcsim.models.tape import KINDS
from dcsim.spec import Gpu
from dcsim.traces.trace import MemoryTrace, Phase, Record, Segment

TICKS = 65536
"""Ticks of a nanosecond."""
TICKS_PER_SECOND = TICKS * 10**9

RULES = {"fixed": 0, "prefill": 1, "decode": 2}


@dataclass(frozen=True)
class WorkPhase:
    """A row of the engine's `phases`: ticks an iteration pays once."""

    name: str
    launch: int
    weights: int


@dataclass(frozen=True)
class Work:
    """A request of one shape as the engine sees it; see docs/engine.md for the columns."""

    kind: str
    """`fixed`, or `token`: one prefill and one decode segment for every prompt and output."""
    phases: tuple[WorkPhase, ...]
    segments: tuple[Mapping[str, int], ...]
    """Rows of the engine's `segments`; `phase` counts from 0 within `phases`."""
    artifact: int
    weights: int
    """HBM bytes of a replica's weights."""
    checkpoint: int
    """Bytes of the weights in DRAM and NAND."""
    reserve: int
    """HBM bytes of a replica that no job can have."""


@lru_cache(maxsize=256)
def _share(efficiency: float) -> Fraction:
    return Fraction(efficiency).limit_denominator(10**6)


class Rates:
    """What `count` GPUs do in a second for a phase."""

    def __init__(self, gpu: Gpu, phase: Phase, count: int) -> None:
        share = {kind: _share(gpu.efficiency[kind]) for kind in KINDS}
        plain = _peak(gpu, phase.dtype, "options.dtype")
        dense = _peak(gpu, phase.dense_dtype, "options.weights_dtype")
        self.flops = {
            "dense": count * dense * share["dense"],
            "attention": count * plain * share["attention"],
            "conv": count * plain * share["conv"],
        }
        self.bytes = count * gpu.hbm_bandwidth * share["memory"]
        self.comm = count * gpu.scale_up * share["comm"]


def _peak(gpu: Gpu, dtype: str, path: str) -> Fraction:
    """FLOP/s; float32 runs as TF32, at half the bf16 rate."""
    name = "bf16" if dtype in ("fp16", "fp32") else dtype
    if name not in gpu.flops:
        known = ", ".join(sorted(gpu.flops))
        raise ModelError([(path, f"{gpu.name} has no {name} peak (it has {known})")])
    return Fraction(gpu.flops[name], 2 if dtype == "fp32" else 1)


def _ticks(amount: int, rate: Fraction) -> int:
    if not amount:
        return 0
    if not rate:
        raise ModelError([("layout", "GPUs that must exchange data have no scale-up link")])
    return -(-amount * TICKS_PER_SECOND * rate.denominator // rate.numerator)


@dataclass(frozen=True)
class Costs:
    """Ticks of a segment, by op class; attention with its slope, compute beside traffic."""

    dense: int
    attn: int
    attn_slope: int
    attn_read: int
    attn_read_slope: int
    conv: int
    memory: int
    comm: int

    @property
    def other(self) -> int:
        """All but dense and attention."""
        return self.conv + self.memory + self.comm


def costs(s: Segment, rates: Rates) -> Costs:
    """Ticks of a step (or token, pair, context token: see `Segment`)."""
    return Costs(
        max(_ticks(s.dense_flops, rates.flops["dense"]), _ticks(s.dense_bytes, rates.bytes)),
        _ticks(s.attn_flops, rates.flops["attention"]),
        _ticks(s.attn_flops_slope, rates.flops["attention"]),
        _ticks(s.attn_bytes, rates.bytes),
        _ticks(s.attn_bytes_slope, rates.bytes),
        max(_ticks(s.conv_flops, rates.flops["conv"]), _ticks(s.conv_bytes, rates.bytes)),
        _ticks(s.other_bytes, rates.bytes),
        _ticks(s.comm_bytes, rates.comm),
    )


def price_phase(phase: Phase, gpu: Gpu, count: int) -> WorkPhase:
    """Launch overhead and the time to read the weights, in ticks."""
    rates = Rates(gpu, phase, count)
    launch = gpu.launch * phase.layers * TICKS
    return WorkPhase(phase.name, launch, _ticks(phase.reads, rates.bytes))


def price(trace: MemoryTrace, gpu: Gpu) -> Work:
    """The trace as work for the engine; ModelError where the GPU lacks what it needs."""
    numbers = {p.name: i for i, p in enumerate(trace.phases)}
    rows = []
    for row in trace.rows:
        number = numbers[row.phase]
        rates = Rates(gpu, trace.phases[number], trace.gpus)
        cost = costs(row, rates)
        rows.append(_row(row, number, cost, mean_bytes(trace, row, gpu)))
    return Work(
        "token" if trace.kind == "llm" else "fixed",
        tuple(price_phase(p, gpu, trace.gpus) for p in trace.phases),
        tuple(rows),
        trace.artifact,
        trace.weights_bytes,
        trace.checkpoint_bytes,
        trace.overhead,
    )


def _row(s: Segment, phase: int, c: Costs, mean: int) -> dict[str, int]:
    row = {
        "rule": RULES[s.rule],
        "phase": phase,
        "steps": s.steps,
        "tokens": s.tokens,
        "dense": c.dense,
        "own": c.other,
        "own_slope": 0,
        "ctx": 0,
        "pair": 0,
        "live": s.live,
        "live_slope": s.live_slope,
        "peak": s.peak,
        "mean": mean,
        "first": int(s.first),
    }
    if s.rule == "fixed":
        row["own"] += max(c.attn, c.attn_read)
        row["own_slope"] = max(c.attn_slope, c.attn_read_slope)
    else:
        row["pair"], row["ctx"] = c.attn, c.attn_read
    return row


def op_seconds(record: Record, phase: Phase, gpu: Gpu) -> NDArray[np.float64]:
    """Roofline time of every op of a record on one GPU."""
    rates = Rates(gpu, phase, 1)
    seconds = (record.weights + record.moved) / float(rates.bytes)
    for i, kind in enumerate(KINDS):
        rows = record.kind == i
        if kind in rates.flops:
            compute = record.flops[rows] / float(rates.flops[kind])
            seconds[rows] = np.maximum(seconds[rows], compute)
        elif kind == "comm" and rows.any():
            seconds[rows] = record.comm[rows] / float(rates.comm)
    return np.asarray(seconds, dtype=np.float64)


def mean_bytes(trace: MemoryTrace, row: Segment, gpu: Gpu) -> int:
    """Time-weighted mean of the bytes a step (or token) holds beyond its live ones."""
    record = trace.records[row.record]
    phase = next(p for p in trace.phases if p.name == row.phase)
    seconds = op_seconds(record, phase, gpu)
    total = float(seconds.sum())
    if not row.peak or not record.peak or total <= 0:
        return 0
    share = float((record.extra * seconds).sum()) / total / record.peak
    return min(row.peak, int(np.ceil(row.peak * share)))
