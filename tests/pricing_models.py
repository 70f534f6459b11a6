"""Models of the package as docs/pricing.md names their figures."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from dcsim.models import Model, get
from dcsim.models.feed_forward import Dense
from dcsim.models.gqa import Gqa
from dcsim.models.llm import LlmConfig


def dense(model: Model) -> SimpleNamespace:
    """The figures of a dense decoder as docs/pricing.md names them."""
    c = model.network
    assert isinstance(c, LlmConfig)
    mixer, half = c.blocks[0].attention, c.blocks[0].feed_forward
    assert isinstance(mixer, Gqa)
    assert isinstance(half, Dense)
    return SimpleNamespace(
        layers=c.layers,
        hidden=c.hidden,
        vocabulary=c.vocabulary,
        heads=mixer.heads,
        kv_heads=mixer.kv_heads,
        head=mixer.head,
        head_norm=mixer.head_norm,
        ffn=half.width,
    )


def as_named(name: str) -> Any:
    """A model of the catalogue; a language model with the figures of its dense blocks."""
    model: Any = get(name)
    if not isinstance(model.network, LlmConfig):
        return model
    return replace(model, network=dense(model))
