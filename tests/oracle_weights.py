"""The oracle's weights: checkpoints in NAND, sets in DRAM, replicas that load and come up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import oracle_ledger as books
from oracle_ledger import TICKS, Account
from oracle_replica import LOADING, UP, Replica, WeightSet

WENT_LOADING, WENT_UP = range(2)


class Weights:
    """What an `Oracle` does with weights; of it are all attributes."""

    now: int
    ledger: Any
    services: Any
    pools: Any
    store: Any
    sets: dict[Any, WeightSet]
    content: Any
    limbo: Any
    event: Any
    edge: Any
    route: Any

    def lay_down_checkpoints(self, plans: list[SimpleNamespace]) -> None:
        for service, home in dict.fromkeys((p.service, p.home) for p in plans):
            checkpoint = self.services[service].checkpoint
            self.ledger.hold((home, books.WEIGHTS, service, -1), checkpoint, 0)
            self.pools[home].weights += checkpoint
        for service, pool in dict.fromkeys((p.service, p.library) for p in plans):
            if service in self.content.bringing_services:
                library = self.services[service].library
                self.ledger.hold((pool, books.WEIGHTS, service, -1), library, 0)
                self.pools[pool].weights += library

    def weight_set(self, replica: Replica) -> WeightSet:
        return self.sets[replica.plan.service, replica.plan.dram]

    def take_set(self, replica: Replica, state: str) -> bool:
        """Room in DRAM for the weights, if there is any."""
        amount = replica.service.checkpoint
        pool = self.pools[replica.plan.dram]
        if not self.store.room(replica.plan.dram, amount, self.now):
            return False
        pool.weights += amount
        weights = self.weight_set(replica)
        weights.state = state
        account = (replica.plan.dram, books.WEIGHTS, replica.plan.service, -1)
        weights.span = self.ledger.hold(account, amount, self.now * TICKS)
        return True

    def hold_hbm(self, replica: Replica) -> None:
        account: Account = (replica.plan.hbm, books.WEIGHTS, replica.plan.service, -1)
        replica.weights = self.ledger.hold(account, replica.service.weights, self.now * TICKS)

    def warm_start(self, replica: Replica) -> None:
        self.hold_hbm(replica)
        if replica.service.keep and self.weight_set(replica).state == "absent":
            self.take_set(replica, "resident")
        self.come_up(replica, replica.generation)

    def cold_start(self, replica: Replica) -> None:
        replica.state = LOADING
        self.event(WENT_LOADING, replica.row)
        weights = self.weight_set(replica)
        plan, service = replica.plan, replica.service
        generation = replica.generation
        if weights.state == "resident":
            self.onboard(replica)
        elif weights.state == "loading":
            weights.waiting.append(replica)
        elif self.take_set(replica, "loading"):
            weights.waiting.append(replica)
            self.store.transfer(
                self.now, service.checkpoint, [plan.load], lambda _: self.loaded(replica)
            )
        else:
            self.hold_hbm(replica)
            self.store.transfer(
                self.now,
                service.checkpoint,
                [plan.load, plan.onboard],
                lambda _: self.come_up(replica, generation),
            )
        queue, self.limbo[plan.service] = self.limbo[plan.service], []
        for request in queue:
            self.route(request)

    def loaded(self, first: Replica) -> None:
        """The set that `first` asked for is in DRAM, whatever became of `first`."""
        weights = self.weight_set(first)
        weights.state = "resident"
        queue, weights.waiting = weights.waiting, []
        for replica in queue:
            self.onboard(replica)
        self.maybe_leave(first)

    def onboard(self, replica: Replica) -> None:
        self.hold_hbm(replica)
        self.weight_set(replica).onboarding += 1
        generation = replica.generation

        def then(_: int) -> None:
            self.weight_set(replica).onboarding -= 1
            self.come_up(replica, generation)
            self.maybe_leave(replica)

        self.store.transfer(self.now, replica.service.weights, [replica.plan.onboard], then)

    def maybe_leave(self, replica: Replica) -> None:
        """Without `keep` a set leaves DRAM once nobody waits for it or reads it."""
        weights = self.weight_set(replica)
        if replica.service.keep or weights.waiting or weights.onboarding:
            return
        assert weights.state == "resident"
        assert weights.span is not None
        weights.state = "absent"
        weights.span.end = self.now * TICKS
        self.pools[replica.plan.dram].weights -= replica.service.checkpoint

    def come_up(self, replica: Replica, generation: int) -> None:
        if replica.generation != generation:
            return
        replica.state = UP
        self.event(WENT_UP, replica.row)
        if replica.waiting:
            self.edge(replica, self.now * TICKS)
