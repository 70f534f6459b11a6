"""Multi-head latent attention (DeepSeek-V2 and after): what is cached is one latent a token.

K and V of all heads come of the latent by one matrix. A pass of several tokens expands it, piece
by piece of the cache, and joins the pieces by their log-sum-exps; a pass of one token moves the
matrix to the query and to what comes out (*absorbed*), and so reads the latents alone. Both give
the same numbers, and both are what servers run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcsim.models import ops
from dcsim.models.block_parts import Mixer, divides
from dcsim.models.cache import Cache, Kept
from dcsim.models.gqa import answered, rotate_
from dcsim.models.parallel import all_reduce_, ring_attention
from dcsim.models.softmax_attention import causal_pairs
from dcsim.models.tape import ATTENTION, DENSE, MEMORY, Array, Tensor, nbytes
from dcsim.models.weights import Parameters, Weights
from dcsim.reading.concept import Count, Positive
from dcsim.spec import Layout


@dataclass(frozen=True)
class Mla(Mixer):
    """Attention over a shared latent."""

    tag = "mla"

    heads: Count
    kv_rank: Count
    """Width of the latent."""
    nope: Count
    """Width of a head's q and k that has no positions."""
    rope: Count
    """Width that has; k's is shared by all heads."""
    value: Count
    """Width of a head's v."""
    q_rank: Count | None = None
    """Width that q is pressed through; None: q comes of the hidden state at once."""
    theta: Positive = 10_000.0

    def faults(self) -> Iterator[str]:
        yield from divides("rope", self.rope, 2)

    @property
    def shared(self) -> bool:
        """Whether context-parallel GPUs can have a share of the tokens each."""
        return True

    def wrong(self, tp: int) -> str | None:
        """Why `tp` GPUs cannot share the heads, or None."""
        return f"{tp} does not divide {self.heads} attention heads" if self.heads % tp else None

    def kept(self, tp: int, dtype: str) -> Kept:
        """What a GPU keeps of a sequence: all of the latent, whatever `tp` is."""
        return Kept(nbytes((self.kv_rank + self.rope,), dtype))

    def parameters(self, name: str, hidden: int, tp: int) -> Parameters:
        """Names and shapes on one of `tp` GPUs: heads are divided, latents are not."""
        heads, wide = self.heads // tp, self.nope + self.rope
        if self.q_rank is not None:
            yield f"{name}.q_a", (self.q_rank, hidden)
            yield f"{name}.q_norm", (self.q_rank,)
        yield f"{name}.q", (heads * wide, hidden if self.q_rank is None else self.q_rank)
        yield f"{name}.kv_a", (self.kv_rank + self.rope, hidden)
        yield f"{name}.kv_norm", (self.kv_rank,)
        yield f"{name}.kv", (heads * (self.nope + self.value), self.kv_rank)
        yield f"{name}.out", (hidden, heads * self.value)

    def forward(
        self, w: Weights, name: str, x: Tensor, cache: Cache, layer: int, layout: Layout, eps: float
    ) -> Tensor:
        """Attention of tokens x (n, hidden) that follow those in the cache: (n, hidden)."""
        tp = layout.tp
        count, heads = x.shape[0], self.heads // tp
        query = x
        if self.q_rank is not None:
            query = ops.linear(x, w[f"{name}.q_a"])
            ops.rms_norm_(query, w[f"{name}.q_norm"], eps)
        q = ops.linear(query, w[f"{name}.q"]).reshape(1, count, heads, self.nope + self.rope)
        del query
        latent = ops.linear(x, w[f"{name}.kv_a"])
        ops.rms_norm_(latent[:, : self.kv_rank], w[f"{name}.kv_norm"], eps)
        latent = latent.reshape(1, count, 1, self.kv_rank + self.rope)
        rotate_(q[..., self.nope :], cache, self.theta)
        rotate_(latent[..., self.kv_rank :], cache, self.theta)
        cache.add(layer, latent)
        del latent
        matrix = w[f"{name}.kv"].reshape(heads, self.nope + self.value, self.kv_rank)
        y = (self._absorbed if count == 1 else self._expanded)(q, matrix, cache, layer, layout.cp)
        y = ops.linear(y.reshape(count, heads * self.value), w[f"{name}.out"])
        all_reduce_(y, tp)
        return y

    def _absorbed(self, q: Tensor, matrix: Tensor, cache: Cache, layer: int, cp: int) -> Tensor:
        """One token against the latents, as if all heads shared one K and V head."""
        tape, heads = q.tape, q.shape[2]
        (latents,) = cache.whole(layer)
        for_k, for_v = matrix[:, : self.nope], matrix[:, self.nope :]
        scale = (self.nope + self.rope) ** -0.5
        inner = tape.run(
            "absorb",
            DENSE,
            (q[..., : self.nope], for_k),
            (1, 1, heads, self.kv_rank),
            q.dtype,
            lambda: np.einsum("bnhd,hdr->bnhr", q.data[..., : self.nope], for_k.data),
            flops=2 * heads * self.nope * self.kv_rank,
        )
        inner = ops.concat([inner, q[..., self.nope :]], -1)
        tokens = latents.shape[1]

        def attend() -> Tensor:
            # K and V are views of one array, read once.
            return tape.run(
                "attention",
                ATTENTION,
                (inner, latents),
                (1, 1, heads, self.kv_rank),
                q.dtype,
                lambda: _attended(
                    inner.data, latents.data, latents.data[..., : self.kv_rank], scale, False
                )[0],
                flops=2 * heads * tokens * (2 * self.kv_rank + self.rope),
                scratch=ops.FLOAT * heads,
            )

        mixed = answered(inner, cp, attend)
        return tape.run(
            "expand",
            DENSE,
            (mixed, for_v),
            (1, 1, heads, self.value),
            q.dtype,
            lambda: np.einsum("bnhr,hvr->bnhv", mixed.data, for_v.data),
            flops=2 * heads * self.value * self.kv_rank,
        )

    def _expanded(self, q: Tensor, matrix: Tensor, cache: Cache, layer: int, cp: int) -> Tensor:
        """Several tokens against K and V of all heads, a piece of the cache at a time; on `cp` GPUs
        each piece goes round."""
        passes = cache.layers[layer]
        done: Tensor | None = None
        weights: Array | None = None
        for i, (latents,) in enumerate(passes):
            causal = i == len(passes) - 1
            if cp > 1:
                part, sums = self._round(q, matrix, latents, causal, cp), None
            else:
                part, sums = self._piece(q, matrix, latents, causal)
            if done is None:
                done, weights = part, sums
                continue
            done, weights = _merged(done, part, weights, sums)
            del part
        assert done is not None
        return done

    def _round(self, q: Tensor, matrix: Tensor, latents: Tensor, causal: bool, cp: int) -> Tensor:
        """Attention to one piece of `cp` GPUs; of the newest each has as many pairs."""
        n, m = q.shape[1], latents.shape[1]
        pairs = -(-causal_pairs(cp * n, 0) // cp**2) if causal else n * m

        def attend(part: tuple[Tensor, ...]) -> Tensor:
            return self._piece(q, matrix, part[0], causal, pairs)[0]

        return ring_attention((latents,), cp, attend)

    def _piece(
        self, q: Tensor, matrix: Tensor, latents: Tensor, causal: bool, pairs: int | None = None
    ) -> tuple[Tensor, Array | None]:
        """Attention to one piece, and the log-sum-exps (1, n, heads) when executing."""
        tape, (_, n, heads, wide) = q.tape, q.shape
        m = latents.shape[1]
        flat = latents.reshape(m, self.kv_rank + self.rope)[:, : self.kv_rank]
        rows = heads * (self.nope + self.value)
        both = ops.linear(as_dtype(flat, q.dtype), matrix.reshape(rows, self.kv_rank))
        both = both.reshape(1, m, heads, self.nope + self.value)
        v = both[..., self.nope :]
        k = tape.run(
            "concat",
            MEMORY,
            (both[..., : self.nope], latents[..., self.kv_rank :]),
            (1, m, heads, wide),
            q.dtype,
            lambda: np.concatenate(
                [
                    both.data[..., : self.nope],
                    np.broadcast_to(latents.data[..., self.kv_rank :], (1, m, heads, self.rope)),
                ],
                -1,
            ),
        )
        if pairs is None:
            pairs = causal_pairs(n, 0) if causal else n * m
        sums: list[Array] = []

        def compute() -> Array:
            out, sum_ = _attended(q.data, k.data, v.data, wide**-0.5, causal)
            sums.append(sum_)
            return out

        part = tape.run(
            "attention",
            ATTENTION,
            (q, k, v),
            (1, n, heads, self.value),
            q.dtype,
            compute,
            flops=2 * heads * pairs * (wide + self.value),
            scratch=ops.FLOAT * heads * n,
        )
        return part, sums[0] if sums else None


def as_dtype(x: Tensor, dtype: str) -> Tensor:
    """The same elements read as another dtype by the kernel that loads them."""
    return Tensor(x.tape, x.shape, dtype, x.storage, x.data if x.tape.execute else None)


def _merged(
    a: Tensor, b: Tensor, a_sums: Array | None, b_sums: Array | None
) -> tuple[Tensor, Array | None]:
    """Attention to two pieces as attention to both."""
    out = a.tape.run(
        "merge", MEMORY, (a, b), a.shape, a.dtype, lambda: _weighed(a, b, a_sums, b_sums)
    )
    both = None if a_sums is None or b_sums is None else np.logaddexp(a_sums, b_sums)
    return out, both


def _weighed(a: Tensor, b: Tensor, a_sums: Array | None, b_sums: Array | None) -> Array:
    assert a_sums is not None
    assert b_sums is not None
    both = np.logaddexp(a_sums, b_sums)
    share = np.exp(a_sums - both)[..., None].astype(np.float32)
    out: Array = a.data * share + b.data * (1 - share)
    return out


def _attended(q: Array, k: Array, v: Array, scale: float, causal: bool) -> tuple[Array, Array]:
    """Softmax attention and its log-sum-exps (1, n, heads); k and v of one head or of all."""
    n, heads = q.shape[1:3]
    out = np.empty((1, n, heads, v.shape[3]), q.dtype)
    sums = np.empty((1, n, heads), np.float64)
    for h in range(heads):
        at = h if k.shape[2] > 1 else 0
        scores = q[0, :, h] @ k[0, :, at].T * np.float32(scale)
        if causal:
            scores = np.where(np.tri(n, k.shape[1], dtype=bool), scores, np.float32(-np.inf))
        most = scores.max(-1, keepdims=True)
        e = np.exp(scores - most)
        total = e.sum(-1, keepdims=True)
        out[0, :, h] = e / total @ v[0, :, at]
        sums[0, :, h] = (np.log(total) + most)[:, 0]
    return out, sums
