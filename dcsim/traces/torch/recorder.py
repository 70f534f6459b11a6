"""Records on a tape what PyTorch allocates, frees and computes, by the lifetimes of storages."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dcsim.models.tape import ATTENTION, DENSE, GRAIN, MEMORY, Storage, Tape
from dcsim.traces.torch import kernels

FUSED = torch.nn.functional.scaled_dot_product_attention
RMS_NORM = torch.nn.functional.rms_norm
NAMES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float8_e4m3fn: "fp8",
    torch.float8_e5m2: "fp8",
}
"""Dtypes that have a rate of their own; all others run as fp32."""


def tensors(tree: Any) -> list[torch.Tensor]:
    """The tensors anywhere in a structure."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """A mode under which every op is put on `tape`, every new storage for as long as it lives."""

    def __init__(self, modules: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.tape = Tape()
        self.rows = 0
        """Rows of the largest matrix product: tokens of all branches."""
        self.layers = 0
        """Calls of entries of outermost `ModuleList`s."""
        self.rates: Counter[tuple[str, str]] = Counter()
        """FLOPs by class and dtype."""
        self.failed: tuple[str, str] | None = None
        """Op and module of the first op that could not be done."""
        self.weights = {_key(t): t for module in modules for t in _state(module)}
        """Storages of parameters and buffers, resident before the first op."""
        self._held: dict[int, tuple[Any, Storage]] = {}
        self._cast: dict[tuple[int, torch.dtype], torch.Tensor] = {}
        self._quiet = False
        self._names = _qualified(modules)
        self._layers = _outermost(modules)
        self._stack: list[str] = []

    @property
    def module(self) -> str:
        """The module that is running, by its name within those of the stage."""
        return self._stack[-1] if self._stack else ""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within, ops are recorded, with the module they are of."""
        before = register_module_forward_pre_hook(self._enter)
        after = register_module_forward_hook(self._leave)
        try:
            with self, _Kernels(self):
                yield
        finally:
            before.remove()
            after.remove()
            self._cast.clear()

    def _enter(self, module: Any, _: Any) -> None:
        self._stack.append(self._names.get(id(module), self.module))
        self.layers += id(module) in self._layers

    def _leave(self, module: Any, _: Any, __: Any) -> None:
        self._stack.pop()

    def hold(self, tree: Any, category: str) -> None:
        """Count the storages of all tensors there under a category."""
        for tensor in tensors(tree):
            key = _key(tensor)
            if key in self._held:
                self.tape.recount(self._held[key][1], category)
            elif key not in self.weights:
                self._allocate(tensor, category)

    def _allocate(self, tensor: torch.Tensor, category: str = "activations") -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        held = self._held

        def gone(_: Any) -> None:
            held.pop(key, None)

        size = self.tape.allocate(storage.nbytes(), category)
        held[key] = (weakref.ref(storage, gone), size)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":
            return func(*args, **kwargs)
        try:
            if func._can_decompose() and not kernels.is_whole(func):
                with self:  # under inference_mode composite ops come whole
                    return func.decompose(*args, **kwargs)
            if (dtype := kernels.autocast_dtype(func)) is not None:
                args, kwargs = self.cast((args, kwargs), dtype)
            inputs = tensors((args, kwargs))
            for tensor in inputs:  # constants, as they are met
                if _key(tensor) not in self._held and _key(tensor) not in self.weights:
                    self._allocate(tensor)
            out = func(*args, **kwargs)
        except Exception:
            self.failed = self.failed or (str(func), self.module)
            raise
        self._note(func, args, kwargs, inputs, out)
        return out

    def _note(self, func: Any, args: Any, kwargs: Any, inputs: list[Any], out: Any) -> None:
        outputs = tensors(out)
        fresh = [t for t in outputs if not self._known(t)]
        for tensor in fresh:
            if not self._known(tensor):
                self._allocate(tensor)
        if self._quiet or not (fresh or func._schema.is_mutable):
            return  # a view
        written = outputs if func._schema.is_mutable else fresh
        only_room = kernels.is_new(func)
        read = [0] * len(inputs) if only_room else kernels.traffic(func, inputs, written)
        is_weight = [_key(tensor) in self.weights for tensor in inputs]
        kind = kernels.kind(func, not any(is_weight))
        count = kernels.flops(func, args, kwargs, out)
        packet = func._overloadpacket
        self._op(
            "attention" if packet is kernels.CPU_FLASH else packet.__name__,
            kind,
            count,
            sum(n for n, weight in zip(read, is_weight, strict=True) if weight),
            sum(n for n, weight in zip(read, is_weight, strict=True) if not weight)
            + (0 if only_room else sum(map(kernels.size, written))),
            inputs,
        )
        if kind == DENSE and outputs:
            self.rows = max(self.rows, prod(outputs[0].shape[:-1]))

    def _op(
        self, name: str, kind: str, flops: int, weights: int, moved: int, inputs: Iterable[Any]
    ) -> None:
        self.tape.module = self.module
        self.tape.op(name, kind, flops, weights, moved)
        if flops:
            dtypes = [t.dtype for t in inputs if t.is_floating_point()]
            self.rates[kind, NAMES.get(dtypes[0], "fp32") if dtypes else "fp32"] += flops

    def kernel(
        self,
        name: str,
        kind: str,
        inputs: Sequence[Any],
        make: Callable[[], tuple[Any, ...]],
        flops: int = 0,
    ) -> Any:
        """One op that allocates what `make` does and returns the first of it."""
        for tensor in inputs:
            self.hold_unknown(tensor)
        self._quiet = True
        try:
            made = make()
        finally:
            self._quiet = False
        moved = weights = 0
        for tensor in inputs:
            if _key(tensor) in self.weights:
                weights += kernels.size(tensor)
            else:
                moved += kernels.size(tensor)
        moved += sum(map(kernels.size, made))
        self._op(name, kind, flops, weights, moved, inputs)
        return made[0]

    def hold_unknown(self, tensor: Any) -> None:
        """Count a tensor that was made outside."""
        if not self._known(tensor):
            self._allocate(tensor)

    def _known(self, tensor: Any) -> bool:
        key = _key(tensor)
        return key in self._held or key in self.weights

    def cast(self, tree: Any, dtype: torch.dtype) -> Any:
        """The structure with all floating tensors in a dtype; casts of weights are kept until
        autocast ends, as CUDA's cache of them does."""

        def one(leaf: Any) -> Any:
            wide = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
            if not wide or leaf.dtype in (dtype, torch.float64):
                return leaf
            key = (_key(leaf), dtype)
            if _key(leaf) not in self.weights:
                with self:
                    return leaf.to(dtype)
            if key not in self._cast:
                with self:
                    self._cast[key] = self.weights[_key(leaf)].to(dtype)
            base = self._cast[key]
            return base.as_strided(leaf.shape, leaf.stride(), leaf.storage_offset())

        return torch.utils._pytree.tree_map(one, tree)


