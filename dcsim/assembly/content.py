"""What requests have in common, as one prefix forest: of sessions and of the blocks of a log."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dcsim.engine import Forest, Int64
from dcsim.workload import Content, Requests, under_adapters

__all__ = ["GAPS", "content_of"]

_SECOND, _MINUTE, _HOUR = 10**9, 60 * 10**9, 3600 * 10**9
GAPS = (
    *(n * _SECOND for n in (1, 4, 15)),
    *(n * _MINUTE for n in (1, 4, 15)),
    *(n * _HOUR for n in (1, 4, 16, 64)),
)
"""Edges of the classes of reuse gaps, ns: each about four times the one before, so a class taken at
its geometric middle is off by a factor of two at most, which is less than prices are known by.
Below the first nothing is worth a write, above the last nothing is worth DRAM."""


def content_of(requests: Requests, adapters: Mapping[int, int]) -> Content | None:
    """The forest of all classes, below their adapters, of which there are so many by class; None
    where no content is known.

    A request of a log with blocks reads and leaves all full blocks of its prompt: what blocks its
    output fills the log does not say.
    """
    found = _known(requests)
    if requests.adapter is None:
        return found
    return under_adapters(found, requests.klass, requests.adapter, adapters)


def _known(requests: Requests) -> Content | None:
    found = requests.content
    if not requests.blocks:
        return found
    columns: list[list[Int64]] = [[], [], []]
    reads: Int64 = np.full(len(requests), -1, dtype=np.int64)
    leaves = reads.copy()
    nodes = 0
    if found is not None:
        columns = [[found.parent], [found.tokens], [found.klass]]
        reads, leaves, nodes = found.reads.copy(), found.leaves.copy(), len(found.parent)
    for klass, blocks in requests.blocks.items():
        forest = Forest(blocks.start, blocks.ids)
        parent = np.where(forest.parent < 0, -1, forest.parent + nodes)
        runs = (parent, forest.length * blocks.tokens, np.full(len(parent), klass))
        for column, values in zip(columns, runs, strict=True):
            column.append(values)
        ends = np.where(forest.ends < 0, -1, forest.ends + nodes)
        reads[requests.klass == klass] = leaves[requests.klass == klass] = ends
        nodes += len(parent)
    parent, tokens, owner = (np.concatenate(column) for column in columns)
    return Content(parent, tokens, owner, reads, leaves)
