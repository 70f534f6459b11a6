"""Sizes of low-rank adapters, by hand and as others publish them."""

from __future__ import annotations

import pytest

from dcsim.models import get
from dcsim.models.adapters import lora_params


def params(model: str, rank: int, targets: str = "attention", tp: int = 1) -> int:
    found = get(model)
    return lora_params(found.built(found.resolve()), rank, targets, tp)


@pytest.mark.parametrize(
    ("model", "rank", "trained"),
    [
        # "trainable parameters", as PEFT prints them for q, k, v, o, gate, up and down: QLoRA's
        # Llama 2 7B of rank 64 (159,907,840), Unsloth's notebooks of Llama 3.1 8B of rank 16
        ("llama-2-7b", 64, 159_907_840),
        ("llama-3.1-8b", 16, 41_943_040),
    ],
)
def test_as_peft_counts(model: str, rank: int, trained: int) -> None:
    assert params(model, rank, "all") == trained


def test_attention_of_llama_by_hand() -> None:
    # q: 4096 + 4096, k and v: 4096 + 1024 each, o: 4096 + 4096; 32 layers
    assert params("llama-3.1-8b", 8) == 8 * 32 * (8192 + 2 * 5120 + 8192)


def test_two_gpus_share_half_of_each_pair() -> None:
    # q, k, v: what comes in is whole, what goes out is halved; o the other way round
    each = 4096 + 2048 + 2 * (4096 + 512) + 2048 + 4096
    assert params("llama-3.1-8b", 8, tp=2) == 8 * 32 * each


def test_experts_have_none() -> None:
    # Mixtral 8x7B: attention alone is left, 32 layers of 4096, 8 KV heads of 128
    assert params("mixtral-8x7b", 4, "all") == params("mixtral-8x7b", 4)


def test_flux_by_hand() -> None:
    # 19 blocks with q, k, v, out of image and text; 38 with q, k, v and one out of 5 x 3072
    square = 2 * 3072
    pairs = 19 * 8 * square + 38 * (3 * square + 6 * 3072)
    assert params("flux.1-dev", 16) == 16 * pairs
    # up and down: 3072 and 4 x 3072, of both streams; in the others up alone
    more = 19 * 4 * 5 * 3072 + 38 * 5 * 3072
    assert params("flux.1-dev", 16, "all") == 16 * (pairs + more)
