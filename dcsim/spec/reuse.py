"""Kept context that later turns load: what is taken, what makes room, what is worth loading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dcsim.reading.concept import Concept, Count, CountOrZero, Instant, Share, form_of
from dcsim.reading.forms import Either, Made, Quantity, Word
from dcsim.reading.units import TIME
from dcsim.spec.part import Part

EVICTIONS = ("lru", "lfu", "fifo")
"""In the order of the engine's numbers for them."""
WRITES = ("write_through", "write_through_selective", "write_back")
SELECTIVE = 2
"""Requests that must have left a block before `write_through_selective` writes it, unless
`admission` asks for more: SGLang's `write_through_threshold` of that policy."""

Order = Annotated[str, Word(EVICTIONS)]
Kept = Annotated[int, Quantity(TIME, years=50)]
"""64 bits hold 292 years of ns."""


@dataclass(frozen=True)
class Eviction(Concept):
    """What goes first where room is needed, of the kept blocks that no kept block continues:
    `lru` the least recently used, `lfu` the least often used since it came, `fifo` what came
    first."""

    dram: Order = "lru"
    """In host DRAM."""
    nand: Order = "lru"
    """In NAND."""

    @classmethod
    def alike(cls, order: str) -> Eviction:
        """The same in both."""
        return cls(order, order)


@dataclass(frozen=True)
class Admission(Concept):
    """How many requests must have left a block before a tier takes it."""

    dram: Count = 1
    """For host DRAM."""
    nand: Count = 1
    """For NAND."""

    @classmethod
    def alike(cls, least: int) -> Admission:
        """The same for both."""
        return cls(least, least)


LRU = Eviction()
AT_ONCE = Admission()
Evictions = Annotated[Eviction, Either(Made(form_of(Order), Eviction.alike), form_of(Eviction))]
Admissions = Annotated[Admission, Either(Made(form_of(Count), Admission.alike), form_of(Admission))]
"""One word or number for both tiers, or by tier."""


@dataclass(frozen=True)
class Watermarks(Concept):
    """Room is made before a pool is full, and more of it at once."""

    high: Share
    """Share of the pool in use above which room is made for what is to be taken."""
    low: Share
    """Share down to which."""

    def check(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) is above high ({self.high:g})")


@dataclass(frozen=True)
class Marks(Concept):
    """Watermarks of each tier; absent: room is made when the pool is full."""

    dram: Watermarks | None = None
    """Of host DRAM."""
    nand: Watermarks | None = None
    """Of NAND."""


@dataclass(frozen=True)
class Patience(Concept):
    """How long a request waits for what comes from NAND, as SGLang's prefetch does."""

    timeout: Instant | None
    """At least so long; null: until it has come."""
    per_1024_tokens: Instant = 0
    """And so much longer for each 1,024 tokens found there."""


ONBOARDINGS = {"wait_complete": Patience(None), "best_effort": Patience(0)}
Onboarding = Annotated[str, Word(tuple(ONBOARDINGS))]


@dataclass(frozen=True, kw_only=True)
class Reuse(Part):
    """Kept context is loaded by later turns that begin with it. After its last use it stays for
    the times of `context`, in DRAM and in NAND; with `hbm` it stays in the replica's HBM as long as
    there is room."""

    block: Count = 16
    """Tokens of a KV block; only full blocks are kept."""
    least: CountOrZero = 0
    """A prefix of fewer tokens is computed again rather than loaded."""
    hbm: bool = False
    """Blocks stay in HBM too, in what requests leave free there, and are found there at no cost;
    who uses the same holds it once. The least recently used makes room for whatever runs. As the
    automatic prefix caching of vLLM and the radix cache of SGLang, which are on by default."""
    faster: bool = False
    """Only what would come sooner over idle links than it is computed is loaded."""
    eviction: Evictions = LRU
    """What makes room, in both tiers or by tier."""
    admission: Admissions = AT_ONCE
    """How many requests must have left a block before it is taken, in both tiers or by tier."""
    write: Annotated[str, Word(WRITES)] = "write_through"
    """When DRAM writes to NAND: `write_through` as soon as it has the block,
    `write_through_selective` when a second request has left it, `write_back` as it is evicted
    from DRAM or its time there is over."""
    exclusive: bool = False
    """A block lies in DRAM or in NAND: what is loaded from NAND leaves it, what leaves DRAM goes
    back alone. Needs `write: write_back`."""

    onboarding: Annotated[
        Patience,
        Either(Made(form_of(Onboarding), ONBOARDINGS.__getitem__), form_of(Patience)),
    ] = ONBOARDINGS["wait_complete"]
    """For how long a request waits for what comes from NAND: `wait_complete` until it has come,
    `best_effort` not at all, or a time. Then it begins with what it has found above; what comes
    too late is kept in DRAM for others."""
    watermarks: Marks = Marks()
    """When room is made, and how much."""

    def check(self) -> None:
        if self.exclusive and self.write != "write_back":
            raise ValueError("exclusive needs write: write_back")

    @property
    def admitted_to_nand(self) -> int:
        """Requests that must have left a block before NAND takes it."""
        least = SELECTIVE if self.write == "write_through_selective" else 1
        return max(least, self.admission.nand)
