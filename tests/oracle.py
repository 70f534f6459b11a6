"""A slow, obvious second opinion on `docs/engine.md`: one iteration at a time.

Written from that page alone, in plain integers. `Oracle` takes the tables that
the compiled engine takes and must give the same arrays (but for `events` and
`boundaries` in `stats`, which say how often an engine looked).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import oracle_ledger as books
from oracle_content import Content
from oracle_handover import HandOvers
from oracle_ledger import TICKS, Ledger, account_rows
from oracle_loading import HITS, SOURCES, Loads
from oracle_replica import DOWN, LOADING, UP, Replica, WeightSet
from oracle_router import Routers
from oracle_slack import Slack
from oracle_store import HBM, Store
from oracle_stuck import Looks
from oracle_swap import Swaps
from oracle_useful import Useful
from oracle_weights import Weights
from oracle_work import Request, rows

EDGE, _, _, ARRIVAL, _ = range(5)
QUEUED, RUNNING, COMPLETED, REJECTED, AWAITED, ABANDONED = range(6)
NEVER = 2**63 - 1
_, _, WENT_DOWN, CAPACITY = range(4)
COLD, WARM = 0, 1


def graph(tables: dict[str, np.ndarray], n: int) -> tuple[list[int], list[int], list[int]]:
    """`after_start`, `after`, `delay`; where there is no graph no request waits."""
    if "after" not in tables:
        return [0] * (n + 1), [], [0] * n
    start, after, delay = (tables[name].tolist() for name in ("after_start", "after", "delay"))
    return start, after, delay


class Oracle(Weights, HandOvers, Loads, Swaps, Looks, Routers):
    """The engine's interface, stepped. Times in ns, sizes in bytes."""

    def __init__(
        self,
        tables: dict[str, np.ndarray],
        horizon_ns: int,
        bin_ns: int,
        lifted: bool,
        routers: dict[int, Any] | None = None,
    ) -> None:
        self.now = 0
        self.functions = routers or {}
        self.horizon = horizon_ns
        self.lifted = lifted
        self.heap: list[tuple[int, int, int, int, Callable[[], None]]] = []
        self.filed = 0
        self.lookups = 0
        self.phases = rows(tables, "phases")
        self.works = rows(tables, "works")
        self.segments = rows(tables, "segments")
        self.services = rows(tables, "services")
        self.classes = rows(tables, "classes")
        plans = rows(tables, "replicas")
        nodes = rows(tables, "nodes") if "nodes" in tables else []
        brought = tables.get("brought", [0] * len(nodes))
        bringing = {row.klass for row, each in zip(nodes, brought, strict=True) if each}
        accounts = account_rows(plans, self.classes, self.services, bringing)
        self.ledger = Ledger(
            accounts, tables["pools"][:, 0].tolist(), len(tables["channels"]), horizon_ns, bin_ns
        )
        self.store = Store(tables, self.ledger, lifted, self.at)
        self.pools = self.store.pools
        self.content = Content(tables, self.store)
        self.useful = Useful(tables, self.content)
        self.limbo: list[list[Request]] = [[] for _ in self.services]
        self.pointer = [0 for _ in self.services]
        self.events: list[tuple[int, int, int, int]] = []
        self.stats = {"events": 0, "boundaries": 0, "steps": 0, "iterations": 0}
        self.replicas = [self.replica(i, plan) for i, plan in enumerate(plans)]
        self.sets = {(p.service, p.dram): WeightSet() for p in plans}
        self.lay_down_checkpoints(plans)
        for replica in self.replicas:
            if replica.plan.start == WARM:
                self.warm_start(replica)
            elif replica.plan.start == COLD:
                self.cold_start(replica)
        self.file(tables)

    def replica(self, row: int, plan: SimpleNamespace) -> Replica:
        service = self.services[plan.service]
        budget = self.pools[plan.hbm].capacity - service.weights - service.reserve
        replica = Replica(row, plan, service, None if self.lifted else budget)
        replica.slack = Slack(replica, self.content, budget)
        return replica

    def file(self, tables: dict[str, np.ndarray]) -> None:
        arrival = tables["arrival"].tolist()
        n = len(arrival)
        self.out = {name: [-1] * n for name in ("start", "first", "end", "replica")}
        self.out |= {"outcome": [QUEUED] * n, "preemptions": [0] * n, "arrived": list(arrival)}
        if any(service.swap for service in self.services):
            self.out["swaps"] = [0] * n
        if self.content.nodes:
            self.out |= {name: [0] * n for name in HITS}
        if "brought" in tables:
            self.out |= {f"brought_{source}": [0] * n for source in (*SOURCES, "again")}
        start, after, self.delay = graph(tables, n)
        self.after = [after[start[row] : start[row + 1]] for row in range(n)]
        self.open = [set(after[start[row] : start[row + 1]]) for row in range(n)]
        self.linked = bool(after)
        self.file_hand_overs(tables, n)
        self.earliest = arrival
        self.prompts, self.outputs = tables["prompt"].tolist(), tables["output"].tolist()
        self.requests = []
        columns = [tables[name].tolist() for name in ("klass", "work", "prompt", "output")]
        for row, (t, klass, work, prompt, output) in enumerate(zip(arrival, *columns, strict=True)):
            work_row = self.works[work]
            segments = self.segments[work_row.segment : work_row.segment + work_row.segments]
            service = self.classes[klass].service
            content = [tables[name].item(row) for name in ("reads", "leaves") if name in tables]
            self.requests.append(
                Request(row, klass, service, work, segments, prompt, output, *content)
            )
            if self.open[row]:
                self.out["outcome"][row] = AWAITED
                self.out["arrived"][row] = -1
            else:
                self.at(t, ARRIVAL, row, partial(self.arrive, self.requests[row]))
        for hand_over in self.hand_overs:
            self.requests[hand_over.taker].takes_over = True

    # Time.

    def at(self, time: int, kind: int, sequence: int, act: Callable[[], None]) -> None:
        """File an event."""
        self.filed += 1
        heapq.heappush(self.heap, (time, kind, sequence, self.filed, act))

    def run_until(self, t: int) -> None:
        """Handle every event with time <= t; then it is t."""
        if not self.now <= t <= self.horizon:
            raise ValueError(f"{t} is not between now ({self.now}) and {self.horizon}")
        while self.heap and self.heap[0][0] <= t:
            self.now, _, _, _, act = heapq.heappop(self.heap)
            self.stats["events"] += 1
            act()
        self.now = t

    # Requests that wait for others.

    def ended(self, row: int, outcome: int) -> list[int]:
        """A request has come to its end: those that wait for it come later, or never. Returns
        the request, and all that are abandoned with it."""
        self.out["outcome"][row] = outcome
        gone = [row]
        if not self.linked:
            return gone
        for waiting, others in enumerate(self.open):
            if row not in others:
                continue
            others.remove(row)
            if self.out["outcome"][waiting] != AWAITED:
                continue
            if outcome != COMPLETED:
                gone += self.ended(waiting, ABANDONED)
            elif not others:
                time = max(self.earliest[waiting], self.out["end"][row] + self.delay[waiting])
                if time <= NEVER:
                    arrive = partial(self.arrive, self.requests[waiting])
                    self.at(time, ARRIVAL, waiting, arrive)
        return gone

    # Routing.

    def arrive(self, request: Request) -> None:
        self.out["outcome"][request.row] = QUEUED
        self.out["arrived"][request.row] = self.now
        budgets = [r.budget for r in self.replicas if r.plan.service == request.service]
        brought = self.content.bytes(self.content.brought_of(request.reads))
        need = request.need + brought
        if any(budget is not None and need > budget for budget in budgets):
            self.refused(self.ended(request.row, REJECTED))
        else:
            self.route(request)

    def route(self, request: Request) -> None:
        replica = self.booked(request) or self.choose(request)
        if replica is None:
            self.limbo[request.service].append(request)
            return
        self.out["replica"][request.row] = replica.row
        replica.waiting.append(request)
        if replica.state == UP and not replica.batch:
            self.edge(replica, self.now * TICKS)

    def choose(self, request: Request) -> Replica | None:
        service = request.service
        row = self.services[service]
        mine = self.replicas[row.replica : row.replica + row.replicas]
        able = [replica for replica in mine if replica.state in (UP, LOADING)]
        if not able:
            return None
        if service in self.functions:
            return self.by_function(self.functions[service], able, request)
        return self.BY_NUMBER[row.router](self, able, request)

    # Iterations.

    def edge(self, replica: Replica, instant: int) -> None:
        """Admit, preempt and begin the next iteration at `instant` (ticks)."""
        self.stats["boundaries"] += 1
        ns = -(-instant // TICKS)
        self.book_idle(replica, instant)
        for giver in replica.freed:
            del replica.kept[giver]
        replica.freed = []
        for request in replica.ready:
            replica.stalled.remove(request)
            replica.batch.append(request)
        replica.ready = []
        while replica.waiting and replica.fits(replica.waiting[0]):
            request = replica.waiting.pop(0)
            first = self.out["start"][request.row] == -1
            taken = first and self.takes_over(replica, request, ns)
            taken = taken or self.swap_in(replica, request, instant)
            if taken or self.loads(replica, request, instant):
                replica.stalled.append(request)
            else:
                replica.batch.append(request)
            self.out["outcome"][request.row] = RUNNING
            if first:
                self.out["start"][request.row] = ns
                self.useful.asked(request.reads, ns)
                self.book(replica, request.row, ns)
            replica.slack.make_room(instant)
        while replica.over_budget:
            request = replica.batch.pop()
            self.out["preemptions"][request.row] += 1
            self.out["outcome"][request.row] = QUEUED
            replica.slack.preempted(request, instant)
            if not self.swap_out(replica, request, ns):
                request.start_over()
            replica.waiting.insert(0, request)
        replica.slack.make_room(instant)
        if replica.batch:
            replica.share_out()
            self.begin(replica, instant)
        else:
            replica.begun = instant

    def book_idle(self, replica: Replica, until: int) -> None:
        """Account for what loads or is kept while nothing runs, since `begun` (ticks)."""
        if replica.batch or replica.state == DOWN or not (replica.stalled or replica.kept):
            return
        hbm, service = replica.plan.hbm, replica.plan.service
        self.ledger.hold((hbm, books.LIVE, service, -1), replica.live, replica.begun, until)
        top = replica.service.weights + replica.live
        self.ledger.top(hbm, top, replica.begun, until)

    def begin(self, replica: Replica, instant: int) -> None:
        replica.begun = instant
        replica.ends = instant + sum(ticks for ticks, _ in replica.phase_times(self.phases))
        generation = replica.generation

        def act() -> None:
            if replica.generation == generation:
                self.iteration_ended(replica)

        self.at(-(-replica.ends // TICKS), EDGE, replica.row, act)

    def iteration_ended(self, replica: Replica) -> None:
        self.book_iteration(replica, replica.ends)
        ns = -(-replica.ends // TICKS)
        self.stats["iterations"] += 1
        advancing = list(replica.taking_part)
        self.stats["steps"] += len(advancing)
        for request in advancing:
            prefill = request.in_prefill
            if request.advance() and self.out["first"][request.row] == -1:
                self.out["first"][request.row] = ns
            if prefill and not request.in_prefill:
                replica.slack.prefill_ended(request, replica.ends)
            if request.done:
                replica.batch.remove(request)
                self.out["end"][request.row] = ns
                self.keep(replica, request.row)
                self.ended(request.row, COMPLETED)
                work = self.works[request.work]
                left = (work.artifact, request.context if request.is_token else work.context)
                klass = self.classes[request.klass]
                self.store.finished(request, klass, replica.plan, left, ns)
                replica.slack.completed(request, replica.ends)
                if request.leaves >= 0:
                    self.content.left(request.leaves, replica.plan, ns)
                    self.useful.left(request.leaves, ns)
        replica.begun = replica.ends
        self.edge(replica, replica.ends)

    def book_iteration(self, replica: Replica, until: int) -> None:
        """Account for the running iteration over `[begun, until)` ticks."""
        hbm, service = replica.plan.hbm, replica.plan.service
        live = replica.live
        self.ledger.hold((hbm, books.LIVE, service, -1), live, replica.begun, until)
        peak = 0
        start = replica.begun
        for ticks, requests in replica.phase_times(self.phases):
            peak = max(peak, sum(request.segment.peak for request in requests))
            mean = sum(request.segment.mean for request in requests)
            end = min(start + ticks, until)
            if start < end:
                self.ledger.hold((hbm, books.TRANSIENT, service, -1), mean, start, end)
            start += ticks
        self.ledger.top(hbm, replica.service.weights + live + peak, replica.begun, until)

    # Control.

    def event(self, kind: int, subject: int, value: int = 0) -> None:
        self.events.append((self.now, kind, subject, value))

    def fail(self, r: int) -> None:
        """Replica `r` dies now."""
        self.run_until(self.now)
        replica = self.replicas[r]
        if replica.state == DOWN:
            raise ValueError(f"replica {r} is down already")
        if replica.batch:
            self.book_iteration(replica, self.now * TICKS)
        self.book_idle(replica, self.now * TICKS)
        replica.generation += 1
        replica.state = DOWN
        self.event(WENT_DOWN, r)
        if replica.weights is not None:
            replica.weights.end = self.now * TICKS
            replica.weights = None
        weights = self.weight_set(replica)
        if replica in weights.waiting:
            weights.waiting.remove(replica)
        replica.slack.lose(self.now * TICKS)
        requests = replica.batch + replica.stalled + replica.waiting
        replica.batch, replica.stalled, replica.ready, replica.waiting = [], [], [], []
        replica.kept, replica.freed, replica.booked = {}, [], []
        for request in requests:
            self.lose(request)
        for request in requests:
            request.start_over()
            self.out["outcome"][request.row] = QUEUED
            self.route(request)

    def start(self, r: int) -> None:
        """Replica `r`, which is down, starts cold now."""
        self.run_until(self.now)
        if self.replicas[r].state != DOWN:
            raise ValueError(f"replica {r} is not down")
        self.cold_start(self.replicas[r])

    def set_capacity(self, pool: int, amount: int) -> None:
        """A DRAM or NAND pool has `amount` bytes from now on."""
        self.run_until(self.now)
        if self.pools[pool].tier == HBM:
            raise ValueError(f"pool {pool} is HBM")
        if not self.lifted:
            self.store.shrink(pool, amount, self.now)
            self.lose_until_it_fits(pool)
        self.event(CAPACITY, pool, amount)

    # A look inside, for what runs between stops.

    def state(self, r: int) -> int:
        """0 down, 1 loading, 2 up."""
        return {DOWN: 0, LOADING: 1, UP: 2}[self.replicas[r].state]

    def running(self, r: int) -> int:
        """Requests in the batch and those that load."""
        return len(self.replicas[r].batch) + len(self.replicas[r].stalled)

    def waiting(self, r: int) -> int:
        """Requests in the queue."""
        return len(self.replicas[r].waiting)

    def used(self, pool: int) -> int:
        """Bytes held in a DRAM or NAND pool."""
        return self.pools[pool].used

    @property
    def completed(self) -> int:
        """Requests that have ended so far."""
        return self.out["outcome"].count(COMPLETED)

    def finish(self) -> dict[str, Any]:
        """Run to the horizon and give all arrays."""
        self.run_until(self.horizon)
        self.store.links.stop(self.horizon)
        for replica in self.replicas:
            if replica.batch:
                self.book_iteration(replica, min(replica.ends, self.horizon * TICKS))
            self.book_idle(replica, self.horizon * TICKS)
        out: dict[str, Any] = {k: np.array(v, dtype=np.int64) for k, v in self.out.items()}
        out |= self.ledger.arrays()
        out |= self.useful.arrays(len(self.classes), self.horizon, self.ledger.bin)
        out["events"] = np.array(self.events, dtype=np.int64).reshape(-1, 4)
        out["stats"] = dict(self.stats)
        return out
