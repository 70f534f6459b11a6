"""Tracing a language model by shape: what a token costs.

Matrix products, traffic and memory of a chunk are linear in its tokens and attention in its
pairs, so a few recorded passes give the figures of every prompt and output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcsim.models import llm
from dcsim.models.catalogue import Model
from dcsim.models.llm import Cache, LlmConfig
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
    if config.heads % layout.tp:
        problems.append(
            ("layout.tp", f"{layout.tp} does not divide {config.heads} attention heads")
        )
    elif config.kv_heads % layout.tp and layout.tp % config.kv_heads:
        problems.append(
            ("layout.tp", f"{layout.tp} neither divides nor repeats {config.kv_heads} KV heads")
        )
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
    kept = options["weights_dtype"]
    kept = options["dtype"] if kept == "as dtype" else kept
    near = record_pass(config, options, layout, NEAR)
    far = record_pass(config, options, layout, FAR)
    chunk = record_pass(config, options, layout, shape.chunk)
    token = record_pass(config, options, layout, 1, logits=True)
    gpus = layout.gpus
    decode = _decode_row(token, gpus)
    phase = Phase(
        "transformer",
        config.layers,
        count(llm.parameters(config)),
        gpus * size(llm.parameters(config, layout.tp), kept),
        size(llm.parameters(config), kept),
        gpus * token.total("weights", "dense"),
        options["dtype"],
        kept,
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
        (_prefill_row(near, far, chunk, shape.chunk, gpus), decode),
        {"prefill": chunk, "decode": token},
        0,
        gpus * options["runtime_overhead"],
    )


def record_pass(
    config: LlmConfig,
    options: Mapping[str, Any],
    layout: Layout,
    tokens: int,
    *,
    before: int = 0,
    logits: bool = False,
) -> Record:
    """The ops of one pass of `tokens` after `before` earlier ones."""
    tape = Tape()
    kept, kv = options["weights_dtype"], options["kv_dtype"]
    dtype = options["dtype"]
    weights = Weights(
        tape, llm.parameters(config, layout.tp), dtype if kept == "as dtype" else kept
    )
    weights.dtype = dtype
    cache = Cache(dtype if kv == "as dtype" else kv)
    if before:
        llm.forward(config, weights, tape, None, before, cache, logits=False, layout=layout)
    start = len(tape.profile)
    out = llm.forward(config, weights, tape, None, tokens, cache, logits=logits, layout=layout)
    del out
    return Record.of(tape, start)


def _prefill_row(near: Record, far: Record, chunk: Record, tokens: int, gpus: int) -> Segment:
    step = FAR - NEAR

    def each(column: str, *kinds: str) -> int:
        gap = far.total(column, *kinds) - near.total(column, *kinds)
        return -(-gpus * gap // step)

    pairs = NEAR * (NEAR + 1) // 2
    context = near.live // NEAR
    # Besides K and V, attention moves the queries and what it puts out.
    queries = (near.total("moved", "attention") - near.live) // NEAR
    return Segment(
        "prefill",
        "transformer",
        1,
        tokens,
        dense_flops=each("flops", "dense"),
        dense_bytes=each("moved", "dense"),
        attn_flops=gpus * near.total("flops", "attention") // pairs,
        attn_bytes=gpus * context,
        other_bytes=each("moved", "memory") + gpus * queries,
        comm_bytes=each("comm", "comm"),
        live=gpus * context,
        peak=gpus * -(-max(chunk.peak, 1) // tokens),
        first=True,
        rule="prefill",
        record="prefill",
    )


def _decode_row(token: Record, gpus: int) -> Segment:
    context = token.live
    return Segment(
        "decode",
        "transformer",
        1,
        1,
        dense_flops=gpus * token.total("flops", "dense"),
        dense_bytes=gpus * token.total("moved", "dense"),
        attn_flops=gpus * token.total("flops", "attention"),
        attn_bytes=gpus * context,
        other_bytes=gpus
        * (token.total("moved", "memory") + token.total("moved", "attention") - context),
        comm_bytes=gpus * token.total("comm", "comm"),
        live=gpus * context,
        peak=gpus * token.peak,
        rule="decode",
        record="decode",
    )
