"""The oracle's prefix forest: which nodes lie in which pool, and which go first."""

from __future__ import annotations

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
    """A node in a pool. `use` and `time` are those of its last use, `taken` is when it came."""

    node: int
    bytes: int
    span: Span
    use: int = 0
    time: int = 0
    since: int | None = None  # when it became resident
    taken: int = 0
    uses: int = 1
    plan: SimpleNamespace | None = None  # the replica for which it was taken


class Residence:
    """Nodes in pools. `at(time, kind, sequence, act)` files an event."""

    def __init__(self, tables: dict[str, np.ndarray], store: Store) -> None:
        self.nodes = rows(tables, "nodes") if "nodes" in tables else []
        self.services = rows(tables, "services")
        self.classes = rows(tables, "classes")
        self.store = store
        self.ledger = store.ledger
        self.policies = rows(tables, "policies") if "policies" in tables else []
        self.uses = 0
        self.takings = 0
        self.frequency = [0 for _ in self.nodes]
        self.brought = [bool(each) for each in tables.get("brought", [0] * len(self.nodes))]
        store.residence = self

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
        kind = books.ADAPTERS if self.brought[node] else books.CACHE
        return (pool, kind, self.service(node), self.nodes[node].klass)

    def brought_of(self, node: int) -> list[int]:
        """The brought nodes of a path, root first."""
        return [each for each in self.path(node) if self.brought[each]]

    @property
    def bringing_services(self) -> set[int]:
        """Services that have brought nodes."""
        return {self.service(node) for node, brought in enumerate(self.brought) if brought}

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

    def policy(self, node: int, pool: int, what: str) -> int:
        """What the node's service has to say of the pool's tier: `evict` or `admit`."""
        if not self.policies:
            return 0
        tier = "dram" if self.pool(pool).tier == 1 else "nand"
        return self.says(node, f"{what}_{tier}")

    def says(self, node: int, what: str) -> int:
        """What the node's service has to say."""
        return int(getattr(self.policies[self.service(node)], what)) if self.policies else 0

    def admitted(self, pool: int, node: int) -> bool:
        return self.frequency[node] >= self.policy(node, pool, "admit")

    def count(self, path: list[int], pools: list[int]) -> None:
        """A request has left the path."""
        for node in path:
            self.frequency[node] += 1
            for pool in pools:
                lies = self.find(pool, node)
                if lies is not None:
                    lies.uses += 1

    def take(
        self, pool: int, node: int, plan: SimpleNamespace, now: int, alone: bool = False
    ) -> bool:
        """Take room for a node in flight, if its parent is there, or `alone`."""
        row = self.nodes[node]
        if not alone and row.parent >= 0 and self.find(pool, row.parent) is None:
            return False
        if not self.store.room(pool, row.bytes, now, node):
            return False
        account = self.account(node, pool)
        span = self.ledger.hold(account, row.bytes, now * TICKS)
        self.takings += 1
        self.pool(pool).nodes.append(Lies(node, row.bytes, span, taken=self.takings, plan=plan))
        self.flow(node, pool, books.TAKEN, now)
        return True

    def land(self, pool: int, taken: list[Lies], now: int) -> None:
        for lies in taken:
            if lies in self.pool(pool).nodes:
                lies.since = now
                self.watch(pool, lies, now)

    def go(self, pool: int, lies: Lies, cause: int, now: int) -> None:
        """A node is evicted or expires: one in DRAM may be written back before."""
        if self.pool(pool).tier == 1 and self.says(lies.node, "back") and self.back(lies, now):
            cause = books.MOVED
        self.leave(pool, lies, cause, now)

    def back(self, lies: Lies, now: int) -> bool:
        """Write a node of DRAM back; whether it is on its way to NAND now."""
        raise NotImplementedError

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
                self.go(pool, lies, books.EXPIRED, due)

        sequence = AFTER_OBJECTS + use * len(self.store.pools) + pool
        self.store.at(due, 2, sequence, act)

    def first_to_go(self, pool: int, stays: int = -1) -> Lies | None:
        """Whom Evict picks; `stays` does not go."""
        heads: dict[int, Lies] = {}
        for lies in self.pool(pool).nodes:
            if lies.since is None or lies.node == stays or not self.leaf(pool, lies):
                continue
            order = self.policy(lies.node, pool, "evict")
            head = heads.setdefault(self.service(lies.node), lies)
            if rank(order, lies) < rank(order, head):
                heads[self.service(lies.node)] = lies
        return min(heads.values(), key=lambda lies: lies.use, default=None)

    def least_used(self, pool: int) -> Lies | None:
        """The node without a child in the pool, resident or in flight, that was used first."""
        leaves = [lies for lies in self.pool(pool).nodes if self.leaf(pool, lies)]
        return min(leaves, key=lambda lies: lies.use, default=None)

    def marks(self, pool: int, node: int) -> tuple[int, int]:
        """Bytes in use above which room is made for a node, and down to which (-1: no node)."""
        capacity = self.pool(pool).capacity
        assert capacity is not None
        if node < 0 or not self.policy(node, pool, "high"):
            return capacity, capacity
        high, low = (self.policy(node, pool, what) for what in ("high", "low"))
        return capacity * high // 10**6, capacity * low // 10**6

    def make_room(self, pool: int, amount: int, now: int, node: int) -> None:
        """Evict until `amount` fits or nothing can go; nothing if it could not fit anyway.

        `node` is what is to be taken (-1: it is no node): its parent does not go.
        """
        here = self.pool(pool)
        if here.capacity is None:
            return
        high, low = self.marks(pool, node)
        staying = here.used - sum(lies.bytes for lies in here.nodes)
        if here.used + amount <= high or staying + amount > here.capacity:
            return
        while here.used + amount > low:
            victim = self.first_to_go(pool, self.nodes[node].parent if node >= 0 else -1)
            if victim is None:
                return
            self.go(pool, victim, books.EVICTED, now)

    def shrink(self, pool: int, capacity: int, now: int, resident: bool) -> None:
        """Lose nodes while the pool holds more than its new capacity."""
        while self.pool(pool).used > capacity:
            victim = self.first_to_go(pool) if resident else self.least_used(pool)
            if victim is None:
                return
            self.leave(pool, victim, books.LOST, now)


def rank(order: int, lies: Lies) -> tuple[int, ...]:
    """What is least goes first: lru, lfu, fifo."""
    return [(lies.use,), (lies.uses, lies.use), (lies.taken,)][order]
