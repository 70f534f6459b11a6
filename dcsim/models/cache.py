"""What a decoder keeps of a sequence between passes: K and V, latents or states, by layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dcsim.models.tape import MEMORY, Array, Tensor, nbytes


@dataclass(frozen=True)
class Kept:
    """What one layer keeps of a sequence on one GPU, in bytes."""

    token: int
    """Of a token."""
    window: int | None = None
    """Tokens at most that it keeps; None: all."""
    state: int = 0
    """Of the sequence, however long."""


@dataclass
class Cache:
    """What a model keeps of one sequence: tensors with a row a token, by layer and pass.

    `layers[i]` is a list of passes, each a tuple of tensors (1, tokens, heads, width): K and V,
    or MLA's latents.
    """

    dtype: str
    tokens: int = 0
    layers: list[list[tuple[Tensor, ...]]] = field(default_factory=list)

    def add(self, layer: int, *parts: Tensor) -> None:
        """Write a pass into blocks of the pool, which has no grain but the token."""
        self.layers[layer].append(tuple(_stored(part, self.dtype) for part in parts))

    def after(self, layer: int, *parts: Tensor) -> tuple[Tensor, ...]:
        """What is kept with a pass that is written behind it."""
        self.add(layer, *parts)
        return self.whole(layer)

    def whole(self, layer: int) -> tuple[Tensor, ...]:
        """The passes joined. The kernel follows a block table; this is our way to say so."""
        passes = self.layers[layer]
        if len(passes) == 1:
            return passes[0]
        return tuple(_joined(part) for part in zip(*passes, strict=True))

    def trim(self, layer: int, window: int) -> None:
        """Give back what lies before the last `window` tokens."""
        parts = self.whole(layer)
        if parts[0].shape[1] > window:
            self.layers[layer] = [tuple(_last(part, window) for part in parts)]


def _stored(x: Tensor, dtype: str) -> Tensor:
    out = x.tape.run("kv_write", MEMORY, (x,), x.shape, dtype, lambda: x.data.copy(), grain=1)
    return x.tape.keep(out, "kv")


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    first = parts[0]
    shape = (1, sum(p.shape[1] for p in parts), *first.shape[2:])
    data: Array | None = None
    if first.tape.execute:
        data = np.concatenate([p.data for p in parts], 1)
    return Tensor(first.tape, shape, first.dtype, first.storage, data)


def _last(x: Tensor, tokens: int) -> Tensor:
    """The last rows in storage of their own: the blocks before them are free again."""
    shape = (1, tokens, *x.shape[2:])
    storage = x.tape.allocate(nbytes(shape, x.dtype), "kv", grain=1)
    data = x.data[:, -tokens:].copy() if x.tape.execute else None
    return Tensor(x.tape, shape, x.dtype, storage, data)
