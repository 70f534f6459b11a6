"""The language models, as data: `llms/*.yaml`, a family a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dcsim.models.delta import GatedDelta
from dcsim.models.feed_forward import Dense, Experts
from dcsim.models.gqa import Gqa
from dcsim.models.llm import Block, LlmConfig
from dcsim.models.mla import Mla
from dcsim.models.options import LLM, ModelError, Option

Attention = Annotated[Gqa | Mla | GatedDelta, Field(discriminator="kind")]
FeedForward = Annotated[Dense | Experts, Field(discriminator="kind")]


class Layers(BaseModel):
    """A run of layers: `of`, `times` over."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    times: Annotated[int, Field(ge=1)]
    of: Annotated[list[str], Field(min_length=1)]
    """Each `ATTENTION + FEED_FORWARD`, by the names given above."""


class LlmFields(BaseModel):
    """One model as a file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    aliases: tuple[str, ...] = ()
    """Other names it is known by; models that differ in their weights alone."""
    source: str
    """Where the figures come from."""
    hidden: Annotated[int, Field(ge=1)]
    vocabulary: Annotated[int, Field(ge=1)]
    tied: bool = False
    eps: float = 1e-5
    weights_dtype: Literal["as dtype", "fp8", "fp4", "mxfp4"] = "as dtype"
    """What the weights are published in: the default of the option of that name."""
    attention: dict[str, Attention]
    feed_forward: dict[str, FeedForward]
    layers: Annotated[list[Layers], Field(min_length=1)]

    @model_validator(mode="after")
    def _blocks_are_known(self) -> LlmFields:
        for text in dict.fromkeys(text for run in self.layers for text in run.of):
            mixer, _, half = text.partition("+")
            if mixer.strip() not in self.attention or half.strip() not in self.feed_forward:
                known = f"{', '.join(self.attention)} + {', '.join(self.feed_forward)}"
                raise ValueError(f"layers: {text!r} is not one of {known}")
        parts: dict[str, Any] = {**self.attention, **self.feed_forward}
        if wrong := [f"{name}: {text}" for name, part in parts.items() for text in _wrong(part)]:
            raise ValueError("; ".join(wrong))
        if self.weights_dtype == "mxfp4" and not self.config().experts:
            raise ValueError("weights_dtype: mxfp4 is of experts, and there are none")
        return self

    def config(self) -> LlmConfig:
        """The architecture."""
        blocks: list[Block] = []
        for run in self.layers:
            blocks += [self._block(text) for text in run.of] * run.times
        return LlmConfig(tuple(blocks), self.hidden, self.vocabulary, self.tied, self.eps)

    def _block(self, text: str) -> Block:
        mixer, _, half = text.partition("+")
        return Block(self.attention[mixer.strip()], self.feed_forward[half.strip()])

    def options(self, config: LlmConfig) -> Mapping[str, Option]:
        """Implementation options: those of every language model, and those of its blocks."""
        table = dict(LLM)
        weights = LLM["weights_dtype"]
        assert weights.allowed is not None
        if config.experts:
            table["experts_read"] = EXPERTS_READ
            weights = replace(weights, allowed=(*weights.allowed, "mxfp4"))
        table["weights_dtype"] = replace(weights, default=self.weights_dtype)
        if config.kv(1, "bf16").window:
            table["window_kv"] = WINDOW_KV
        return table

    def description(self, config: LlmConfig) -> str:
        """`Llama 3.1 decoder, 32 layers, 8 KV heads of 128`."""
        return f"{self.title}, {config.layers} layers, {_kinds(config)}"


def _wrong(part: Gqa | Mla | GatedDelta | Dense | Experts) -> Iterator[str]:
    """What numbers of a block cannot be."""
    for each in fields(part):
        value = getattr(part, each.name)
        least = 0 if each.name == "shared" else 1
        if isinstance(value, int) and not isinstance(value, bool) and value < least:
            yield f"{each.name} is {value}; at least {least}"
            return
    for name, many, few in _shares(part):
        if many % few:
            yield f"{name}: {few} does not divide {many}"
    if isinstance(part, Experts) and part.chosen > part.experts:
        yield f"chosen: {part.chosen} of {part.experts} experts"


def _shares(part: Gqa | Mla | GatedDelta | Dense | Experts) -> Iterator[tuple[str, int, int]]:
    """What must be a multiple of what."""
    match part:
        case Gqa():
            yield "kv_heads", part.heads, part.kv_heads
            yield "head", part.rotary or part.head, 2
        case Mla():
            yield "rope", part.rope, 2
        case GatedDelta():
            yield "key_heads", part.value_heads, part.key_heads
        case Experts():
            yield "groups", part.experts, part.groups


EXPERTS_READ = Option(
    1.0,
    "Share of the experts whose weights an iteration reads. n tokens that choose k of E experts "
    "evenly hit 1 - (1 - k/E)^n of them: 1 for large batches, less for a few sequences.",
    low=0.001,
    high=1.0,
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


@lru_cache(maxsize=1)
def shipped() -> dict[str, LlmFields]:
    """Every model that dcsim ships, by name, in order of the files and within them."""
    found: dict[str, LlmFields] = {}
    folder = files("dcsim.models").joinpath("llms")
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            found |= read(Path(str(entry)))
    return found


class LlmFile(BaseModel):
    """A file of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, LlmFields]


def read(path: Path) -> dict[str, LlmFields]:
    """The models of a file. ModelError has all that is wrong with it, with places in the file."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return LlmFile.model_validate(yaml.load(path.read_text(encoding="utf-8"), loader)).models
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError([("model", f"{path}: {error}")]) from None
    except yaml.YAMLError as error:
        raise ModelError([("model", f"{path}: {' '.join(str(error).split())}")]) from None
    except ValidationError as error:
        raise ModelError(
            [
                ("model", f"{path}: {'.'.join(map(str, each['loc']))}: {each['msg']}{_given(each)}")
                for each in error.errors()
            ]
        ) from None


def _given(problem: Mapping[str, Any]) -> str:
    """What was written there, where that is one value."""
    value = problem["input"]
    return f"; got {value!r}" if isinstance(value, str | int | float) else ""
