"""What the engine refuses at its border: an error with its place, never a crash."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dcsim.engine import COLUMNS, Engine, Tables, table

GB = 10**9


def tables(**changes: object) -> Tables:
    """One replica, one fixed work, two requests."""
    out: Tables = {
        "pools": table(
            "pools",
            [
                {"tier": 0, "capacity": 80 * GB},
                {"tier": 1, "capacity": GB},
                {"tier": 2, "capacity": GB},
            ],
        ),
        "channels": table("channels", [{"bandwidth": GB, "latency": 10}]),
        "path_start": np.array([0, 1], dtype=np.int64),
        "path_channels": np.array([0], dtype=np.int64),
        "phases": table("phases", [{"launch": 65536, "weights": 65536}]),
        "segments": table(
            "segments", [{"steps": 3, "own": 65536, "live": 5, "peak": 7, "first": 1}]
        ),
        "works": table("works", [{"segments": 1}]),
        "services": table("services", [{"replicas": 1, "max_jobs": 2, "max_tokens": 9}]),
        "classes": table("classes", [{}]),
        "replicas": table("replicas", [{"dram": 1, "home": 2, "store": 2, "start": 1}]),
        "arrival": np.array([0, 5], dtype=np.int64),
        "klass": np.zeros(2, dtype=np.int64),
        "work": np.zeros(2, dtype=np.int64),
        "prompt": np.zeros(2, dtype=np.int64),
        "output": np.zeros(2, dtype=np.int64),
    }
    out.update(changes)  # type: ignore[arg-type]
    return out


def changed(name: str, column: str, value: int) -> Tables:
    out = tables()
    out[name] = out[name].copy()
    out[name][0, COLUMNS[name].index(column)] = value
    return out


def test_it_runs_as_written() -> None:
    out = Engine(tables(), 1000, 100).finish()
    # An iteration of one request: launch 1 ns + weights 1 ns + own 1 ns; the second joins at 6 ns,
    # from then on an iteration takes 4 ns.
    assert out["end"].tolist() == [10, 16]
    assert out["first"].tolist() == [10, 16]
    assert out["start"].tolist() == [0, 6]
    # Events: two arrivals, edges at 6, 10 and 16 ns; edges visited: those and the one at 0 that the
    # first arrival makes. Iterations: two alone, one of both, two alone.
    assert out["stats"] == {"events": 5, "boundaries": 4, "steps": 6, "iterations": 5}


@pytest.mark.parametrize(
    ("name", "column", "value", "message"),
    [
        ("pools", "tier", 3, "pools row 0: tier 0..2"),
        ("channels", "bandwidth", 0, "channels row 0: bandwidth >= 1"),
        ("phases", "launch", 0, "phases row 0: launch >= 1"),
        ("segments", "phase", 9, "segments row 0: no such phase"),
        ("segments", "steps", 0, "segments row 0: steps >= 1"),
        ("segments", "own", -1, "segments row 0: no value may be negative"),
        ("segments", "live_slope", -3, "segments row 0: no value may be negative"),
        ("segments", "mean", 8, "segments row 0: mean <= peak"),
        ("works", "segments", 2, "works row 0: no such segments"),
        ("works", "context", -1, "works row 0: no such segments"),
        ("services", "replicas", 2, "services row 0: no such router or replicas"),
        ("services", "max_jobs", 0, "services row 0: limit out of range"),
        ("classes", "context_nand", -1, "classes row 0: no such service, or a negative time"),
        ("replicas", "store", 7, "replicas row 0: no such pool"),
        ("replicas", "spill", 1, "replicas row 0: no such path"),
        ("replicas", "start", 3, "replicas row 0: start is 0..2"),
    ],
)
def test_a_wrong_row_is_named(name: str, column: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        Engine(changed(name, column, value), 1000, 100)


def test_decode_may_not_outgrow_what_admission_counts() -> None:
    rows = [{"rule": 1, "tokens": 4, "live": 2}, {"rule": 2, "tokens": 1, "live": 3}]
    work = table("works", [{"segments": 2}])
    with pytest.raises(ValueError, match="works row 0: decode live <= prefill live"):
        Engine(tables(segments=table("segments", rows), works=work), 1000, 100)


def test_wrong_arrays_are_named() -> None:
    with pytest.raises(ValueError, match="no table arrival"):
        Engine({k: v for k, v in tables().items() if k != "arrival"}, 1000, 100)
    with pytest.raises(ValueError, match="pools: 2 columns: tier capacity"):
        Engine(tables(pools=np.zeros((1, 3), dtype=np.int64)), 1000, 100)
    with pytest.raises(ValueError, match="arrival: a C-contiguous int64 array of one dimension"):
        Engine(tables(arrival=np.zeros(2)), 1000, 100)
    with pytest.raises(ValueError, match="requests row 1: arrivals must be sorted"):
        Engine(tables(arrival=np.array([5, 0], dtype=np.int64)), 1000, 100)
    with pytest.raises(ValueError, match="arrays differ in length"):
        Engine(tables(work=np.zeros(3, dtype=np.int64)), 1000, 100)
    with pytest.raises(ValueError, match="horizon and bin are at least 1 ns"):
        Engine(tables(), 0, 100)


def test_time_goes_forward_and_ends() -> None:
    engine = Engine(tables(), 1000, 100)
    engine.run_until(500)
    with pytest.raises(ValueError, match="time goes forward"):
        engine.run_until(499)
    with pytest.raises(ValueError, match="the run ends at 1000 ns"):
        engine.run_until(1001)
    engine.finish()
    with pytest.raises(RuntimeError, match="finished"):
        engine.finish()


def test_control_of_what_does_not_exist() -> None:
    engine = Engine(tables(), 1000, 100)
    with pytest.raises(ValueError, match="no replica 4"):
        engine.fail(4)
    with pytest.raises(ValueError, match="replica 0 is not down"):
        engine.start(0)
    with pytest.raises(ValueError, match="a DRAM or NAND pool"):
        engine.set_capacity(0, 5)
    with pytest.raises(ValueError, match="no such pool"):
        engine.used(99)


def test_equal_times_go_edge_then_arrival() -> None:
    """A request that ends at the very ns of an arrival has left when that arrival is routed."""
    one = tables(arrival=np.array([0, 9], dtype=np.int64))
    # Alone: 3 iterations of 3 ns end at 9; the arrival at 9 starts at once on the idle replica.
    assert Engine(one, 1000, 100).finish()["start"].tolist() == [0, 9]


def test_order_of_columns_is_that_of_the_table() -> None:
    rows = table("channels", [{"latency": 3, "bandwidth": 2}])
    assert rows.tolist() == [[2, 3]]
    with pytest.raises(KeyError):
        table("channels", [{"speed": 3}])


def test_the_engine_owns_its_tables() -> None:
    """It read the request arrays in place: a class that is not there, written later, crashed."""
    given = tables()
    engine = Engine(given, 1000, 100)
    for name in ("arrival", "klass", "work", "prompt", "output"):
        given[name][:] = 1 << 40  # type: ignore[literal-required]
    assert engine.finish()["end"].tolist() == [10, 16]


def test_two_engines_run_on_two_threads() -> None:
    with ThreadPoolExecutor(2) as pool:
        outs = list(pool.map(lambda _: Engine(tables(), 1000, 100).finish(), range(8)))
    assert all(out["end"].tolist() == [10, 16] for out in outs)


def test_one_engine_takes_one_thread_at_a_time() -> None:
    many = 200_000
    columns = {
        name: np.zeros(many, dtype=np.int64) for name in ("klass", "work", "prompt", "output")
    }
    engine = Engine(tables(arrival=np.arange(many, dtype=np.int64) * 5, **columns), 10**9, 10**6)

    def look() -> str:
        try:
            return str(engine.now)
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(engine.run_until, 10**9)
        while not run.done():
            assert look() in ("0", str(10**9), "the engine is running in another thread")
    assert engine.now == 10**9
