"""How fast a prefix forest is built and caches run over it, against one of single blocks."""

from __future__ import annotations

import itertools
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dcsim.engine import EVICTIONS, Forest, Int64
from dcsim.workload import read_blocks

__all__ = ["hitrate_figures", "hitrate_rows"]

LOG = "mooncake_fast25_synthetic.jsonl.gz"
BLOCK_TOKENS = 512
ROOM = 10_000_000 // BLOCK_TOKENS
PLAIN_REQUESTS = 8000
"""What the plain cache is given: it takes thousands of nanoseconds each."""

Made = TypeVar("Made")


def hitrate_figures(requests: int, repeats: int) -> dict[str, Any]:
    """Rates of building and replaying, the best of a few repeats, and their ratio to a plain one.

    Raises AssertionError where the two caches do not hit the same.
    """
    log, (start, blocks, full) = _log()
    start, blocks, full = _repeated(start, blocks, full, requests)
    requests = len(full)
    seconds: dict[str, float] = {}
    seconds["build"], forest = _timed(lambda: Forest(start, blocks), repeats)
    for policy in EVICTIONS:
        seconds[policy], _ = _timed(partial(forest.hits, policy, ROOM), repeats)
    seconds["curve"], _ = _timed(lambda: forest.lru_hits(full), repeats)
    some = min(PLAIN_REQUESTS, requests)
    prompts = [part.tolist() for part in np.split(blocks[: start[some]], start[1:some])]
    plain, hits = _timed(lambda: _plain_lru(prompts, ROOM), repeats)
    if hits != forest.hits("lru", ROOM)[:some].tolist():
        raise AssertionError("the cache of runs is not that of single blocks")
    rate = requests / seconds["lru"] * plain / some
    built_rate = requests / (seconds["build"] + seconds["lru"]) * plain / some
    return {
        "log": log,
        "requests": requests,
        "blocks_per_request": len(blocks) / requests,
        "runs_per_request": _runs_used(forest) / requests,
        "cache_blocks": ROOM,
        "nanoseconds_per_request": {what: s / requests * 1e9 for what, s in seconds.items()},
        "plain": {
            "requests": some,
            "nanoseconds_per_request": plain / some * 1e9,
            "lru_is_faster_by": rate,
            "build_and_lru_are_faster_by": built_rate,
        },
    }


def hitrate_rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures as lines, each with a name or none."""
    ns, plain = figures["nanoseconds_per_request"], figures["plain"]
    return [
        ("hitrate", figures["log"]),
        (
            "",
            f"{figures['blocks_per_request']:.1f} blocks in {figures['runs_per_request']:.2f} runs "
            f"a request; forest built in {ns['build']:.0f} ns a request",
        ),
        (
            "",
            f"lru {ns['lru']:.0f}, lfu {ns['lfu']:.0f}, fifo {ns['fifo']:.0f} ns a request; "
            f"lru at all capacities {ns['curve']:.0f}",
        ),
        (
            "",
            f"lru {plain['lru_is_faster_by']:,.0f} x as fast as single blocks in Python "
            f"({plain['build_and_lru_are_faster_by']:.0f} x with the build)",
        ),
    ]


def _timed(act: Callable[[], Made], repeats: int) -> tuple[float, Made]:
    """The least time in seconds, and what it gives."""
    least = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        made = act()
        least = min(least, time.perf_counter() - begun)
    return least, made


def _log() -> tuple[str, tuple[Int64, Int64, Int64]]:
    """A log's name; where the blocks of its requests start, the blocks, how many are full."""
    folder = os.environ.get("DCSIM_TRACES")
    if folder and Path(folder, LOG).is_file():
        log = read_blocks(Path(folder, LOG), BLOCK_TOKENS)
        return "Mooncake FAST'25, synthetic", (log.start, log.blocks, log.full)
    return "drawn stand-in (set DCSIM_TRACES for the Mooncake log)", _drawn()


def _drawn(requests: int = 4000) -> tuple[Int64, Int64, Int64]:
    """Conversations of one to nine turns, eight side by side, below one of 20 system prompts."""
    random = np.random.default_rng(1)
    fresh = itertools.count(20 * 6)
    chats: list[list[list[int]]] = [[] for _ in range(8)]
    prompts: list[list[int]] = []
    while len(prompts) < requests:
        chat = chats[random.integers(len(chats))]
        if not chat:
            system = 6 * int(20 * random.random() ** 3)
            prompt = list(range(system, system + 6))
            for _ in range(random.integers(1, 10)):
                prompt = prompt + list(itertools.islice(fresh, int(random.integers(2, 20))))
                chat.insert(0, prompt)
        prompts.append(chat.pop())
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    start = np.concatenate([[0], np.cumsum(lengths)])
    return start, np.concatenate([np.array(prompt) for prompt in prompts]), lengths - 1


def _repeated(
    start: Int64, blocks: Int64, full: Int64, requests: int
) -> tuple[Int64, Int64, Int64]:
    """The log over and over, with fresh ids each round, until it has so many requests."""
    rounds = np.arange(-(-requests // len(full)))
    starts = np.append(start[:-1] + len(blocks) * rounds[:, None], len(blocks) * len(rounds))
    many = blocks + (int(blocks.max()) + 1) * rounds[:, None]
    starts = starts[: requests + 1]
    return starts, many.ravel()[: starts[-1]], np.tile(full, len(rounds))[:requests]


def _runs_used(forest: Forest) -> int:
    """Runs on the paths of all requests."""
    depth: list[int] = []
    for parent in forest.parent.tolist():
        depth.append(1 + (depth[parent] if parent >= 0 else 0))
    return int(np.array(depth)[forest.ends].sum())


def _plain_lru(prompts: Sequence[Sequence[int]], capacity: int) -> list[int]:
    """The leading blocks of each prompt in a cache of single blocks, touched tail first."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = []
    for prompt in prompts:
        count = 0
        for block in prompt:
            if block not in held:
                break
            count += 1
        hits.append(count)
        for block in reversed(prompt):
            if block in held:
                held.move_to_end(block)
            else:
                held[block] = None
        while len(held) > capacity:
            held.popitem(last=False)
    return hits
