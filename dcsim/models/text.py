"""The text encoders that diffusion models name, as data: `encoders/*.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from dcsim.models import clip, decoder_text, library, t5
from dcsim.models.encoder import Encoder
from dcsim.reading.concept import Concept, Entry

FAMILIES = (t5, clip, decoder_text)
"""Where the families are that a file can name."""


@dataclass(frozen=True, kw_only=True)
class TextEncoder(Concept):
    """A text encoder as a file has it."""

    name: Annotated[str, Entry()] = ""
    title: str
    """What it is."""
    aliases: tuple[str, ...] = ()
    """Other names it is known by; encoders that differ in their weights alone."""
    source: str
    """Where the figures come from, and whose code it is."""
    encoder: Encoder
    """Its family and its figures."""


@dataclass(frozen=True)
class EncoderFile(Concept):
    """A file of text encoders."""

    encoders: Mapping[str, TextEncoder]
    """By name."""


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, TextEncoder]:
    """Every text encoder that dcsim ships, by name."""
    found: Mapping[str, TextEncoder] = library.shipped(
        "encoders", EncoderFile, lambda file: file.encoders
    )
    return found


def names() -> tuple[str, ...]:
    """Names and aliases of all of them."""
    return tuple(library.index("encoders"))


def get(name: str) -> Encoder:
    """The encoder of that name or alias; ModelError with the nearest where there is none."""
    found: TextEncoder = library.named(
        "encoders", name, "text encoder", EncoderFile, lambda file: file.encoders
    )
    return found.encoder
