"""The oracle's content in HBM: nodes in use by requests, or cached in the slack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import oracle_ledger as books
from oracle_content import Content
from oracle_ledger import TICKS, Span
from oracle_replica import Replica
from oracle_work import Request


@dataclass(eq=False)
class InHbm:
    """A node in the HBM of a replica: in use by `users`, or, with none, cached."""

    node: int
    users: list[Request] = field(default_factory=list)
    use: int = 0
    span: Span | None = None
    in_flight: bool = False
    waiting: list[Callable[[int], None]] = field(default_factory=list)


class Slack:
    """Nodes in the HBM of one replica. Instants are in ticks."""

    def __init__(self, replica: Replica, content: Content, room: int) -> None:
        self.replica = replica
        self.content = content
        self.room = room
        self.nodes: dict[int, InHbm] = {}
        self.touches = 0

    def bytes(self, node: int) -> int:
        return int(self.content.nodes[node].bytes)

    @property
    def on(self) -> bool:
        if self.replica.plan.service in self.content.bringing_services:
            return True
        return bool(self.replica.service.cache_hbm) and bool(self.content.nodes)

    def path(self, node: int) -> list[int]:
        """What of a path may be in H."""
        whole = self.content.path(node)
        return whole if self.replica.service.cache_hbm else self.content.brought_of(node)

    @property
    def cached(self) -> int:
        """Bytes of the nodes that nobody uses."""
        return sum(self.bytes(here.node) for here in self.nodes.values() if not here.users)

    @property
    def beside(self) -> int:
        """Bytes in use that no request holds, less those that more than one does."""
        used = [here for here in self.nodes.values() if here.users]
        brought = sum(self.bytes(h.node) for h in used if self.content.brought[h.node])
        twice = sum(
            self.bytes(h.node) * (len(h.users) - 1)
            for h in used
            if not self.content.brought[h.node]
        )
        return brought - twice

    def shares(self, request: Request) -> int:
        """Bytes of nodes in use that the request would use too."""
        if request.takes_over or request.swapped:
            return 0
        used = [node for node in self.path(request.reads) if self.in_use(node)]
        return sum(self.bytes(node) for node in used if not self.content.brought[node])

    def brings(self, request: Request) -> int:
        """Bytes of brought nodes that come into use with the request."""
        brought = self.content.brought_of(request.reads)
        return sum(self.bytes(node) for node in brought if not self.in_use(node))

    def in_use(self, node: int) -> bool:
        return node in self.nodes and bool(self.nodes[node].users)

    # One node.

    def account(self, node: int) -> books.Account:
        kind = books.ADAPTERS if self.content.brought[node] else books.CACHE
        return (self.replica.plan.hbm, kind, self.replica.plan.service, -1)

    def flow(self, node: int, cause: int, instant: int) -> None:
        self.content.ledger.flow(self.account(node), cause, self.bytes(node), instant // TICKS)

    def cache(self, here: InHbm, instant: int) -> None:
        self.flow(here.node, books.TAKEN, instant)
        amount = self.bytes(here.node)
        here.span = self.content.ledger.hold(self.account(here.node), amount, instant)

    def no_longer_cached(self, here: InHbm, cause: int, instant: int) -> None:
        assert here.span is not None
        here.span.end = instant
        here.span = None
        self.flow(here.node, cause, instant)

    def use(self, request: Request, nodes: list[int], instant: int) -> None:
        """The request uses these nodes, which come into HBM if they are not there."""
        for node in nodes:
            here = self.nodes.setdefault(node, InHbm(node))
            if request in here.users:
                continue
            if here.span is not None:
                self.no_longer_cached(here, books.MOVED, instant)
            here.users.append(request)

    def use_no_more(self, request: Request, instant: int) -> list[int]:
        """What the request used, root first."""
        used = [node for node in self.content.path(request.reads) if self.used(node, request)]
        for node in used:
            here = self.nodes[node]
            here.users.remove(request)
            if not here.users:
                self.cache(here, instant)
        return used

    def used(self, node: int, request: Request) -> bool:
        return node in self.nodes and request in self.nodes[node].users

    def come(self, nodes: list[int], instant: int) -> None:
        """Those that are not in HBM come into it, cached."""
        for node in nodes:
            if node not in self.nodes:
                self.nodes[node] = InHbm(node)
                self.cache(self.nodes[node], instant)

    def touch(self, path: list[int]) -> None:
        for node in reversed(path):
            if node in self.nodes:
                self.touches += 1
                self.nodes[node].use = self.touches

    # What requests do.

    def prefill_ended(self, request: Request, instant: int) -> None:
        if self.on:
            self.use(request, self.path(request.reads), instant)

    def completed(self, request: Request, instant: int) -> None:
        if not self.on:
            return
        self.touch(self.use_no_more(request, instant))
        path = self.path(request.leaves)
        self.come(path, instant)
        self.touch(path)

    def preempted(self, request: Request, instant: int) -> None:
        if not self.on:
            return
        path = self.path(request.reads)
        fed = 0
        if request.in_prefill:
            done = (self.content.tokens(path[: n + 1]) <= request.fed for n in range(len(path)))
            fed = sum(done)
            self.come(path[:fed], instant)
        used = self.use_no_more(request, instant)
        self.touch(max(path[:fed], used, key=len))

    def hit(self, request: Request) -> list[int]:
        """The nodes of what it reads that are in HBM, root first."""
        found = []
        for node in self.path(request.reads):
            if node not in self.nodes or not self.on:
                break
            found.append(node)
        return found

    def hold(self, request: Request, found: list[int], instant: int) -> None:
        """It is admitted with these nodes hit."""
        for node in found:
            self.flow(node, books.READ, instant)
        self.use(request, found, instant)

    def make_room(self, instant: int) -> None:
        """Evict what the slack for the coming iteration has no room for."""
        while self.cached > max(0, self.room - self.replica.holds):
            parents = {self.content.nodes[node].parent for node in self.nodes}
            free = [h for h in self.nodes.values() if not h.users and h.node not in parents]
            victim = min(free, key=lambda here: here.use)
            self.no_longer_cached(victim, books.EVICTED, instant)
            del self.nodes[victim.node]

    def lose(self, instant: int) -> None:
        for here in self.nodes.values():
            if here.span is not None:
                self.no_longer_cached(here, books.LOST, instant)
        self.nodes = {}
