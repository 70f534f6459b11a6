"""Attention without a softmax (Katharopoulos et al. 2020): keys and values are summed once, and
each query is multiplied with that sum. Arrays are (batch, heads, width, cells)."""

from __future__ import annotations

import numpy as np

from dcsim.models import ops
from dcsim.models.parallel import all_reduce_
from dcsim.models.tape import ATTENTION, MEMORY, Tensor


def with_ones(v: Tensor) -> Tensor:
    """Values with a row of ones more, whose sum is the denominator."""
    batch, heads, width, cells = v.shape
    more = ((0, 0), (0, 0), (0, 1), (0, 0))
    shape = (batch, heads, width + 1, cells)
    return v.tape.run(
        "pad", MEMORY, (v,), shape, v.dtype, lambda: np.pad(v.data, more, constant_values=1)
    )


def linear_attention(q: Tensor, k: Tensor, v: Tensor, sp: int = 1) -> Tensor:
    """Values mixed by keys, then by queries; `v` is what `with_ones` made.

    With the cells of one of `sp` GPUs, what is summed over cells is summed over them all.
    """
    batch, heads, more, cells = v.shape
    width = q.shape[2]
    flops = 2 * batch * heads * cells * width * more
    mixed = v.tape.run(
        "scores",
        ATTENTION,
        (v, k),
        (batch, heads, more, width),
        v.dtype,
        lambda: v.data @ k.data.swapaxes(-1, -2),
        flops=flops,
    )
    all_reduce_(mixed, sp)
    h = v.tape.run(
        "mix", ATTENTION, (mixed, q), v.shape, v.dtype, lambda: mixed.data @ q.data, flops=flops
    )
    return ops.pointwise(
        "normalize", lambda d, s: d / (s + np.float32(1e-15)), h[:, :, :-1], h[:, :, -1:]
    )
