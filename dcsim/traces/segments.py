"""Phases and segments of a request, and a language model's rows written out for one turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from dcsim.models.shapes import RequestShape, Turn
from dcsim.traces.record import Record


@dataclass(frozen=True)
class Phase:
    """A stage of a request: which weights it needs."""

    name: str
    layers: int
    """Layers of the network."""
    params: int
    """Parameters of the network, unsharded."""
    weights: int
    """Bytes of them in the replica's HBM."""
    checkpoint: int
    """Bytes of them in a file."""
    reads: int
    """Bytes of weights that a step's matrix products read, however many jobs share them."""
    dtype: str
    """Of attention and convolutions."""
    dense_dtype: str
    """Of matrix products."""
    collectives: int = 0
    """Exchanges between GPUs in a step."""
    passes: int = 1
    """Times that a step runs the network, one after the other."""
    experts: int = 1
    """Networks that its weights are of, of which a step needs one."""
    idle: int = 0
    """Of those times, in how many a GPU waits for others: bubbles of a pipeline."""

    @property
    def launches(self) -> int:
        """Layers that a step runs, each with a launch overhead."""
        return self.layers * self.passes

    @property
    def busy(self) -> Fraction:
        """Share of a step in which a GPU computes."""
        return Fraction(self.passes - self.idle, self.passes)


@dataclass(frozen=True)
class Segment:
    """A run of steps whose demands are linear in the step index.

    `rule` fixed: the figures are a step's, and `_slope` what each next step adds.
    `prefill` and `decode`: dense, other and comm are a token's, `attn_flops` a (query, key)
    pair's, `attn_bytes` and `live` a token's of context; see `MemoryTrace.segments`.
    """

    name: str
    phase: str
    steps: int
    tokens: int
    """Rows fed to the dense layers (`prefill`: tokens of a chunk)."""
    dense_flops: int = 0
    dense_bytes: int = 0
    """Activations moved by matrix products; their weights are the phase's `reads`."""
    attn_flops: int = 0
    attn_flops_slope: int = 0
    attn_bytes: int = 0
    attn_bytes_slope: int = 0
    local_flops: int = 0
    """Of attention that no context adds to: full windows."""
    again_flops: int = 0
    """Of what is computed again for every token before a chunk (`prefill`: a context token's)."""
    again_flops_slope: int = 0
    conv_flops: int = 0
    conv_bytes: int = 0
    other_bytes: int = 0
    comm_bytes: int = 0
    ring_bytes: int = 0
    """Sent to other GPUs while attention computes (`prefill`: a context token's)."""
    ring_bytes_slope: int = 0
    host_bytes: int = 0
    """From the host's memory in each step."""
    overlapped: bool = False
    """Whether they come while the step computes, so that the longer of the two counts."""
    live: int = 0
    """Bytes held during a step and after it."""
    live_slope: int = 0
    peak: int = 0
    """The most bytes held beyond `live` while a step runs."""
    first: bool = False
    """Whether its end puts out the first result."""
    rule: str = "fixed"
    record: str = ""
    """Name of the record its step was counted from."""

    @staticmethod
    def of(
        record: Record,
        source: str,
        name: str,
        phase: str,
        steps: int,
        tokens: int,
        *,
        gpus: int = 1,
        passes: int = 1,
        first: bool = False,
    ) -> Segment:
        """Steps like a recorded one, which is `passes` of them on each of `gpus`; `source`: the
        record's name."""

        def each(column: str, *kinds: str) -> int:
            return gpus * -(-record.total(column, *kinds) // passes)

        return Segment(
            name,
            phase,
            steps,
            tokens,
            dense_flops=each("flops", "dense"),
            dense_bytes=each("moved", "dense"),
            attn_flops=each("flops", "attention"),
            attn_bytes=each("moved", "attention"),
            conv_flops=each("flops", "conv"),
            conv_bytes=each("moved", "conv") + each("weights", "conv"),
            other_bytes=each("moved", "memory") + each("weights", "memory"),
            comm_bytes=each("comm", "comm"),
            ring_bytes=each("comm", "attention"),
            live=gpus * record.live,
            peak=gpus * record.peak,
            first=first,
            record=source,
        )

    @property
    def flops(self) -> int:
        """FLOPs of the first step (fixed)."""
        return self.dense_flops + self.attn_flops + self.local_flops + self.conv_flops

    @property
    def most_live(self) -> int:
        """The most bytes live in any step (fixed)."""
        return max(self.live, self.live + self.live_slope * (self.steps - 1))


def expanded(row: Segment, shape: RequestShape) -> tuple[Segment, ...]:
    """A prefill or decode row as fixed segments for a prompt and an output."""
    if row.rule == "fixed" or not isinstance(shape, Turn):
        return (row,)
    if row.rule == "decode":
        return _decode(row, shape.prompt, shape.output)
    full, rest = divmod(shape.prompt, row.tokens)
    chunks = [(0, full, row.tokens), (full * row.tokens, 1, rest)]
    out = [_chunks(row, shape.prompt, *c) for c in chunks if c[1] and c[2]]
    out[-1] = replace(out[-1], first=row.first)
    return tuple(out)


def _chunks(row: Segment, prompt: int, before: int, steps: int, n: int) -> Segment:
    return replace(
        row,
        rule="fixed",
        steps=steps,
        tokens=n,
        dense_flops=row.dense_flops * n,
        dense_bytes=row.dense_bytes * n,
        attn_flops=row.attn_flops * (n * before + n * (n + 1) // 2),
        attn_flops_slope=row.attn_flops * n * n,
        attn_bytes=row.attn_bytes * (before + n),
        attn_bytes_slope=row.attn_bytes * n,
        local_flops=row.local_flops * n,
        again_flops=row.again_flops * (before + n),
        again_flops_slope=row.again_flops * n,
        other_bytes=row.other_bytes * n,
        comm_bytes=row.comm_bytes * n,
        ring_bytes=row.ring_bytes * (before + n),
        ring_bytes_slope=row.ring_bytes * n,
        live=row.live * prompt,
        peak=row.peak * n,
        first=False,
    )


def _decode(row: Segment, prompt: int, output: int) -> tuple[Segment, ...]:
    if output < 2:
        return ()
    step = replace(
        row,
        rule="fixed",
        steps=output - 1,
        attn_flops=row.attn_flops * (prompt + 1),
        attn_flops_slope=row.attn_flops,
        attn_bytes=row.attn_bytes * (prompt + 1),
        attn_bytes_slope=row.attn_bytes,
        live=row.live * (prompt + 1),
        live_slope=row.live,
    )
    return (step,)
