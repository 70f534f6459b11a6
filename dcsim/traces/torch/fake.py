"""PyTorch without weights and without a GPU: shapes, dtypes and lifetimes only.

Tensors are fake, on a device that calls itself the CPU; what would run otherwise on a CUDA GPU is
put right here and in `kernels`: devices, autocast, `Module.to`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from dcsim.traces.torch.kernels import Autocast

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@contextmanager
def fake(dtype: str, autocast: str) -> Iterator[None]:
    """Within, modules are built in `dtype` without weights, and run without data.

    `no_grad`, not `inference_mode`: that one leaves composite ops whole. `autocast`: a dtype for
    all that runs, or `none`; what a model asks for itself is followed either way.
    """
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        for patched in _patches():
            stack.enter_context(patched)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(torch.set_default_dtype, before)
        torch.set_default_dtype(DTYPES[dtype])
        stack.enter_context(torch.no_grad())
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_Devices())
        if autocast != "none":
            stack.enter_context(torch.autocast("cuda", DTYPES[autocast]))
        yield


@contextmanager
def real(dtype: str, autocast: str) -> Iterator[None]:
    """Within, modules are built on the GPU with random weights, and run."""
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, before)
        torch.set_default_dtype(DTYPES[dtype])
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.device("cuda"))
        if autocast != "none":
            stack.enter_context(torch.autocast("cuda", DTYPES[autocast]))
        yield


def _patches() -> Iterator[Any]:
    """`Module.to` on fake tensors, CUDA's autocast without CUDA, and no traceback on stderr."""
    yield mock.patch.object(torch.nn.Module, "_apply", _apply)
    yield from Autocast.patches()
    log = logging.getLogger("torch._subclasses.fake_tensor")
    yield mock.patch.object(log, "disabled", True)


def _apply(self: Any, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
    """As `Module._apply`, with new parameters: fake ones cannot be swapped."""
    for child in self.children() if recurse else ():
        child._apply(fn)
    for name, value in self._parameters.items():
        if value is not None:
            self._parameters[name] = torch.nn.Parameter(fn(value), value.requires_grad)
    for name, value in self._buffers.items():
        if value is not None:
            self._buffers[name] = fn(value)
    return self


class _Devices(TorchFunctionMode):  # type: ignore[misc]
    """Whatever asks for a CUDA device gets the fake one."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.cuda:
            return args[0]
        if "device" in kwargs:
            kwargs["device"] = _here(kwargs["device"])
        if func is torch.Tensor.to:
            args = (args[0], *map(_here, args[1:]))
        return func(*args, **kwargs)


def _here(value: Any) -> Any:
    """The fake device, where a value names a CUDA one."""
    if isinstance(value, torch.device):
        return torch.device("cpu") if value.type == "cuda" else value
    return "cpu" if isinstance(value, str) and value.partition(":")[0] == "cuda" else value
