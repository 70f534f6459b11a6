"""Caches of single blocks in plain Python, written from docs/hitrate.md: slow and obvious."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

Prompt = Sequence[int]
"""A request: the ids of its blocks, from the head on."""


def named(prompts: Sequence[Prompt]) -> list[list[int]]:
    """The blocks of each prompt, numbered by first use; an id under another parent is another."""
    numbers: dict[tuple[int, int], int] = {}
    out = []
    for prompt in prompts:
        path: list[int] = []
        for each in prompt:
            parent = path[-1] if path else -1
            path.append(numbers.setdefault((parent, each), len(numbers)))
        out.append(path)
    return out


def published_lru(prompts: Sequence[Prompt], capacity: int) -> list[int]:
    """Leading blocks held, by request: looked up from the head, then touched tail first."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = []
    for path in named(prompts):
        hits.append(leading(path, held))
        for block in reversed(path):
            held[block] = None
            held.move_to_end(block)
            if len(held) > capacity:
                held.popitem(last=False)
    return hits


def leading(path: Prompt, held: OrderedDict[int, None] | dict[int, list[int]]) -> int:
    """How many blocks are held before the first that is not."""
    count = 0
    for block in path:
        if block not in held:
            break
        count += 1
    return count


def leaf_cache(prompts: Sequence[Prompt], capacity: int, policy: str) -> list[int]:
    """Leading blocks held, by request, for each policy by the general rule."""
    paths = named(prompts)
    parent = {path[i]: path[i - 1] for path in paths for i in range(1, len(path))}
    held: dict[int, list[int]] = {}  # [inserted by, uses, last used by]
    hits = []
    for r, path in enumerate(paths):
        count = leading(path, held)
        hits.append(count)
        for block in path[:count]:
            held[block][1] += 1
            held[block][2] = r
        for block in path[count:]:
            while len(held) >= capacity:
                leaves = set(held) - {parent.get(each, -1) for each in held} - set(path)
                if not leaves:
                    break
                del held[min(leaves, key=lambda leaf: rank(policy, held[leaf]))]
            if len(held) < capacity:
                held[block] = [r, 1, r]
    return hits


def rank(policy: str, state: list[int]) -> tuple[int, ...]:
    """What is least goes first."""
    inserted, uses, last = state
    return {"lru": (last,), "lfu": (uses, last), "fifo": (inserted,)}[policy]


def runs(prompts: Sequence[Prompt]) -> tuple[list[tuple[int, int, int]], list[int]]:
    """The prefix forest: (parent, blocks, above) of each run, and each request's last run."""
    paths = named(prompts)
    children: dict[int, set[int]] = {}
    for path in paths:
        for parent, block in zip([-1, *path], path, strict=False):
            children.setdefault(parent, set()).add(block)
    ends = {path[-1] for path in paths if path}
    out: list[tuple[int, int, int]] = []
    run_of: dict[int, int] = {}
    for path in paths:
        above = 0
        for i, block in enumerate(path):
            if block in ends or len(children[block]) > 1:
                if block not in run_of:
                    parent = run_of[path[above - 1]] if above else -1
                    run_of[block] = len(out)
                    out.append((parent, i + 1 - above, above))
                above = i + 1
    return out, [run_of[path[-1]] if path else -1 for path in paths]
