"""A decoder-only language model: blocks of attention and a feed-forward half, by data.

Written as a server runs it: residual sums, rotations and norms of q and k in place, SwiGLU in
one kernel, K and V in blocks taken from a pool, logits of the last token only. Which attention
and which feed-forward half each block has is the config's to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from dcsim.models import ops
from dcsim.models.cache import Cache
from dcsim.models.delta import GatedDelta
from dcsim.models.feed_forward import EVEN, Dense, Experts, Routing
from dcsim.models.gqa import Gqa
from dcsim.models.mla import Mla
from dcsim.models.parallel import (
    ALONE,
    all_gather,
    all_reduce_,
    check_execution,
    received,
    sent,
)
from dcsim.models.tape import Array, Shape, Tape, Tensor
from dcsim.models.weights import Weights, count
from dcsim.spec import Layout

__all__ = ["Block", "Cache", "KvSize", "LlmConfig", "equal_blocks", "forward", "parameters"]


@dataclass(frozen=True)
class Block:
    """One layer."""

    attention: Gqa | Mla | GatedDelta
    feed_forward: Dense | Experts


@dataclass(frozen=True)
class KvSize:
    """Bytes that one GPU keeps of a sequence."""

    token: int
    """Of a token in all layers, as long as the sequence is within every window."""
    growth: int
    """Of a token more, beyond the widest window."""
    state: int
    """What is kept besides `growth`: full windows, and states that have no length."""
    window: int
    """The widest window in tokens; 0: there is none."""


@dataclass(frozen=True)
class LlmConfig:
    """Architecture of a decoder."""

    blocks: tuple[Block, ...]
    hidden: int
    vocabulary: int
    tied: bool = False
    """The head is the embedding."""
    eps: float = 1e-5
    post_norms: bool = False
    """What a half of a block makes is normed before it is added (Gemma 2)."""
    scaled_embedding: bool = False
    """Embeddings are multiplied by the root of the hidden size (Gemma)."""
    softcap: float | None = None
    """Logits are kept within so much of zero, by a tanh (Gemma 2)."""
    first: bool = True
    """It embeds; else it is a stage of a pipeline that others come before."""
    last: bool = True
    """It has a head."""

    @property
    def layers(self) -> int:
        """How many blocks."""
        return len(self.blocks)

    @property
    def heads(self) -> int:
        """Query heads of the block that has most."""
        return max(block.attention.heads for block in self.blocks)

    @property
    def experts(self) -> bool:
        """Whether a block has a mixture of experts."""
        return any(isinstance(block.feed_forward, Experts) for block in self.blocks)

    def wrong(self, tp: int) -> str | None:
        """Why `tp` GPUs cannot share it, or None."""
        return next((t for block in self.blocks if (t := block.attention.wrong(tp))), None)

    def unfit(self, layout: Layout) -> Iterator[tuple[str, str]]:
        """Why the GPUs of a layout cannot share it: degrees and reasons."""
        for name in ("sp", "ring", "cfg"):
            if (degree := getattr(layout, name)) != 1:
                yield name, f"{degree}; a language model is spread by tp, pp, dp, ep and cp"
        if (wrong := self.wrong(layout.tp)) is not None:
            yield "tp", wrong
        if layout.pp > self.layers:
            yield "pp", f"{layout.pp} stages of {self.layers} layers"
        if layout.in_flight is not None and layout.pp == 1:
            yield "in_flight", f"{layout.in_flight} pieces in a pipeline of one stage"
        if layout.dp > 1 and not self.experts:
            yield "dp", f"{layout.dp}; without experts to share they are replicas"
        if layout.ep not in (layout.tp * layout.dp, 1) or layout.ep < layout.dp:
            yield "ep", f"{layout.ep}; whole experts are over tp x dp GPUs, {layout.tp * layout.dp}"
        elif layout.ep > 1 and layout.ep > (
            most := max(b.feed_forward.wholes for b in self.blocks)
        ):
            yield "ep", f"{layout.ep} GPUs, but {most} experts"
        if layout.cp > 1 and not all(block.attention.shared for block in self.blocks):
            yield "cp", f"{layout.cp}; it has layers that do not attend to all tokens before"

    def stages(self, pp: int) -> tuple[LlmConfig, ...]:
        """Runs of its layers, as vLLM has them (`get_pp_indices` of vllm/distributed/utils.py):
        equal, those before the last with one more where they do not divide."""
        each, more = divmod(self.layers, pp)
        sizes = [each] * pp
        for i in range(2, more + 2):
            sizes[-i] += 1
        ends = list(accumulate(sizes))
        return tuple(
            replace(
                self, blocks=self.blocks[end - size : end], first=end == size, last=end == ends[-1]
            )
            for size, end in zip(sizes, ends, strict=True)
        )

    def stage(self, pp: int) -> LlmConfig:
        """The stage with the most parameters, of alike ones the last: all wait for it."""
        stages = reversed(self.stages(pp))
        return self if pp == 1 else max(stages, key=lambda stage: count(parameters(stage)))

    @property
    def even(self) -> bool:
        """Whether all blocks are of attention to all tokens before, by K and V."""
        return all(
            isinstance(block.attention, Gqa) and block.attention.window is None
            for block in self.blocks
        )

    def kv(self, tp: int, dtype: str, *, windows: bool = True) -> KvSize:
        """What a GPU keeps of a sequence; without `windows`, all tokens in every layer."""
        kept = [block.attention.kept(tp, dtype) for block in self.blocks]
        if not windows:
            kept = [replace(each, window=None) for each in kept]
        return KvSize(
            token=sum(each.token for each in kept),
            growth=sum(each.token for each in kept if each.window is None),
            state=sum(each.state + each.token * (each.window or 0) for each in kept),
            window=max(each.window or 0 for each in kept),
        )

    @property
    def active(self) -> int:
        """Parameters that a token meets: all but experts it is not sent to and the embedding,
        of which it takes a row (where the head is not the embedding too)."""
        idle = sum(block.feed_forward.idle(self.hidden) for block in self.blocks)
        looked_up = 0 if self.tied else self.vocabulary * self.hidden
        return count(parameters(self)) - idle - looked_up


def equal_blocks(
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    ffn: int,
    vocabulary: int,
    *,
    head: int = 128,
    head_norm: bool = False,
    theta: float = 500_000.0,
    eps: float = 1e-5,
) -> LlmConfig:
    """A dense decoder of the Llama family, or with `head_norm` of Qwen3's."""
    attention = Gqa(heads, kv_heads, head, theta, head_norm=head_norm)
    return LlmConfig((Block(attention, Dense(ffn)),) * layers, hidden, vocabulary, eps=eps)


