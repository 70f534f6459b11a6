"""The compiled engine against queueing theory and exact shares: a section of docs/validation.md.

Each row is a run of the engine alone on tables made for it, with a fixed seed. Times are in mean
service times, so that a row shows its load and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray

from dcsim.engine import Engine, Outputs, Tables, table
from dcsim.pages.little import BATCHES, KeptRow, LittleRow, half_width, kept_rows, little_rows
from dcsim.validation.fair import ShareRow, share_rows

__all__ = ["QueueRow", "queue_rows", "shorter_of_two", "theory_section"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TICKS = 65536
MEAN = 1_000_000
"""Mean time of a service, ns, in steps of 1 ns: what a step rounds is a millionth of it."""
LOADS = (0.3, 0.6, 0.8, 0.9)
REQUESTS = (BATCHES + 2) * 20_000
TRANSFERS = (BATCHES + 2) * 10_000
TWO = ([MEAN // 2, 11 * MEAN // 2], [0.9, 0.1])
"""Of mean MEAN; the coefficient of variation is 1.5."""
SIXTEEN = ([int(MEAN * -np.log1p(-(i + 0.5) / 16)) for i in range(16)], [1 / 16] * 16)
"""Quantiles of the exponential distribution."""


@dataclass(frozen=True)
class QueueRow:
    """A mean in mean service times, with a 95 % confidence interval of ours."""

    system: str
    load: float
    theory: float
    ours: float
    half: float
    """Half of the width of the interval."""

    @property
    def inside(self) -> bool:
        return abs(self.ours - self.theory) <= self.half


def queue_rows(seed: int = 1) -> list[QueueRow]:
    """All systems at all loads; each draws from a stream of its own."""
    rows = []
    systems = (_one_at_a_time, _many_places, _in_turn, _shared_batch, _shared_link, _shortest)
    for i, system in enumerate(systems):
        for j, load in enumerate(LOADS):
            rows += list(system(load, np.random.default_rng([seed, i, j])))
    return sorted(rows, key=lambda row: row.system)


# Requests on replicas


def _one_at_a_time(load: float, random: np.random.Generator) -> Iterator[QueueRow]:
    """Pollaczek and Khinchine: a mean wait of `lambda E[S^2] / (2 (1 - rho))`."""
    laws: dict[str, tuple[Draw, float]] = {
        "M/M/1, wait": (_exponential, 2.0),
        "M/D/1, wait": (_equal, 1.0),
        "M/G/1 (two sizes), wait": (_two, float(np.dot(np.square(TWO[0]), TWO[1])) / MEAN**2),
    }
    for name, (law, square) in laws.items():
        arrival, start, _ = _serve(law(random), load, random, max_jobs=1)
        yield _row(name, load, load * square / (2 * (1 - load)), start - arrival)


def _many_places(load: float, random: np.random.Generator) -> Iterator[QueueRow]:
    """Erlang's C. The replica runs `c` requests at once, in an iteration that takes the same time
    however many they are."""
    for c in (2, 8):
        services = _exponential(random)
        arrival, start, _ = _serve(services, load, random, max_jobs=c, together=True)
        a = c * load
        full = a**c / factorial(c) / (1 - load)
        waits = full / (sum(a**k / factorial(k) for k in range(c)) + full)
        yield _row(f"M/M/{c}, wait", load, waits / (c * (1 - load)), start - arrival)


def _in_turn(load: float, random: np.random.Generator) -> Iterator[QueueRow]:
    """Round robin over 4 replicas: every fourth arrival comes to each, so it is an E4/M/1. With
    `s` the root below 1 of `s = (4 rho / (4 rho + 1 - s))^4` the mean wait is `s / (1 - s)`."""
    arrival, start, _ = _serve(_exponential(random), load, random, max_jobs=1, replicas=4)
    root = 0.0
    for _ in range(10_000):
        root = (4 * load / (4 * load + 1 - root)) ** 4
    yield _row("E4/M/1 (round robin over 4), wait", load, root / (1 - root), start - arrival)


def _shortest(load: float, random: np.random.Generator) -> Iterator[QueueRow]:
    """`least_loaded` over 2 replicas: requests join the shorter queue."""
    services = _exponential(random)
    arrival, start, _ = _serve(services, load, random, max_jobs=1, replicas=2, router=0)
    name = "least loaded of 2 queues, wait"
    yield _row(name, load, shorter_of_two(load), start - arrival)


def shorter_of_two(load: float, most: int = 100, apart: int = 16) -> float:
    """Mean wait, in services, where Poisson arrivals join the shorter of two exponential queues.

    From the stationary law of the Markov chain of the shorter queue and of how much longer the
    other is, cut at `most` and `apart`. What is cut has a share of some `load^(2 most)` and
    `(load^2 / (2 + load))^apart`: less than 1e-8 up to a load of 0.9.
    """
    states = [(low, more) for low in range(most) for more in range(apart)]
    row = {state: i for i, state in enumerate(states)}
    rates = np.zeros((len(states), len(states)))
    for low, more in states:
        comes = (low + 1, more - 1) if more else (low, 1)
        moves = {comes: 2 * load}
        if more:
            moves[low, more - 1] = 1.0
        if low:
            moves[low - 1, more + 1] = 1.0 if more else 2.0
        for to, rate in moves.items():
            if to in row:
                rates[row[low, more], row[to]] += rate
    rates -= np.diag(rates.sum(axis=1))
    rates[:, 0] = 1.0  # in place of one balance: shares add up to 1
    share = np.linalg.solve(rates.T, np.eye(len(states))[0])
    number = float(share @ np.array([2 * low + more for low, more in states]))
    return number / (2 * load) - 1


def _shared_batch(load: float, random: np.random.Generator) -> Iterator[QueueRow]:
    """An iteration that takes a step for each request of its batch is processor sharing: the mean
    time is `1 / (1 - rho)` services, whatever their law."""
    for name, law in {"exponential": _exponential, "two sizes": _two, "equal": _equal}.items():
        arrival, _, end = _serve(law(random), load, random, max_jobs=1 << 30)
        yield _row(f"M/G/1-PS (a batch, {name}), time", load, 1 / (1 - load), end - arrival)


Draw = Callable[[np.random.Generator], Ints]


def _exponential(random: np.random.Generator) -> Ints:
    return np.maximum(1, np.rint(random.exponential(MEAN, REQUESTS))).astype(np.int64)


def _equal(random: np.random.Generator) -> Ints:
    return np.full(REQUESTS, MEAN)


def _two(random: np.random.Generator) -> Ints:
    return random.choice(TWO[0], REQUESTS, p=TWO[1]).astype(np.int64)


def _serve(
    services: Ints,
    load: float,
    random: np.random.Generator,
    *,
    max_jobs: int,
    replicas: int = 1,
    router: int = 1,
    together: bool = False,
) -> tuple[Ints, Ints, Ints]:
    """Arrival, start and end (ns) of requests that come by a Poisson process.

    A request of `n` tokens takes `n` steps, of 1 ns for each request of the batch, or for all of
    them `together`.
    """
    places = replicas * (max_jobs if together else 1)
    arrival = _poisson(MEAN / (places * load), len(services), random)
    own = 0 if together else TICKS
    nothing = np.zeros(len(services), dtype=np.int64)
    tables = _tables(
        arrival,
        nothing,
        nothing + 1,
        services,
        pools=[{"tier": 0, "capacity": 1} for _ in range(replicas)],
        phases=table("phases", [{"launch": TICKS if together else 1}]),
        segments=table(
            "segments", [{"rule": 1, "tokens": 8, "own": own}, {"rule": 2, "tokens": 1, "own": own}]
        ),
        works=table("works", [{"segments": 2}]),
        services=table(
            "services",
            [{"router": router, "replicas": replicas, "max_jobs": max_jobs, "max_tokens": 1 << 40}],
        ),
        classes=table("classes", [{}]),
    )
    horizon = int(arrival[-1]) + int(services.sum())
    out = Engine(tables, horizon, horizon).finish()
    return arrival, out["start"], out["end"]


def _row(system: str, load: float, theory: float, times: Ints) -> QueueRow:
    """Batches of requests in order of arrival; the first fills the system, the last empties it."""
    means = times.reshape(BATCHES + 2, -1)[1:-1].mean(axis=1) / MEAN
    return _interval(system, load, theory, means)


def _interval(system: str, load: float, theory: float, batches: Floats) -> QueueRow:
    return QueueRow(system, load, theory, float(batches.mean()), half_width(batches))


# Transfers on a link


def _shared_link(load: float, random: np.random.Generator) -> Iterator[QueueRow]:
    """A fair link is processor sharing: a transfer takes `1 / (1 - rho)` of its time alone on
    average, whatever its size and those of the others."""
    one = ([MEAN], [1.0])
    for name, (sizes, shares) in {"equal": one, "two sizes": TWO, "16 sizes": SIXTEEN}.items():
        alone = np.multiply(sizes, shares) / np.dot(sizes, shares) * load
        under_way = _transfers(sizes, shares, load, random)
        system = f"M/G/1-PS (a link, {name}), time"
        yield _interval(system, load, 1 / (1 - load), under_way.sum(axis=0) / load)
        if sizes is TWO[0]:
            for size, mine, found in zip(("small", "large"), alone, under_way, strict=True):
                label = f"M/G/1-PS (a link, the {size} of two sizes), time"
                yield _interval(label, load, 1 / (1 - load), found / mine)


def _transfers(
    sizes: Sequence[int], shares: Sequence[float], load: float, random: np.random.Generator
) -> Floats:
    """Mean number of transfers under way, by size and batch of time.

    They go over a link of a byte a ns and start by a Poisson process, as requests of a ns end. The
    bytes of a class in DRAM, by its size, are the transfers of that size under way: they are kept
    for but a ns.
    """
    arrival = _poisson(float(np.dot(sizes, shares)) / load, TRANSFERS, random)
    kind = random.choice(len(sizes), TRANSFERS, p=shares).astype(np.int64)
    nothing = np.zeros(TRANSFERS, dtype=np.int64)
    tables = _tables(
        arrival,
        kind,
        nothing,
        nothing,
        pools=[{"tier": 0, "capacity": 1}],
        phases=table("phases", [{"launch": TICKS}]),
        segments=table("segments", [{"steps": 1}]),
        works=table("works", [{"segments": 1, "artifact": size} for size in sizes]),
        services=table("services", [{"replicas": 1, "max_jobs": 1 << 40, "max_tokens": 1}]),
        classes=table("classes", [{"artifact_dram": 1} for _ in sizes]),
    )
    horizon = int(arrival[-1])
    out = Engine(tables, horizon, horizon // (BATCHES + 2)).finish()
    held = out["mean"][_artifacts(out, 1), 1 : BATCHES + 1]
    under_way: Floats = held / np.array(sizes)[:, None]
    return under_way


def _artifacts(out: Outputs, pool: int) -> list[int]:
    """The accounts of the finished objects in a pool, by class."""
    found = [
        (k, row) for row, (p, c, _, k) in enumerate(out["accounts"].tolist()) if (p, c) == (pool, 4)
    ]
    return [row for _, row in sorted(found)]


def _poisson(gap: float, count: int, random: np.random.Generator) -> Ints:
    return np.cumsum(random.exponential(gap, count)).astype(np.int64)


def _tables(
    arrival: Ints, kind: Ints, prompt: Ints, output: Ints, pools: list[dict[str, int]], **own: Ints
) -> Tables:
    """One service of replicas with an HBM each, and one link of a byte a ns."""
    n = len(pools)
    tiers = [{"tier": tier, "capacity": 1 << 62} for tier in (1, 2)]
    replicas = [{"hbm": i, "dram": n, "home": n + 1, "store": n + 1, "start": 1} for i in range(n)]
    made: Tables = {
        "pools": table("pools", [*pools, *tiers]),
        "channels": table("channels", [{"bandwidth": 10**9}]),
        "path_start": np.array([0, 1], dtype=np.int64),
        "path_channels": np.array([0], dtype=np.int64),
        "replicas": table("replicas", replicas),
        "arrival": arrival,
        "klass": kind,
        "work": kind,
        "prompt": prompt,
        "output": output,
    }
    return made | own


# The section


def theory_section() -> str:
    """All of it, rendered."""
    queues = queue_rows()
    inside = sum(row.inside for row in queues)
    head = ["system", "load", "theory", "ours", "difference", "half width", "inside"]
    lines = [QUEUES, *_table(head, map(_queue, queues)), ""]
    lines += [f"{inside} of {len(queues)} are inside; {0.95 * len(queues):.0f} are due.", ""]
    head = ["scenario", "job", "in the system", "rate x time", "difference", "half width", "inside"]
    lines += [LITTLE, *_table(head, map(_little, little_rows()))]
    head = ["job", "held (GB)", "rate x size x time (GB)", "difference"]
    lines += [KEPT, *_table(head, map(_kept, kept_rows()))]
    head = ["networks", "links", "transfers", "slowest (MB/s)", "largest difference (B/s)"]
    lines += [SHARES, *_table(head, map(_share, share_rows()))]
    return "\n".join(lines) + "\n"


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    rule = "|" + "---|" * len(head)
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]


def _queue(row: QueueRow) -> list[str]:
    figures = [f"{row.theory:.4f}", f"{row.ours:.4f}", f"{row.ours / row.theory - 1:+.1%}"]
    return [row.system, str(row.load), *figures, f"{row.half / row.theory:.1%}", _yes(row.inside)]


def _little(row: LittleRow) -> list[str]:
    off = row.number / row.product - 1
    figures = [f"{row.number:.3f}", f"{row.product:.3f}", f"{off:+.2%}"]
    return [row.scenario, row.job, *figures, f"{row.half / row.product:.2%}", _yes(row.inside)]


def _kept(row: KeptRow) -> list[str]:
    off = row.held / row.product - 1
    return [row.job, f"{row.held / 1e9:,.2f}", f"{row.product / 1e9:,.2f}", f"{off:+.4%}"]


def _share(row: ShareRow) -> list[str]:
    sizes = [f"{row.networks}", f"{row.links}", f"{row.transfers}"]
    return [*sizes, f"{row.slowest / 1e6:,.0f}", f"{row.off:.2f}"]


def _yes(inside: bool) -> str:
    return "yes" if inside else "no"


QUEUES = f"""## Queues and links in theory

