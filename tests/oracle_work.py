"""The oracle's requests: what a request has to do, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from oracle_swap import Swapped

FIXED, PREFILL, DECODE = range(3)

COLUMNS = {
    "pools": "tier capacity",
    "channels": "bandwidth latency",
    "phases": "launch weights",
    "segments": "rule phase steps tokens dense own own_slope ctx pair live live_slope "
    "peak mean first",
    "works": "segment segments artifact context",
    "services": "router replica replicas max_jobs max_tokens same_shape weights reserve "
    "watermark checkpoint library keep cache_hbm cache_dram cache_nand cache_least "
    "swap order",
    "classes": "service artifact_dram artifact_nand context_dram context_nand",
    "nodes": "parent tokens bytes klass",
    "policies": "evict_dram evict_nand admit_dram admit_nand back exclusive "
    "high_dram low_dram high_nand low_nand faster wait wait_base wait_ki",
    "replicas": "service hbm dram home store load onboard offload spill fetch start "
    "domain near_out near_in far_out far_in library bring",
}


def rows(tables: dict[str, np.ndarray], name: str) -> list[SimpleNamespace]:
    """The rows of a table as objects of plain ints, one attribute a column."""
    names = COLUMNS[name].split()
    table = tables[name]
    assert table.shape[1:] == (len(names),), (name, table.shape)
    return [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in table.tolist()]


@dataclass
class Segment:
    """Steps that are alike but for a linear growth of own cost and live bytes."""

    steps: int
    phase: int
    tokens: int
    dense: int
    own: int
    own_slope: int
    live: int
    live_slope: int
    peak: int
    mean: int
    first: bool


def fixed(row: SimpleNamespace) -> Segment:
    """A `fixed` row as it is."""
    return Segment(
        row.steps,
        row.phase,
        row.tokens,
        row.dense,
        row.own,
        row.own_slope,
        row.live,
        row.live_slope,
        row.peak,
        row.mean,
        bool(row.first),
    )


def chunk(row: SimpleNamespace, prompt: int, done: int, n: int) -> Segment:
    """The one step that feeds `n` tokens of a prompt after `done` earlier ones."""
    pairs = n * done + n * (n + 1) // 2
    return Segment(
        1,
        row.phase,
        n,
        row.dense * n,
        row.own * n + max(row.pair * pairs, row.ctx * (done + n)),
        0,
        row.live * prompt,
        0,
        row.peak * n,
        row.mean * n,
        bool(row.first) and done + n == prompt,
    )


def decode(row: SimpleNamespace, prompt: int, output: int) -> list[Segment]:
    """One step for every token after the first; nothing if there is only one."""
    if output == 1:
        return []
    grow = max(row.pair, row.ctx)
    return [
        Segment(
            output - 1,
            row.phase,
            1,
            row.dense,
            row.own + grow * (prompt + 1),
            grow,
            row.live * (prompt + 1),
            row.live,
            row.peak,
            row.mean,
            bool(row.first),
        )
    ]


@dataclass(eq=False)
class Request:
    """One request. `prompt` and `output` change when a token work starts over."""

    row: int
    klass: int
    service: int
    work: int
    rows: list[SimpleNamespace]
    prompt: int
    output: int
    reads: int = -1
    leaves: int = -1
    takes_over: bool = False
    swapped: Swapped | None = None
    segments: list[Segment] = field(default_factory=list)
    fed: int = 0
    largest: int = 0
    at: int = 0
    step: int = 0
    feeding: Segment = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.begin()

    @property
    def is_token(self) -> bool:
        """Prefill and decode, not fixed segments."""
        return bool(self.rows[0].rule == PREFILL)

    @property
    def context(self) -> int:
        """Bytes of the KV a token work has at its end, 0 for a fixed one."""
        return int(self.rows[0].live * (self.prompt + self.output - 1)) if self.is_token else 0

    def begin(self) -> None:
        """Lay out the segments from the start."""
        self.at = self.step = self.fed = 0
        if self.is_token:
            self.segments = decode(self.rows[1], self.prompt, self.output)
            return
        self.segments = [fixed(row) for row in self.rows]
        self.largest = max(
            s.live + s.live_slope * k + s.peak for s in self.segments for k in range(s.steps)
        )

    def start_over(self) -> None:
        """Lose the progress made; tokens that are out join the prompt."""
        if self.is_token and not self.in_prefill:
            out = 1 + self.step
            self.prompt += out
            self.output -= out
        self.begin()

    @property
    def in_prefill(self) -> bool:
        """Tokens of its prompt are not yet fed."""
        return self.is_token and self.fed < self.prompt

    @property
    def most(self) -> int:
        """Tokens it would take of an iteration, were there no other."""
        return int(min(self.rows[0].tokens, self.prompt - self.fed))

    def feed(self, tokens: int) -> None:
        """The coming step feeds this many tokens of the prompt."""
        self.feeding = chunk(self.rows[0], self.prompt, self.fed, tokens)

    # The step about to run (or running).

    @property
    def segment(self) -> Segment:
        """The segment the request is in."""
        return self.feeding if self.in_prefill else self.segments[self.at]

    @property
    def own(self) -> int:
        """Ticks of its own."""
        return self.segment.own + self.segment.own_slope * self.step

    @property
    def live(self) -> int:
        """Live bytes."""
        if self.in_prefill:
            return int(self.rows[0].live * self.prompt)
        return self.segment.live + self.segment.live_slope * self.step

    @property
    def hold(self) -> int:
        """What admission and preemption count."""
        return self.live if self.is_token else self.largest

    @property
    def need(self) -> int:
        """The most it will ever hold."""
        return self.context if self.is_token else self.hold

    def advance(self) -> bool:
        """One step is done. True if its segment ended with a `first` result."""
        segment = self.segment
        if self.in_prefill:
            self.fed += segment.tokens
            return segment.first
        self.step += 1
        if self.step < segment.steps:
            return False
        self.at += 1
        self.step = 0
        return segment.first

    @property
    def done(self) -> bool:
        """No segment left."""
        return not self.in_prefill and self.at == len(self.segments)
