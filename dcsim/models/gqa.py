"""Grouped-query attention: rotary positions, and what families add to it.

Biases (Qwen2), norms of q and k (Qwen3), a window and sinks (gpt-oss), a gate on what comes out
and positions on a part of a head (Qwen3-Next), capped scores (Gemma 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dcsim.models import ops
from dcsim.models.block_parts import Mixer, divides
from dcsim.models.cache import Cache, Kept
from dcsim.models.parallel import all_gather, all_reduce_, nothing, ring_attention
from dcsim.models.positions import rotate
from dcsim.models.softmax_attention import causal_pairs, softmax_attention
from dcsim.models.tape import COMM, MEMORY, Tensor, nbytes
from dcsim.models.weights import Parameters, Weights
from dcsim.reading.concept import Count, Positive
from dcsim.spec import Layout


@dataclass(frozen=True)
class Gqa(Mixer):
    """Attention in which groups of query heads share a KV head."""

    tag = "gqa"

    heads: Count
    kv_heads: Count
    head: Count = 128
    """Width of a head."""
    theta: Positive = 500_000.0
    """Base of the rotary frequencies."""
    rotary: Count | None = None
    """Numbers of a head that are rotated; None: all."""
    head_norm: bool = False
    """RMSNorms of q and k, a head at a time."""
    bias: bool = False
    """Biases of q, k and v."""
    out_bias: bool = False
    window: Count | None = None
    """Tokens a query sees, itself the last; None: all before it."""
    sinks: bool = False
    """A learned logit a head that takes its share of the softmax."""
    softcap: Positive | None = None
    """Scores are kept within so much of zero, by a tanh."""
    gate: bool = False
    """What comes out is multiplied by the sigmoid of a second projection like q's."""

    def faults(self) -> Iterator[str]:
        yield from divides("kv_heads", self.heads, self.kv_heads)
        yield from divides("rotary" if self.rotary else "head", self.rotary or self.head, 2)

    @property
    def shared(self) -> bool:
        """Whether context-parallel GPUs can have a share of the tokens each."""
        return self.window is None and not self.sinks

    def kv_local(self, tp: int) -> int:
        """KV heads one of `tp` GPUs holds; with more GPUs than heads each holds a copy of one."""
        return max(1, self.kv_heads // tp)

    def wrong(self, tp: int) -> str | None:
        """Why `tp` GPUs cannot share the heads, or None."""
        if self.heads % tp:
            return f"{tp} does not divide {self.heads} attention heads"
        if self.kv_heads % tp and tp % self.kv_heads:
            return f"{tp} neither divides nor repeats {self.kv_heads} KV heads"
        return None

    def kept(self, tp: int, dtype: str) -> Kept:
        """What a GPU keeps of a sequence: K and V of its KV heads."""
        return Kept(2 * nbytes((self.kv_local(tp), self.head), dtype), self.window)

    def parameters(self, name: str, hidden: int, tp: int) -> Parameters:
        """Names and shapes on one of `tp` GPUs."""
        query, kv = self.heads // tp * self.head, self.kv_local(tp) * self.head
        out = query * (2 if self.gate else 1) + 2 * kv
        yield f"{name}.qkv", (out, hidden)
        if self.bias:
            yield f"{name}.qkv_bias", (out,)
        if self.head_norm:
            yield f"{name}.q_norm", (self.head,)
            yield f"{name}.k_norm", (self.head,)
        if self.sinks:
            yield f"{name}.sinks", (self.heads // tp,)
        yield f"{name}.out", (hidden, query)
        if self.out_bias:
            yield f"{name}.out_bias", (hidden,)

    def forward(
        self, w: Weights, name: str, x: Tensor, cache: Cache, layer: int, layout: Layout, eps: float
    ) -> Tensor:
        """Attention of tokens x (n, hidden) that follow those in the cache: (n, hidden)."""
        count, tp = x.shape[0], layout.tp
        heads, kv, head = self.heads // tp, self.kv_local(tp), self.head
        qkv = ops.linear(x, w[f"{name}.qkv"], w[f"{name}.qkv_bias"] if self.bias else None)
        # In this order: q, the gate, k, v.
        first = heads * head * (2 if self.gate else 1)
        q = qkv[:, : heads * head].reshape(1, count, heads, head)
        k = qkv[:, first : first + kv * head].reshape(1, count, kv, head)
        v = qkv[:, first + kv * head :].reshape(1, count, kv, head)
        if self.head_norm:
            ops.rms_norm_(q, w[f"{name}.q_norm"], eps)
            ops.rms_norm_(k, w[f"{name}.k_norm"], eps)
        for part in (q, k):
            rotate_(part if self.rotary is None else part[..., : self.rotary], cache, self.theta)
        cache.add(layer, k, v)
        sinks = w[f"{name}.sinks"] if self.sinks else None
        y = among(q, cache.whole(layer), layout.cp, self.window, sinks, self.softcap)
        y = y.reshape(count, heads * head)
        if self.gate:
            ops.write_(y, qkv[:, heads * head : first], ops.times_sigmoid)
        if self.window is not None:
            cache.trim(layer, self.window)
        y = ops.linear(y, w[f"{name}.out"], w[f"{name}.out_bias"] if self.out_bias else None)
        all_reduce_(y, tp)
        return y


def among(
    q: Tensor,
    kept: tuple[Tensor, ...],
    cp: int,
    window: int | None = None,
    sinks: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention of the last tokens to all that is kept of them, on `cp` GPUs a share of both.

    A prompt's K and V go round; the shares are such that each GPU has as many pairs. A single
    token goes to all GPUs, and what each has for it comes back.
    """
    if cp == 1 or q.shape[1] == 1:

        def attend() -> Tensor:
            return softmax_attention(
                q, *kept, causal=True, window=window, sinks=sinks, softcap=softcap
            )

        return answered(q, cp, attend)
    n, before = q.shape[1], kept[0].shape[1] - q.shape[1]
    pairs = -(-causal_pairs(cp * n, cp * before) // cp**2)
    return ring_attention(
        kept, cp, lambda part: softmax_attention(q, *part, pairs=pairs, softcap=softcap)
    )


def answered(q: Tensor, cp: int, attend: Callable[[], Tensor]) -> Tensor:
    """A token's attention over `cp` GPUs, each of which has such a token and a share of its
    context: all have all queries, compute as many pairs as if each had the whole of one, and swap
    what comes out, with its log-sum-exps."""
    if cp == 1:
        return attend()
    every = all_gather(q, cp, axis=1)
    y = attend()
    del every
    sent = (cp - 1) * (y.nbytes + ops.FLOAT * q.shape[2])
    return y.tape.run("all_to_all", COMM, (y,), y.shape, y.dtype, nothing, comm=sent)


def rotate_(x: Tensor, cache: Cache, theta: float) -> None:
    """Rotary positions in place; x (1, n, heads, width), its tokens follow those of the cache."""
    if x.tape.execute:
        x.data[...] = rotate(x.data, cache.tokens, theta)
    x.tape.record("rotary", MEMORY, (x,), x.nbytes)
