"""Models of the package as docs/pricing.md names their figures."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from dcsim.models import Model, get
from dcsim.models.feed_forward import Dense, Experts
from dcsim.models.gqa import Gqa
from dcsim.models.llm import LlmConfig


def plain(model: Model) -> SimpleNamespace:
    """The figures of a decoder with one kind of attention as docs/pricing.md names them."""
    c = model.network
    assert isinstance(c, LlmConfig)
    (mixer,) = {block.attention for block in c.blocks}
    assert isinstance(mixer, Gqa)
    return SimpleNamespace(
        halves=[_half(block.feed_forward) for block in c.blocks],
        hidden=c.hidden,
        vocabulary=c.vocabulary,
        heads=mixer.heads,
        kv_heads=mixer.kv_heads,
        head=mixer.head,
        head_norm=mixer.head_norm,
        first=True,
        last=True,
    )


def _half(half: Dense | Experts) -> SimpleNamespace:
    if isinstance(half, Dense):
        return SimpleNamespace(width=half.width, experts=0)
    return SimpleNamespace(
        width=half.width,
        experts=half.experts,
        chosen=half.chosen,
        shared=half.shared,
        gated=half.shared_gate,
        sigmoid=half.router == "sigmoid",
    )


def as_named(name: str) -> Any:
    """A model of the catalogue; a language model with the figures of its blocks."""
    model: Any = get(name)
    if not isinstance(model.network, LlmConfig):
        return model
    return replace(model, network=plain(model))
