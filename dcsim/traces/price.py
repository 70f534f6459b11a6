"""What a trace costs on a GPU: a roofline per op class, in exact seconds.

A class takes `max(FLOPs / (peak x efficiency), bytes / (bandwidth x efficiency of memory))`;
a step takes the sum over its classes and the launch overhead of its layers. Matrix products
are split in two: the weights they read once an iteration, and what each job adds. Memory is
of the replica. docs/pricing.md has the formulas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import ceil, lcm

from dcsim.models.options import ModelError
from dcsim.models.tape import ATTENTION, COMM, CONV, DENSE, KINDS, MEMORY
from dcsim.spec import Gpu
from dcsim.traces.record import Record
from dcsim.traces.segments import Phase, Segment
from dcsim.traces.trace import MemoryTrace

NS = Fraction(1, 10**9)


@dataclass(frozen=True)
class WorkPhase:
    """What an iteration pays once if any of its requests is in the phase, in seconds."""

    name: str
    launch: Fraction
    weights: Fraction


@dataclass(frozen=True)
class Cost:
    """Seconds of a step (or token, pair, context token: see `Segment`), by op class.

    `attention` is its compute and `reading` its traffic; of the two the longer counts.
    """

    dense: Fraction
    attention: Fraction
    attention_slope: Fraction
    reading: Fraction
    reading_slope: Fraction
    local: Fraction
    conv: Fraction
    memory: Fraction
    comm: Fraction
    host: Fraction = Fraction(0)
    """What waits for the host's memory."""

    @property
    def other(self) -> Fraction:
        """All but dense and attention to the context."""
        return self.local + self.conv + self.memory + self.comm + self.host


@dataclass(frozen=True)
class WorkSegment:
    """A row of a trace with its price."""

    demand: Segment
    phase: int
    """Index into the work's phases."""
    cost: Cost
    mean: int
    """Time-weighted mean of the bytes a step (or token) holds beyond its live ones."""


@dataclass(frozen=True)
class Work:
    """A request of one shape, priced on a replica's GPUs."""

    phases: tuple[WorkPhase, ...]
    segments: tuple[WorkSegment, ...]
    """Of a language model one prefill and one decode segment, for every prompt and output."""
    artifact: int
    weights: int
    """HBM bytes of a replica's weights."""
    checkpoint: int
    """Bytes of the weights in DRAM and NAND."""
    reserve: int
    """HBM bytes of a replica that no request can have."""
    context: int = 0
    """Bytes of what a clip leaves for one that goes on from it."""
    offloaded: bool = False
    """Whether the weights stay in host memory, and come to HBM with requests."""


@lru_cache(maxsize=256)
def _share(efficiency: float) -> Fraction:
    return Fraction(efficiency).limit_denominator(10**6)


class Rates:
    """What so many GPUs do in a second for a phase, on average over what they wait for others."""

    def __init__(self, gpu: Gpu, phase: Phase, gpus: int) -> None:
        count = gpus * phase.busy
        share = {kind: _share(gpu.efficiency[kind]) for kind in KINDS}
        plain = _peak(gpu, phase.dtype, "options.dtype")
        dense = _peak(gpu, phase.dense_dtype, "options.weights_dtype")
        self.flops = {
            DENSE: count * dense * share[DENSE],
            ATTENTION: count * plain * share[ATTENTION],
            CONV: count * plain * share[CONV],
        }
        self.bytes = count * gpu.hbm_bandwidth * share[MEMORY]
        weights, kv = (
            gpu.hbm_bandwidth * _share(gpu.efficiency.get(name, gpu.efficiency[MEMORY]))
            for name in ("weights", "kv")
        )
        self.weights, self.kv = gpus * weights, count * kv
        self.comm = count * gpu.scale_up * share[COMM]
        self.host = gpus * gpu.host_link * _share(gpu.efficiency.get("host_link", 1.0))


def _peak(gpu: Gpu, dtype: str, path: str) -> Fraction:
    """FLOP/s; float32 runs as TF32, at half the bf16 rate, int8 at that of fp8."""
    integer = "fp8" if "fp8" in gpu.flops else "bf16"  # without a peak of its own, widened
    name = {"fp16": "bf16", "fp32": "bf16", "int8": integer}.get(dtype, dtype)
    if name not in gpu.flops:
        known = ", ".join(sorted(gpu.flops))
        raise ModelError([(path, f"{gpu.name} has no {name} peak (it has {known})")])
    return Fraction(gpu.flops[name], 2 if dtype == "fp32" else 1)


def _seconds(amount: int, rate: Fraction) -> Fraction:
    if not amount:
        return Fraction(0)
    if not rate:
        raise ModelError([("layout", "GPUs that must exchange data have no scale-up link")])
    return amount / rate


