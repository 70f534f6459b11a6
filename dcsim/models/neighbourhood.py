"""Neighbourhood attention (Hassani et al. 2023): a query of a grid sees a square of keys around it.

At the borders the square is moved inward, so every query sees as many; a grid that is smaller is
seen whole.
"""

from __future__ import annotations

from math import prod

import numpy as np

from dcsim.models.ops import FLOAT
from dcsim.models.tape import ATTENTION, MEMORY, Array, Tensor


def neighbourhood_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grid: tuple[int, int],
    side: int,
    *,
    kernel: str = "fused",
    scale: float = 1.0,
) -> Tensor:
    """Softmax attention over the `side` x `side` keys around each query.

    q, k and v are (batch, rows x columns of `grid`, heads, width). `kernel` is `fused` (a float32
    log-sum-exp a row) or `math` (the scores of all neighbours in memory).
    """
    batch, n, heads, width = q.shape
    sides = tuple(min(side, each) for each in grid)
    seen = prod(sides)
    half = 2 * batch * heads * width * n * seen
    tape = q.tape

    def scores() -> Array:
        near = _near(k.data, grid, sides)
        found: Array = np.einsum("bnhd,bnkhd->bhnk", q.data, near) * np.float32(scale)
        return found

    def mixed(probs: Array) -> Array:
        found: Array = np.einsum("bhnk,bnkhd->bnhd", probs, _near(v.data, grid, sides))
        return found

    if kernel == "fused":
        return tape.run(
            "neighbourhood",
            ATTENTION,
            (q, k, v),
            q.shape,
            q.dtype,
            lambda: mixed(_softmax(scores())),
            flops=2 * half,
            scratch=FLOAT * batch * heads * n,
        )
    shape = (batch, heads, n, seen)
    found = tape.run("scores", ATTENTION, (q, k), shape, q.dtype, scores, flops=half)
    probs = tape.run("softmax", MEMORY, (found,), shape, q.dtype, lambda: _softmax(found.data))
    return tape.run(
        "mix", ATTENTION, (probs, v), q.shape, q.dtype, lambda: mixed(probs.data), flops=half
    )


def _near(x: Array, grid: tuple[int, ...], sides: tuple[int, ...]) -> Array:
    """The neighbours of each cell, (batch, cells, neighbours, heads, width)."""
    rows, columns = (
        np.clip(np.arange(n) - side // 2, 0, n - side)[:, None] + np.arange(side)
        for n, side in zip(grid, sides, strict=True)
    )
    at = rows[:, None, :, None] * grid[1] + columns[None, :, None, :]
    found: Array = x[:, at.reshape(prod(grid), prod(sides))]
    return found


def _softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    out: Array = e / e.sum(-1, keepdims=True)
    return out
