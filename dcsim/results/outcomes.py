"""Requests counted by their outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.engine import OUTCOMES

__all__ = ["NEVER_CAME", "arrived_of", "counted", "outcome_counts"]

NEVER_CAME = tuple(OUTCOMES.index(name) for name in ("awaited", "abandoned"))


def outcome_counts(outcomes: NDArray[Any]) -> dict[str, int]:
    """How many requests ended in each outcome, all outcomes named."""
    return counted(np.bincount(outcomes, minlength=len(OUTCOMES)))


def counted(counts: NDArray[Any]) -> dict[str, int]:
    """How many ended in each outcome, by name."""
    return dict(zip(OUTCOMES, counts.tolist(), strict=True))


def arrived_of(outcomes: Mapping[str, int]) -> int:
    """Requests that have arrived, of those counted by outcome."""
    return sum(outcomes.values()) - sum(outcomes[OUTCOMES[row]] for row in NEVER_CAME)
