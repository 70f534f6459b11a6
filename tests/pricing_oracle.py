"""The slow oracle of trace -> price: written from docs/pricing.md, not from the package.

Plain Python and whole numbers. Architectures, options and GPUs come in as data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

BITS = {
    "fp32": 32,
    "bf16": 16,
    "fp16": 16,
    "fp8": 8,
    "fp4": Fraction(9, 2),
    "int8": 8,
    "nf4": Fraction(9, 2),
    "uint8": 8,
    "int64": 64,
}
TICKS = 65536 * 10**9


def size(elements: int, dtype: str) -> int:
    """Bytes of an array."""
    return ceil(elements * Fraction(BITS[dtype]) / 8)


def wider(a: str, b: str) -> str:
    return b if b == "fp32" else a


@dataclass
class Array:
    """Elements of a type; a part of another array holds nothing itself."""

    elements: int
    dtype: str

    @property
    def bytes(self) -> int:
        return size(self.elements, self.dtype)


@dataclass(frozen=True)
class Layer:
    """A matrix of out x width, and a bias where it has one."""

    width: int
    out: int
    matrix: str
    bias: str | None = None


@dataclass
class Op:
    kind: str
    flops: int
    weights: int
    moved: int
    sent: int
    held: int
    stands: int = 1
    """Of how many alike it is taken to be, in the mean."""
    block: int | None = None
    """Of what block of the denoiser, and of which half of it, or of none."""
    half: str = ""


@dataclass
class Tape:
    """What one GPU does in a step, and what it holds meanwhile."""

    held: dict[str, int] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    stands: int = 1
    block: int | None = None
    half: str = ""

    def hold(self, name: str, array: Array, grain: int = 512) -> Array:
        assert name not in self.held, name
        self.held[name] = ceil(Fraction(array.bytes, grain)) * grain
        return array

    def free(self, *names: str) -> None:
        for name in names:
            del self.held[name]

    def rename(self, old: str, new: str) -> None:
        self.held[new] = self.held.pop(old)

    def op(
        self,
        kind: str,
        inputs: list[Array],
        name: str = "",
        out: Array | None = None,
        *,
        flops: int = 0,
        weights: int = 0,
        sent: int = 0,
        scratch: int = 0,
        written: int = 0,
        grain: int = 512,
    ) -> Array:
        """An operation that takes memory for `out` under `name`; in place it has `written`."""
        if out is not None:
            self.hold(name, out, grain)
            written = out.bytes
        moved = sum(a.bytes for a in inputs) + written + scratch
        held = sum(self.held.values()) + ceil(scratch / 512) * 512
        self.ops.append(
            Op(kind, flops, weights, moved, sent, held, self.stands, self.block, self.half)
        )
        return out or (inputs[0] if inputs else Array(0, "bf16"))

    def make(self, name: str, kind: str, inputs: list[Array], out: Array, **given: Any) -> Array:
        """`name = op(...)`."""
        return self.op(kind, inputs, name, out, **given)

    def swap(self, name: str, kind: str, inputs: list[Array], out: Array, **given: Any) -> Array:
        """`name <- op(...)`: the new value under the old name, the old one given back after."""
        self.op(kind, inputs, name + "'", out, **given)
        self.free(name)
        self.rename(name + "'", name)
        return out

    def linear(self, x: Array, layer: Layer, name: str) -> Array:
        """Rows of x through a layer; under the name of what is held already, `name <- linear`."""
        rows = x.elements // layer.width
        weights = size(layer.out * layer.width, layer.matrix)
        if layer.bias is not None:
            weights += size(layer.out, layer.bias)
        act = self.swap if name in self.held else self.make
        flops = 2 * rows * layer.width * layer.out
        return act(
            name, "dense", [x], Array(rows * layer.out, x.dtype), flops=flops, weights=weights
        )

    def reduce(self, x: Array, gpus: int) -> None:
        if gpus > 1:
            self.op("comm", [x], sent=ceil(Fraction(2 * (gpus - 1) * x.bytes, gpus)))

    def gather(self, name: str, x: Array, gpus: int) -> Array:
        """`name <- gather(name)`."""
        if gpus == 1:
            return x
        out = Array(x.elements * gpus, x.dtype)
        return self.swap(name, "comm", [x], out, sent=(gpus - 1) * x.bytes)

    def total(self, kind: str, *columns: str) -> int:
        return sum(getattr(op, c) for op in self.ops if op.kind == kind for c in columns)

    def count(self, kind: str) -> int:
        return sum(op.kind == kind for op in self.ops)

    @property
    def live(self) -> int:
        return sum(self.held.values())

    def extras(self) -> list[int]:
        return [max(op.held - self.live, 0) for op in self.ops]

    def begin(self) -> Tape:
        """A new step that starts with what is held now."""
        return Tape(dict(self.held))


def of_dtype(dtype: str) -> str:
    """Where a network's vectors and embeddings are: not quantised."""
    return "bf16" if dtype in ("fp8", "fp4", "int8", "nf4") else dtype


