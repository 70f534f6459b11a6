"""Adapters: what requests need beside the model, such as a style, one each of many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from dcsim.reading.concept import Bytes, Concept, Count
from dcsim.reading.errors import Finding, did_you_mean
from dcsim.reading.forms import Number, Word, sure, up_to
from dcsim.spec.reuse import AT_ONCE, LRU, Admissions, Evictions, Kept

if TYPE_CHECKING:
    from dcsim.spec.jobs import Job

TARGETS = ("attention", "all")


@dataclass(frozen=True)
class Adapters(Concept):
    """What each request of a job needs beside the model: one of many adapters (a LoRA, a
    ControlNet), by popularity; all requests of a conversation the same. It has to be in HBM while
    the request runs. What is not there comes from where `keep.adapters` has it."""

    count: Annotated[int, Number(1, within=up_to(10**6), whole=True)]
    """How many different ones there are."""
    zipf: Annotated[float, Number(0, high=10)] = 0.0
    """Popularity: the i-th is asked for in proportion to 1 / i^zipf; 0: all alike."""
    rank: Count | None = None
    """Of a LoRA: two matrices of 16 bits and so many rows for each that it changes."""
    targets: Annotated[str, Word(TARGETS)] = "attention"
    """Matrices of the transformer's blocks that a LoRA changes: those of `attention`, or `all` (of
    the feed-forward halves too)."""
    bytes: Bytes | None = None
    """Size of one, in place of `rank`."""

    def check(self) -> None:
        if (self.rank is None) == (self.bytes is None):
            raise ValueError("needs either rank (of a LoRA) or bytes")


@dataclass(frozen=True)
class KeptAdapters(Concept):
    """Where adapters lie, and how they stay below HBM after their last use. With `reuse` they stay
    as the contexts do that they have made."""

    home: str = "local"
    """NAND that has all of them at all times: `local` drives, or the name of a shelf."""
    dram: Kept = 0
    """In host DRAM; absent: not there."""
    nand: Kept = 0
    """In the NAND of `store`, beside their home; absent: not there."""
    eviction: Evictions = LRU
    """What makes room, in both tiers or by tier."""
    admission: Admissions = AT_ONCE
    """How many requests must have used an adapter before it is taken, in both tiers or by tier."""


NOT_KEPT = KeptAdapters()


def adapter_findings(job: Job, server: Job | None, shelves: list[str]) -> Iterator[Finding]:
    """What is wrong with a job's adapters; `server`: the job whose replicas it shares."""
    kept = sure(job.keep.adapters)
    if kept != NOT_KEPT and server is not None:
        yield "keep.adapters", f"is for {job.shares!r} to say"
    elif kept != KeptAdapters(kept.home) and sure(job.keep.reuse) is not None:
        yield "keep.adapters", "with reuse adapters stay as contexts do; only home is to be said"
    known = ["local", *shelves]
    if kept.home not in known:
        yield "keep.adapters.home", f"no shelf {kept.home!r}; {did_you_mean(kept.home, known)}"
    if sure(job.adapters) is not None and (job.stages or (server and server.stages)):
        yield "adapters", "not with stages: the stage that is handed something brings nothing"
