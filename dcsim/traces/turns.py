"""Tracing a language model by shape: what a token costs.

Matrix products, traffic and memory of a chunk are linear in its tokens and attention in its
pairs, so a few recorded passes give the figures of every prompt and output. What is not linear
is bounded from above, for every prompt and output (docs/models.md says where):

- layers with a window are counted with full windows: attention as much a token as a full window
  is, and, in place of K and V that grow, the window's bytes held from the start (`state`), as the
  states of linear attention are;
- latents that are expanded again for every later chunk are counted in the pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dcsim.models import llm
from dcsim.models.catalogue import Model
from dcsim.models.llm import Cache, KvSize, LlmConfig
from dcsim.models.options import ModelError
from dcsim.models.shapes import Turn
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights, count, size
from dcsim.spec import Layout
from dcsim.traces.trace import MemoryTrace, Phase, Record, Segment

NEAR, FAR = 64, 128
"""Chunks whose difference gives the figures of a token."""


def check_turn(config: LlmConfig, shape: Turn, layout: Layout) -> list[tuple[str, str]]:
    """Every reason why a shape or a layout cannot be, as (path, message)."""
    problems = []
    for name, degree in (("sp", layout.sp), ("cfg", layout.cfg)):
        if degree != 1:
            problems.append((f"layout.{name}", f"{degree}; a language model is spread by tp only"))
    if (wrong := config.wrong(layout.tp)) is not None:
        problems.append(("layout.tp", wrong))
    for name in ("prompt", "output", "chunk"):
        if getattr(shape, name) < 1:
            problems.append((f"shape.{name}", f"{getattr(shape, name)} tokens; at least 1"))
    return problems


def trace_turn(
    model: Model, options: Mapping[str, Any], shape: Turn, layout: Layout
) -> MemoryTrace:
    """The trace of one turn; `options` resolved. ModelError lists all that cannot be."""
    config = model.network
    assert isinstance(config, LlmConfig)
    problems = check_turn(config, shape, layout)
    if problems:
        raise ModelError(problems)
    kept = weights_dtype(options)
    gpus = layout.gpus
    token, decode = _decode(config, options, layout)
    chunk, prefill = _prefill(config, options, layout, shape.chunk)
    phase = Phase(
        "transformer",
        config.layers,
        count(llm.parameters(config)),
        gpus * size(llm.parameters(config, layout.tp), kept),
        size(llm.parameters(config), kept),
        gpus * token.total("weights", "dense"),
        options["dtype"],
        # Experts in MXFP4 are widened as they are read: their products run in the dtype.
        options["dtype"] if kept == "mxfp4" else kept,
        token.count("comm"),
    )
    return MemoryTrace(
        model.name,
        "llm",
        dict(options),
        shape,
        layout.tp,
        layout.sp,
        layout.cfg,
        (phase,),
        (prefill, decode),
        {"prefill": chunk, "decode": token},
        0,
        gpus * options["runtime_overhead"],
        gpus * kv_size(config, options, layout).state,
    )


def weights_dtype(options: Mapping[str, Any]) -> str:
    """The dtype that matrices are kept in."""
    kept: str = options["weights_dtype"]
    return options["dtype"] if kept == "as dtype" else kept


def kv_dtype(options: Mapping[str, Any]) -> str:
    """The dtype of the KV cache."""
    kept: str = options["kv_dtype"]
    return options["dtype"] if kept == "as dtype" else kept


def kv_size(config: LlmConfig, options: Mapping[str, Any], layout: Layout) -> KvSize:
    """What one GPU keeps of a sequence under the options."""
    return config.kv(layout.tp, kv_dtype(options), windows=options.get("window_kv") != "all")


def record_pass(
    config: LlmConfig,
    options: Mapping[str, Any],
    layout: Layout,
    tokens: int,
    *,
    before: int = 0,
    logits: bool = False,
) -> Record:
    """The ops of one pass of `tokens` after one of `before` earlier ones."""
    tape = Tape()
    weights = Weights(tape, llm.parameters(config, layout.tp), weights_dtype(options))
    weights.dtype = options["dtype"]
    cache = Cache(kv_dtype(options))

    def feed(count: int, logits: bool) -> None:
        read = options.get("experts_read", 1.0)
        llm.forward(
            config,
            weights,
            tape,
            None,
            count,
            cache,
            logits=logits,
            layout=layout,
            experts_read=read,
        )

    if before:
        feed(before, False)
    start = len(tape.profile)
    feed(tokens, logits)
    return Record.of(tape, start)


@dataclass(frozen=True)
class Fit:
    """A figure of a replica's pass of n tokens after b: `each * n + past * b + once`."""

    each: int
    past: int
    once: int

    @property
    def own(self) -> int:
        """Of a token where `past * (b + n)` is counted apart."""
        return self.each - self.past


