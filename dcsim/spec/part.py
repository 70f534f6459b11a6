"""What is in the catalogue by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from dcsim.reading.concept import Concept, Entry


@dataclass(frozen=True)
class Part(Concept):
    """What all parts have."""

    like = "A part of the same kind"
    named = True

    name: Annotated[str, Entry("part")] = ""
    title: str | None = field(default=None, kw_only=True)
    """Full name."""
    sources: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """Where each figure comes from, by its key (`flops.bf16` for one within a key)."""