# Rows of a trace


@dataclass
class Row:
    """A segment: see docs/pricing.md, 4."""

    name: str
    phase: int
    rule: str
    steps: int
    tokens: int
    figures: dict[str, int]
    live: int
    peak: int
    first: bool
    tape: Tape
    host_bytes: int = 0
    overlapped: bool = False


@dataclass
class PhaseFigures:
    name: str
    layers: int
    params: int
    weights: int
    checkpoint: int
    reads: int
    dtype: str
    dense_dtype: str
    collectives: int = 0
    passes: int = 1
    experts: int = 1
    idle: int = 0


@dataclass
class Trace:
    phases: list[PhaseFigures]
    rows: list[Row]
    gpus: int
    artifact: int
    overhead: int

    @property
    def weights(self) -> int:
        return sum(p.weights for p in self.phases)

    @property
    def checkpoint(self) -> int:
        return sum(p.checkpoint for p in self.phases)


def figures(tape: Tape, gpus: int, passes: int = 1) -> dict[str, int]:
    """The table of section 4."""

    def each(kind: str, *columns: str) -> int:
        # Each column is shared among the passes by itself.
        return sum(gpus * ceil(Fraction(tape.total(kind, c), passes)) for c in columns)

    return {
        "dense_flops": each("dense", "flops"),
        "dense_bytes": each("dense", "moved"),
        "attn_flops": each("attention", "flops"),
        "attn_bytes": each("attention", "moved"),
        "conv_flops": each("conv", "flops"),
        "conv_bytes": each("conv", "moved", "weights"),
        "other_bytes": each("memory", "moved", "weights"),
        "comm_bytes": each("comm", "sent"),
        "ring_bytes": each("attention", "sent"),
    }


# Price


def rate(gpu: Any, kind: str, dtype: str, gpus: int | Fraction) -> Fraction:
    """FLOP/s, bytes/s (memory) or sent bytes/s (comm) of a phase's GPUs."""
    share = gpu.efficiency.get(kind)
    if share is None:
        share = gpu.efficiency["memory"]
    share = Fraction(share).limit_denominator(10**6)
    if kind in ("memory", "weights", "kv"):
        return gpus * gpu.hbm_bandwidth * share
    if kind == "comm":
        return gpus * gpu.scale_up * share
    known = {"fp16": "bf16", "fp32": "bf16", "int8": "fp8" if "fp8" in gpu.flops else "bf16"}
    peak = Fraction(gpu.flops[known.get(dtype, dtype)])
    return gpus * (peak / 2 if dtype == "fp32" else peak) * share


def over(amount: int, per_second: Fraction) -> Fraction:
    return amount / per_second if amount else Fraction(0)


def ticks(seconds: Fraction) -> int:
    return ceil(seconds * TICKS)


