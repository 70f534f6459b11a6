"""The language models, as data: `llms/*.yaml`, a family a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from dcsim.models import library
from dcsim.models.block_parts import FeedForward, Mixer
from dcsim.models.delta import GatedDelta
from dcsim.models.feed_forward import Experts
from dcsim.models.gqa import Gqa
from dcsim.models.llm import Block, LlmConfig
from dcsim.models.mla import Mla
from dcsim.models.options import LLM, Option
from dcsim.reading.concept import Concept, Count, Least, Positive


@dataclass(frozen=True)
class Layers(Concept):
    """A run of layers: `of`, `times` over."""

    times: Count
    of: Annotated[tuple[str, ...], Least(1)]
    """Each `ATTENTION + FEED_FORWARD`, by the names given above."""


@dataclass(frozen=True, kw_only=True)
class LlmFields(Concept):
    """One model as a file has it."""

    title: str
    aliases: tuple[str, ...] = ()
    """Other names it is known by; models that differ in their weights alone."""
    source: str
    """Where the figures come from."""
    hidden: Count
    vocabulary: Count
    tied: bool = False
    eps: Positive = 1e-5
    post_norms: bool = False
    """What a half of a block makes is normed before it is added (Gemma 2)."""
    scaled_embedding: bool = False
    """Embeddings are multiplied by the root of the hidden size (Gemma)."""
    softcap: Positive | None = None
    """Logits are kept within so much of zero, by a tanh (Gemma 2)."""
    weights_dtype: Literal["as dtype", "fp8", "fp4", "mxfp4"] = "as dtype"
    """What the weights are published in: the default of the option of that name."""
    attention: Mapping[str, Mixer]
    feed_forward: Mapping[str, FeedForward]
    layers: Annotated[tuple[Layers, ...], Least(1)]

    def check(self) -> None:
        for text in dict.fromkeys(text for run in self.layers for text in run.of):
            mixer, _, half = text.partition("+")
            if mixer.strip() not in self.attention or half.strip() not in self.feed_forward:
                known = f"{', '.join(self.attention)} + {', '.join(self.feed_forward)}"
                raise ValueError(f"layers: {text!r} is not one of {known}")
        if self.weights_dtype == "mxfp4" and not self.config().experts:
            raise ValueError("weights_dtype: mxfp4 is of experts, and there are none")

    def config(self) -> LlmConfig:
        """The architecture."""
        blocks: list[Block] = []
        for run in self.layers:
            blocks += [self._block(text) for text in run.of] * run.times
        return LlmConfig(
            tuple(blocks),
            self.hidden,
            self.vocabulary,
            self.tied,
            self.eps,
            self.post_norms,
            self.scaled_embedding,
            self.softcap,
        )

    def _block(self, text: str) -> Block:
        mixer, _, half = text.partition("+")
        attention: Any = self.attention[mixer.strip()]
        feed_forward: Any = self.feed_forward[half.strip()]
        return Block(attention, feed_forward)

    def options(self, config: LlmConfig) -> Mapping[str, Option]:
        """Implementation options: those of every language model, and those of its blocks."""
        table = dict(LLM)
        weights = LLM["weights_dtype"]
        assert weights.allowed is not None
        if config.experts:
            table["experts_read"] = EXPERTS_READ
            table["expert_imbalance"] = IMBALANCE
            weights = replace(weights, allowed=(*weights.allowed, "mxfp4"))
        table["weights_dtype"] = replace(weights, default=self.weights_dtype)
        if config.kv(1, "bf16").window:
            table["window_kv"] = WINDOW_KV
        return table

    def description(self, config: LlmConfig) -> str:
        """`Llama 3.1 decoder, 32 layers, 8 KV heads of 128`."""
        return f"{self.title}, {config.layers} layers, {_kinds(config)}"


EXPERTS_READ = Option(
    1.0,
    "Share of the experts whose weights an iteration reads. n tokens that choose k of E experts "
    "evenly hit 1 - (1 - k/E)^n of them: 1 for large batches, less for a few sequences.",
    low=0.001,
    high=1.0,
)
IMBALANCE = Option(
    1.0,
    "With whole experts on each GPU (`ep`): tokens that the fullest GPU is sent, over the mean; "
    "all wait for it. 1: even, as experts that are there twice aim at.",
    low=1.0,
    high=1000.0,
)
WINDOW_KV = Option(
    "window",
    "What layers with a window keep: the window (vLLM's hybrid KV cache manager), or all tokens as "
    "without it.",
    ("window", "all"),
)


def _kinds(config: LlmConfig) -> str:
    """What differs among its attention and feed-forward halves, in words."""
    said = []
    for part in dict.fromkeys(block.attention for block in config.blocks):
        share = sum(block.attention == part for block in config.blocks)
        if isinstance(part, Mla):
            said.append(f"latents of {part.kv_rank} + {part.rope}")
        elif isinstance(part, GatedDelta):
            said.append(f"{share} layers of linear attention")
        elif not (part.window is None and any("KV heads" in text for text in said)):
            said.append(f"{part.kv_heads} KV heads of {part.head}")
        if isinstance(part, Gqa) and part.window is not None:
            said.append(f"{share} layers see {part.window} tokens")
    for half in dict.fromkeys(block.feed_forward for block in config.blocks):
        if isinstance(half, Experts):
            more = " + 1 shared" if half.shared else ""
            said.append(f"{half.chosen}{more} of {half.experts} experts")
    return ", ".join(said)


@dataclass(frozen=True)
class LlmFile(Concept):
    """A file of them."""

    models: Mapping[str, LlmFields]


def read(path: Path) -> Mapping[str, LlmFields]:
    """The models of a file. ModelError has all that is wrong with it, with places in the file."""
    return library.read(path, LlmFile).models


@lru_cache(maxsize=64)
def named(name: str) -> LlmFields:
    """The shipped model of that name or alias; ModelError with the nearest where there is none."""
    found: LlmFields = library.named("llms", name, "model", LlmFile, lambda file: file.models)
    return found
