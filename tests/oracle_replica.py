"""The oracle's replicas: a queue, a batch, and what one iteration of it costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

from oracle_ledger import Span
from oracle_work import Request

LOADING, UP, DOWN = range(3)

if TYPE_CHECKING:
    from oracle_slack import Slack


@dataclass(eq=False)
class Replica:
    """A replica: `generation` grows with each failure, so that old news can be told.

    `budget` is None in a lifted run. `begun` and `ends` (ticks) are those of the
    iteration under way, if the batch is not empty. `stalled` are the requests that load
    or are ready, in order of admission; `ready` those that are, in their order. `kept`: bytes
    to be handed over, by giver; `freed`: the givers whose bytes leave at the next edge;
    `booked`: takers that will come.
    """

    row: int
    plan: SimpleNamespace
    service: SimpleNamespace
    budget: int | None
    state: int = DOWN
    generation: int = 0
    waiting: list[Request] = field(default_factory=list)
    batch: list[Request] = field(default_factory=list)
    stalled: list[Request] = field(default_factory=list)
    ready: list[Request] = field(default_factory=list)
    kept: dict[int, int] = field(default_factory=dict)
    freed: list[int] = field(default_factory=list)
    booked: list[int] = field(default_factory=list)
    weights: Span | None = None
    begun: int = 0
    ends: int = 0
    slack: Slack = field(init=False)

    @property
    def requests(self) -> int:
        """Requests waiting, running and loading, and those that are booked."""
        return len(self.waiting) + len(self.batch) + len(self.stalled) + len(self.booked)

    @property
    def holds(self) -> int:
        """Holds of all for the coming iteration, and what is kept."""
        held = sum(request.hold for request in self.batch + self.stalled) + self.slack.beside
        return held + sum(self.kept.values())

    @property
    def live(self) -> int:
        """Live bytes of all, those that load included, and what is kept."""
        held = sum(request.live for request in self.batch + self.stalled) + self.slack.beside
        return held + sum(self.kept.values())

    @property
    def over_budget(self) -> bool:
        """Whether a request has to leave."""
        return bool(self.batch) and self.budget is not None and self.holds > self.budget

    def fits(self, head: Request) -> bool:
        """Whether the head of the queue may join the batch."""
        batch, service = self.batch, self.service
        if head.swapped and not head.swapped.come:
            return False
        if len(batch) + len(self.stalled) >= service.max_jobs:
            return False
        there = batch + self.stalled
        if not there and not self.kept:
            return True
        if there and service.same_shape and there[0].work != head.work:
            return False
        if there and self.left_for(head) < (1 if head.is_token else head.segment.tokens):
            return False
        more = head.hold - self.slack.shares(head) + self.slack.brings(head)
        return self.budget is None or self.holds + more <= self.budget - service.watermark

    def share_out(self) -> int:
        """Gives those in prefill their chunks of the coming iteration; the tokens that are left."""
        left = self.service.max_tokens
        left -= sum(each.segment.tokens for each in self.taking_part if not each.in_prefill)
        for request in self.batch:
            if request.in_prefill:
                request.feed(max(1, min(request.most, left)))
                left -= request.segment.tokens
        return left

    def left_for(self, head: Request) -> int:
        """What is left of the tokens of an iteration for one that may join."""
        left = self.share_out()
        if self.service.order == 0:
            return left
        others = sum(each.segment.tokens for each in self.batch if not each.in_prefill)
        prefills = sum(each.segment.tokens for each in self.batch if each.in_prefill)
        return self.service.max_tokens - prefills - (0 if head.in_prefill else others)

    @property
    def taking_part(self) -> list[Request]:
        """Who advances in the coming iteration."""
        first = [request for request in self.batch if request.in_prefill]
        return first if self.service.order == 1 and first else self.batch

    def phase_times(self, phases: list[SimpleNamespace]) -> list[tuple[int, list[Request]]]:
        """The iteration's phases in order: ticks, and the requests in it."""
        out = []
        for number, phase in enumerate(phases):
            requests = [each for each in self.taking_part if each.segment.phase == number]
            if requests:
                dense = max(phase.weights, sum(request.segment.dense for request in requests))
                out.append(
                    (phase.launch + dense + sum(request.own for request in requests), requests)
                )
        return out


@dataclass(eq=False)
class WeightSet:
    """The weights of a service in a DRAM pool: who waits for it, how many read it."""

    state: str = "absent"
    waiting: list[Replica] = field(default_factory=list)
    onboarding: int = 0
    span: Span | None = None
