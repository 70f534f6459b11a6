"""What is held and counted: our figures for rows of parameters, FLOPs, bytes and KV.

Each check takes the settings of a row and gives bytes, FLOPs or a count. KV budgets are those of
vLLM as it was in the logs: sampling by sorting, no CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from dcsim.models import coding, vae
from dcsim.models.catalogue import get
from dcsim.models.denoiser import Denoiser, Numerics
from dcsim.models.llm import LlmConfig
from dcsim.models.pipeline import Networks
from dcsim.models.shapes import Turn
from dcsim.models.t5 import T5
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights, count
from dcsim.spec import Layout, load_parts
from dcsim.traces.api import trace
from dcsim.traces.budget import KvBudget, kv, profile_peak
from dcsim.validation.rows import Settings

GIB = 2**30
Check = Callable[[Settings], float]


def _networks(model: str, embedders: str | None = None) -> Networks:
    found = get(model)
    network = found.built(found.resolve({"embedders": embedders} if embedders else None))
    assert isinstance(network, Networks)
    return network


def _peak(tape: Tape) -> float:
    return max(sum(held) for _, held in tape.profile)


def _params(s: Settings) -> float:
    found = get(s.need("model"))
    if "embedders" in s:
        return count(_networks(s.need("model"), s["embedders"]).denoiser.parameters())
    return found.params


def _part_params(s: Settings) -> float:
    return get(s.need("model")).all_params()[s.need("part")]


def _forward(network: Denoiser, batch: int, side: int, dtype: str) -> Tape:
    tape = Tape()
    network.forward(
        Weights(tape, network.held(), dtype),
        tape.tensor((batch, network.channels, 1, side, side), dtype),
        np.zeros(batch),
        (tape.tensor((batch,), "int64"),),
        numerics=Numerics(dtype, dtype, dtype),
    )
    return tape


def _macs(s: Settings) -> float:
    network = _networks(s.need("model"), s.get("embedders"))
    tape = _forward(network.denoiser, 1, s.whole("side") // network.vae.space, "bf16")
    flops: int = sum(event[3] for event in tape.events if event[0] == "op")
    return flops


def _dit_peak(s: Settings) -> float:
    network = _networks("dit-xl-2", "block")
    return _peak(_forward(network.denoiser, 2, s.whole("side") // 8, "fp32"))


def _vae_params(s: Settings) -> float:
    return count(vae.parameters(vae.get(s.need("vae"))))


def _vae_peak(s: Settings) -> float:
    """What a decode or an encode holds beside weights and what goes in."""
    found, tape = vae.get(s.need("vae")), Tape()
    size = (s.whole("frames", 1), s.whole("height"), s.whole("width"))
    down, dtype = s.get("way") == "encode", s.get("dtype", found.dtype)
    latent = (1, found.channels, *found.latent(*size))
    x = tape.tensor((1, 3, *size) if down else latent, dtype)
    weights = Weights(tape, vae.parameters(found), dtype)
    tiling = next(each for each in found.tilings if each == s.get("tiling", "none"))
    (coding.encode if down else coding.decode)(found, weights, x, tiling=tiling)
    return _peak(tape) - x.storage.size


def _t5_peak(s: Settings) -> float:
    encoder, tape = T5(), Tape()
    weights = Weights(tape, encoder.parameters(), "bf16")
    encoder.encode(weights, tape.tensor((1, s.whole("tokens")), "int64"))
    return _peak(tape)


def _turn(s: Settings) -> tuple[int, int]:
    """Weights of one GPU, and KV bytes of a token in the replica."""
    tp = s.whole("tp", 1)
    options = {"weights_dtype": s["weights_dtype"]} if "weights_dtype" in s else None
    found = trace(s.need("model"), options, Turn(1, 1), Layout(tp))
    return found.weights_bytes // tp, found.rows[0].live


def _weights(s: Settings) -> float:
    return _turn(s)[0]


def _weights_part(s: Settings) -> float:
    found = trace(s.need("model"))
    return next(p.weights for p in found.phases if p.name == s.need("part"))


def _kv_token(s: Settings) -> float:
    return _turn(s)[1]


def _kv_memory(s: Settings) -> float:
    """vLLM's identity: what is left of a share of HBM beside weights and activations."""
    total, share, activation, other = (
        s.number(name) for name in ("total", "share", "activation", "other")
    )
    return (total * share - activation - other) * GIB - _weights(s)