class _Kernels(TorchFunctionMode):  # type: ignore[misc]
    """Functions that are one kernel on a CUDA GPU and several ops on the fake device."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is FUSED and not torch.backends.cuda.flash_sdp_enabled():
            return func(*args, **kwargs)
        if func is FUSED:
            return self._attention(*args, **kwargs)
        if func is RMS_NORM and not kernels.Autocast.enabled:
            return self._rms_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **_: Any,
    ) -> Any:
        """A fused kernel: no matrix of all pairs, but a float32 log-sum-exp a row. What it puts
        out lies as (batch, rows, heads, width), so that joining the heads copies nothing."""
        if kernels.Autocast.enabled:
            cast = self.recorder.cast
            query, key, value = cast((query, key, value), kernels.Autocast.dtype)
        if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
            shapes = ", ".join(str(tuple(t.shape)) for t in (query, key, value))
            raise RuntimeError(f"attention of shapes {shapes}")
        *lead, rows, _width = query.shape
        shape = (*lead[:-1], rows, *lead[-1:], value.shape[-1])

        def make() -> tuple[Any, ...]:
            out = torch.empty(shape, dtype=query.dtype, device=query.device)
            sums = torch.empty((*lead, rows), dtype=torch.float32, device=query.device)
            return (out.transpose(-2, -3) if lead else out), sums

        given = [query, key, value] + ([] if attn_mask is None else [attn_mask])
        flops = kernels.attention_flops(query, key, value, causal=is_causal)
        return self.recorder.kernel("attention", ATTENTION, given, make, flops)

    def _rms_norm(
        self, input: Any, normalized_shape: Any, weight: Any = None, eps: Any = None
    ) -> Any:
        def make() -> tuple[Any, ...]:
            rows = input.shape[: input.dim() - len(normalized_shape)]
            scale = torch.empty(rows, dtype=torch.float32, device=input.device)
            return torch.empty_like(input), scale

        given = [input] + ([] if weight is None else [weight])
        return self.recorder.kernel("rms_norm", MEMORY, given, make)


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _state(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def stored(modules: Iterable[torch.nn.Module], seen: set[int]) -> tuple[int, int, int]:
    """Parameters, bytes in a file and bytes in memory of modules; what is `seen` counts no more.

    In memory every storage is rounded up to the allocator's grain.
    """
    params = exact = held = 0
    for module in modules:
        for tensor in _state(module):
            if _key(tensor) in seen:
                continue
            seen.add(_key(tensor))
            if isinstance(tensor, torch.nn.Parameter):
                params += tensor.numel()
            size = tensor.untyped_storage().nbytes()
            exact += size
            held += -(-size // GRAIN) * GRAIN
    return params, exact, held


def _qualified(modules: Sequence[torch.nn.Module]) -> dict[int, str]:
    """Names of all modules below, after the class where there are several."""
    names: dict[int, str] = {}
    for root in modules:
        prefix = type(root).__name__ if len(modules) > 1 else ""
        for name, module in root.named_modules(prefix=prefix):
            names.setdefault(id(module), name)
    return names


def _outermost(modules: Sequence[torch.nn.Module]) -> set[int]:
    found: set[int] = set()

    def look(module: torch.nn.Module) -> None:
        for child in module.children():
            if isinstance(child, torch.nn.ModuleList):
                found.update(map(id, child))
            else:
                look(child)

    for root in modules:
        look(root)
    return found