def price_segment(s: Segment, rates: Rates, once: WorkPhase) -> Cost:
    """The roofline of a row of a trace; `once`: what its phase costs an iteration."""

    def compute(flops: int, kind: str) -> Fraction:
        return _seconds(flops, rates.flops[kind])

    def traffic(count: int) -> Fraction:
        return _seconds(count, rates.bytes)

    def looked(count: int) -> Fraction:
        return _seconds(count, rates.kv)

    def sent(count: int) -> Fraction:
        return _seconds(count, rates.comm)

    cost = Cost(
        dense=max(compute(s.dense_flops, DENSE), traffic(s.dense_bytes)),
        attention=compute(s.attn_flops, ATTENTION),
        attention_slope=compute(s.attn_flops_slope, ATTENTION),
        reading=max(looked(s.attn_bytes), compute(s.again_flops, ATTENTION), sent(s.ring_bytes)),
        reading_slope=max(
            looked(s.attn_bytes_slope),
            compute(s.again_flops_slope, ATTENTION),
            sent(s.ring_bytes_slope),
        ),
        local=compute(s.local_flops, ATTENTION),
        conv=max(compute(s.conv_flops, CONV), traffic(s.conv_bytes)),
        memory=traffic(s.other_bytes),
        comm=sent(s.comm_bytes),
    )
    return replace(cost, host=_waiting(s, rates, once, cost)) if s.host_bytes else cost


def _waiting(s: Segment, rates: Rates, once: WorkPhase, cost: Cost) -> Fraction:
    """What a step waits for the host's memory, one request at a time."""
    coming = _seconds(s.host_bytes, rates.host)
    if not s.overlapped:
        return coming
    computing = once.launch + max(once.weights, cost.dense) + cost.other
    return max(Fraction(0), coming - computing - max(cost.attention, cost.reading))


def price_phase(phase: Phase, gpu: Gpu, count: int) -> WorkPhase:
    """Fixed costs, and the time to read the weights or to launch what reads them."""
    rates = Rates(gpu, phase, count)
    once = gpu.launch * phase.launches + gpu.step + gpu.collective * phase.collectives
    read = max(_seconds(phase.reads, rates.weights), gpu.host * phase.launches * NS)
    return WorkPhase(phase.name, once * NS, read)


def price(trace: MemoryTrace, gpu: Gpu) -> Work:
    """The trace as work on its GPUs; ModelError where the GPU lacks what it needs."""
    numbers = {p.name: i for i, p in enumerate(trace.phases)}
    rates = [Rates(gpu, p, trace.gpus) for p in trace.phases]
    shares = {
        row.record: mean_share(trace.records[row.record], rates[numbers[row.phase]])
        for row in trace.rows
    }
    phases = tuple(price_phase(p, gpu, trace.gpus) for p in trace.phases)
    segments = []
    for row in trace.rows:
        number = numbers[row.phase]
        mean = ceil(row.peak * shares[row.record])
        cost = price_segment(row, rates[number], phases[number])
        segments.append(WorkSegment(row, number, cost, mean))
    return Work(
        phases,
        tuple(segments),
        trace.artifact,
        trace.weights_bytes,
        trace.checkpoint_bytes,
        trace.overhead,
        trace.context,
        trace.offloaded,
    )


def mean_share(record: Record, rates: Rates) -> Fraction:
    """Mean over time of the bytes held beyond the live ones, over the most held so.

    Time is that of the roofline, op by op. All ops are on one GPU, so of `rates` only the
    ratios count.
    """
    if not record.peak:
        return Fraction(0)
    # Blocks are alike, so few operations differ.
    moved = record.weights + record.moved
    columns = (record.kind, record.flops, record.comm, moved, record.extra)
    unlike = Counter(zip(*(column.tolist() for column in columns), strict=True))
    slow = rates.comm or Fraction(1)
    unit = _common([rates.bytes, slow, *rates.flops.values()])
    traffic, link = int(unit / rates.bytes), int(unit / slow)
    factors = [int(unit / rates.flops[kind]) if kind in rates.flops else 0 for kind in KINDS]
    time = held = 0
    for (kind, flops, sent, count, extra), times in unlike.items():
        part = max(flops * factors[kind], sent * link)  # whole numbers of one unit of time
        if KINDS[kind] != COMM:
            part = max(part, count * traffic)
        time += times * part
        held += times * part * extra
    return Fraction(held, time * record.peak)


def _common(rates: Iterable[Fraction]) -> Fraction:
    """The least number that is a whole multiple of every rate."""
    rates = list(rates)
    down = lcm(*(rate.denominator for rate in rates))
    return Fraction(lcm(*(int(rate * down) for rate in rates)), down)
