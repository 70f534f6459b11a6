"""The oracle's look at what will never go on."""

from __future__ import annotations

from typing import Any

from oracle_replica import UP, Replica

COMPLETED, AWAITED = 2, 4


class Looks:
    """What an `Oracle` sees of stuck replicas; of it are all attributes."""

    out: Any
    replicas: Any
    hand_overs: Any
    after: Any

    def stuck(self) -> tuple[int, int, int, int] | None:
        """The first replica that is stuck, the head of its queue, a giver and a taker."""
        for replica in self.replicas:
            found = self.stuck_at(replica)
            if found is not None:
                return found
        return None

    def stuck_at(self, replica: Replica) -> tuple[int, int, int, int] | None:
        there = replica.batch or replica.stalled
        if replica.state != UP or there or not replica.waiting or replica.budget is None:
            return None
        waiting = self.who_waits(replica)
        pairs = sorted(
            (each.giver, each.taker)
            for each in self.hand_overs
            if each.kept
            and each.keeper is replica
            and each.giver not in replica.freed
            and each.taker in waiting
            and self.out["start"][each.taker] == -1
        )
        stays = sum(replica.kept[giver] for giver in {giver for giver, _ in pairs})
        head = replica.waiting[0]
        if not pairs or head.hold + stays <= replica.budget - replica.service.watermark:
            return None
        return (replica.row, head.row, *pairs[0])

    def who_waits(self, replica: Replica) -> set[int]:
        """All that wait for the head of the queue, or are it."""
        found = {request.row for request in replica.waiting}
        while True:
            more = {
                row
                for row, outcome in enumerate(self.out["outcome"])
                if outcome == AWAITED
                and any(b in found and self.out["outcome"][b] != COMPLETED for b in self.after[row])
            }
            if more <= found:
                return found
            found |= more
