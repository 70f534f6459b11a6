"""What requests hand over to those that wait for them, in bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dcsim.engine import COLUMNS, Int64, Tables
from dcsim.engine.border import RULES
from dcsim.spec import Job
from dcsim.workload import Graph, Requests

__all__ = ["graph_columns", "hand_over_columns", "handing_classes", "held_at_end"]


def handing_classes(jobs: Sequence[Job], requests: Requests | None) -> list[tuple[int, int]]:
    """The pairs of classes (giver, taker) of which one hands something over to the other; none
    where requests come in windows, for nobody waits."""
    graph = None if requests is None else requests.graph
    if requests is None or graph is None:
        return []
    names = [job.asked for job in jobs]
    whose = np.array([names.index(name) for name in names], dtype=np.int64)
    giver, taker = requests.klass[graph.after], requests.klass[graph.waiting]
    moves = (graph.handover > 0) | ((whose[giver] == whose[taker]) & (giver < taker))
    pairs = np.unique(np.stack([giver[moves], taker[moves]], axis=1), axis=0)
    return [(int(one), int(other)) for one, other in pairs]


def held_at_end(tables: Tables) -> Int64:
    """The bytes that each request counts as holding in its last step: the most it can hand over."""
    works = np.array([_held(tables, *row[:2]) for row in tables["works"].tolist()])
    prompt, output, work = tables["prompt"], tables["output"], tables["work"]
    fixed, first, later = works[work].T
    tokens = np.where(output > 1, later * (prompt + output - 1), first * prompt)
    return np.asarray(np.where(fixed >= 0, fixed, tokens), dtype=np.int64)


def _held(tables: Tables, first: int, count: int) -> tuple[int, int, int]:
    """Of a fixed work what it holds; else -1, and bytes a token of prefill and of decode."""
    rows = [
        dict(zip(COLUMNS["segments"], row, strict=True))
        for row in tables["segments"][first : first + count].tolist()
    ]
    if rows[0]["rule"] != RULES.index("fixed"):
        return -1, rows[0]["live"], rows[1]["live"]
    ends = [(row, step) for row in rows for step in (0, row["steps"] - 1)]
    return max(r["live"] + r["live_slope"] * k + r["peak"] for r, k in ends), 0, 0


def graph_columns(graph: Graph) -> Tables:
    """The engine's arrays of who waits for whom."""
    return {"after": graph.after, "after_start": graph.start, "delay": graph.delay}


def hand_over_columns(
    graph: Graph,
    klass: Int64,
    work: Int64,
    jobs: Sequence[Job],
    kv: Sequence[int],
    layers: Sequence[int],
    made: Mapping[int, int],
) -> Tables:
    """The engine's arrays of hand-overs.

    `kv` and `layers`: of the model of each class, bytes a token (0: no LLM) and layers; `made`: by
    work of a diffusion stage the bytes that the next one needs. Of the KV a token the smaller of
    both ends goes over: what lies twice in one replica is copied there.
    """
    giver, taker = klass[graph.after], klass[graph.waiting]
    live = np.array(kv, dtype=np.int64)
    amount = graph.handover + graph.fed[graph.waiting] * np.minimum(live[giver], live[taker])
    names = [job.asked for job in jobs]
    whose = np.array([names.index(name) for name in names], dtype=np.int64)
    by_work = np.zeros(int(work.max(initial=0)) + 1, dtype=np.int64)
    for row, count in made.items():
        by_work[row] = count
    next_stage = whose[giver] == whose[taker]
    amount += np.where(next_stage, by_work[work[graph.after]], 0)
    deep = np.array(layers, dtype=np.int64)[giver]
    overlap = np.array([job.overlap for job in jobs], dtype=np.bool_)[giver]
    # All layers but the last have gone when the prefill ends.
    ahead = np.where(overlap & next_stage, amount - -(-amount // deep), 0)
    return {"handover": amount, "ahead": ahead, "fed": graph.fed}
