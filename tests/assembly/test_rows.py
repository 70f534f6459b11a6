"""Priced works as the engine's rows."""

from __future__ import annotations

from fractions import Fraction

import pytest

from dcsim.assembly.rows import phase_row, segment_row, ticks
from dcsim.engine import COLUMNS
from dcsim.traces import Cost, Segment, WorkPhase, WorkSegment

SECOND = 65536 * 10**9
HELD = {"live": 70, "live_slope": 80, "peak": 90}


def cost(**given: int) -> Cost:
    """Costs in whole seconds."""
    names = Cost.__dataclass_fields__
    return Cost(**{name: Fraction(given.get(name, 0)) for name in names})


def row(rule: str, first: bool = False, **given: int) -> dict[str, int]:
    demand = Segment("s", "p", 3, 5, rule=rule, first=first, **HELD)
    return dict(segment_row(WorkSegment(demand, 2, cost(**given), 60)))


@pytest.mark.parametrize(
    ("seconds", "count"),
    [
        (Fraction(0), 0),
        (Fraction(1), SECOND),
        (Fraction(1, 3 * SECOND), 1),
        (Fraction(4, SECOND), 4),
    ],
)
def test_a_tick_begun_counts(seconds: Fraction, count: int) -> None:
    assert ticks(seconds) == count


def test_columns_are_the_engines() -> None:
    assert set(phase_row(WorkPhase("p", Fraction(2), Fraction(3)))) == set(COLUMNS["phases"])
    assert phase_row(WorkPhase("p", Fraction(2), Fraction(3))) == {
        "launch": 2 * SECOND,
        "weights": 3 * SECOND,
    }
    for rule in ("fixed", "prefill", "decode"):
        assert set(row(rule)) <= set(COLUMNS["segments"])


def test_a_fixed_segment_takes_the_longer_of_attention_and_its_traffic() -> None:
    both = {"attention": 10, "attention_slope": 1, "reading": 4, "reading_slope": 3}
    found = row("fixed", first=True, dense=7, conv=100, memory=200, comm=400, **both)
    assert found == {
        "rule": 0,
        "phase": 2,
        "steps": 3,
        "tokens": 5,
        "dense": 7 * SECOND,
        "own": 710 * SECOND,
        "own_slope": 3 * SECOND,
        "mean": 60,
        "first": 1,
        **HELD,
    }


@pytest.mark.parametrize(("rule", "number"), [("prefill", 1), ("decode", 2)])
def test_a_token_segment_leaves_the_choice_to_the_engine(rule: str, number: int) -> None:
    found = row(rule, dense=7, memory=200, comm=400, attention=10, reading=4)
    assert (found["rule"], found["first"]) == (number, 0)
    assert (found["pair"], found["ctx"]) == (10 * SECOND, 4 * SECOND)
    assert found["own"] == 600 * SECOND


def test_halves_of_a_tick_are_rounded_once() -> None:
    half = Fraction(1, 2 * SECOND)
    demand = Segment("s", "p", 1, 1)
    priced = Cost(*[half] * 9)
    found = segment_row(WorkSegment(demand, 0, priced, 0))
    assert (found["own"], found["own_slope"]) == (3, 1)  # five halves, one half
