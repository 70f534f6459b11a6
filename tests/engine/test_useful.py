"""What will be used again, worked by hand, on both engines."""

from __future__ import annotations

from engine.world import NS, Play, world

NODES = [
    {"tokens": 4, "bytes": 40},
    {"parent": 0, "tokens": 4, "bytes": 10},
    {"parent": 1, "tokens": 0, "bytes": 7},
]
ROWS = {
    "segments": [
        {"rule": 1, "tokens": 4, "first": 1, "live": 1},
        {"rule": 2, "tokens": 1, "live": 1},
    ],
    "works": {"segments": 2},
    "phases": {"launch": 10 * NS},
    "nodes": NODES,
}


def turn(arrival: int, prompt: int, reads: int, leaves: int) -> dict[str, int]:
    return {
        "arrival": arrival,
        "prompt": prompt,
        "output": 1,
        "reads": reads,
        "leaves": leaves,
    }


TURNS = [turn(0, 4, 0, 0), turn(200, 8, 0, 1), turn(500, 8, 1, 2)]


def test_bytes_are_useful_from_one_use_to_the_next(play: Play) -> None:
    out = play(world(TURNS, **ROWS, gaps=[200]), horizon=600)
    assert out["end"].tolist() == [10, 220, 520]
    # Nobody has left node 0 when it is asked for at 0. Left at 10 it is asked for at 200, after 190
    # ns; with node 1 it is left at 220 and asked for at 500, after 280. Node 2 is never asked for.
    assert out["useful"].shape == (1, 2, 6)
    assert out["useful"][0, 0].tolist() == [36, 40, 0, 0, 0, 0]
    assert out["useful"][0, 1].tolist() == [0, 0, 40, 50, 50, 0]
    assert out["reused"][0, 0].tolist() == [0, 0, 40, 0, 0, 0]
    assert out["reused"][0, 1].tolist() == [0, 0, 0, 0, 0, 50]


def test_a_gap_as_long_as_an_edge_is_above_it(play: Play) -> None:
    out = play(world(TURNS, **ROWS, gaps=[190, 281]), horizon=600, bin=600)
    assert out["reused"][0].tolist() == [[0], [90], [0]]
    assert out["useful"][0].tolist() == [[0], [(40 * 190 + 50 * 280) // 600], [0]]


def test_what_comes_after_the_end_is_not_known(play: Play) -> None:
    out = play(world(TURNS, **ROWS, gaps=[200]), horizon=499)
    assert out["useful"][0].sum(axis=0).tolist() == [36, 40, 0, 0, 0]
    out = play(world(TURNS, **ROWS, gaps=[200]), horizon=500)
    assert out["reused"][0, 1].tolist() == [0, 0, 0, 0, 50]  # at the horizon: the last bin


def test_without_edges_nothing_is_told(play: Play) -> None:
    told = play(world(TURNS, **ROWS, gaps=[200]))
    silent = play(world(TURNS, **ROWS))
    assert set(told) - set(silent) == {"useful", "reused"}
    assert all((told[name] == silent[name]).all() for name in silent if name != "stats")
