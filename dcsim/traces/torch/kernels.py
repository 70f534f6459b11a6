"""What an op is: its class, its FLOPs, its bytes; and the dtype that autocast runs it in."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import flop_registry

from dcsim.models.tape import ATTENTION, CONV, DENSE, MEMORY

aten = torch.ops.aten

CPU_FLASH = aten._scaled_dot_product_flash_attention_for_cpu
"""What attention becomes on the fake device where it is called below Python."""

_CONVOLUTIONS = (aten.convolution, aten._convolution)
_PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten._scaled_mm)
_PICKS = (aten.embedding, aten.index_select, aten.index, aten.gather, aten.slice_scatter)
"""Ops that read of their first input no more than they put out."""
_FILLS = (aten.copy_, aten.fill_, aten.zero_, aten.uniform_, aten.normal_)
"""Ops that only write their first input."""

LOWER = (*_CONVOLUTIONS, *_PRODUCTS, aten.addmv, aten.mv, CPU_FLASH)
_WIDER = """native_layer_norm native_group_norm _softmax _log_softmax pow rsqrt reciprocal exp expm1
log log10 log2 log1p sum prod cumsum cumprod norm linalg_vector_norm softplus acos asin cosh sinh
tan erfinv"""
WIDER = tuple(getattr(aten, name) for name in _WIDER.split())
"""Ops that CUDA's autocast runs in its dtype, and those that it runs in float32: the lists of
the PyTorch documentation, torch.amp, "CUDA Ops that can autocast". `_softmax` and the norms are
what the functions of that list come down to."""


class Autocast:
    """Whether CUDA's autocast is on, and in which dtype: below Python torch does not tell."""

    enabled = False
    dtype: Any = torch.float16

    @classmethod
    def patches(cls) -> Iterator[Any]:
        """Autocast for CUDA without CUDA, heard of here."""
        enable, choose = torch.set_autocast_enabled, torch.set_autocast_dtype

        def set_enabled(*given: Any) -> None:
            if given[:-1] in ((), ("cuda",)):
                cls.enabled = given[-1]
            enable(*given)

        def set_dtype(device: str, dtype: Any) -> None:
            if device == "cuda":
                cls.dtype = dtype
            choose(device, dtype)

        yield mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False)
        yield mock.patch("torch.cuda.is_bf16_supported", return_value=True)
        yield mock.patch("torch.set_autocast_enabled", set_enabled)
        yield mock.patch("torch.set_autocast_dtype", set_dtype)


def autocast_dtype(func: Any) -> torch.dtype | None:
    """The dtype that an op's inputs are cast to now; None: they are left as they are."""
    if not Autocast.enabled:
        return None
    packet = getattr(func, "_overloadpacket", None)
    if packet in LOWER:
        return Autocast.dtype
    return torch.float32 if packet in WIDER else None


def kind(func: Any, products_of_activations: bool) -> str:
    """The class of an op. A batched product of two activations is attention, written out."""
    packet = getattr(func, "_overloadpacket", None)
    if packet in _CONVOLUTIONS:
        return CONV
    if packet in _PRODUCTS:
        batched = packet in (aten.bmm, aten.baddbmm)
        return ATTENTION if batched and products_of_activations else DENSE
    return ATTENTION if packet is CPU_FLASH or "dot_product" in str(packet) else MEMORY


def flops(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """FLOPs of an op as PyTorch's FlopCounterMode counts them: multiply and add as two."""
    packet = getattr(func, "_overloadpacket", None)
    if packet is CPU_FLASH:
        causal = bool(args[4]) if len(args) > 4 else bool(kwargs.get("is_causal"))
        return attention_flops(*args[:3], causal=causal)
    formula = flop_registry.get(packet)
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=out))


def attention_flops(q: Any, k: Any, v: Any, *, causal: bool) -> int:
    """Of the two products of attention, over the pairs that a causal mask leaves."""
    n, m = q.shape[-2], k.shape[-2]
    pairs = n * m
    if causal:
        rows = min(n, m)
        pairs = rows * (rows + 1) // 2 + (n - rows) * m
    width = q.shape[-1] + v.shape[-1]
    total: int = 2 * prod(q.shape[:-2]) * pairs * width
    return total


def size(tensor: Any) -> int:
    """Bytes of a tensor's elements; what is expanded is there once."""
    strides = zip(tensor.shape, tensor.stride(), strict=True)
    count = prod(n for n, stride in strides if stride or not n)
    return int(count * tensor.element_size())


def traffic(func: Any, inputs: list[Any], outputs: list[Any]) -> list[int]:
    """Bytes that are read of each input."""
    read = [size(tensor) for tensor in inputs]
    packet = getattr(func, "_overloadpacket", None)
    if packet in _PICKS and read:
        read[0] = min(read[0], sum(map(size, outputs)))
    if packet in _FILLS:
        read[0] = 0
    return read


def is_new(func: Any) -> bool:
    """Whether an op only makes room, and writes nothing."""
    return str(func).startswith(("aten.empty", "aten.new_empty"))


def is_whole(func: Any) -> bool:
    """Whether a composite op is one kernel on a GPU, though Python would write it out by index."""
    return str(func).startswith("aten.upsample")
