"""The compiled engine against the oracle: every array equal, to the last integer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from oracle import Oracle

from dcsim.engine import Engine
from engine.case import Case, run
from engine.tables import FOCI, cases
from engine.world import NS, world

# How often an engine looks is its own affair.
OWN = ("events", "boundaries")


def check(case: Case, lifted: bool) -> None:
    """Both engines play the case; all that comes out must be equal."""
    expected = run(Oracle, case, lifted)
    got = run(Engine, case, lifted)
    assert set(got) == set(expected)
    stats = {k: v for k, v in expected.pop("stats").items() if k not in OWN}
    assert {k: v for k, v in got.pop("stats").items() if k not in OWN} == stats
    for name, array in expected.items():
        same(name, np.asarray(got[name]), array)


def same(name: str, got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    assert got.shape == expected.shape, (name, got.shape, expected.shape)
    where = np.argwhere(got != expected)
    assert len(where) == 0, (
        f"{name}{where[0].tolist()}: engine {got[tuple(where[0])]}, "
        f"oracle {expected[tuple(where[0])]} ({len(where)} differ)"
    )


@pytest.mark.parametrize("lifted", [False, True], ids=["built", "lifted"])
@pytest.mark.parametrize("focus", FOCI)
def test_engine_is_the_oracle(focus: str, lifted: bool) -> None:
    @settings(deadline=None)
    @given(cases(focus=(focus,)))
    def agree(case: Case) -> None:
        check(case, lifted)

    agree()


@settings(deadline=None)
@given(cases(most=50, focus=("links",)))
def test_crowded_links_agree(case: Case) -> None:
    check(case, lifted=False)


@pytest.mark.parametrize("bin", [997, 40_000])
def test_many_stretches_of_several_replicas_agree(bin: int) -> None:
    """The engine looks at what replicas held together some hundred stretches at a time."""
    random = np.random.default_rng(6)
    segments = [
        {"steps": 9, "own": 3 * NS + 7, "own_slope": 5, "live": 50, "live_slope": 30, "peak": 20},
        {"steps": 5, "own": 7 * NS + 1, "live": 90, "live_slope": -20, "peak": 5},
    ]
    works = [{"segment": 0, "segments": 2}, {"segments": 1}, {"segment": 1, "segments": 1}]
    replicas = [{"hbm": i, "dram": 3, "home": 4, "store": 4, "start": 1} for i in range(3)]
    arrivals = np.sort(random.integers(0, 30_000, 400)).tolist()
    tables = world(
        [{"arrival": t, "work": int(random.integers(3))} for t in arrivals],
        pools=[{"tier": 0, "capacity": 3000}] * 3 + [{"tier": 1}, {"tier": 2}],
        segments=segments,
        works=works,
        replicas=replicas,
        services={"replicas": 3, "max_jobs": 6, "max_tokens": 9, "weights": 11},
    )
    check(Case(tables, 40_000, bin), lifted=False)


@settings(deadline=None)
@given(cases(control=False))
def test_stops_change_nothing(case: Case) -> None:
    """The engine may be stopped anywhere: between stops it jumps, with none it jumps further."""
    whole = run(Engine, case, lifted=False)
    third = max(1, case.horizon // 3)
    case.script = [(t, "stop") for t in (0, 1, third, 2 * third) if t <= case.horizon]
    parts = run(Engine, case, lifted=False)
    for name in set(whole) - {"stats", "looks"}:
        same(name, np.asarray(parts[name]), np.asarray(whole[name]))
