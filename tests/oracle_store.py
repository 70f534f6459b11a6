"""The oracle's tiers below HBM: pools, channels, finished clips and kept contexts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import oracle_ledger as books
from oracle_ledger import TICKS, Ledger, Span
from oracle_links import At, Links
from oracle_work import Request, rows

HBM, DRAM, NAND = range(3)

if TYPE_CHECKING:
    from oracle_residence import Lies, Residence
    from oracle_swap import Swapped


@dataclass
class Place:
    """Where an object lies: `order` is its age (of residence, or of its transfer in)."""

    span: Span
    resident: bool
    order: int


@dataclass(eq=False)
class Kept:
    """A finished clip or a context, in one pool or, on its way, in two."""

    category: int
    service: int
    klass: int
    bytes: int
    replica: SimpleNamespace
    dram_ns: int
    nand_ns: int
    places: dict[int, Place] = field(default_factory=dict)


@dataclass
class Pool:
    """A DRAM or NAND pool and what is in it. Capacity None: no limit."""

    tier: int
    capacity: int | None
    weights: int = 0
    objects: list[Kept] = field(default_factory=list)
    nodes: list[Lies] = field(default_factory=list)
    swapped: list[Swapped] = field(default_factory=list)

    @property
    def used(self) -> int:
        lying = [*self.objects, *self.nodes, *self.swapped]
        return self.weights + sum(each.bytes for each in lying)

    def has_room(self, amount: int) -> bool:
        return self.capacity is None or self.used + amount <= self.capacity


class Store:
    """Pools, channels and objects. `at(time, kind, sequence, act)` files an event."""

    residence: Residence

    def __init__(self, tables: dict[str, np.ndarray], ledger: Ledger, lifted: bool, at: At) -> None:
        self.ledger = ledger
        self.at = at
        self.pools = [
            Pool(p.tier, None if lifted and p.tier != HBM else p.capacity)
            for p in rows(tables, "pools")
        ]
        self.links = Links(rows(tables, "channels"), ledger, at)
        starts = tables["path_start"].tolist()
        links = tables["path_channels"].tolist()
        self.paths = [links[a:b] for a, b in pairwise(starts)]
        self.residences = 0

    def transfer(self, now: int, amount: int, paths: list[int], then: Callable[[int], None]) -> int:
        """Move `amount` bytes over the paths' channels; `then(end)` is called at its end."""
        channels = [channel for path in paths for channel in self.paths[path]]
        return self.links.transfer(now, amount, channels, then)

    def time_to_bring(self, amount: int, paths: list[int]) -> int:
        """The ns that `amount` bytes take over the paths' channels, if nothing else does."""
        channels = [channel for path in paths for channel in self.paths[path]]
        rows = self.links.channels
        slowest = min(max(1, rows[c].bandwidth // channels.count(c)) for c in channels)
        return -(-amount * 10**9 // slowest) + sum(rows[c].latency for c in channels)

    def room(self, pool: int, amount: int, now: int, node: int = -1) -> bool:
        """Whether there is room in a pool (for a node), once nodes of the forest have made it."""
        self.residence.make_room(pool, amount, now, node)
        return self.pools[pool].has_room(amount)

    # Objects: taken, landed, due, freed.

    def account(self, kept: Kept, pool: int) -> books.Account:
        return (pool, kept.category, kept.service, kept.klass)

    def take(self, kept: Kept, pool: int, now: int, paths: list[int]) -> None:
        """Take room in `pool` and start the transfer that fills it."""
        account = self.account(kept, pool)
        place = Place(self.ledger.hold(account, kept.bytes, now * TICKS), False, 0)
        kept.places[pool] = place
        self.pools[pool].objects.append(kept)
        self.ledger.flow(account, books.TAKEN, kept.bytes, now)
        place.order = self.transfer(now, kept.bytes, paths, lambda end: self.land(kept, pool, end))

    def free(self, kept: Kept, pool: int, now: int, cause: int) -> None:
        place = kept.places.pop(pool)
        place.span.end = now * TICKS
        self.pools[pool].objects.remove(kept)
        self.ledger.flow(self.account(kept, pool), cause, kept.bytes, now)

    def count(self, kept: Kept, pool: int, now: int, cause: int) -> None:
        """A flow of bytes that were never taken."""
        self.ledger.flow(self.account(kept, pool), cause, kept.bytes, now)

    def finished(
        self,
        request: Request,
        klass: SimpleNamespace,
        replica: SimpleNamespace,
        left: tuple[int, int],
        now: int,
    ) -> None:
        """A request has ended: store its artifact, then its context; `left`: bytes of each."""
        artifact, context = left
        for category, amount, dram_ns, nand_ns in (
            (books.ARTIFACTS, artifact, klass.artifact_dram, klass.artifact_nand),
            (
                books.CACHE,
                0 if self.leaves_content(request) else context,
                klass.context_dram,
                klass.context_nand,
            ),
        ):
            if amount > 0 and (dram_ns > 0 or nand_ns > 0):
                kept = Kept(
                    category, request.service, request.klass, amount, replica, dram_ns, nand_ns
                )
                self.keep(kept, now)

    def leaves_content(self, request: Request) -> bool:
        """Whether it leaves a node that is computed."""
        return request.leaves >= 0 and not self.residence.brought[request.leaves]

    def keep(self, kept: Kept, now: int) -> None:
        dram, store = kept.replica.dram, kept.replica.store
        if kept.dram_ns > 0:
            if self.room(dram, kept.bytes, now):
                self.take(kept, dram, now, [kept.replica.offload])
                return
            self.count(kept, dram, now, books.SPILLED)
        if kept.nand_ns == 0:
            self.count(kept, dram, now, books.DROPPED)
        elif self.make_room(store, kept.bytes, now):
            self.take(kept, store, now, [kept.replica.offload, kept.replica.spill])
        else:
            self.count(kept, store, now, books.DROPPED)

    def land(self, kept: Kept, pool: int, now: int) -> None:
        """The transfer into `pool` has ended."""
        if pool not in kept.places:
            return
        dram = kept.replica.dram
        if pool != dram and dram in kept.places:
            self.free(kept, dram, now, books.MOVED)
        self.residences += 1
        kept.places[pool].resident = True
        kept.places[pool].order = self.residences
        stay = kept.dram_ns if pool == dram else kept.nand_ns
        self.at(now + stay, 2, self.residences, lambda: self.due(kept, pool, now + stay))

    def due(self, kept: Kept, pool: int, now: int) -> None:
        """Its time in `pool` is up."""
        if pool not in kept.places:
            return
        store = kept.replica.store
        if pool != kept.replica.dram or kept.nand_ns == 0:
            self.free(kept, pool, now, books.EXPIRED)
        elif self.make_room(store, kept.bytes, now):
            self.take(kept, store, now, [kept.replica.spill])
        else:
            self.count(kept, store, now, books.DROPPED)
            self.free(kept, pool, now, books.MOVED)

    def by_age(self, pool: int, category: int | None, resident: bool) -> list[Kept]:
        found = [
            kept
            for kept in self.pools[pool].objects
            if kept.places[pool].resident == resident and category in (None, kept.category)
        ]
        return sorted(found, key=lambda kept: kept.places[pool].order)

    def make_room(self, pool: int, amount: int, now: int) -> bool:
        """Evict contexts, oldest first, until `amount` fits; none if it never will."""
        if self.room(pool, amount, now):
            return True
        here = self.pools[pool]
        contexts = self.by_age(pool, books.CACHE, resident=True)
        evictable = sum(kept.bytes for kept in contexts)
        if here.capacity is not None and here.used - evictable + amount > here.capacity:
            return False
        while not here.has_room(amount):
            self.free(contexts.pop(0), pool, now, books.EVICTED)
        return True

    def shrink(self, pool: int, capacity: int, now: int) -> None:
        """A new capacity: what no longer fits is lost, in every pool that holds it."""
        here = self.pools[pool]
        if capacity < here.weights:
            raise ValueError(f"weights of {here.weights} bytes exceed {capacity}")
        here.capacity = capacity
        self.residence.shrink(pool, capacity, now, resident=True)
        victims = (
            self.by_age(pool, books.CACHE, resident=True)
            + self.by_age(pool, books.ARTIFACTS, resident=True)
            + self.by_age(pool, None, resident=False)
        )
        while here.used > capacity and victims:
            victim = victims.pop(0)
            for each in list(victim.places):
                self.free(victim, each, now, books.LOST)
        self.residence.shrink(pool, capacity, now, resident=False)
