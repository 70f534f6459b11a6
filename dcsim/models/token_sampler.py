"""Choosing a token as vLLM does without FlashInfer: top-k and top-p by sorting the vocabulary.

Its profile run samples for as many sequences as may run at once, and so the sort, not a layer, is
the most that a small model's server ever holds (docs/models.md).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dcsim.models import ops
from dcsim.models.tape import MEMORY, Array, Tensor

SORT_SCRATCH = 20
"""Bytes an element of PyTorch's sort of many rows: two arrays of (index, row) of 8 bytes and the
sorted keys, `segmented_sort_pairs_by_full_sort` in aten/src/ATen/native/cuda/Sort.cu. What CUB
takes beside them is not written there and left out."""


def filtered(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Logits (rows, vocabulary) with -inf where top-k or top-p rules a token out, float32."""
    rows, vocabulary = logits.shape
    x = ops.cast(logits, "fp32")
    scratch = SORT_SCRATCH * rows * vocabulary
    order = x.tape.tensor(
        x.shape, "int64", np.argsort(x.data, -1, kind="stable") if x.tape.execute else None
    )
    ranked = x.tape.run(
        "sort",
        MEMORY,
        (x, order),
        x.shape,
        "fp32",
        lambda: np.take_along_axis(x.data, order.data, -1),
        scratch=scratch,
    )
    _rule_out(ranked, "top_k", ranked, lambda ranks: _among(ranks, top_k))
    sums = x.tape.run("sums", MEMORY, (ranked,), x.shape, "fp32", lambda: _sums(ranked.data))
    _rule_out(ranked, "top_p", sums, lambda shares: _beyond(shares, top_p))
    # Back in place, in the order of the vocabulary.
    if x.tape.execute:
        np.put_along_axis(x.data, order.data, ranked.data, -1)
    x.tape.record("scatter", MEMORY, (ranked, order), x.nbytes)
    return x


def _rule_out(ranked: Tensor, name: str, of: Tensor, kept: Callable[[Array], Array]) -> None:
    """-inf in `ranked` where `kept` of another tensor is false: a mask is made, and used."""
    mask = of.tape.run(name, MEMORY, (of,), of.shape, "uint8", lambda: kept(of.data))
    ops.write_(ranked, mask, lambda x, keep: np.where(keep, x, np.float32(-np.inf)))


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the vocabulary."""

    def compute() -> Array:
        e = np.exp(logits.data - logits.data.max(-1, keepdims=True))
        out: Array = e / e.sum(-1, keepdims=True)
        return out

    return logits.tape.run("softmax", MEMORY, (logits,), logits.shape, "fp32", compute)


def _among(ranked: Array, top_k: int) -> Array:
    return ranked >= ranked[:, -top_k][:, None]


def _sums(ranked: Array) -> Array:
    e = np.exp(ranked - ranked.max(-1, keepdims=True))
    out: Array = np.cumsum(e / e.sum(-1, keepdims=True), -1)
    return out


def _beyond(sums: Array, top_p: float) -> Array:
    keep = sums > 1 - top_p
    keep[:, -1] = True
    return keep
