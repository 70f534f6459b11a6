"""The oracle's content: what is loaded of the prefix forest, and what turns leave behind."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import oracle_ledger as books
from oracle_residence import Lies, Residence


class Content(Residence):
    """Nodes in pools, read and written by requests."""

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
        whole = sorted(dram + nand)  # from the root on: a parent is a lower row
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

        With a `source` only what is resident there, and not past the first that is not; what
        was not used often enough stays out.
        """
        taken: list[Lies] = []
        for place, node in enumerate(path):
            if self.find(pool, node) is not None:
                continue
            if source is not None and not self.resident(source, node):
                break
            if not self.admitted(pool, node):
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
        self.count(path, pools)
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