Runs of the engine alone against queueing theory, arrivals by Poisson processes. Times are in mean
service times; a run has {REQUESTS:,} requests or {TRANSFERS:,} transfers. The half width is that of
a 95 % confidence interval of ours, by Student's t from the means of {BATCHES} batches in order (of
requests; on links of time). The first batch fills the system, the last empties it: both are left
out. So one row in 20 is outside by chance; the two sizes of a link and both together are one run.

- M/M/1, M/D/1, M/G/1: a replica that runs one request at a time; Pollaczek and Khinchine. The two
  sizes are half a mean (nine of ten) and 5.5 means.
- M/M/c: one replica that runs up to c requests at once in an iteration that takes the same time
  however many they are, so they queue for c places; Erlang's C.
- E4/M/1: `round_robin` over 4 replicas of one request each, which gives each replica every fourth
  arrival.
- Least loaded: `least_loaded` over 2 such replicas. Each has a queue of its own, so this is no
  M/M/2: requests join the shorter queue. The mean follows from the Markov chain of both, solved.
- M/G/1-PS: what is shared fairly, a batch whose iteration takes a step for each of its requests, or
  a link. The mean time is `1 / (1 - load)` of the time alone, whatever the sizes are. The 16 sizes
  are quantiles of the exponential distribution.
"""

LITTLE = """## Little's law

The mean number of requests in the system against the rate at which they come times the mean time
that they stay, in shipped scenarios as built. The number is counted at every instant; rate and time
are those of the requests that come in a window: there are 20, and one more at each end that is left
out. Half widths are of the difference, from the windows. All that the sides can differ by is what
comes in one window and ends in another; a row shows that times are told and counted alike.
"""

KEPT = """
The same of bytes that are kept, which two parts of the engine tell: what the accounts of DRAM and
NAND hold, in the mean over the quickstart with capacities lifted, against the bytes that each
request leaves times how long it is to be kept, to the end of the run at most. Bytes are held while
they are transferred too; that is the difference.
"""

SHARES = """
## Max-min fair shares

Rates of transfers that share random networks of links of 1 to 100 GB/s, each over one to four of
them: the bytes that the engine moves in a second, against progressive filling in exact fractions.
What a division of a link leaves over is less than a byte/s for each of its transfers; those of
another link may have it, so a difference is less than a byte/s for each transfer of the network.
"""
