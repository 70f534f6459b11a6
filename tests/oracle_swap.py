"""The oracle's swapped requests: preempted ones that lie in DRAM until they are brought back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import oracle_ledger as books
from oracle_ledger import TICKS, Account, Span
from oracle_replica import UP, Replica
from oracle_work import Request


@dataclass(eq=False)
class Swapped:
    """The bytes of a request in DRAM, or on their way there or back."""

    request: Request
    replica: Replica
    account: Account
    bytes: int
    span: Span
    come: bool = False


class Swaps:
    """What an `Oracle` does with swapped requests; of it are all attributes."""

    now: int
    out: Any
    ledger: Any
    pools: Any
    store: Any
    edge: Any
    wake: Any
    bring: Any
    content: Any
    replicas: Any

    def swap_out(self, replica: Replica, request: Request, ns: int) -> bool:
        """Whether a request that is preempted goes to DRAM; if so it is on its way."""
        if not replica.service.swap:
            return False
        pool, amount = replica.plan.dram, request.live
        account = (pool, books.LIVE, request.service, request.klass)
        if not self.store.room(pool, amount, ns):
            self.ledger.flow(account, books.DROPPED, amount, ns)
            return False
        self.out["swaps"][request.row] += 1
        self.ledger.flow(account, books.TAKEN, amount, ns)
        span = self.ledger.hold(account, amount, ns * TICKS)
        swapped = Swapped(request, replica, account, amount, span)
        request.swapped = swapped
        self.pools[pool].swapped.append(swapped)

        def came(end: int) -> None:
            swapped.come = True
            if request.swapped is swapped and not replica.batch:
                self.edge(replica, end * TICKS)

        self.store.transfer(ns, amount, [replica.plan.offload], came)
        return True

    def swap_in(self, replica: Replica, request: Request, instant: int) -> bool:
        """Whether a request that is admitted lies in DRAM; if so it is on its way back."""
        swapped = request.swapped
        if swapped is None:
            return False
        generation = replica.generation
        ns = -(-instant // TICKS)
        brought = self.content.brought_of(request.reads)
        here = [node for node in brought if node in replica.slack.nodes]
        replica.slack.hold(request, here, instant)

        def arrived(what: str | int) -> None:
            if replica.generation != generation:
                return
            waits.remove(what)
            if not waits:
                request.swapped = None
                replica.ready.append(request)

        waits = self.bring(replica, request, instant, arrived)
        waits.add("swap")

        def back(end: int) -> None:
            self.free(swapped, books.MOVED, end)
            if replica.generation == generation:
                arrived("swap")
                self.wake(replica, end)

        self.store.transfer(ns, swapped.bytes, [replica.plan.onboard], back)
        return True

    def free(self, swapped: Swapped, cause: int, now: int) -> None:
        """Its bytes leave DRAM, if they are still there."""
        lying = self.pools[swapped.account[0]].swapped
        if swapped in lying:
            lying.remove(swapped)
            swapped.span.end = now * TICKS
            self.ledger.flow(swapped.account, cause, swapped.bytes, now)

    def lose(self, request: Request) -> None:
        """The replica of a request fails."""
        if request.swapped is not None:
            self.free(request.swapped, books.LOST, self.now)
            request.swapped = None

    def lose_until_it_fits(self, pool: int) -> None:
        """A pool has shrunk and nothing else can leave it."""
        here = self.pools[pool]
        woken = set()
        while here.swapped and here.used > here.capacity:
            swapped = here.swapped[0]
            request, replica = swapped.request, swapped.replica
            self.free(swapped, books.LOST, self.now)
            if request in replica.waiting:
                request.swapped = None
                request.start_over()
                woken.add(replica)
        for replica in self.replicas:
            if replica in woken and replica.state == UP and not replica.batch:
                self.edge(replica, self.now * TICKS)
