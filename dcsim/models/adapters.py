"""Low-rank adapters (LoRA, Hu et al. 2021) of a network: what they add to its matrices."""

from __future__ import annotations

from collections.abc import Iterator

from dcsim.models import llm
from dcsim.models.llm import LlmConfig
from dcsim.models.pipeline import Networks
from dcsim.models.weights import Parameters

__all__ = ["lora_params"]

ATTENTION = ("q", "k", "v", "qkv", "kv", "q_a", "kv_a", "qkvz", "out")
FEED_FORWARD = ("up", "down", "gate")
"""Last parts of the names of matrices, as the families of networks have them."""

PACKED = {"qkv": 3, "up": 2}
"""Of language models: matrices that are several in what is published (q, k and v; gate and up),
each with a first matrix of its own."""


def lora_params(network: Networks | LlmConfig, rank: int, targets: str, tp: int = 1) -> int:
    """Numbers in the adapters of one of `tp` GPUs: `rank` x (in + out) for each matrix of the
    transformer's blocks, of `attention` alone or of `all` (experts and routers are left out).

    A GPU that has a part of a matrix has that part of one of its two and all of the other, as vLLM
    lays them out.
    """
    packed = PACKED if isinstance(network, LlmConfig) else {}
    return sum(
        rank * (packed.get(kind, 1) * shape[1] + shape[0])
        for kind, shape in _matrices(network, targets, tp)
    )


def _matrices(
    network: Networks | LlmConfig, targets: str, tp: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The matrices (out, in) that an adapter changes, by the last part of their names."""
    wanted = ATTENTION if targets == "attention" else (*ATTENTION, *FEED_FORWARD)
    for name, shape in _parameters(network, tp):
        kind = name.removesuffix(".weight").rpartition(".")[2]
        if name[0].isdigit() and len(shape) == 2 and kind in wanted:
            yield kind, shape


def _parameters(network: Networks | LlmConfig, tp: int) -> Parameters:
    if isinstance(network, LlmConfig):
        return llm.parameters(network, tp)
    return network.denoiser.parameters(tp)
