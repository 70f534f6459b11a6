"""The oracle's prefix forest: what lies of it in DRAM and NAND, loaded and left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import oracle_ledger as books
from oracle_ledger import TICKS, Span
from oracle_store import Pool, Store
from oracle_work import rows

AFTER_OBJECTS = 1 << 60


@dataclass(eq=False)
class Lies:
    """A node in a pool. `use` and `time` are those of its last use."""

    node: int
    bytes: int
    span: Span
    use: int = 0
    time: int = 0
    since: int | None = None  # when it became resident


class Content:
    """Nodes in pools. `at(time, kind, sequence, act)` files an event."""

    def __init__(self, tables: dict[str, np.ndarray], store: Store) -> None:
        self.nodes = rows(tables, "nodes") if "nodes" in tables else []
        self.services = rows(tables, "services")
        self.classes = rows(tables, "classes")
        self.store = store
        self.ledger = store.ledger
        self.uses = 0
        store.content = self

    def path(self, node: int) -> list[int]:
        """The nodes from the root to this one."""
        out: list[int] = []
        while node >= 0:
            out.insert(0, node)
            node = self.nodes[node].parent
        return out

    def service(self, node: int) -> int:
        return int(self.classes[self.nodes[node].klass].service)

    def account(self, node: int, pool: int) -> books.Account:
        return (pool, books.CACHE, self.service(node), self.nodes[node].klass)

    def flow(self, node: int, pool: int, cause: int, now: int) -> None:
        self.ledger.flow(self.account(node, pool), cause, self.nodes[node].bytes, now)

    def pool(self, pool: int) -> Pool:
        return self.store.pools[pool]

    def find(self, pool: int, node: int) -> Lies | None:
        return next((lies for lies in self.pool(pool).nodes if lies.node == node), None)

    def resident(self, pool: int, node: int) -> bool:
        lies = self.find(pool, node)
        return lies is not None and lies.since is not None

    def leaf(self, pool: int, lies: Lies) -> bool:
        """No child of it is in the pool."""
        return all(self.nodes[other.node].parent != lies.node for other in self.pool(pool).nodes)

    # One node.

    def touch(self, path: list[int], pools: list[int], now: int) -> None:
        for pool in pools:
            for node in reversed(path):
                lies = self.find(pool, node)
                if lies is not None:
                    self.uses += 1
                    lies.use, lies.time = self.uses, now
                    self.watch(pool, lies, now)

    def take(self, pool: int, node: int, now: int) -> bool:
        """Take room for a node in flight, if its parent is there."""
        row = self.nodes[node]
        if row.parent >= 0 and self.find(pool, row.parent) is None:
            return False
        if not self.store.room(pool, row.bytes, now):
            return False
        if row.parent >= 0 and self.find(pool, row.parent) is None:
            return False
        account = self.account(node, pool)
        span = self.ledger.hold(account, row.bytes, now * TICKS)
        self.pool(pool).nodes.append(Lies(node, row.bytes, span))
        self.flow(node, pool, books.TAKEN, now)
        return True

    def land(self, pool: int, taken: list[Lies], now: int) -> None:
        for lies in taken:
            if lies in self.pool(pool).nodes:
                lies.since = now
                self.watch(pool, lies, now)

    def leave(self, pool: int, lies: Lies, cause: int, now: int) -> None:
        self.pool(pool).nodes.remove(lies)
        lies.span.end = now * TICKS
        self.flow(lies.node, pool, cause, now)
        parent = self.find(pool, self.nodes[lies.node].parent)
        if parent is not None:
            self.watch(pool, parent, now)

    # Time and room.

    def watch(self, pool: int, lies: Lies, now: int) -> None:
        """File the instant at which the node is due, as things are now."""
        if lies.since is None or not self.leaf(pool, lies):
            return
        service = self.services[self.service(lies.node)]
        stay = service.cache_dram if self.pool(pool).tier == 1 else service.cache_nand
        due = max(lies.time + stay, lies.since, now)
        use = lies.use

        def act() -> None:
            there = lies in self.pool(pool).nodes
            if there and lies.use == use and self.leaf(pool, lies):
                self.leave(pool, lies, books.EXPIRED, due)

        sequence = AFTER_OBJECTS + use * len(self.store.pools) + pool
        self.store.at(due, 2, sequence, act)

    def free_to_go(self, pool: int, resident: bool) -> Lies | None:
        """The node without a child in the pool that was used first."""
        found = [
            lies
            for lies in self.pool(pool).nodes
            if self.leaf(pool, lies) and (lies.since is not None or not resident)
        ]
        return min(found, key=lambda lies: lies.use, default=None)

    def make_room(self, pool: int, amount: int, now: int) -> None:
        """Evict until `amount` fits or nothing can go; nothing if it could not fit anyway."""
        here = self.pool(pool)
        if here.capacity is None:
            return
        if here.used + amount - sum(lies.bytes for lies in here.nodes) > here.capacity:
            return
        while not here.has_room(amount):
            victim = self.free_to_go(pool, resident=True)
            if victim is None:
                return
            self.leave(pool, victim, books.EVICTED, now)

    def shrink(self, pool: int, capacity: int, now: int, resident: bool) -> None:
        """Lose nodes while the pool holds more than its new capacity."""
        while self.pool(pool).used > capacity:
            victim = self.free_to_go(pool, resident)
            if victim is None:
                return
            self.leave(pool, victim, books.LOST, now)

    # A request that loads, and one that leaves its turn behind.

    def look_up(self, reads: int, plan: SimpleNamespace) -> tuple[list[int], list[int]]:
        """The nodes of the longest prefix, found in DRAM and found in NAND."""
        dram: list[int] = []
        nand: list[int] = []
        for node in self.path(reads):
            if self.resident(plan.dram, node):
                dram.append(node)
            elif self.resident(plan.store, node):
                nand.append(node)
            else:
                break
        return dram, nand

    def tokens(self, nodes: list[int]) -> int:
        return sum(self.nodes[node].tokens for node in nodes)

    def bytes(self, nodes: list[int]) -> int:
        return sum(self.nodes[node].bytes for node in nodes)

    def load(
        self,
        found: tuple[list[int], list[int]],
        plan: SimpleNamespace,
        now: int,
        done: Callable[[int], None],
    ) -> int:
        """Start the transfers of what was found; how many there are."""
        dram, nand = found
        whole = dram + nand
        pools = [plan.dram, plan.store]
        self.touch(whole, pools, now)
        for pool, nodes in zip(pools, found, strict=True):
            for node in nodes:
                self.flow(node, pool, books.READ, now)
        if dram:
            self.store.transfer(now, self.bytes(dram), [plan.onboard], done)
        if not nand:
            return 1
        taken: list[Lies] = []
        if self.services[plan.service].cache_dram > 0:
            for node in nand:
                if self.find(plan.dram, node) is not None:
                    continue
                if not self.take(plan.dram, node, now):
                    break
                taken.append(self.pool(plan.dram).nodes[-1])
        if taken:
            self.touch(whole, pools, now)

        def arrived(end: int) -> None:
            self.land(plan.dram, taken, end)
            done(end)

        self.store.transfer(now, self.bytes(nand), [plan.fetch, plan.onboard], arrived)
        return 2 if dram else 1

    def fill(self, pool: int, path: list[int], now: int, source: int | None = None) -> list[Lies]:
        """Take the nodes of a path that the pool lacks; those with no room are dropped.

        With a `source` only what is resident there, and not past the first that is not.
        """
        taken: list[Lies] = []
        for place, node in enumerate(path):
            if self.find(pool, node) is not None:
                continue
            if source is not None and not self.resident(source, node):
                break
            if not self.take(pool, node, now):
                for lost in path[place:]:
                    if self.find(pool, lost) is None:
                        self.flow(lost, pool, books.DROPPED, now)
                break
            taken.append(self.pool(pool).nodes[-1])
        return taken

    def left(self, leaves: int, plan: SimpleNamespace, now: int) -> None:
        """A request has completed: its path is written where it is lacking."""
        path = self.path(leaves)
        service = self.services[plan.service]
        pools = [plan.dram, plan.store]
        self.touch(path, pools, now)
        if service.cache_dram > 0:
            taken = self.fill(plan.dram, path, now)
            self.touch(path, pools, now)

            def arrived(end: int) -> None:
                self.land(plan.dram, taken, end)
                self.write_through(path, plan, end)

            if taken:
                amount = sum(lies.bytes for lies in taken)
                self.store.transfer(now, amount, [plan.offload], arrived)
            else:
                self.write_through(path, plan, now)
        elif service.cache_nand > 0:
            taken = self.fill(plan.store, path, now)
            self.touch(path, pools, now)
            self.write(taken, plan, now, [plan.offload, plan.spill])

    def write_through(self, path: list[int], plan: SimpleNamespace, now: int) -> None:
        if self.services[plan.service].cache_nand == 0:
            return
        taken = self.fill(plan.store, path, now, source=plan.dram)
        for lies in taken:
            copy = self.find(plan.dram, lies.node)
            assert copy is not None
            lies.use, lies.time = copy.use, copy.time
        self.write(taken, plan, now, [plan.spill])

    def write(self, taken: list[Lies], plan: SimpleNamespace, now: int, paths: list[int]) -> None:
        if taken:
            amount = sum(lies.bytes for lies in taken)
            self.store.transfer(now, amount, paths, lambda end: self.land(plan.store, taken, end))
