"""The oracle's requests that load before they run: what they bring, and a prefix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from oracle_content import Load
from oracle_ledger import TICKS
from oracle_replica import Replica
from oracle_work import Request

LATE = 4
NEVER = 2**63 - 1
HITS = ("hit_hbm", "hit_dram", "hit_nand", "hit_again")
SOURCES = ("hbm", "dram", "nand", "library")


class Loads:
    """What an `Oracle` does with requests that load; of it are all attributes."""

    now: int
    out: Any
    content: Any
    lookups: int
    at: Any
    edge: Any

    def wake(self, replica: Replica, now: int) -> None:
        """Who is ready joins at once where nobody runs."""
        if replica.ready and not replica.batch:
            self.edge(replica, now * TICKS)

    def bring(
        self,
        replica: Replica,
        request: Request,
        instant: int,
        arrived: Callable[[int], None],
    ) -> set[str | int]:
        """Start the transfers of brought nodes that are not in HBM; the nodes to wait for.

        `arrived` is called with each of them that has come.
        """
        brought = self.content.brought_of(request.reads)
        ns = -(-instant // TICKS)
        first = self.out["start"][request.row] == -1
        waits: set[str | int] = set()
        for node in brought:
            source = "hbm"
            if node not in replica.slack.nodes:
                replica.slack.use(request, [node], instant)
                here = replica.slack.nodes[node]
                here.in_flight = True

                def come(end: int, here: Any = here) -> None:
                    here.in_flight = False
                    for waiter in here.waiting:
                        waiter(here.node)
                    self.wake(replica, end)

                source = self.content.bring(node, replica.plan, ns, come)
            if replica.slack.nodes[node].in_flight:
                replica.slack.nodes[node].waiting.append(arrived)
                waits.add(node)
            amount = self.content.bytes([node])
            if first:
                self.out[f"brought_{source}"][request.row] += amount
            elif source != "hbm":
                self.out["brought_again"][request.row] += amount
        return waits

    def loads(self, replica: Replica, request: Request, instant: int) -> bool:
        """Whether a request that is admitted has something to load; then its transfers start."""
        first = self.out["start"][request.row] == -1
        generation = replica.generation
        load = Load(0, [0, 0], 0)

        def count(before: int) -> None:
            if not self.content.nodes:
                return
            if first:
                for name, each in zip(HITS, load.tokens, strict=False):
                    self.out[name][request.row] = each
            else:
                self.out["hit_again"][request.row] += sum(load.tokens) - before

        def feed() -> None:
            request.fed = min(sum(load.tokens), request.prompt - 1) if request.is_token else 0

        def done(what: str | int) -> None:
            if what in load.waits and replica.generation == generation:
                load.waits.remove(what)
                if not load.waits:
                    feed()
                    replica.ready.append(request)

        def moved(what: str, end: int) -> None:
            done(what)
            if replica.generation == generation:
                self.wake(replica, end)

        def run_out() -> None:
            if "nand" in load.waits and replica.generation == generation:
                before = sum(load.tokens)
                load.late()
                count(before)
                if not load.waits:
                    feed()
                    replica.ready.append(request)
                    self.wake(replica, self.now)

        hbm = replica.slack.hit(request)
        replica.slack.hold(request, hbm, instant)
        load.waits = self.bring(replica, request, instant, done)
        above = max(hbm, self.content.brought_of(request.reads), key=len)
        found = self.content.look_up(request.reads, replica.plan, len(above))
        found = self.content.worth(above, found, request, replica.plan)
        worth = sum(map(self.content.tokens, found)) >= max(1, replica.service.cache_least)
        if not worth:
            found = ([], [])
        ns = -(-instant // TICKS)
        load.tokens = [self.content.tokens(nodes) for nodes in (hbm, *found)]
        load.head = self.content.tokens(self.content.head(found))
        if not worth:
            count(0)
            feed()
            self.content.touch(above, [replica.plan.dram, replica.plan.store], ns)
            return bool(load.waits)
        load.waits |= {tier for tier, nodes in zip(("dram", "nand"), found, strict=True) if nodes}
        patience = self.content.patience(found)
        if patience == 0:
            load.late()
        elif patience is not None and ns + patience <= NEVER:
            self.lookups += 1
            self.at(ns + patience, LATE, self.lookups, run_out)
        count(0)
        self.content.load(
            above, found, replica.plan, ns, partial(moved, "dram"), partial(moved, "nand")
        )
        if not load.waits:
            feed()
        return bool(load.waits)
