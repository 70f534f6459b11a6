"""Which adapter each request needs, and the prefix forest below the adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dcsim.spec import Job
from dcsim.workload.graph import Graph
from dcsim.workload.sessions import Stream, popular
from dcsim.workload.stages import Content

__all__ = ["draw_adapters", "under_adapters"]

Ints = NDArray[np.int64]


def draw_adapters(job: Job, rows: Ints, graph: Graph | None, random: Stream) -> Ints:
    """Which of the adapters of its job each of its requests needs, all of a conversation the same.

    `rows`: those of the job, rising.
    """
    assert job.adapters is not None
    first = rows
    if job.session is not None and graph is not None:
        before = graph.last
        first = np.where(before < 0, np.arange(len(before)), before)
        while (first[first] != first).any():  # twice as far back each time
            first = first[first]
        first = first[rows]
    begins, of = np.unique(first, return_inverse=True)
    drawn = popular(job.adapters.count, job.adapters.zipf, len(begins), random("adapters"))
    return drawn[of]


def under_adapters(
    content: Content | None, klass: Ints, adapter: Ints, counts: Mapping[int, int]
) -> Content:
    """The forest with what requests have in common below the adapters that made it.

    `klass` and `adapter` int64[N]: of each request, -1 for no adapter; `counts`: adapters by class.
    Nodes that nobody uses are left out.
    """
    none = np.full(len(klass), -1, dtype=np.int64)
    if content is None:
        empty = np.empty(0, dtype=np.int64)
        content = Content(empty, empty, empty, none, none)
    first = dict(zip(counts, np.cumsum([0, *counts.values()])[:-1].tolist(), strict=True))
    roots = sum(counts.values())
    owner = np.repeat(np.array(list(counts), dtype=np.int64), list(counts.values()))
    base = np.zeros(int(klass.max(initial=0)) + 1, dtype=np.int64)
    for each, begin in first.items():
        if each < len(base):
            base[each] = begin
    root = np.where(adapter < 0, -1, base[klass] + adapter)  # row of the adapter of a request
    # A node is known by itself and the adapter above it: sorted so, parents come first.
    many = roots + 1

    def keys(nodes: Ints, above: Ints) -> Ints:
        return np.asarray(nodes[nodes >= 0] * many + above[nodes >= 0] + 1)

    found = np.unique(np.concatenate([keys(content.reads, root), keys(content.leaves, root)]))
    more = found
    while len(more):
        parents = np.unique(keys(content.parent[more // many], more % many - 1))
        more = np.setdiff1d(parents, found, assume_unique=True)
        found = np.union1d(found, more)
    nodes, above = found // many, found % many - 1

    def rows(of: Ints, under: Ints) -> Ints:
        """Rows of nodes below an adapter; of none that of the adapter itself."""
        place = np.searchsorted(found, np.maximum(of, 0) * many + under + 1)
        return np.where(of < 0, under, roots + place)

    return replace(
        content,
        parent=np.concatenate([np.full(roots, -1), rows(content.parent[nodes], above)]),
        tokens=np.concatenate([np.zeros(roots, dtype=np.int64), content.tokens[nodes]]),
        klass=np.concatenate([owner, content.klass[nodes]]),
        reads=rows(content.reads, root),
        leaves=rows(content.leaves, root),
        brought=np.concatenate([np.ones(roots, dtype=np.int64), np.zeros_like(nodes)]),
    )
