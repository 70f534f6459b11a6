"""The oracle's content: what is loaded of the prefix forest, and what turns leave behind."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import oracle_ledger as books
from oracle_ledger import TICKS
from oracle_residence import Lies, Residence
from oracle_work import Request, chunk


class Load:
    """What a request waits for, and the tokens it joins with: in HBM, from DRAM, from NAND."""

    def __init__(self, hbm: int, found: list[int], head: int) -> None:
        self.tokens = [hbm, *found]
        self.head = head
        self.waits: set[str | int] = set()  # brought nodes, and what tiers have of the prefix

    def late(self) -> None:
        """What comes from NAND is waited for no more."""
        self.tokens[1:] = [self.head, 0]
        self.waits.remove("nand")
        if not self.head:
            self.waits.discard("dram")


class Content(Residence):
    """Nodes in pools, read and written by requests."""

    def look_up(self, reads: int, plan: SimpleNamespace, above: int) -> tuple[list[int], list[int]]:
        """The nodes of the longest prefix, found in DRAM and found in NAND, but the first ones."""
        dram: list[int] = []
        nand: list[int] = []
        for node in self.path(reads)[above:]:
            if self.resident(plan.dram, node):
                dram.append(node)
            elif self.resident(plan.store, node):
                nand.append(node)
            else:
                break
        return dram, nand

    def worth(
        self,
        above: list[int],
        found: tuple[list[int], list[int]],
        request: Request,
        plan: SimpleNamespace,
    ) -> tuple[list[int], list[int]]:
        """What of it comes sooner than it is computed, where only that is to be loaded."""
        dram, nand = found
        if not (dram or nand) or not self.says((dram + nand)[0], "faster"):
            return found
        head, there = self.head(found), self.tokens(above)
        row = request.rows[0]
        if nand:
            before, after = self.tokens(head), self.tokens(dram + nand) - self.tokens(head)
            bring = self.store.time_to_bring(self.bytes(nand), [plan.fetch, plan.onboard])
            if bring * TICKS >= to_compute(row, there + before, after):
                dram, nand = head, []
        if dram:
            bring = self.store.time_to_bring(self.bytes(dram), [plan.onboard])
            if bring * TICKS >= to_compute(row, there, self.tokens(dram + nand)):
                return [], []
        return dram, nand

    def patience(self, found: tuple[list[int], list[int]]) -> int | None:
        """The ns that a request waits for what comes from NAND; None: until it has come."""
        _, nand = found
        if not nand or not self.says(nand[0], "wait"):
            return None
        base, ki = self.says(nand[0], "wait_base"), self.says(nand[0], "wait_ki")
        return base + ki * self.tokens(nand) // 1024

    def head(self, found: tuple[list[int], list[int]]) -> list[int]:
        """The nodes before the first that was found in NAND."""
        dram, nand = found
        return [node for node in dram if not nand or node < nand[0]]

    def tokens(self, nodes: list[int]) -> int:
        return sum(self.nodes[node].tokens for node in nodes)

    def bytes(self, nodes: list[int]) -> int:
        return sum(self.nodes[node].bytes for node in nodes)

    def load(
        self,
        above: list[int],
        found: tuple[list[int], list[int]],
        plan: SimpleNamespace,
        now: int,
        from_dram: Callable[[int], None],
        from_nand: Callable[[int], None],
    ) -> None:
        """Start the transfers of what was found below the nodes hit."""
        dram, nand = found
        whole = above + sorted(dram + nand)  # from the root on: a parent is a lower row
        pools = [plan.dram, plan.store]
        self.touch(whole, pools, now)
        for pool, nodes in zip(pools, found, strict=True):
            for node in nodes:
                self.flow(node, pool, books.READ, now)
        if dram:
            self.store.transfer(now, self.bytes(dram), [plan.onboard], from_dram)
        if not nand:
            return
        taken: list[Lies] = []
        if self.services[plan.service].cache_dram > 0:
            for node in nand:
                if self.find(plan.dram, node) is not None:
                    continue
                if not self.take(plan.dram, node, plan, now):
                    break
                taken.append(self.pool(plan.dram).nodes[-1])
        if taken:
            self.touch(whole, pools, now)

        def arrived(end: int) -> None:
            self.come(taken, plan, end)
            from_nand(end)

        self.store.transfer(now, self.bytes(nand), [plan.fetch, plan.onboard], arrived)

    def bring(self, node: int, plan: SimpleNamespace, now: int, then: Callable[[int], None]) -> str:
        """Start the transfer of a brought node to HBM; where it comes from."""
        taken: list[Lies] = []
        if self.resident(plan.dram, node):
            source, paths = "dram", [plan.onboard]
            self.flow(node, plan.dram, books.READ, now)
        elif self.resident(plan.store, node):
            source, paths = "nand", [plan.fetch, plan.onboard]
            self.flow(node, plan.store, books.READ, now)
        else:
            source, paths = "library", [plan.bring]
        often = (
            source == "nand" or self.frequency[node] >= self.policy(node, plan.dram, "admit") - 1
        )
        wanted = source != "dram" and self.services[plan.service].cache_dram > 0 and often
        if wanted and self.find(plan.dram, node) is None and self.take(plan.dram, node, plan, now):
            taken.append(self.pool(plan.dram).nodes[-1])

        def arrived(end: int) -> None:
            self.come(taken, plan, end)
            then(end)

        self.store.transfer(now, self.nodes[node].bytes, paths, arrived)
        return source

    def come(self, taken: list[Lies], plan: SimpleNamespace, now: int) -> None:
        """A transfer has brought nodes to DRAM; where the tiers are exclusive they leave NAND."""
        self.land(plan.dram, taken, now)
        for lies in reversed(taken):
            copy = self.find(plan.store, lies.node)
            there = lies in self.pool(plan.dram).nodes and self.says(lies.node, "exclusive")
            if there and copy is not None and copy.since is not None:
                self.leave(plan.store, copy, books.MOVED, now)

    def fill(
        self,
        pool: int,
        path: list[int],
        plan: SimpleNamespace,
        now: int,
        source: int | None = None,
        alone: bool = False,
    ) -> list[Lies]:
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
            if not self.take(pool, node, plan, now, alone):
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
            taken = self.fill(plan.dram, path, plan, now)
            self.touch(path, pools, now)

            def arrived(end: int) -> None:
                self.come(taken, plan, end)
                self.write_through(path, plan, end)

            if taken:
                amount = sum(lies.bytes for lies in taken)
                self.store.transfer(now, amount, [plan.offload], arrived)
            else:
                self.write_through(path, plan, now)
        elif service.cache_nand > 0:
            taken = self.fill(plan.store, path, plan, now)
            self.touch(path, pools, now)
            self.write(taken, plan, now, [plan.offload, plan.spill])

    def write_through(self, path: list[int], plan: SimpleNamespace, now: int) -> None:
        if not self.says(path[-1], "back"):
            self.copy(path, plan, now)

    def back(self, lies: Lies, now: int) -> bool:
        plan = lies.plan
        assert plan is not None
        alone = bool(self.says(lies.node, "exclusive"))
        path = [lies.node] if alone else self.path(lies.node)
        return any(each.node == lies.node for each in self.copy(path, plan, now, alone))

    def copy(
        self, path: list[int], plan: SimpleNamespace, now: int, alone: bool = False
    ) -> list[Lies]:
        """Write what NAND lacks of a path from DRAM."""
        if self.services[plan.service].cache_nand == 0:
            return []
        taken = self.fill(plan.store, path, plan, now, plan.dram, alone)
        for lies in taken:
            copy = self.find(plan.dram, lies.node)
            assert copy is not None
            lies.use, lies.time = copy.use, copy.time
        self.write(taken, plan, now, [plan.spill])
        return taken

    def write(self, taken: list[Lies], plan: SimpleNamespace, now: int, paths: list[int]) -> None:
        if taken:
            amount = sum(lies.bytes for lies in taken)
            self.store.transfer(now, amount, paths, lambda end: self.land(plan.store, taken, end))


def to_compute(row: SimpleNamespace, before: int, tokens: int) -> int:
    """Ticks of a prefill step of so many tokens after those before."""
    step = chunk(row, 0, before, tokens)
    return step.dense + step.own