@dataclass(frozen=True)
class Passes:
    """What tells the figures of all passes: two lengths, and one of them after more tokens."""

    near: Record
    far: Record
    later: Record
    before: int
    gpus: int

    def fit(self, column: str, *kinds: str) -> Fit:
        """The figures of some ops; upper bounds where they are not whole numbers."""
        near, far, later = (r.total(column, *kinds) for r in (self.near, self.far, self.later))
        each = -(-self.gpus * (far - near) // (FAR - NEAR))
        past = -(-self.gpus * (later - near) // self.before) if self.before else 0
        return Fit(each, past, max(0, self.gpus * near - each * NEAR - past * self.before))

    def attention(self) -> tuple[int, int]:
        """FLOPs of a pair, and those of a token that no context adds to."""
        pairs = [n * self.before + n * (n + 1) // 2 for n in (NEAR, FAR)]
        flops = [self.gpus * r.total("flops", "attention") for r in (self.near, self.far)]
        ratio = FAR // NEAR
        pair = (flops[1] - ratio * flops[0]) // (pairs[1] - ratio * pairs[0])
        return pair, (flops[0] - pair * pairs[0]) // NEAR


def _prefill(
    config: LlmConfig, options: Mapping[str, Any], layout: Layout, tokens: int
) -> tuple[Record, Segment]:
    """A chunk as it is recorded, and the row of all chunks."""
    before = 0 if config.even else max(config.kv(1, "bf16").window, FAR)
    near = record_pass(config, options, layout, NEAR, before=before)
    far = record_pass(config, options, layout, FAR, before=before)
    later = record_pass(config, options, layout, NEAR, before=2 * before) if before else near
    # Where a chunk looks back at more than K and V, the second one.
    chunk = record_pass(config, options, layout, tokens, before=tokens if before else 0)
    gpus = layout.gpus
    passes = Passes(near, far, later, before, gpus)
    size_ = kv_size(config, options, layout)
    dense, memory = passes.fit("moved", "dense"), passes.fit("moved", "memory")
    looked = passes.fit("moved", "attention")
    if not before:
        looked = replace(looked, past=gpus * size_.token)
    pair, local = passes.attention()
    again = passes.fit("flops", "dense").past
    row = Segment(
        "prefill",
        "transformer",
        1,
        tokens,
        dense_flops=passes.fit("flops", "dense").each,
        dense_bytes=dense.own,
        # What is expanded again is a share of the pairs of a full chunk.
        attn_flops=pair + -(-again // tokens),
        attn_bytes=dense.past + memory.past + looked.past,
        local_flops=local,
        again_flops=again,
        # Besides K and V, attention moves the queries and what it puts out, and full windows.
        other_bytes=memory.own + looked.own + (-(-looked.once // tokens) if before else 0),
        comm_bytes=passes.fit("comm", "comm").each,
        live=gpus * size_.growth,
        peak=gpus * -(-chunk.peak // tokens),
        first=True,
        rule="prefill",
        record="prefill",
    )
    return chunk, row


def _decode(
    config: LlmConfig, options: Mapping[str, Any], layout: Layout
) -> tuple[Record, Segment]:
    """A token as it is recorded, and the row of all tokens."""
    before = 0 if config.even else max(config.kv(1, "bf16").window, 1)
    token = record_pass(config, options, layout, 1, before=before, logits=True)
    size_ = kv_size(config, options, layout)
    gpus, context = layout.gpus, config.kv(layout.tp, kv_dtype(options)).growth
    flops = token.total("flops", "attention")
    if before:
        later = record_pass(config, options, layout, 1, before=before + 1, logits=True)
        pair = later.total("flops", "attention") - flops
    else:
        pair = flops
    row = Segment(
        "decode",
        "transformer",
        1,
        1,
        dense_flops=gpus * token.total("flops", "dense"),
        dense_bytes=gpus * token.total("moved", "dense"),
        attn_flops=gpus * pair,
        attn_bytes=gpus * context,
        local_flops=gpus * (flops - pair * (before + 1)),
        other_bytes=gpus * (token.total("moved", "memory", "attention") - context * (before + 1)),
        comm_bytes=gpus * token.total("comm", "comm"),
        live=gpus * size_.growth,
        peak=gpus * token.peak,
        rule="decode",
        record="decode",
    )
    return token, row
