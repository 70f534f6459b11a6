"""What a replica of a model needs, so that strategies draw only what fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dcsim.models import ModelError
from dcsim.models import get as get_model
from dcsim.models.adapters import lora_params
from dcsim.reading.units import SIZE, whole
from dcsim.spec import Gpu, Layout, load_parts
from dcsim.traces import Clip, Turn, token_work, trace

__all__ = [
    "Extent",
    "Options",
    "adapter_bytes",
    "checkpoint_bytes",
    "clip_sizes",
    "context_bytes",
    "frozen",
    "kind_of",
    "lying_bytes",
    "smallest_hbm",
    "token_room",
]

Options = tuple[tuple[str, Any], ...]
"""Options of a model, hashable."""


def frozen(options: Mapping[str, Any]) -> Options:
    """Options as a key."""
    return tuple(sorted(options.items()))


def kind_of(model: str) -> str:
    """`dit` or `llm`. Raises ModelError for an unknown model."""
    return get_model(model).kind


Extent = tuple[int, int, int]
"""Width, height and frames."""


@lru_cache(maxsize=4096)
def clip_sizes(
    model: str, options: Options, layout: Layout, clip: Extent
) -> tuple[int, int] | None:
    """HBM bytes that a replica needs for one clip, and bytes of the finished clip; None where
    that clip or layout cannot be."""
    try:
        traced = trace(model, dict(options), Clip(*clip, 1), layout)
    except ModelError:
        return None
    return traced.peak_bytes + traced.overhead, traced.artifact


@lru_cache(maxsize=4096)
def token_room(
    model: str, options: Options, layout: Layout, chunk: int, tokens: int, jobs: int, hbm: int
) -> int | None:
    """HBM bytes of weights and reserve of an LLM replica on GPUs of `hbm` bytes; None where the
    layout cannot be. `chunk`, `tokens` and `jobs` as in the scheduler."""
    gpu: Gpu = replace(load_parts().gpus["h100"], hbm=hbm)
    try:
        work = token_work(model, dict(options), layout, gpu, chunk, tokens, jobs)
    except ModelError:
        return None
    return work.weights + work.reserve


@lru_cache(maxsize=1024)
def checkpoint_bytes(model: str, options: Options) -> int:
    """Bytes of the weights in DRAM and NAND."""
    return trace(model, dict(options)).checkpoint_bytes


@lru_cache(maxsize=1024)
def adapter_bytes(model: str, options: Options, adapters: Options) -> int:
    """Bytes of all adapters that a job asks for, as it writes them."""
    written = dict(adapters)
    if "bytes" in written:
        each = int(whole(written["bytes"], SIZE))
    else:
        found = get_model(model)
        network = found.built(found.resolve(dict(options)))
        each = 2 * lora_params(network, written["rank"], written.get("targets", "attention"))
    return int(written["count"]) * each


def lying_bytes(jobs: Mapping[str, Any], name: str) -> int:
    """Bytes that lie in NAND for a job with replicas, of jobs as they are written: the checkpoint,
    and the adapters of all that it serves."""
    model, options = jobs[name]["model"], frozen(jobs[name].get("options", {}))
    asked = [jobs[name], *(other for other in jobs.values() if other.get("shares") == name)]
    return checkpoint_bytes(model, options) + sum(
        adapter_bytes(model, options, frozen(each["adapters"]))
        for each in asked
        if "adapters" in each
    )


@lru_cache(maxsize=1024)
def context_bytes(model: str, options: Options, layout: Layout) -> int:
    """KV bytes of a token of an LLM replica."""
    return trace(model, dict(options), Turn(1, 1), layout).rows[0].live


def smallest_hbm(
    model: str, options: Options, layout: Layout, chunk: int, tokens: int, jobs: int, room: int
) -> int:
    """The least HBM bytes of a GPU that hold an LLM replica and the KV of `room` tokens."""
    fixed = token_room(model, options, layout, chunk, tokens, jobs, 0)
    if fixed is None:
        raise ValueError(f"no layout of {model}: {layout}")
    share: float = get_model(model).resolve(dict(options))["memory_utilization"]
    used = fixed + room * context_bytes(model, options, layout)
    return math.ceil(used / share / layout.gpus) + 10**6