def _kv_tokens(s: Settings) -> float:
    return _kv_memory(s) / _turn(s)[1]


def _kv_fit(s: Settings) -> float:
    return kv(s.need("model"), tp=s.whole("tp", 1), kv_gib=s.number("memory")).kv_tokens


def _kv_sequences(s: Settings) -> float:
    """As vLLM prints it for models with states: sequences of the longest length, times that."""
    options = {"kv_dtype": s["kv_dtype"]}
    budget = kv(s.need("model"), tp=s.whole("tp", 1), kv_gib=s.number("memory"), options=options)
    longest = s.whole("length")
    one = budget.kv_bytes_per_token_per_gpu_beyond_window * longest + budget.kv_state_bytes_per_gpu
    return budget.kv_bytes / one * longest


def _active(s: Settings) -> float:
    config = get(s.need("model")).network
    assert isinstance(config, LlmConfig)
    return config.active + (config.vocabulary * config.hidden if "embedding" in s else 0)


def _activation(s: Settings) -> float:
    found = get(s.need("model"))
    assert isinstance(found.network, LlmConfig)
    layout = Layout(s.whole("tp", 1))
    tokens, sequences = s.whole("tokens"), s.whole("sequences")
    return profile_peak(found.network, found.resolve(), layout, tokens, sequences, "sort")


def _budget(s: Settings) -> KvBudget:
    """What is left for KV by the model alone, HBM and what is not torch's as the log has them."""
    part = load_parts().gpus[s.get("gpu", "h100")]
    if "total" in s:
        part = replace(part, hbm=int(s.number("total") * GIB))
    options: dict[str, object] = {"weights_dtype": s.get("weights_dtype", "as dtype")}
    if "other" in s:
        options["runtime_overhead"] = int(s.number("other") * GIB)
    return kv(
        s.need("model"),
        part,
        s.whole("tp", 1),
        options=options,
        batched_tokens=s.whole("tokens"),
        sequences=s.whole("sequences"),
        sampler="sort",
        cuda_graphs_gib=0,
    )


def _kv_budget(s: Settings) -> float:
    return _budget(s).kv_bytes


def _kv_budget_tokens(s: Settings) -> float:
    return _budget(s).kv_tokens


# By the name that rows have: what it is, and how it is found.
CHECKS: Mapping[str, tuple[str, Check]] = {
    "params": ("parameters", _params),
    "part_params": ("parameters of a part", _part_params),
    "active": ("active parameters", _active),
    "macs": ("FLOPs of a pass", _macs),
    "weights": ("weights of a GPU", _weights),
    "weights_part": ("weights of a part", _weights_part),
    "kv_token": ("KV bytes a token", _kv_token),
    "kv_sequences": ("KV tokens", _kv_sequences),
    "kv_tokens": ("KV tokens", _kv_tokens),
    "kv_memory": ("KV memory", _kv_memory),
    "kv_fit": ("KV tokens", _kv_fit),
    "kv_budget": ("KV memory", _kv_budget),
    "kv_budget_tokens": ("KV tokens", _kv_budget_tokens),
    "activation": ("activation peak", _activation),
    "dit_peak": ("activation peak", _dit_peak),
    "vae_params": ("parameters of a VAE", _vae_params),
    "vae_peak": ("activation peak", _vae_peak),
    "t5_peak": ("activation peak", _t5_peak),
}
