"""Gated DeltaNet: linear attention whose memory of a sequence is a state, not a cache.

Each value head has a matrix S of key by value width. A token decays it, corrects what S has for
its key towards its value, and reads it with its query (Yang et al. 2024, arXiv 2412.06464; as
Qwen3-Next has it, with a short convolution before and a gated norm after).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcsim.models import ops
from dcsim.models.block_parts import Mixer, divides
from dcsim.models.cache import Cache, Kept
from dcsim.models.parallel import all_reduce_
from dcsim.models.tape import ATTENTION, MEMORY, Array, Tensor, nbytes
from dcsim.models.weights import Parameters, Weights
from dcsim.reading.concept import Count
from dcsim.spec import Layout

TILE = 64
"""Tokens that the kernels for a prompt take at once (flash-linear-attention's `chunk_size`)."""
STATE = "fp32"
"""Dtype of S (`mamba_ssm_dtype` of Qwen3.5's and later configurations)."""


@dataclass(frozen=True)
class GatedDelta(Mixer):
    """A mixer that keeps a state of fixed size."""

    tag = "gated_delta"

    key_heads: Count
    value_heads: Count
    key: Count = 128
    """Width of a head's q and k."""
    value: Count = 128
    kernel: Count = 4
    """Tokens that the convolution sees."""

    def faults(self) -> Iterator[str]:
        yield from divides("key_heads", self.value_heads, self.key_heads)

    @property
    def heads(self) -> int:
        """How many heads could be on GPUs of their own."""
        return self.key_heads

    def wrong(self, tp: int) -> str | None:
        """Why `tp` GPUs cannot share the heads, or None."""
        if self.key_heads % tp:
            return f"{tp} does not divide {self.key_heads} key heads of linear attention"
        return None

    def kept(self, tp: int, dtype: str) -> Kept:
        """What a GPU keeps of a sequence: S of its heads, and the convolution's last inputs.

        Neither is quantised with the KV cache.
        """
        last = nbytes((self._mixed(tp), self.kernel - 1), "bf16")
        return Kept(0, state=nbytes(self._shape(tp), STATE) + last)

    def _shape(self, tp: int) -> tuple[int, int, int]:
        return self.value_heads // tp, self.key, self.value

    def _mixed(self, tp: int) -> int:
        """Width of q, k and v together."""
        return (2 * self.key_heads * self.key + self.value_heads * self.value) // tp

    def parameters(self, name: str, hidden: int, tp: int) -> Parameters:
        """Names and shapes on one of `tp` GPUs."""
        values, heads = self.value_heads * self.value // tp, self.value_heads // tp
        yield f"{name}.qkvz", (self._mixed(tp) + values, hidden)
        yield f"{name}.beta_decay", (2 * heads, hidden)
        yield f"{name}.conv", (self._mixed(tp), self.kernel)
        yield f"{name}.decay_bias", (heads,)
        yield f"{name}.decay_rate", (heads,)
        yield f"{name}.out_norm", (self.value,)
        yield f"{name}.out", (hidden, values)

    def forward(
        self, w: Weights, name: str, x: Tensor, cache: Cache, layer: int, layout: Layout, eps: float
    ) -> Tensor:
        """Of tokens x (n, hidden) that follow those in the cache: (n, hidden)."""
        tp = layout.tp
        count, mixed = x.shape[0], self._mixed(tp)
        last, state = self._states(x, cache, layer, tp)
        qkvz = ops.linear(x, w[f"{name}.qkvz"])
        signs = ops.linear(x, w[f"{name}.beta_decay"])
        qkv = self._convolved(qkvz[:, :mixed], w[f"{name}.conv"], last)
        out = self._read(qkv, signs, w[f"{name}.decay_bias"], w[f"{name}.decay_rate"], state, tp)
        y = _gated_norm(out, qkvz[:, mixed:], w[f"{name}.out_norm"], eps)
        y = ops.linear(y.reshape(count, qkvz.shape[1] - mixed), w[f"{name}.out"])
        all_reduce_(y, tp)
        return y

    def _states(self, x: Tensor, cache: Cache, layer: int, tp: int) -> tuple[Tensor, Tensor]:
        """The convolution's last inputs and S, zero before the first token."""
        if not cache.layers[layer]:
            shapes = ((self._mixed(tp), self.kernel - 1), x.dtype), (self._shape(tp), STATE)
            cache.layers[layer] = [
                tuple(
                    x.tape.tensor(
                        shape,
                        dtype,
                        np.zeros(shape, np.float32) if x.tape.execute else None,
                        "kv",
                        grain=1,
                    )
                    for shape, dtype in shapes
                )
            ]
        last, state = cache.layers[layer][0]
        return last, state

    def _convolved(self, qkv: Tensor, weight: Tensor, last: Tensor) -> Tensor:
        """A causal convolution of each channel on its own, and SiLU; `last` moves on."""
        count, width = qkv.shape

        def compute() -> Array:
            seen = np.concatenate([last.data, qkv.data.T], 1)
            last.data[...] = seen[:, -(self.kernel - 1) :]
            out = sum(seen[:, i : i + count] * weight.data[:, i, None] for i in range(self.kernel))
            done: Array = (out / (1 + np.exp(-out))).T
            return done

        flops = 2 * count * width * self.kernel
        inputs = (qkv, weight, last, last)  # the state is read and written
        return qkv.tape.run("conv", ATTENTION, inputs, qkv.shape, qkv.dtype, compute, flops=flops)

    def _read(
        self, qkv: Tensor, signs: Tensor, bias: Tensor, rate: Tensor, state: Tensor, tp: int
    ) -> Tensor:
        """What each token reads of S (n, value heads, value); S moves on."""
        heads, key, value = self._shape(tp)
        n = qkv.shape[0]
        products = 3 * key * value
        scratch = 0
        if n > 1:
            # Within whole tiles: keys and queries with keys, what solves for the corrections, and
            # scores with values; and S before each tile.
            products += TILE * (3 * key + 2 * value)
            scratch = nbytes((-(-n // TILE), heads, key, value), qkv.dtype)
        return qkv.tape.run(
            "gated_delta",
            ATTENTION,
            (qkv, signs, bias, rate, state, state),
            (n, heads, value),
            qkv.dtype,
            lambda: self._recurrence(
                qkv.data, signs.data, bias.data, rate.data, state.data, self.key_heads // tp
            ),
            flops=2 * n * heads * products,
            scratch=scratch,
        )

    def _recurrence(
        self, qkv: Array, signs: Array, bias: Array, rate: Array, state: Array, keys: int
    ) -> Array:
        """Token by token; `state` (heads, key, value) in place."""
        n, heads = len(qkv), len(state)
        edges = (keys * self.key, 2 * keys * self.key)
        q, k, v = np.split(qkv, edges, axis=1)
        q, k = (
            np.repeat(_unit(part.reshape(n, keys, self.key)), heads // keys, 1) for part in (q, k)
        )
        v = v.reshape(n, heads, self.value)
        beta = 1 / (1 + np.exp(-signs[:, :heads]))
        decay = np.exp(-np.exp(rate) * np.logaddexp(0, signs[:, heads:] + bias))
        out = np.empty((n, heads, self.value), np.float32)
        for i in range(n):
            state *= decay[i, :, None, None]
            known = np.einsum("hkv,hk->hv", state, k[i])
            state += np.einsum("hk,hv->hkv", k[i], beta[i, :, None] * (v[i] - known))
            out[i] = np.einsum("hkv,hk->hv", state, q[i]) * np.float32(self.key**-0.5)
        return out


def _unit(x: Array) -> Array:
    """Scaled to length 1 over the last axis."""
    out: Array = x / np.sqrt((x * x).sum(-1, keepdims=True) + np.float32(1e-6))
    return out


def _gated_norm(x: Tensor, gate: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm of each head, times the SiLU of the gate: (n, heads, value)."""

    def compute() -> Array:
        d, g = x.data, gate.data.reshape(x.shape)
        norm = d / np.sqrt((d * d).mean(-1, keepdims=True) + np.float32(eps)) * weight.data
        out: Array = norm * g / (1 + np.exp(-g))
        return out

    return x.tape.run("gated_norm", MEMORY, (x, gate, weight), x.shape, x.dtype, compute)
