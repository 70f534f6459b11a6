"""The oracle's links: transfers under way and their max-min fair rates, all worked out anew
whenever one starts or is through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

from oracle_ledger import BILLION, Ledger

THROUGH, TRANSFER = -1, 1
"""Kinds of events; what is through at an instant is so before any other event of it."""
NEVER = 2**61

At = Callable[[int, int, int, Callable[[], None]], None]


def fair_rates(bandwidths: list[int], paths: list[list[int]]) -> list[int]:
    """Rate of a transfer over each path (channels, named once or more), by progressive filling."""
    left = list(bandwidths)
    rates = [0] * len(paths)
    unfilled = set(range(len(paths)))
    while unfilled:
        shares = []
        for channel, rest in enumerate(left):
            times = sum(paths[i].count(channel) for i in unfilled)
            if times:
                shares.append((max(1, rest // times), bandwidths[channel], channel))
        rate, _, channel = min(shares)
        for i in [i for i in unfilled if channel in paths[i]]:
            rates[i] = rate
            unfilled.remove(i)
            for each in paths[i]:
                left[each] -= rate
    return rates


@dataclass(eq=False)
class Moving:
    """A transfer under way: the work that is left, and who hears of its end."""

    number: int
    path: list[int]
    work: int
    then: Callable[[int], None]
    rate: int = 0


class Links:
    """Channels and what goes over them. `at(time, kind, sequence, act)` files an event."""

    def __init__(self, channels: list[SimpleNamespace], ledger: Ledger, at: At) -> None:
        self.channels = channels
        self.ledger = ledger
        self.at = at
        self.moving: list[Moving] = []
        self.started = 0
        self.since = 0
        self.plans = 0

    def transfer(self, now: int, amount: int, path: list[int], then: Callable[[int], None]) -> int:
        """Start a transfer; `then(end)` is called at its end. Returns its number."""
        self.progress(now)
        self.started += 1
        each = Moving(self.started, path, amount * BILLION, then)
        if amount == 0:
            self.through(each, now)
        else:
            self.moving.append(each)
            self.share(now)
        return each.number

    def progress(self, now: int) -> None:
        """Do the work of the time that has passed."""
        for each in self.moving:
            done = min(each.work, each.rate * (now - self.since))
            each.work -= done
            for channel in each.path:
                self.ledger.work(channel, each.rate, self.since, now, done)
        self.since = now

    def through(self, each: Moving, now: int) -> None:
        end = now + sum(self.channels[channel].latency for channel in each.path)
        if end <= NEVER:
            self.at(end, TRANSFER, each.number, lambda: each.then(end))

    def share(self, now: int) -> None:
        """New rates for all, and the instant at which the next is through."""
        bandwidths = [channel.bandwidth for channel in self.channels]
        rates = fair_rates(bandwidths, [each.path for each in self.moving])
        for each, rate in zip(self.moving, rates, strict=True):
            each.rate = rate
        self.plans += 1
        plan = self.plans

        def act() -> None:
            if self.plans == plan:
                self.some_are_through(next_one)

        if self.moving:
            next_one = now + min(-(-each.work // each.rate) for each in self.moving)
            if next_one <= NEVER:
                self.at(next_one, THROUGH, 0, act)

    def some_are_through(self, now: int) -> None:
        self.progress(now)
        for each in [each for each in self.moving if each.work == 0]:
            self.moving.remove(each)
            self.through(each, now)
        self.share(now)

    def stop(self, now: int) -> None:
        """The run is over: account for what was done."""
        self.progress(now)
