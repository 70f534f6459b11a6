"""A language model as a server runs it: one work for every prompt and output, and the memory
that the server keeps back, after vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dcsim.models.shapes import Turn
from dcsim.spec import Gpu, Layout
from dcsim.traces.api import trace
from dcsim.traces.price import Work, price
from dcsim.traces.trace import MemoryTrace


def token_work(
    model: str,
    options: Mapping[str, Any] | None,
    layout: Layout,
    gpu: Gpu,
    chunk: int,
    max_batched_tokens: int,
    max_jobs: int | None = None,
) -> Work:
    """A language model's costs a token, for every prompt and output, with its `reserve`.

    `chunk` is the largest prefill chunk, in tokens.
    """
    counted = trace(model, options, Turn(1, 1, chunk), layout)
    kept = reserve(counted, gpu, max_batched_tokens, max_jobs)
    return replace(price(counted, gpu), reserve=kept)


def reserve(
    counted: MemoryTrace, gpu: Gpu, max_batched_tokens: int, max_jobs: int | None = None
) -> int:
    """HBM bytes of a replica that its requests cannot have, beside the weights.

    The activations of a full batch (`max_batched_tokens`, of which `max_jobs` may be decodes
    with logits; None: all), which vLLM finds by a profile run, the runtime's overhead, the share of
    HBM above `memory_utilization`, and for as many jobs what each holds whatever its length.
    """
    prefill, decode = (row.peak for row in counted.rows)
    decodes = max_batched_tokens if max_jobs is None else min(max_jobs, max_batched_tokens)
    activations = prefill * max_batched_tokens + max(0, decode - prefill) * decodes
    memory = counted.gpus * gpu.hbm
    unused = memory - int(memory * counted.options["memory_utilization"])
    held = counted.state * decodes
    return counted.overhead + activations + unused + held
