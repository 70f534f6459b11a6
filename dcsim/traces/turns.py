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
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from dcsim.models import llm
from dcsim.models.catalogue import Model
from dcsim.models.feed_forward import Routing
from dcsim.models.llm import Cache, KvSize, LlmConfig
from dcsim.models.options import ModelError
from dcsim.models.shapes import Turn
from dcsim.models.softmax_attention import causal_pairs
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights, count, size
from dcsim.spec import Layout
from dcsim.traces.record import Record
from dcsim.traces.segments import Phase, Segment
from dcsim.traces.trace import MemoryTrace

NEAR, FAR = 64, 128
"""Chunks whose difference gives the figures of a token."""


def check_turn(config: LlmConfig, shape: Turn, layout: Layout) -> list[tuple[str, str]]:
    """Every reason why a shape or a layout cannot be, as (path, message)."""
    problems = [(f"layout.{name}", text) for name, text in config.unfit(layout)]
    for name in ("prompt", "output", "chunk"):
        if getattr(shape, name) < 1:
            problems.append((f"shape.{name}", f"{getattr(shape, name)} tokens; at least 1"))
    return problems


@dataclass(frozen=True)
class Server:
    """A language model on a layout's GPUs, of which one of the fullest stage stands for all."""

    config: LlmConfig
    stage: LlmConfig
    options: Mapping[str, Any]
    layout: Layout

    @staticmethod
    def of(config: LlmConfig, options: Mapping[str, Any], layout: Layout) -> Server:
        """Under resolved options."""
        return Server(config, config.stage(layout.pp), options, layout)

    @property
    def each(self) -> int:
        """GPUs whose figures make up those of a token: of `dp` ranks it is on one, and of `cp`
        GPUs one has it and each a share of what it attends to."""
        return self.layout.tp * self.layout.pp

    def kv(self) -> KvSize:
        """What a GPU keeps of the share of a sequence that it has."""
        return self._kept(self.stage)

    def _kept(self, config: LlmConfig) -> KvSize:
        windows = self.options.get("window_kv") != "all"
        return config.kv(self.layout.tp, kv_dtype(self.options), windows=windows)

    def fullest(self) -> KvSize:
        """The same of whichever stage keeps most."""
        kept = [self._kept(stage) for stage in self.config.stages(self.layout.pp)]
        return KvSize(*(max(getattr(k, f.name) for k in kept) for f in fields(KvSize)))

    def peak(self, record: Record, tokens: int) -> int:
        """Bytes a token of an iteration that computing holds: each micro-batch has its share of an
        iteration's tokens, one after the other."""
        return -(-self.each * -(-record.peak // tokens) // self.layout.pieces)


def trace_turn(
    model: Model, options: Mapping[str, Any], shape: Turn, layout: Layout
) -> MemoryTrace:
    """The trace of one turn; `options` resolved. ModelError lists all that cannot be."""
    config = model.network
    assert isinstance(config, LlmConfig)
    problems = check_turn(config, shape, layout)
    if problems:
        raise ModelError(problems)
    kept, gpus = weights_dtype(options), layout.gpus
    server = Server.of(config, options, layout)
    token, decode = _decode(server)
    chunk, prefill = _prefill(server, shape.chunk, decode.attn_flops)
    phase = Phase(
        "transformer",
        server.stage.layers,
        count(llm.parameters(config)),
        gpus * size(llm.parameters(server.stage, layout.tp, layout.ep), kept),
        size(llm.parameters(config), kept),
        gpus * layout.turns * token.total("weights", "dense"),
        options["dtype"],
        # Experts in MXFP4 are widened as they are read: their products run in the dtype.
        options["dtype"] if kept == "mxfp4" else kept,
        layout.turns * token.count("comm"),
        layout.turns,
        idle=layout.turns - layout.pieces,
    )
    return MemoryTrace(
        model.name,
        "llm",
        dict(options),
        shape,
        layout,
        (phase,),
        (prefill, decode),
        {"prefill": chunk, "decode": token},
        0,
        gpus * options["runtime_overhead"],
        server.each * server.fullest().state,
    )


def weights_dtype(options: Mapping[str, Any]) -> str:
    """The dtype that matrices are kept in."""
    kept: str = options["weights_dtype"]
    return options["dtype"] if kept == "as dtype" else kept


def kv_dtype(options: Mapping[str, Any]) -> str:
    """The dtype of the KV cache."""
    kept: str = options["kv_dtype"]
    return options["dtype"] if kept == "as dtype" else kept


def record_pass(server: Server, tokens: int, *, before: int = 0, logits: bool = False) -> Record:
    """The ops of one pass of `tokens` of a GPU after one of `before` earlier ones."""
    tape, options, layout = Tape(), server.options, server.layout
    parameters = llm.parameters(server.stage, layout.tp, layout.ep)
    weights = Weights(tape, parameters, weights_dtype(options))
    weights.dtype = options["dtype"]
    cache = Cache(kv_dtype(options))
    routing = Routing(
        options.get("experts_read", 1.0),
        Fraction(options.get("expert_imbalance", 1.0)).limit_denominator(10**6),
    )

    def feed(count: int, logits: bool) -> None:
        llm.forward(
            server.stage,
            weights,
            tape,
            None,
            count,
            cache,
            logits=logits,
            layout=layout,
            routing=routing,
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
    each: int
    """GPUs of which each token has the figures of one."""
    cp: int
    """GPUs that share the tokens: a record is of one of them."""

    def fit(self, column: str, *kinds: str) -> Fit:
        """The figures of some ops; upper bounds where they are not whole numbers."""
        near, far, later = (r.total(column, *kinds) for r in (self.near, self.far, self.later))
        each = -(-self.each * (far - near) // (FAR - NEAR))
        past = -(-self.each * (later - near) // self.before) if self.before else 0
        return Fit(each, past, max(0, self.each * near - each * NEAR - past * self.before))

    def attention(self) -> tuple[int, int]:
        """FLOPs of a pair, and those of a token that no context adds to."""
        tokens = [self.cp * n for n in (NEAR, FAR)]
        pairs = [causal_pairs(n, self.cp * self.before) for n in tokens]
        gpus = self.each * self.cp
        flops = [gpus * r.total("flops", "attention") for r in (self.near, self.far)]
        ratio = FAR // NEAR
        pair = -(-(flops[1] - ratio * flops[0]) // (pairs[1] - ratio * pairs[0]))
        return pair, max(0, flops[0] - pair * pairs[0]) // tokens[0]


def _prefill(server: Server, tokens: int, pair: int) -> tuple[Record, Segment]:
    """A chunk as it is recorded, and the row of all chunks; `pair`: FLOPs of a pair of a query and
    a key, which are the same in all passes where K and V are all that is looked back at."""
    config, cp = server.stage, server.layout.cp
    before = 0 if config.even else max(config.kv(1, "bf16").window, FAR)
    near = record_pass(server, NEAR, before=before)
    far = record_pass(server, FAR, before=before)
    later = record_pass(server, NEAR, before=2 * before) if before else near
    # Where a chunk looks back at more than K and V, the second one.
    own = -(-tokens // cp)
    chunk = record_pass(server, own, before=own if before else 0)
    passes = Passes(near, far, later, before, server.each, cp)
    kept = server.kv()
    dense, memory = passes.fit("moved", "dense"), passes.fit("moved", "memory")
    looked = passes.fit("moved", "attention")
    if not before:
        # Each GPU reads what all keep, and sends on what comes to it but the last, from memory.
        looked = replace(looked, past=server.each * (3 * cp - 2) * kept.token)
    pair, local = passes.attention() if before else (pair, 0)
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
        other_bytes=memory.own + looked.own + (-(-looked.once // own) if before else 0),
        comm_bytes=passes.fit("comm", "comm").each,
        ring_bytes=server.each * (cp - 1) * kept.token,
        live=server.each * server.fullest().growth,
        peak=server.peak(chunk, own),
        first=True,
        rule="prefill",
        record="prefill",
    )
    return chunk, row


def _decode(server: Server) -> tuple[Record, Segment]:
    """A token as it is recorded, and the row of all tokens."""
    config, each = server.stage, server.each
    before = 0 if config.even else max(config.kv(1, "bf16").window, 1)
    token = record_pass(server, 1, before=before, logits=True)
    context = config.kv(server.layout.tp, kv_dtype(server.options)).growth
    flops = token.total("flops", "attention")
    if before:
        later = record_pass(server, 1, before=before + 1, logits=True)
        pair = later.total("flops", "attention") - flops
    else:
        pair = flops
    moved = token.total("moved", "memory", "attention")
    row = Segment(
        "decode",
        "transformer",
        1,
        1,
        dense_flops=each * token.total("flops", "dense"),
        dense_bytes=each * token.total("moved", "dense"),
        attn_flops=each * pair,
        attn_bytes=each * context,
        local_flops=each * (flops - pair * (before + 1)),
        other_bytes=each * (moved - context * (before + 1)),
        comm_bytes=each * token.total("comm", "comm"),
        live=each * server.fullest().growth,
        peak=server.peak(token, 1),
        rule="decode",
        record="decode",
    )
    return token, row