def parameters(c: LlmConfig, tp: int = 1, ep: int = 1) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the parameters that one of `tp` GPUs holds, of experts one of `ep`."""
    vocabulary = -(-c.vocabulary // tp)
    if c.first or c.tied:
        yield "embed", (vocabulary, c.hidden)
    for i, block in enumerate(c.blocks):
        yield f"{i}.norm1", (c.hidden,)
        yield from block.attention.parameters(f"{i}", c.hidden, tp)
        yield f"{i}.norm2", (c.hidden,)
        yield from block.feed_forward.parameters(f"{i}", c.hidden, tp, ep)
        if c.post_norms:
            yield f"{i}.norm1_post", (c.hidden,)
            yield f"{i}.norm2_post", (c.hidden,)
    if c.last:
        yield "norm", (c.hidden,)
    if c.last and not c.tied:
        yield "head", (vocabulary, c.hidden)


def logits_of(c: LlmConfig, w: Weights, x: Tensor, tp: int) -> Tensor:
    """Logits (n, vocabulary) of hidden states x (n, hidden), their last norm done."""
    scores = all_gather(ops.linear(x, w["embed" if c.tied else "head"]), tp, axis=-1)
    scores, most = scores[:, : c.vocabulary], c.softcap
    if most is None:
        return scores
    return ops.pointwise("softcap", lambda d: ops.capped(d, most), scores)


def embedded(c: LlmConfig, w: Weights, ids: Tensor, tp: int = 1) -> Tensor:
    """Rows of the embedding; a rank looks up those it has, the sum over `tp` completes them."""
    x = ops.embedding(w["embed"], ids, w.dtype)
    all_reduce_(x, tp)
    return ops.affine(x, c.hidden**0.5) if c.scaled_embedding else x


def pass_block(
    c: LlmConfig,
    w: Weights,
    i: int,
    x: Tensor,
    cache: Cache,
    layout: Layout = ALONE,
    routing: Routing = EVEN,
) -> None:
    """Hidden states x (n, hidden) through block i, in place."""
    block = c.blocks[i]
    y = ops.rms_norm(x, w[f"{i}.norm1"], c.eps)
    y = block.attention.forward(w, f"{i}", y, cache, i, layout, c.eps)
    if c.post_norms:
        ops.rms_norm_(y, w[f"{i}.norm1_post"], c.eps)
    ops.add_(x, y)
    # Handed over in a list: the block lets go of it as soon as it has been read.
    given = [ops.rms_norm(x, w[f"{i}.norm2"], c.eps)]
    del y
    y = block.feed_forward.forward(w, f"{i}", given, layout, routing)
    if c.post_norms:
        ops.rms_norm_(y, w[f"{i}.norm2_post"], c.eps)
    ops.add_(x, y)


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
    routing: Routing = EVEN,
) -> Tensor | None:
    """Feed `count` tokens that follow those in the cache; float32 logits of the last, if asked and
    if it has a head.

    `ids` (count,) when executing. On several GPUs the tokens are those of one GPU.
    """
    check_execution(tape, layout)
    tokens = tape.tensor((count,), "int64", ids)
    start = (count, c.hidden)
    x = embedded(c, w, tokens, layout.tp) if c.first else received(tape, start, w.dtype)
    if not cache.layers:
        cache.layers = [[] for _ in c.blocks]
    for i in range(len(c.blocks)):
        pass_block(c, w, i, x, cache, layout, routing)
    cache.tokens += count
    if c.first and not c.last:
        sent(tape, start, w.dtype)
    if not (logits and c.last):
        return None
    last = ops.rms_norm(x[count - 1 :], w["norm"], c.eps)
    return ops.cast(logits_of(c, w, last, layout.tp), "fp32")
