"""What a public PyTorch module holds, counted without its weights or a GPU.

By the lifetimes of storages under fake tensors: the outside program that ours is compared with.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GRAIN = 512


class _Lifetimes(TorchDispatchMode):
    """Bytes of the storages that ops make, until nobody holds them."""

    def __init__(self, resident: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in resident}
        self.live = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if not isinstance(leaf, torch.Tensor):
                continue
            storage = leaf.untyped_storage()
            if storage._cdata in self.known:
                continue
            self.known.add(storage._cdata)
            size = -(-storage.nbytes() // GRAIN) * GRAIN
            self.live += size
            weakref.finalize(storage, self._free, storage._cdata, size)
        self.peak = max(self.peak, self.live)
        return out

    def _free(self, number: int, size: int) -> None:
        self.live -= size
        self.known.discard(number)


@dataclass(frozen=True)
class Counted:
    """Of one call."""

    params: int
    peak: int
    """Bytes beside the weights and what goes in."""
    shape: tuple[int, ...]
    """Of what comes out."""


def counted(
    make: Callable[[], Any],
    call: Callable[..., torch.Tensor],
    inputs: Sequence[tuple[tuple[int, ...], torch.dtype]],
    dtype: torch.dtype,
) -> Counted:
    """Counts `call(make(), *inputs)`, the weights in `dtype`, inputs by shape and dtype."""
    before = torch.get_default_dtype()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            torch.set_default_dtype(dtype)
            model = make().eval()
            torch.set_default_dtype(torch.float32)
            given = [torch.zeros(shape, dtype=kind) for shape, kind in inputs]
            mode = _Lifetimes([*model.parameters(), *model.buffers(), *given])
            with mode:
                out = call(model, *given)
            params = sum(each.numel() for each in model.parameters())
            return Counted(params, mode.peak, tuple(out.shape))
    finally:
        torch.set_default_dtype(before)
