"""Requests that come in slices, and go in slices once they are over: the same for any slices."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.engine import REQUESTS, Engine, table
from engine.case import Case, run
from engine.tables import cases
from engine.test_agreement import same
from engine.test_border import tables

KNOWN_BEFOREHAND = (
    *("delay", "after_start", "after", "handover", "ahead", "fed"),
    *("nodes", "reads", "leaves", "gaps"),
)


def slices_of(given: dict[str, np.ndarray], edges: list[int]) -> list[dict[str, np.ndarray]]:
    """The requests from each edge to the next."""
    return [{k: given[k][a:b].copy() for k in REQUESTS} for a, b in pairwise(edges)]


class Sliced:
    """An engine that is given requests as late as it may be, and whose rows are taken at once."""

    def __init__(
        self,
        given: dict[str, np.ndarray],
        horizon: int,
        bin: int,
        lifted: bool,
        inner: list[int],
        engine: Any = Engine,
    ) -> None:
        count = len(given["arrival"])
        edges = [0, *sorted(edge % (count + 1) for edge in inner), count]
        first, *self.later = slices_of(given, edges)
        self.engine = engine(given | first, horizon, bin, lifted)
        self.taken: list[dict[str, Any]] = []
        self.sizes = [b - a for a, b in pairwise(edges)]

    def run_until(self, t: int) -> None:
        while self.later and (not len(arrival := self.later[0]["arrival"]) or arrival[0] <= t):
            if len(arrival) and arrival[0] > self.engine.now:
                self.engine.run_until(int(arrival[0]) - 1)
            self.engine.give(self.later.pop(0))
            self.take()
        self.engine.run_until(t)
        self.take()

    def take(self) -> None:
        while (rows := self.engine.take()) is not None:
            self.taken.append(dict(rows))

    def finish(self) -> dict[str, Any]:
        for rows in self.later:
            self.engine.give(rows)
        out: dict[str, Any] = dict(self.engine.finish())
        for name in self.taken[0] if self.taken else ():
            out[name] = np.concatenate([each[name] for each in (*self.taken, out)])
        return out

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


@settings(deadline=None)
@given(cases(most=40), st.lists(st.integers(0, 40), max_size=6), st.booleans())
def test_slices_change_nothing(case: Case, inner: list[int], lifted: bool) -> None:
    for name in KNOWN_BEFOREHAND:
        case.tables.pop(name, None)
    made: list[Sliced] = []

    def sliced(*given: Any) -> Sliced:
        made.append(Sliced(*given, inner))
        return made[-1]

    whole, parts = run(Engine, case, lifted), run(sliced, case, lifted)
    assert set(parts) == set(whole)
    # To be given a slice an engine must have run up to it, which is a stop and settles nothing.
    assert parts.pop("stats") == whole.pop("stats")
    for name, array in whole.items():
        same(name, np.asarray(parts[name]), np.asarray(array))
    # They came out as they went in.
    assert [len(each["end"]) for each in made[0].taken] == made[0].sizes[: len(made[0].taken)]


def test_a_slice_comes_out_when_all_of_it_is_over() -> None:
    """`test_it_runs_as_written`: the first of two requests ends at 10 ns, the second at 16."""
    first, second = slices_of(tables(), [0, 1, 2])
    engine = Engine(tables() | first, 1000, 100)
    assert engine.take() is None
    engine.give(second)
    engine.run_until(9)
    assert engine.take() is None
    engine.run_until(10)
    out = engine.take()
    assert out is not None
    assert out["end"].tolist() == [10]
    assert out["replica"].tolist() == [0]
    assert engine.take() is None
    rest = engine.finish()
    assert rest["end"].tolist() == [16]
    assert rest["arrived"].tolist() == [5]
    assert rest["stats"]["steps"] == 6


def test_a_rejected_request_is_over() -> None:
    service = {"replicas": 1, "max_jobs": 2, "max_tokens": 9, "weights": 80 * 10**9}
    engine = Engine(tables(services=table("services", [service])), 9, 9)
    engine.run_until(5)
    out = engine.take()
    assert out is not None
    assert out["outcome"].tolist() == [3, 3]


def test_who_comes_too_late_is_refused() -> None:
    engine = Engine(tables(), 1000, 100)
    (late,) = slices_of(tables(arrival=np.array([7, 7])), [0, 2])
    engine.run_until(7)
    with pytest.raises(ValueError, match="of 7 ns comes too late: all up to 7 ns has been handled"):
        engine.give(late)
    engine.give(late | {"arrival": np.array([8, 8])})
    out = engine.finish()
    assert out["arrived"].tolist() == [0, 5, 8, 8]


def test_a_wrong_slice_is_refused_and_changes_nothing() -> None:
    engine = Engine(tables(), 1000, 100)
    (again,) = slices_of(tables(arrival=np.array([4, 6])), [0, 2])
    with pytest.raises(ValueError, match="requests row 2: arrivals must be sorted"):
        engine.give(again)
    right = again | {"arrival": np.array([5, 6])}
    with pytest.raises(ValueError, match="requests row 3: no such class or work"):
        engine.give(right | {"work": np.array([0, 9])})
    with pytest.raises(ValueError, match="requests row 0: arrays differ in length"):
        engine.give(right | {"work": np.array([0])})
    with pytest.raises(ValueError, match="no table work"):
        engine.give({k: v for k, v in right.items() if k != "work"})
    engine.give(right)
    assert engine.finish()["arrived"].tolist() == [0, 5, 5, 6]


def test_the_last_that_was_taken_still_comes_before_the_next() -> None:
    """Its row has been forgotten; its arrival has not."""
    engine = Engine(tables(), 1000, 100)
    engine.run_until(3)
    (next_,) = slices_of(tables(arrival=np.array([4, 6])), [0, 2])
    with pytest.raises(ValueError, match="requests row 2: arrivals must be sorted"):
        engine.give(next_)


@pytest.mark.parametrize("known", ["graph", "content"])
def test_what_is_known_beforehand_comes_at_once(known: str) -> None:
    more = {
        "graph": {
            "delay": np.array([0, 7]),
            "after_start": np.array([0, 0, 1]),
            "after": np.array([0]),
        },
        "content": {
            "nodes": np.zeros((0, 4), dtype=np.int64),
            "reads": np.array([-1, -1]),
            "leaves": np.array([-1, -1]),
        },
    }[known]
    engine = Engine(tables(**more), 1000, 100)
    (next_,) = slices_of(tables(arrival=np.array([9, 9])), [0, 2])
    with pytest.raises(ValueError, match="come all at once"):
        engine.give(next_)
    engine.run_until(900)
    # Where requests wait for others those before them are needed to the end.
    assert (engine.take() is None) == (known == "graph")
    assert len(engine.finish()["end"]) == (2 if known == "graph" else 0)
