"""The memory trace: what a request does to memory, step by step.

All bytes and FLOPs are totals of a replica: the fullest GPU's, times the GPUs of the layout.
Only a `Record` is of one GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from math import ceil
from typing import Any

from dcsim.models.feature_cache import computed_steps
from dcsim.models.shapes import Clip, RequestShape
from dcsim.spec import Layout
from dcsim.traces.record import Record
from dcsim.traces.segments import Phase, Segment, expanded

CACHED, CHUNK = "cached", "chunk"
"""The segment and the record of steps that a feature cache skips; the record of a chunk's steps."""


@dataclass(frozen=True)
class MemoryTrace:
    """What a request of one shape does to one replica."""

    model: str
    kind: str
    """`dit` or `llm`."""
    options: Mapping[str, Any]
    shape: RequestShape
    layout: Layout
    phases: tuple[Phase, ...]
    rows: tuple[Segment, ...]
    """Segments in order; of a language model one `prefill` and one `decode` row."""
    records: Mapping[str, Record]
    artifact: int
    """Bytes of the finished clip."""
    overhead: int
    """Bytes the replica's GPUs hold beside tensors."""
    state: int = 0
    """Bytes a request holds whatever its length: full windows and states of a language model."""
    offloaded: bool = False
    """Whether the weights lie in host memory and come to HBM with the requests that need them."""
    switch: Segment | None = None
    """The step that brings the second of two experts, after those of the first."""
    early: tuple[int, int] = (1, 1)
    """Numerator and denominator: of n sampler steps the first expert takes `1 + n x early`, rounded
    down."""
    context: int = 0
    """Bytes of what a streamed clip leaves for one that goes on from it."""
    stored: int = 0
    """Live bytes that are a feature cache's, from the first step on."""

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.layout.gpus

    @property
    def params(self) -> int:
        """Parameters of the network whose step is the first result: the transformer. Those of the
        text encoder and the VAE are in `phases`."""
        main = next(row.phase for row in self.rows if row.first)
        return next(p.params for p in self.phases if p.name == main)

    @property
    def weights_bytes(self) -> int:
        """HBM that the weights hold in the replica."""
        return sum(p.weights for p in self.phases)

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of the weights in DRAM and NAND."""
        return sum(p.checkpoint for p in self.phases)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The rows, with prefill and decode rows written out as the engine's contract says."""
        return tuple(s for row in self.rows for s in expanded(row, self.shape))

    @property
    def residency_bytes(self) -> int:
        """Weights and the most live bytes."""
        return self.weights_bytes + self.state + max(s.most_live for s in self.segments)

    @property
    def peak_bytes(self) -> int:
        """The most bytes held at once, without `overhead`."""
        most = max(s.most_live + s.peak for s in self.segments)
        return self.weights_bytes + self.state + most

    @property
    def peak_phase(self) -> str:
        """The phase that makes the peak."""
        return max(self.segments, key=lambda s: s.most_live + s.peak).phase

    def with_steps(self, steps: int) -> MemoryTrace:
        """The same clip in another number of denoising steps, without tracing it again.

        Equal to tracing that shape: all denoising steps are alike. ValueError for a language
        model or fewer than 1 step.
        """
        if not isinstance(self.shape, Clip) or steps < 1:
            raise ValueError(f"{self.model} in {steps} denoising steps")
        return self if steps == self.shape.steps else self.spread(steps)

    def spread(self, steps: int) -> MemoryTrace:
        """The rows of a clip anew: its denoising steps after the first, computed and cached."""
        assert isinstance(self.shape, Clip)
        rows: list[Segment] = []
        again = next(row.record for row in self.rows if row.first)
        shape = replace(self.shape, steps=steps)
        if CHUNK in self.records:  # each is denoised in all steps before the next
            found = (replace(r, steps=steps) if CHUNK in r.record else r for r in self.rows)
            return replace(self, rows=tuple(found), shape=shape)
        steps = shape.denoised
        computed = computed_steps(self.options, steps)
        for row in self.rows:
            if row.first or not (row.record in (again, CACHED) or row == self.switch):
                rows.append(row)
            if row.first:
                rows += self._computed(replace(row, name=again, first=False), shape, computed)
            if row.first and steps > computed:
                rows.append(self._cached(row, row.steps * (steps - computed)))
        return replace(self, rows=tuple(rows), shape=shape)

    def _computed(self, step: Segment, shape: Clip, computed: int) -> list[Segment]:
        """The computed sampler steps after the first, by the expert that takes each.

        A sampler step is one or two steps of the replica: as many as the first has.
        """
        early = computed
        if self.switch is not None:
            # Steps that an edit leaves out are the first expert's; if those are all, it is not
            # there, and the other is from the start.
            early = 1 + shape.steps * self.early[0] // self.early[1] - shape.steps + shape.denoised
            early = computed if early < 1 else min(early, computed)
        rows = [replace(step, steps=step.steps * (early - 1))] if early > 1 else []
        if self.switch is not None and early < computed:
            rows += [self.switch, replace(step, steps=step.steps * (computed - early))]
        return rows

    def _cached(self, first: Segment, steps: int) -> Segment:
        """Steps that a feature cache skips, with what the first step holds."""
        row = Segment.of(
            self.records[CACHED],
            CACHED,
            CACHED,
            f"{first.phase} {CACHED}",
            steps,
            first.tokens,
            gpus=self.gpus,
            passes=first.steps,
        )
        return replace(row, live=first.live)

    def scale(self, *, memory: float = 1.0, compute: float = 1.0) -> MemoryTrace:
        """The trace with live and peak bytes times `memory`, FLOPs and traffic times `compute`.

        A rough what-if ("a model that holds half of that"). Weights, records and the number
        of steps stay; sizes round up.
        """
        size, work = Fraction(memory), Fraction(compute)

        def scaled(s: Segment) -> Segment:
            held = {f: ceil(getattr(s, f) * size) for f in ("live", "live_slope", "peak")}
            done = {
                f.name: ceil(getattr(s, f.name) * work)
                for f in fields(s)
                if "_flops" in f.name or "_bytes" in f.name
            }
            return replace(s, **held, **done)

        rows = tuple(scaled(s) for s in self.rows)
        return replace(self, rows=rows, stored=ceil(self.stored * size))
