"""The oracle's routers: which replica of those that are up or loading gets a request."""

from __future__ import annotations

from typing import Any

from oracle_replica import Replica
from oracle_work import Request

Able = list[Replica]


class Routers:
    """What an `Oracle` does to route; of it are all attributes."""

    out: Any
    after: Any
    replicas: Any
    services: Any
    pointer: Any
    content: Any
    prompts: Any
    outputs: Any
    now: int

    def least_loaded(self, able: Able, request: Request) -> Replica:
        return min(able, key=lambda replica: (replica.requests, replica.row))

    def round_robin(self, able: Able, request: Request) -> Replica:
        row = self.services[request.service]
        mine = self.replicas[row.replica : row.replica + row.replicas]
        pointer = self.pointer[request.service]
        taken: Replica = next(each for each in mine[pointer:] + mine[:pointer] if each in able)
        self.pointer[request.service] = (mine.index(taken) + 1) % len(mine)
        return taken

    def session_sticky(self, able: Able, request: Request) -> Replica:
        waited_for = self.after[request.row]
        if waited_for:
            before: Replica = self.replicas[self.out["replica"][max(waited_for)]]
            if before in able:
                return before
        return self.least_loaded(able, request)

    def prefix_aware(self, able: Able, request: Request) -> Replica:
        return min(able, key=lambda replica: self.cost(replica, request))

    def cost(self, replica: Replica, request: Request) -> tuple[int, int, int]:
        """What a `prefix_aware` router takes the least of."""
        _, requests, asked, saved = self.seen(replica, request)
        return 4 * asked - saved, requests, replica.row

    def seen(self, replica: Replica, request: Request) -> tuple[int, int, int, int]:
        """A replica's row and requests, the prompts there, and what this one's saves there."""
        hbm = replica.slack.hit(request)
        above = max(hbm, self.content.brought_of(request.reads), key=len)
        found = (hbm, *self.content.look_up(request.reads, replica.plan, len(above)))
        h, d, s = map(self.content.tokens, found)
        there = replica.batch + replica.stalled + replica.waiting
        asked = sum(self.prompts[row] for row in [each.row for each in there] + replica.booked)
        return replica.row, replica.requests, asked, 4 * h + 3 * d + s

    def by_function(self, function: Any, able: Able, request: Request) -> Replica:
        """The replica whose row a function gives."""
        row, waited_for = request.row, self.after[request.row]
        before = self.out["replica"][max(waited_for)] if waited_for else -1
        asked = (request.klass, self.prompts[row], self.outputs[row], before)
        seen = [self.seen(replica, request) for replica in able]
        taken: Replica = self.replicas[function(self.now, *asked, seen)]
        assert taken in able
        return taken

    BY_NUMBER = (least_loaded, round_robin, session_sticky, prefix_aware)
