"""The oracle's replicas: a queue, a batch, and what one iteration of it costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

from oracle_ledger import Span
from oracle_work import Job

LOADING, UP, DOWN = range(3)


@dataclass(eq=False)
class Replica:
    """A replica: `generation` grows with each failure, so that old news can be told.

    `budget` is None in a lifted run. `begun` and `ends` (ticks) are those of the
    iteration under way, if the batch is not empty. `stalled` are the requests that load
    or are ready, in order of admission; `ready` those that are, in their order.
    """

    row: int
    plan: SimpleNamespace
    service: SimpleNamespace
    budget: int | None
    state: int = DOWN
    generation: int = 0
    waiting: list[Job] = field(default_factory=list)
    batch: list[Job] = field(default_factory=list)
    stalled: list[Job] = field(default_factory=list)
    ready: list[Job] = field(default_factory=list)
    weights: Span | None = None
    begun: int = 0
    ends: int = 0

    @property
    def jobs(self) -> int:
        """Jobs waiting, running and loading."""
        return len(self.waiting) + len(self.batch) + len(self.stalled)

    @property
    def holds(self) -> int:
        """Holds of all for the coming iteration."""
        return sum(job.hold for job in self.batch + self.stalled)

    @property
    def live(self) -> int:
        """Live bytes of all, those that load included."""
        return sum(job.live for job in self.batch + self.stalled)

    @property
    def over_budget(self) -> bool:
        """Whether a job has to leave."""
        return bool(self.batch) and self.budget is not None and self.holds > self.budget

    def fits(self, head: Job) -> bool:
        """Whether the head of the queue may join the batch."""
        batch, service = self.batch, self.service
        if len(batch) + len(self.stalled) >= service.max_jobs:
            return False
        if not batch and not self.stalled:
            return True
        if service.same_shape and (batch + self.stalled)[0].work != head.work:
            return False
        if self.share_out() < (1 if head.is_token else head.segment.tokens):
            return False
        return self.budget is None or self.holds + head.hold <= self.budget - service.watermark

    def share_out(self) -> int:
        """Gives jobs in prefill their chunks of the coming iteration; the tokens that are left."""
        left = self.service.max_tokens
        left -= sum(job.segment.tokens for job in self.batch if not job.in_prefill)
        for job in self.batch:
            if job.in_prefill:
                job.feed(max(1, min(job.most, left)))
                left -= job.segment.tokens
        return left

    def phase_times(self, phases: list[SimpleNamespace]) -> list[tuple[int, list[Job]]]:
        """The iteration's phases in order: ticks, and the jobs in it."""
        out = []
        for number, phase in enumerate(phases):
            jobs = [job for job in self.batch if job.segment.phase == number]
            if jobs:
                dense = max(phase.weights, sum(job.segment.dense for job in jobs))
                out.append((phase.launch + dense + sum(job.own for job in jobs), jobs))
        return out


@dataclass(eq=False)
class WeightSet:
    """The weights of a service in a DRAM pool: who waits for it, how many read it."""

    state: str = "absent"
    waiting: list[Replica] = field(default_factory=list)
    onboarding: int = 0
    span: Span | None = None
