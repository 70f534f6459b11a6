"""Components on threads: the same, to the last integer, for any number of threads."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracle import Oracle

from dcsim.engine import Engine, table
from engine.beside import beside
from engine.case import Case, run
from engine.tables import cases
from engine.test_agreement import OWN, same
from engine.test_border import tables
from engine.test_slices import KNOWN_BEFOREHAND, Sliced


def on(threads: int) -> Any:
    """The engine on so many threads."""
    return partial(Engine, threads=threads)


def in_order(events: np.ndarray) -> np.ndarray:
    """Events without the order of those of one time."""
    return events[np.lexsort(events.T[::-1])]


@settings(deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(cases(), min_size=2, max_size=3), st.booleans())
def test_any_number_of_threads_gives_the_same(parts: list[Case], lifted: bool) -> None:
    case = parts[0]
    for part in parts[1:]:
        case = beside(case, part)
    raw, single = run(Engine, case, lifted), run(on(1), case, lifted)
    for threads in (2, 3, 9):
        many = run(on(threads), case, lifted)
        assert many.keys() == single.keys()
        assert many.pop("stats") == single["stats"] == raw["stats"]
        for name, array in many.items():
            same(name, np.asarray(array), np.asarray(single[name]))
    for name in set(raw) - {"stats", "events"}:
        same(name, np.asarray(single[name]), np.asarray(raw[name]))
    same("events", in_order(single["events"]), in_order(raw["events"]))


@settings(deadline=None, phases=[Phase.explicit, Phase.generate])
@given(cases(most=8), cases(most=8))
def test_on_threads_it_is_the_oracle(one: Case, other: Case) -> None:
    case = beside(one, other)
    expected, got = run(Oracle, case, False), run(on(2), case, False)
    for key in OWN:
        expected["stats"].pop(key), got["stats"].pop(key)
    assert got["stats"] == expected["stats"]
    for name in set(expected) - {"stats", "events"}:
        same(name, np.asarray(got[name]), np.asarray(expected[name]))
    same("events", in_order(got["events"]), in_order(expected["events"]))


@settings(deadline=None, phases=[Phase.explicit, Phase.generate])
@given(cases(most=20), cases(most=20), st.lists(st.integers(0, 40), max_size=6))
def test_slices_and_threads_go_together(one: Case, other: Case, inner: list[int]) -> None:
    case = beside(one, other)
    for name in KNOWN_BEFOREHAND:
        case.tables.pop(name, None)
    whole = run(on(1), case, False)
    for threads in (1, 2):
        parts = run(partial(Sliced, inner=inner, engine=on(threads)), case, False)
        assert parts.pop("stats") == whole["stats"]
        for name, array in parts.items():
            same(name, np.asarray(array), np.asarray(whole[name]))


def two(**changes: Any) -> Case:
    """`test_it_runs_as_written` twice, the second two data centers beside each other."""
    return beside(Case(tables(**changes), 1000, 100), Case(tables(), 1000, 100))


def test_events_of_one_time_go_by_component() -> None:
    """Both fail and start at 7 ns, the second first: each component tells its own in order."""
    case = two()
    case.script = [(7, kind, r) for r in (1, 0) for kind in ("fail", "start")]
    for threads in (1, 2):
        events = run(on(threads), case, False)["events"]
        assert [row[1:3] for row in events.tolist() if row[0] == 7] == [
            [2, 0],
            [0, 0],
            [2, 1],
            [0, 1],
        ]


def test_together_they_hold_the_most_of_both() -> None:
    """One of two requests runs from 0 to 10 ns with 5 + 7 bytes, two from 6 ns on, one until 16;
    in both data centers at once: 48 bytes in all, which no sum of other bins' tops is."""
    out = run(on(2), two(), False)
    assert out["tier_top"][0, 0] == 2 * 2 * (5 + 7)
    assert out["top"][:, 0].tolist()[0::3] == [24, 24]


def test_what_falls_over_the_end_of_a_bin_was_the_most_before_it() -> None:
    """Three steps of 10 ns hold 200, 150 and 100 bytes, in both data centers at once. The last is
    under way when the first bin ends; the first two, told with it later, are none of the second."""
    falling = {"steps": 3, "own": 65536, "live": 200, "live_slope": -50, "first": 1}
    one = {name: np.zeros(1, dtype=np.int64) for name in ("klass", "work", "prompt", "output")}
    changes: Any = {
        "phases": table("phases", [{"launch": 8 * 65536, "weights": 65536}]),
        "segments": table("segments", [falling]),
        "arrival": np.zeros(1, dtype=np.int64),
        **one,
    }
    case = beside(Case(tables(**changes), 40, 20), Case(tables(**changes), 40, 20))
    for threads in (1, 2):
        out = run(on(threads), case, False)
        assert out["end"].tolist() == [30, 30]
        assert out["tier_top"][0].tolist() == [2 * 200, 2 * 100]


def test_a_wrong_slice_is_refused_by_all() -> None:
    engine = on(2)(two().tables, 1000, 100)
    late = {k: two().tables[k][:1] for k in ("arrival", "klass", "work", "prompt", "output")}
    with pytest.raises(ValueError, match="requests row 4: arrivals must be sorted"):
        engine.give(late)
    with pytest.raises(ValueError, match="requests row 4: no such class"):
        engine.give(late | {"arrival": np.array([5]), "klass": np.array([7])})
    with pytest.raises(ValueError, match="threads: 0 or more"):
        Engine(tables(), 1000, 100, threads=-1)
    engine.run_until(5)
    with pytest.raises(ValueError, match="comes too late"):
        engine.give(late | {"arrival": np.array([5])})
    assert len(engine.finish()["end"]) == 4


def test_what_one_of_them_raises_is_raised() -> None:
    engine = on(2)(two().tables, 1000, 100)
    with pytest.raises(ValueError, match="the run ends at 1000 ns"):
        engine.run_until(1001)
    with pytest.raises(ValueError, match="no replica 2"):
        engine.fail(2)
    engine.fail(1)
    with pytest.raises(ValueError, match="replica 1 is down already"):
        engine.fail(1)
    assert [engine.state(r) for r in (0, 1)] == [2, 0]
