"""The oracle's hand-overs: what ended requests keep, what moves to those that waited for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from oracle_ledger import TICKS
from oracle_replica import Replica
from oracle_work import Request


@dataclass(eq=False)
class HandOver:
    """Bytes from a giver to a taker (rows). `keeper` and `generation`: where it is kept."""

    giver: int
    taker: int
    bytes: int
    ahead: int
    done: bool = False
    keeper: Replica | None = None
    generation: int = 0

    def keep(self, replica: Replica) -> None:
        self.keeper, self.generation = replica, replica.generation

    @property
    def kept(self) -> bool:
        return self.keeper is not None and self.keeper.generation == self.generation


@dataclass(eq=False)
class Booking:
    """A replica that a taker will come to, and the transfer that goes there ahead of it."""

    at: Replica
    generation: int
    giver_at: Replica
    giver_generation: int
    through: bool = False
    then: Callable[[int], None] | None = None

    @property
    def holds(self) -> bool:
        return self.at.generation == self.generation


class HandOvers:
    """What an `Oracle` does with hand-overs; of it are all attributes."""

    now: int
    out: Any
    store: Any
    requests: Any
    replicas: Any
    edge: Any
    choose: Any

    def file_hand_overs(self, tables: dict[str, np.ndarray], n: int) -> None:
        self.hand_overs: list[HandOver] = []
        self.bookings: dict[int, Booking] = {}
        self.fed = [0] * n
        if "handover" not in tables:
            return
        self.out["handed"] = [-1] * n
        self.fed = tables["fed"].tolist()
        start, after = tables["after_start"].tolist(), tables["after"].tolist()
        amounts, ahead = tables["handover"].tolist(), tables["ahead"].tolist()
        for taker in range(n):
            for entry in range(start[taker], start[taker + 1]):
                if amounts[entry]:
                    each = HandOver(after[entry], taker, amounts[entry], ahead[entry])
                    self.hand_overs.append(each)

    # What is kept.

    def keep(self, replica: Replica, giver: int) -> None:
        mine = [each for each in self.hand_overs if each.giver == giver]
        if not all(each.done for each in mine):
            replica.kept[giver] = max(each.bytes for each in mine)
            for each in mine:
                each.keep(replica)

    def hand_over_done(self, hand_over: HandOver) -> None:
        hand_over.done = True
        giver = hand_over.giver
        if not all(each.done for each in self.hand_overs if each.giver == giver):
            return
        if hand_over.kept:
            assert hand_over.keeper is not None
            hand_over.keeper.freed.append(giver)
            if not hand_over.keeper.batch:
                self.edge(hand_over.keeper, self.now * TICKS)

    def refused(self, rows: list[int]) -> None:
        """These requests will never run."""
        for row in rows:
            booking = self.bookings.pop(row, None)
            if booking is not None and booking.holds:
                booking.at.booked.remove(row)
        mine = [each for each in self.hand_overs if each.taker in rows]
        for hand_over in sorted(mine, key=lambda each: each.giver):
            self.hand_over_done(hand_over)

    # What moves.

    def move(
        self, now: int, amount: int, a: Replica, b: Replica, then: Callable[[int], None]
    ) -> None:
        near = a.plan.domain == b.plan.domain
        out = a.plan.near_out if near else a.plan.far_out
        into = b.plan.near_in if near else b.plan.far_in
        self.store.transfer(now, amount, [out, into], then)

    def takes_over(self, replica: Replica, request: Request, ns: int) -> bool:
        """Whether a request at its first admission has something handed over to it."""
        booking = self.bookings.pop(request.row, None)
        mine = [each for each in self.hand_overs if each.taker == request.row]
        kept = [each for each in mine if each.kept]
        if not kept:
            return False
        generation = replica.generation
        lost = len(kept) < len(mine)
        open_transfers = 0

        def came(end: int) -> None:
            nonlocal open_transfers
            open_transfers -= 1
            if open_transfers or replica.generation != generation:
                return
            if not lost:
                self.out["handed"][request.row] = end
                request.fed = min(self.fed[request.row], request.prompt - 1)
            replica.ready.append(request)
            if not replica.batch:
                self.edge(replica, end * TICKS)

        def moved(hand_over: HandOver) -> Callable[[int], None]:
            def then(end: int) -> None:
                nonlocal lost
                lost = lost or not hand_over.kept
                self.hand_over_done(hand_over)
                came(end)

            return then

        for hand_over in kept:
            amount = hand_over.bytes
            assert hand_over.keeper is not None
            if (
                booking is not None
                and booking.holds
                and booking.at is replica
                and booking.giver_at is hand_over.keeper
                and booking.giver_generation == hand_over.generation
            ):
                amount -= hand_over.ahead
                if not booking.through:
                    open_transfers += 1
                    booking.then = came
            open_transfers += 1
            self.move(ns, amount, hand_over.keeper, replica, moved(hand_over))
        return True

    # What goes ahead.

    def book(self, replica: Replica, giver: int, ns: int) -> None:
        """A request was admitted for the first time: those that wait for it are expected."""
        for hand_over in self.hand_overs:
            if hand_over.giver != giver or not hand_over.ahead:
                continue
            at = self.choose(self.requests[hand_over.taker])
            if at is None:
                continue
            at.booked.append(hand_over.taker)
            booking = Booking(at, at.generation, replica, replica.generation)
            self.bookings[hand_over.taker] = booking
            self.move(ns, hand_over.ahead, replica, at, self.ahead_came(booking))

    def ahead_came(self, booking: Booking) -> Callable[[int], None]:
        def then(end: int) -> None:
            booking.through = True
            if booking.then is not None:
                booking.then(end)

        return then

    def booked(self, request: Request) -> Replica | None:
        """The replica where a request that arrives is booked, if that has not failed."""
        booking = self.bookings.get(request.row)
        if booking is None or not booking.holds:
            return None
        if request.row in booking.at.booked:
            booking.at.booked.remove(request.row)
        return booking.at
