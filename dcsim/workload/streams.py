"""Named random streams, independent of each other and of what else is in a scenario."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["stream"]


def stream(seed: int, *names: str) -> np.random.Generator:
    """The random stream of a scenario's seed by this name, always from its beginning.

    The name (a job and a purpose, such as `"chat", "arrivals"`) enters through a SHA-256 digest,
    not through `hash()`, which is salted per process, nor through a position in a list: another
    job, or more draws from another stream, change nothing here. The generator is numpy's
    counter-based Philox. Raises `ValueError` for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"a seed is 0 or more, not {seed}")
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    words = np.frombuffer(digest, dtype="<u4")
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=tuple(int(word) for word in words))
    return np.random.Generator(np.random.Philox(sequence))
