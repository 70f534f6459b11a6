"""Memory traces of PyTorch modules; needs the extra `torch`.

    from dcsim.traces.torch import Stage, TorchRequest, trace

Traced without weights, data or GPU: modules are built and run under fake tensors, and every
storage is counted for as long as it lives. What CUDA's allocator adds (fragments, workspaces of
matrix products and convolutions, the context) is not seen.
"""

from __future__ import annotations

from dcsim.traces.torch.stages import Stage, TorchRequest
from dcsim.traces.torch.tracing import OPTIONS, trace

__all__ = ["OPTIONS", "Stage", "TorchRequest", "trace"]
