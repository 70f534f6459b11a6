"""The oracle's books: who held what from when to when, turned into arrays at the end.

Nothing is summed while the run goes on. Every holding is a span of ticks, every
flow a dated amount, every use of a channel a piece of work at a rate; `Ledger.arrays` reads
them bin by bin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import numpy as np

TICKS = 65536
BILLION = 10**9
"""Work of a byte: what a rate of a byte a second does in a nanosecond is 1."""
WEIGHTS, LIVE, TRANSIENT, CACHE, ARTIFACTS, ADAPTERS = range(6)
TAKEN, MOVED, EXPIRED, EVICTED, LOST, DROPPED, SPILLED, READ = range(8)

Account = tuple[int, int, int, int]


@dataclass
class Span:
    """`bytes` held in `account` over ticks `[start, end)`; `end` is None while held."""

    account: Account
    bytes: int
    start: int
    end: int | None = None


class Ledger:
    """Spans, tops, flows and work of one run.

    `accounts` are the rows (pool, category, service, class) in the order of the output, `tiers`
    those of the pools.
    """

    def __init__(
        self,
        accounts: list[Account],
        tiers: list[int],
        channels: int,
        horizon_ns: int,
        bin_ns: int,
    ) -> None:
        assert len(set(accounts)) == len(accounts)
        self.accounts = accounts
        self.row = {account: i for i, account in enumerate(accounts)}
        self.tiers = tiers
        self.channels = channels
        self.horizon = horizon_ns
        self.bin = bin_ns
        self.bins = -(-horizon_ns // bin_ns)
        self.spans: list[Span] = []
        self.tops: list[tuple[int, int, int, int]] = []
        self.flows: list[tuple[Account, int, int, int]] = []
        self.pieces: list[tuple[int, int, int, int, int]] = []

    def hold(self, account: Account, amount: int, start: int, end: int | None = None) -> Span:
        """Open a span at tick `start` (and close it at `end` if that is known)."""
        assert account in self.row
        span = Span(account, amount, start, end)
        self.spans.append(span)
        return span

    def top(self, pool: int, amount: int, start: int, end: int) -> None:
        """An iteration that ran over ticks `[start, end)` and reached `amount` bytes."""
        self.tops.append((pool, amount, start, end))

    def flow(self, account: Account, cause: int, amount: int, now: int) -> None:
        """Count `amount` bytes of a flow at `now` ns."""
        assert account in self.row
        self.flows.append((account, cause, amount, now))

    def work(self, channel: int, rate: int, start: int, end: int, most: int) -> None:
        """Work done over a channel during `[start, end)` ns, at a rate and `most` in all."""
        if most:
            self.pieces.append((channel, rate, start, end, most))

    def edges(self, i: int) -> tuple[int, int]:
        """First and last instant (ns) of bin `i`."""
        return i * self.bin, min((i + 1) * self.bin, self.horizon)

    def overlaps(self, start: int, end: int | None) -> Iterator[tuple[int, int]]:
        """(bin, ticks in it) for each bin that shares a positive length with the span."""
        last = self.horizon * TICKS
        end = last if end is None else min(end, last)
        for i in range(start // (self.bin * TICKS), self.bins):
            a, b = self.edges(i)
            length = min(end, b * TICKS) - max(start, a * TICKS)
            if length <= 0:
                break
            yield i, length

    def arrays(self) -> dict[str, np.ndarray]:
        """`accounts, mean, top, tier_top, flow, moved` as the engine's page defines them."""
        return {
            "accounts": np.array(self.accounts, dtype=np.int64).reshape(-1, 4),
            "mean": self.mean(),
            "top": self.top_by_bin(),
            "tier_top": self.tier_top_by_bin(),
            "flow": self.flow_by_bin(),
            "moved": self.moved_by_bin(),
        }

    def mean(self) -> np.ndarray:
        integral = [[0] * self.bins for _ in self.accounts]
        for span in self.spans:
            for i, length in self.overlaps(span.start, span.end):
                integral[self.row[span.account]][i] += span.bytes * length
        out = np.zeros((len(self.accounts), self.bins), dtype=np.int64)
        for i in range(self.bins):
            a, b = self.edges(i)
            for row, sums in enumerate(integral):
                out[row, i] = sums[i] // ((b - a) * TICKS)
        return out

    def top_by_bin(self) -> np.ndarray:
        out = np.zeros((len(self.tiers), self.bins), dtype=np.int64)
        for pool, amount, start, end in self.tops + self.levels():
            for i, _ in self.overlaps(start, end):
                out[pool, i] = max(out[pool, i], amount)
        return out

    def tier_top_by_bin(self) -> np.ndarray:
        """What the pools of each tier hold, from one change of any of them to the next.

        Of an HBM pool weights and an iteration may be told of: the iteration's is the whole.
        """
        begin: dict[int, list[tuple[int, int]]] = defaultdict(list)
        stop: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for pool, amount, start, end in self.tops + self.levels():
            if start < end:
                begin[start].append((pool, amount))
                stop[end].append((pool, amount))
        held: list[list[int]] = [[0] for _ in self.tiers]
        out = np.zeros((3, self.bins), dtype=np.int64)
        for now, then in pairwise(sorted({*begin, *stop})):
            for pool, amount in stop[now]:
                held[pool].remove(amount)
            for pool, amount in begin[now]:
                held[pool].append(amount)
            for tier in range(3):
                mine = [max(each) for each, t in zip(held, self.tiers, strict=True) if t == tier]
                for i, _ in self.overlaps(now, then):
                    out[tier, i] = max(out[tier, i], sum(mine))
        return out

    def levels(self) -> list[tuple[int, int, int, int]]:
        """Each pool's bytes as a staircase. In HBM only weights: iterations give the rest."""
        changes: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for span in self.spans:
            pool, category, _, _ = span.account
            if self.tiers[pool] == 0 and category != WEIGHTS:
                continue
            changes[pool][span.start] += span.bytes
            if span.end is not None:
                changes[pool][span.end] -= span.bytes
        out = []
        for pool, steps in changes.items():
            instants = sorted(steps)
            level = 0
            for start, end in zip(instants, [*instants[1:], self.horizon * TICKS], strict=True):
                level += steps[start]
                out.append((pool, level, start, end))
        return out

    def flow_by_bin(self) -> np.ndarray:
        out = np.zeros((len(self.accounts), READ + 1, self.bins), dtype=np.int64)
        for account, cause, amount, now in self.flows:
            out[self.row[account], cause, min(now // self.bin, self.bins - 1)] += amount
        return out

    def moved_by_bin(self) -> np.ndarray:
        """Whole bytes of the work done over each channel, as they grow from bin to bin."""
        work = [[0] * (self.bins + 1) for _ in range(self.channels)]
        for channel, rate, start, end, most in self.pieces:
            for i in range(start // self.bin, self.bins):
                now = min(self.edges(i)[1], end)
                work[channel][i + 1] += min(rate * (now - start), most)
        out = [[b // BILLION - a // BILLION for a, b in pairwise(row)] for row in work]
        return np.array(out, dtype=np.int64).reshape(self.channels, self.bins)


def account_rows(
    plans: list[SimpleNamespace],
    classes: list[SimpleNamespace],
    services: list[SimpleNamespace],
    bringing: set[int],
) -> list[Account]:
    """The accounts in the order of the output; `bringing`: classes that have brought nodes."""
    out: list[Account] = []
    bring = {classes[klass].service for klass in bringing}
    for p in plans:
        cache = [CACHE] if services[p.service].cache_hbm else []
        cache += [ADAPTERS] if p.service in bring else []
        out += [(p.hbm, c, p.service, -1) for c in (WEIGHTS, LIVE, TRANSIENT, *cache)]
    out += dict.fromkeys((p.dram, WEIGHTS, p.service, -1) for p in plans)
    libraries = [p for p in plans if p.service in bring]
    out += dict.fromkeys(
        [(p.home, WEIGHTS, p.service, -1) for p in plans]
        + [(p.library, WEIGHTS, p.service, -1) for p in libraries]
    )
    for row, klass in enumerate(classes):
        service = services[klass.service]
        mine = plans[service.replica : service.replica + service.replicas]
        for tier in ("dram", "store"):
            for pool in dict.fromkeys(getattr(p, tier) for p in mine):
                kinds = (ARTIFACTS, CACHE, ADAPTERS) if row in bringing else (ARTIFACTS, CACHE)
                out += [(pool, c, klass.service, row) for c in kinds]
    for row, klass in enumerate(classes):
        service = services[klass.service]
        mine = plans[service.replica : service.replica + service.replicas]
        if service.swap:
            out += [
                (pool, LIVE, klass.service, row) for pool in dict.fromkeys(p.dram for p in mine)
            ]
    return out
