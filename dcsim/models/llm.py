"""A decoder-only language model of the Llama family: RMSNorm, grouped-query attention with
rotary positions, SwiGLU; with per-head norms of q and k it is Qwen3's.

Written as a server runs it: residual sums, rotations and norms of q and k in place, SwiGLU in
one kernel, K and V in blocks taken from a pool, logits of the last token only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dcsim.models import ops
from dcsim.models.parallel import ALONE, all_gather, all_reduce_, check_execution
from dcsim.models.positions import rotate
from dcsim.models.tape import MEMORY, Array, Shape, Tape, Tensor
from dcsim.models.weights import Weights
from dcsim.spec import Layout


@dataclass(frozen=True)
class LlmConfig:
    """Architecture of a decoder."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    head: int = 128
    """Width of a head."""
    head_norm: bool = False
    """Norms of q and k a head (Qwen3)."""
    theta: float = 500_000.0
    eps: float = 1e-5

    def kv_local(self, tp: int) -> int:
        """KV heads one of `tp` GPUs holds; with more GPUs than heads each holds a copy of one."""
        return max(1, self.kv_heads // tp)


def parameters(c: LlmConfig, tp: int = 1) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the parameters that one of `tp` GPUs holds."""
    vocabulary = -(-c.vocabulary // tp)
    query, kv, ffn = c.heads // tp * c.head, c.kv_local(tp) * c.head, -(-c.ffn // tp)
    yield "embed", (vocabulary, c.hidden)
    for i in range(c.layers):
        yield f"{i}.norm1", (c.hidden,)
        yield f"{i}.qkv", (query + 2 * kv, c.hidden)
        if c.head_norm:
            yield f"{i}.q_norm", (c.head,)
            yield f"{i}.k_norm", (c.head,)
        yield f"{i}.out", (c.hidden, query)
        yield f"{i}.norm2", (c.hidden,)
        yield f"{i}.up", (2 * ffn, c.hidden)
        yield f"{i}.down", (c.hidden, ffn)
    yield "norm", (c.hidden,)
    yield "head", (vocabulary, c.hidden)


@dataclass
class Cache:
    """K and V of one sequence, a list of pieces a layer, one piece a pass."""

    dtype: str
    tokens: int = 0
    pieces: list[tuple[list[Tensor], list[Tensor]]] = field(default_factory=list)


def forward(
    c: LlmConfig,
    w: Weights,
    tape: Tape,
    ids: Array | None,
    count: int,
    cache: Cache,
    *,
    logits: bool,
    layout: Layout = ALONE,
) -> Tensor | None:
    """Feed `count` tokens that follow those in the cache; float32 logits of the last, if asked.

    `ids` (count,) when executing.
    """
    check_execution(tape, layout)
    tokens = tape.tensor((count,), "int64", ids)
    # A rank looks up the rows it holds; the sum over layout completes them.
    x = ops.embedding(w["embed"], tokens, w.dtype)
    all_reduce_(x, layout.tp)
    if not cache.pieces:
        cache.pieces = [([], []) for _ in range(c.layers)]
    for i in range(c.layers):
        y = ops.rms_norm(x, w[f"{i}.norm1"], c.eps)
        y = _attention(c, w, f"{i}", y, cache, i, layout)
        ops.add_(x, y)
        y = ops.rms_norm(x, w[f"{i}.norm2"], c.eps)
        gate, up = ops.linear(y, w[f"{i}.up"]).chunk(2, -1)
        y = ops.gated("silu", gate, up)
        del gate, up
        y = ops.linear(y, w[f"{i}.down"])
        all_reduce_(y, layout.tp)
        ops.add_(x, y)
        del y
    cache.tokens += count
    if not logits:
        return None
    last = ops.rms_norm(x[count - 1 :], w["norm"], c.eps)
    scores = all_gather(ops.linear(last, w["head"]), layout.tp, axis=-1)
    return ops.cast(scores[:, : c.vocabulary], "fp32")


def _attention(
    c: LlmConfig, w: Weights, name: str, x: Tensor, cache: Cache, layer: int, layout: Layout
) -> Tensor:
    count = x.shape[0]
    heads, kv = c.heads // layout.tp, c.kv_local(layout.tp)
    qkv = ops.linear(x, w[f"{name}.qkv"])
    q = qkv[:, : heads * c.head].reshape(1, count, heads, c.head)
    k = qkv[:, heads * c.head : (heads + kv) * c.head].reshape(1, count, kv, c.head)
    v = qkv[:, (heads + kv) * c.head :].reshape(1, count, kv, c.head)
    if c.head_norm:
        ops.rms_norm_(q, w[f"{name}.q_norm"], c.eps)
        ops.rms_norm_(k, w[f"{name}.k_norm"], c.eps)
    for part in (q, k):
        _rotate_(part, cache.tokens, c.theta)
    keys, values = cache.pieces[layer]
    keys.append(_store(k, cache.dtype))
    values.append(_store(v, cache.dtype))
    y = _paged_attention(q, keys, values)
    y = ops.linear(y.reshape(count, heads * c.head), w[f"{name}.out"])
    all_reduce_(y, layout.tp)
    return y


def _rotate_(x: Tensor, start: int, theta: float) -> None:
    if x.tape.execute:
        x.data[...] = rotate(x.data, start, theta)
    x.tape.record("rotary", MEMORY, (x,), x.nbytes)


def _store(x: Tensor, dtype: str) -> Tensor:
    """Write K or V into blocks of the pool, which has no grain but the token."""
    out = x.tape.run("kv_write", MEMORY, (x,), x.shape, dtype, lambda: x.data.copy(), grain=1)
    return x.tape.keep(out, "kv")


def _paged_attention(q: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """Causal attention over the cached pieces, read where they lie."""
    if len(keys) == 1:
        return ops.attention(q, keys[0], values[0], causal=True)
    shape = (1, sum(k.shape[1] for k in keys), *keys[0].shape[2:])
    # The kernel follows a block table; joining the pieces is this program's way to say so.
    k, v = (
        Tensor(q.tape, shape, part[0].dtype, part[0].storage, _joined(part))
        for part in (keys, values)
    )
    return ops.attention(q, k, v, causal=True)


def _joined(parts: list[Tensor]) -> Array | None:
    return np.concatenate([p.data for p in parts], 1) if parts[0].tape.execute else None
