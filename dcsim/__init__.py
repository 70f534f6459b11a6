"""dcsim: a discrete-event data-center simulator of memory demand.

Racks of GPUs with HBM, host DRAM and NAND serve DiT and LLM jobs; the simulator
says how much of each tier they demand over time. Names are imported on first
use, so that ``import dcsim`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS: dict[str, str] = {}

__all__ = sorted(_EXPORTS)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("dcsim")
    raise AttributeError(f"module 'dcsim' has no attribute {name!r}")
