"""Language models under load: a run of a load generator's clients against one replica.

Settings: `model`, `gpu`, `profile`, `tp`, `prompt`, `output`, `clients` (without: as many as are
served at once), `rounds` (requests a client, 8, of which the first and the last do not
count), `max_jobs` (2,048, TensorRT-LLM's default),
`max_batched_tokens` (8,192), `prefill_chunk` (all of them: prompts are fed whole); all else are
options of the model. `batch` and `prompt` for the time of one iteration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dcsim.assembly import make_plan
from dcsim.planning import simulate
from dcsim.spec import Layout, scenario_from_data
from dcsim.traces.server import token_work
from dcsim.validation.gpus import gpu_of, written
from dcsim.validation.rows import Settings

Check = Callable[[Settings], float]
MOST = 2048


@dataclass(frozen=True)
class Load:
    """What clients of one replica saw: times in seconds."""

    ttft: float
    """Mean, of all."""
    itl: float
    """Mean time between tokens after the first."""
    throughput: float
    """Output tokens a second of all clients."""


def _seen(s: Settings) -> Load:
    keys = ("model", "gpu", "profile", "tp", "prompt", "output", "clients", "rounds")
    for name in (*keys, "max_jobs", "max_batched_tokens", "prefill_chunk"):
        s.get(name)
    part = json.dumps(written(gpu_of(s)), sort_keys=True)
    return _loaded("; ".join(f"{key}={value}" for key, value in s.items()), part)


@lru_cache(maxsize=256)
def _loaded(text: str, part: str) -> Load:
    """`part`: the GPU as JSON."""
    s = Settings(text)
    for name in ("gpu", "profile"):
        s.get(name)
    clients, rounds = s.whole("clients", MOST), s.whole("rounds", 8)
    limits: dict[str, Any] = {"max_jobs": s.whole("max_jobs", MOST)}
    limits["max_batched_tokens"] = s.whole("max_batched_tokens", 8192)
    limits["prefill_chunk"] = s.whole("prefill_chunk", limits["max_batched_tokens"])
    job = {
        "model": s.need("model"),
        "layout": {"tp": s.whole("tp", 1)},
        "replicas": 1,
        "scheduler": limits,
        "arrivals": {"process": "closed", "clients": clients, "requests": clients * rounds},
        "shape": {"prompt": s.whole("prompt"), "output": s.whole("output")},
    }
    job["options"] = s.rest()
    node = {"gpu": json.loads(part), "gpus": 8, "host": "x86-2s-2tb"}
    node |= {"ssd": "micron-9550-max-26tb", "ssds": 8}
    data = {
        "name": "load",
        "duration": "1000 h",
        "bin": "1000 h",
        "topology": {"name": "one server", "racks": {"rack0": {"node": node}}},
        "jobs": {"load": job},
    }
    table = simulate(make_plan(scenario_from_data(data))).outputs
    arrived, first, end = (table[name] / 1e9 for name in ("arrived", "first", "end"))
    output = s.whole("output")
    # The first requests come all at once, the last ones see others leave.
    steady = slice(clients, max(clients + 1, clients * (rounds - 1)))
    arrived, first, end = arrived[steady], first[steady], end[steady]
    between = (end - first) / max(1, output - 1)
    # Little's law: so many clients are always there, each with one request.
    throughput = clients * output / float(np.mean(end - arrived))
    return Load(float(np.mean(first - arrived)), float(np.mean(between)), throughput)


def _iteration(s: Settings) -> tuple[float, float]:
    """Seconds of a prefill of a batch in one pass, and of its decode at the mean context."""
    batch, prompt = s.whole("batch", 1), s.whole("prompt")
    output = s.whole("output", 1)
    gpu, layout = gpu_of(s), Layout(s.whole("tp", 1))
    work = token_work(s.need("model"), s.rest(), layout, gpu, 2048, 8192, batch)
    (phase,), (first, then) = work.phases, work.segments
    fed, written = first.cost, then.cost
    pairs = prompt * (prompt + 1) / 2
    prefill = phase.launch + max(phase.weights, batch * prompt * fed.dense)
    prefill += batch * (prompt * fed.other)
    looked = batch * max(float(fed.attention) * pairs, float(fed.reading) * prompt)
    decode = phase.launch + max(phase.weights, batch * written.dense) + batch * written.other
    context = prompt + output / 2
    looking = batch * max(float(written.attention), float(written.reading)) * context
    return float(prefill) + looked, float(decode) + looking


CHECKS: Mapping[str, tuple[str, Check]] = {
    "ttft": ("time to first token", lambda s: _seen(s).ttft),
    "itl": ("time between tokens", lambda s: _seen(s).itl),
    "throughput": ("output tokens a second", lambda s: _seen(s).throughput),
    "prefill_seconds": ("time of a prefill", lambda s: _iteration(s)[0]),
    "decode_seconds": ("time of a decode step", lambda s: _iteration(s)[1]),
}