def price_row(row: Row, phase: PhaseFigures, gpu: Any, gpus: int) -> dict[str, int]:
    """A row of the engine's `segments`."""
    f = row.figures
    busy = gpus * Fraction(phase.passes - phase.idle, phase.passes)
    reading = rate(gpu, "memory", "", busy)

    def compute(kind: str, name: str) -> Fraction:
        dtype = phase.dense_dtype if kind == "dense" else phase.dtype
        return over(f[name], rate(gpu, kind, dtype, busy))

    dense = max(compute("dense", "dense_flops"), over(f["dense_bytes"], reading))
    conv = max(compute("conv", "conv_flops"), over(f["conv_bytes"], reading))
    attention = compute("attention", "attn_flops")
    context = over(f["attn_bytes"], rate(gpu, "kv", "", busy))
    if f["ring_bytes"]:
        context = max(context, over(f["ring_bytes"], rate(gpu, "comm", "", busy)))
    other = conv + over(f["other_bytes"], reading)
    if f["comm_bytes"]:
        other += over(f["comm_bytes"], rate(gpu, "comm", "", busy))
    fixed = row.rule == "fixed"
    share = Fraction(gpu.efficiency.get("host_link", 1)).limit_denominator(10**6)
    host = row.host_bytes / (gpus * gpu.host_link * share)
    if row.overlapped:
        launch, weights = phase_seconds(phase, gpu, gpus)
        alone = launch + max(weights, dense) + other + max(attention, context)
        host = max(Fraction(0), host - alone)
    other += host
    return {
        "rule": {"fixed": 0, "prefill": 1, "decode": 2}[row.rule],
        "phase": row.phase,
        "steps": row.steps,
        "tokens": row.tokens,
        "dense": ticks(dense),
        "own": ticks(other + max(attention, context)) if fixed else ticks(other),
        "own_slope": 0,
        "ctx": 0 if fixed else ticks(context),
        "pair": 0 if fixed else ticks(attention),
        "live": row.live,
        "live_slope": 0,
        "peak": row.peak,
        "mean": mean(row, phase, gpu),
        "first": int(row.first),
    }


def mean(row: Row, phase: PhaseFigures, gpu: Any) -> int:
    times = []
    for op in row.tape.ops:
        if op.kind == "comm":
            times.append(op.stands * over(op.sent, rate(gpu, "comm", "", 1)))
            continue
        time = over(op.moved + op.weights, rate(gpu, "memory", "", 1))
        if op.kind != "memory":
            dtype = phase.dense_dtype if op.kind == "dense" else phase.dtype
            time = max(time, over(op.flops, rate(gpu, op.kind, dtype, 1)))
        time = max(time, over(op.sent, rate(gpu, "comm", "", 1)))
        times.append(op.stands * time)
    extras = row.tape.extras()
    held = sum(e * t for e, t in zip(extras, times, strict=True))
    most = max(extras, default=0)
    return ceil(row.peak * held / (sum(times) * most)) if most else 0


def phase_seconds(phase: PhaseFigures, gpu: Any, gpus: int) -> tuple[Fraction, Fraction]:
    """Launch and weights."""
    launches = phase.layers * phase.passes
    launch = launches * gpu.launch + gpu.step + phase.collectives * gpu.collective
    read = over(phase.reads, rate(gpu, "weights", "", gpus))
    return Fraction(launch, 10**9), max(read, Fraction(launches * gpu.host, 10**9))


def price_phase(phase: PhaseFigures, gpu: Any, gpus: int) -> dict[str, int]:
    launch, weights = phase_seconds(phase, gpu, gpus)
    return {"launch": ticks(launch), "weights": ticks(weights)}


def price(trace: Trace, gpu: Any) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Rows of `phases` and of `segments`."""
    rows = [price_row(r, trace.phases[r.phase], gpu, trace.gpus) for r in trace.rows]
    return [price_phase(p, gpu, trace.gpus) for p in trace.phases], rows


def reserve(trace: Trace, gpu: Any, options: Mapping[str, Any], scheduler: Any) -> int:
    """What an LLM's server keeps back."""
    batch = scheduler.max_batched_tokens
    if batch is None:
        batch = scheduler.max_jobs * scheduler.prefill_chunk
    prefill, decode = (row.peak for row in trace.rows)
    full = prefill * batch + max(0, decode - prefill) * min(scheduler.max_jobs, batch)
    memory = trace.gpus * gpu.hbm
    return trace.overhead + full + memory - int(memory * options["memory_utilization"])
