"""Functions as routers: the oracle's choices, errors that end a run, and what they are told."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle

from dcsim.engine import Engine
from engine.case import Case, run
from engine.tables import cases
from engine.test_agreement import OWN, same
from engine.world import NS, world

Options = list[tuple[int, int, int, int]]


def by_all(now: int, *asked: Any) -> int:
    """A choice that each of its arguments has a part in."""
    *request, options = asked
    mixed = now
    for figure in [*request, *(each for option in options for each in option)]:
        mixed = (mixed * 31 + figure) % 1_000_003
    row: int = options[mixed % len(options)][0]
    return row


def fewest(now: int, klass: int, prompt: int, output: int, before: int, options: Options) -> int:
    return min((requests, row) for row, requests, _, _ in options)[1]


def cheapest(now: int, klass: int, prompt: int, output: int, before: int, options: Options) -> int:
    return min((4 * asked - saved, requests, row) for row, requests, asked, saved in options)[2]


def sticky(now: int, klass: int, prompt: int, output: int, before: int, options: Options) -> int:
    if before in [row for row, *_ in options]:
        return before
    return fewest(now, klass, prompt, output, before, options)


def with_all(engine: Any, case: Case, function: Any, **more: Any) -> Any:
    return partial(
        engine, routers=dict.fromkeys(range(len(case.tables["services"])), function), **more
    )


def agree(expected: dict[str, Any], got: dict[str, Any]) -> None:
    assert set(got) == set(expected)
    for name in set(expected) - {"stats"}:
        same(name, np.asarray(got[name]), np.asarray(expected[name]))
    for name in set(expected["stats"]) - set(OWN):
        assert got["stats"][name] == expected["stats"][name]


@settings(deadline=None)
@given(cases(), st.booleans())
def test_a_function_decides_as_in_the_oracle(case: Case, lifted: bool) -> None:
    expected = run(with_all(Oracle, case, by_all), case, lifted)
    agree(expected, run(with_all(Engine, case, by_all), case, lifted))


@settings(deadline=None)
@given(cases())
def test_on_threads_too(case: Case) -> None:
    one, two = (run(with_all(Engine, case, by_all, threads=n), case, False) for n in (1, 2))
    agree(one, two)


@pytest.mark.parametrize(("router", "function"), [(0, fewest), (2, sticky), (3, cheapest)])
def test_what_is_built_in_as_a_function(router: int, function: Any) -> None:
    @settings(deadline=None)
    @given(cases())
    def holds(case: Case) -> None:
        case.tables["services"] = case.tables["services"].copy()
        case.tables["services"][:, 0] = router
        agree(run(Engine, case, False), run(with_all(Engine, case, function), case, False))

    holds()


def two(**changes: Any) -> dict[str, Any]:
    """Three requests of a step of 20 ns to a service of two replicas."""
    requests = [{"arrival": t, "prompt": 5, "output": 3} for t in (0, 3, 7)]
    replicas = [{"hbm": i, "dram": 2, "home": 3, "store": 3, "start": 1} for i in range(2)]
    pools = [{"tier": 0, "capacity": 3000}] * 2 + [{"tier": 1}, {"tier": 2}]
    services = {"replicas": 2, "max_jobs": 6, "max_tokens": 9} | changes
    segments = {"steps": 1, "own": 10 * NS}
    return world(requests, pools=pools, replicas=replicas, services=services, segments=segments)


def test_what_it_is_told() -> None:
    told: list[Any] = []

    def last(*asked: Any) -> int:
        told.append(asked)
        return int(asked[-1][-1][0])

    out = Engine(two(), 100, 100, routers={0: last}).finish()
    assert out["replica"].tolist() == [1, 1, 1]
    empty = (0, 0, 0, 0)
    assert told == [
        (0, 0, 5, 3, -1, [empty, (1, 0, 0, 0)]),
        (3, 0, 5, 3, -1, [empty, (1, 1, 5, 0)]),
        (7, 0, 5, 3, -1, [empty, (1, 2, 10, 0)]),
    ]


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (lambda *_: 2, ValueError, "a router gave 2, which is none of the replicas"),
        (lambda *_: -1, ValueError, "a router gave -1"),
        (lambda *_: None, ValueError, "a router gave None"),
        (lambda *_: 1.0, ValueError, "a router gave 1.0"),
        (lambda *_: 1 << 80, ValueError, "a router gave 1208925819614629174706176"),
        (lambda *_: {}["x"], KeyError, "x"),
        (lambda: 1, TypeError, "positional"),
    ],
)
@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_ends_the_run(answer: Any, error: Any, said: str, threads: int) -> None:
    engine = Engine(two(), 100, 100, threads=threads, routers={0: answer})
    with pytest.raises(error, match=said):
        engine.run_until(50)
    with pytest.raises(RuntimeError, match="the run is finished"):
        engine.run_until(60)


def test_a_refused_call_does_not_end_it() -> None:
    engine = Engine(two(), 100, 100, routers={0: fewest})
    engine.run_until(50)
    with pytest.raises(ValueError, match="time goes forward"):
        engine.run_until(10)
    assert engine.finish()["end"].tolist() == [20, 23, 40]
    with pytest.raises(ValueError, match="routers: no service 1"):
        Engine(two(), 100, 100, routers={1: fewest})
