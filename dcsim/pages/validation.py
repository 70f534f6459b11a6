"""docs/validation.md: what dcsim computes beside what others published or proved.

`python -m dcsim.pages.validation > docs/validation.md` renders it. Models, memory and time are
`dcsim.validation`'s; here follow iteration times and prefix caches, whose published figures are
public files: DCSIM_TRACES says in which folder they lie. What theory says of queues and links is
`dcsim.pages.theory`'s.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.engine import Forest
from dcsim.pages import splitwise
from dcsim.pages.theory import theory_section
from dcsim.planning import hit_rates
from dcsim.validation import held, markdown, validate

__all__ = ["CheRow", "che_rows", "che_section", "page", "published_section"]

LOG = "mooncake_fast25_synthetic.jsonl.gz"
RATES = "kv_hit_rates.json"
OBJECTS = 10_000
USES = 1_000_000
BATCHES = 40
"""The first fifth of the uses fills the cache; the rest is cut into batches, for the error."""


def page(folder: Path) -> str:
    """The whole page; `folder` holds the public log and the hit rates published for it."""
    parts = [markdown(validate()), iterations_section(folder)]
    return "\n".join([*parts, published_section(folder), che_section(), theory_section()])


def iterations_section(folder: Path) -> str:
    """Prefills and decode steps of an LLM on A100s, by batch, lengths and degree."""
    rows = [held(row) for row in splitwise.rows(folder)]
    lines = [ITERATIONS, "| use | what | rows | median error | half are within | largest |"]
    lines.append("|---|---|---|---|---|---|")
    for use in ("", "fit"):
        for quantity in sorted({row.quantity for row in rows}):
            mine = [r.error for r in rows if (r.use, r.quantity) == (use, quantity)]
            off = np.array([error for error in mine if error is not None])
            worst = off[np.abs(off).argmax()]
            lines.append(
                f"| {use or 'test'} | {quantity} | {len(off)} | {np.median(off):+.1%} "
                f"| {np.median(np.abs(off)):.1%} | {worst:+.1%} |"
            )
    lines += [
        "",
        "| what | use | prefill (ms) | ours | error | decode (ms) | ours | error | note |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for prefill, decode in zip(rows[::2], rows[1::2], strict=True):
        cells = "".join(
            f" {r.published:,.1f} | {r.ours:,.1f} | {r.error:+.1%} |" for r in (prefill, decode)
        )
        use = prefill.use or "test"
        lines.append(f"| {prefill.config} | {use} |{cells} {prefill.note} |")
    return "\n".join(lines) + "\n"


ITERATIONS = f"""## Times of iterations

Llama-2-70B on A100 80 GB, from `{splitwise.FILE}`
(Splitwise; medians of the repetitions), under the profile `vllm-2023`: a server that launches
kernel by kernel, so that a decode step of one request takes as long at TP 8 as at TP 4. The
profile was fitted to TP {" and ".join(splitwise.FITTED)}.
"""


def published_section(folder: Path) -> str:
    """Hit rates of the Mooncake log at the capacities for which some were published."""
    published: dict[str, Any] = json.loads((folder / RATES).read_text(encoding="utf-8"))
    capacities = published["capacity_tokens"]
    ours = hit_rates(folder / LOG, capacities).hit_rate
    lines = [PUBLISHED, f"Source: {published['source']}.", ""]
    lines += ["| capacity (tokens) | published | ours | error (points) |", "|---|---|---|---|"]
    for capacity, theirs, rate in zip(capacities, published["hit_rate"], ours, strict=True):
        lines.append(
            f"| {capacity:,.0f} | {theirs:.2%} | {rate:.2%} | {100 * (rate - theirs):+.2f} |"
        )
    return "\n".join(lines) + "\n"


PUBLISHED = f"""## Hit rates of a prefix cache

One LRU cache fed with the requests of `{LOG}` in the order of the
file, blocks of 512 tokens, by `dcsim hitrate`; what counts as a hit is in [hitrate.md](hitrate.md).
An error is a difference in percentage points.
"""


@dataclass(frozen=True)
class CheRow:
    """Hit rates of an LRU cache of `room` objects used independently, `weight ~ rank^-exponent`."""

    exponent: float
    room: int
    che: float
    ours: float
    error: float
    """The standard error of ours, from the spread of batches."""


def che_rows(seed: int = 1) -> list[CheRow]:
    """Che's approximation and our cache, for three popularities and three sizes."""
    rows = []
    for i, exponent in enumerate((0.8, 1.0, 1.2)):
        weights = np.arange(1, OBJECTS + 1) ** -exponent
        share = weights / weights.sum()
        drawn = np.random.default_rng([seed, i]).random(USES)
        ids = np.searchsorted(np.cumsum(share)[:-1], drawn, side="right").astype(np.int64)
        forest = Forest(np.arange(USES + 1, dtype=np.int64), ids)
        for room in (OBJECTS // 100, OBJECTS // 10, OBJECTS // 3):
            hits = forest.hits("lru", room)[USES // 5 :].reshape(BATCHES, -1).mean(axis=1)
            error = float(hits.std(ddof=1)) / BATCHES**0.5
            rows.append(CheRow(exponent, room, che(share, room), float(hits.mean()), error))
    return rows


def che(share: NDArray[np.float64], room: int) -> float:
    """The hit rate of an LRU cache of so many objects, each use an independent draw.

    An object stays for a time T that is the same for all, the one in which as many different
    objects are used as find room: `sum(1 - exp(-p T)) = room` (Che, Tung and Wang 2002).
    """
    low, high = 0.0, 1.0
    while (1 - np.exp(-share * high)).sum() < room:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        full = (1 - np.exp(-share * middle)).sum() >= room
        low, high = (low, middle) if full else (middle, high)
    return float((share * (1 - np.exp(-share * high))).sum())


def che_section() -> str:
    """Our cache against the approximation, as a table."""
    lines = [CHE, "| Zipf exponent | room | Che | ours | difference (points) | standard error |"]
    lines.append("|---|---|---|---|---|---|")
    lines += [
        f"| {row.exponent} | {row.room:,} | {row.che:.2%} | {row.ours:.2%} "
        f"| {100 * (row.ours - row.che):+.3f} | {100 * row.error:.3f} |"
        for row in che_rows()
    ]
    return "\n".join(lines) + "\n"


CHE = f"""## LRU under independent references

{USES:,} independent draws of {OBJECTS:,} objects with Zipf popularity, each object one block,
against Che's approximation (Che, Tung and Wang, "Hierarchical Web Caching Systems", IEEE JSAC
20(7), 2002). The standard error, in points, is that of our rate, from {BATCHES} batches after the
cache has filled.
"""


def main() -> int:
    """Prints the page, whole or not at all."""
    folder = Path(os.environ.get("DCSIM_TRACES", "."))
    try:
        text = page(folder)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; set DCSIM_TRACES", file=sys.stderr)
        return 2
    print(text, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
