"""Hand-overs by hand on both engines: what is kept, what moves, what is fed, what goes ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcsim.engine import Engine
from engine.world import NS, Play, series, world

QUEUED, RUNNING, COMPLETED, REJECTED, AWAITED, ABANDONED = range(6)

# Two services of a replica each: prefill on replica 0, decode on replica 1, 2 bytes a token.
# A chunk of the prefill takes 10 ns and 1 ns a token, a decode step 10 ns.
PHASES = [{"launch": 10 * NS}]
SEGMENTS = [
    {"rule": 1, "tokens": 8, "own": NS, "live": 2, "first": 1},
    {"rule": 2, "tokens": 1, "live": 2},
]
WORKS = [{"segment": 0, "segments": 2}]
SERVICES = [
    {"replicas": 1, "max_jobs": 8, "max_tokens": 1000},
    {"replica": 1, "replicas": 1, "max_jobs": 8, "max_tokens": 1000},
]
CLASSES = [{"service": 0}, {"service": 1}]
POOLS = [{"tier": tier, "capacity": 100} for tier in (0, 1, 2, 0)]
CHANNELS = [{"bandwidth": 10**9, "latency": 0}, {"bandwidth": 2 * 10**9, "latency": 3}]
NEAR, FAR = 0, 1


def pair(requests: list[dict[str, Any]], far: bool = False, **rows: Any) -> dict[str, Any]:
    """Tables of the two services; near 1 byte/ns, far 2 bytes/ns and 3 ns for each port."""
    common = {"dram": 1, "home": 2, "store": 2, "start": 1}
    paths = {"near_out": NEAR, "near_in": NEAR, "far_out": FAR, "far_in": FAR}
    replicas = [
        common | paths | {"service": s, "hbm": hbm, "domain": s * far}
        for s, hbm in ((0, 0), (1, 3))
    ]
    tables = {
        "phases": PHASES, "segments": SEGMENTS, "works": WORKS, "services": SERVICES,
        "classes": CLASSES, "pools": POOLS, "channels": CHANNELS, "replicas": replicas,
    }  # fmt: skip
    return world(requests, paths=[[0], [1]], **(tables | rows))


def stages(prompt: int = 8, ahead: int = 0, **more: Any) -> list[dict[str, Any]]:
    """A prompt's prefill, and its decode of 2 tokens more with the KV handed over."""
    kv = 2 * prompt
    return [
        {"prompt": prompt, "output": 1} | more,
        {"klass": 1, "prompt": prompt + 1, "output": 2, "after": [0], "handover": [kv],
         "ahead": [ahead], "fed": prompt},
    ]  # fmt: skip


def test_the_decode_begins_with_its_prompt_fed(play: Play) -> None:
    # Prefill of 8 tokens: 18 ns. 16 bytes cross the near path twice: 32 ns. Then the last prompt
    # token is fed in 11 ns and gives the second token, a decode step of 10 ns the third.
    out = play(pair(stages()))
    assert out["first"].tolist() == [18, 61]
    assert out["arrived"].tolist() == [0, 18]
    assert out["start"].tolist() == [0, 18]
    assert out["handed"].tolist() == [-1, 50]
    assert out["end"].tolist() == [18, 71]
    assert out["moved"].sum(axis=1).tolist() == [32, 0]


def test_between_domains_it_goes_the_far_way(play: Play) -> None:
    # Twice over 2 bytes/ns is 1 byte/ns: 16 ns, and 2 x 3 ns of latency.
    out = play(pair(stages(), far=True))
    assert out["handed"].tolist() == [-1, 40]
    assert out["moved"].sum(axis=1).tolist() == [0, 32]


def test_what_is_handed_over_is_held_at_both_ends(play: Play) -> None:
    # The giver's 16 bytes stay until 50 ns; the taker holds 18 bytes from 18 ns, then 20.
    out = play(pair(stages()), horizon=80, bin=10)
    assert series(out, "mean", (0, 1)) == [16] * 5 + [0] * 3
    # 18 for 2 of the bin's 10 ns; from 61 to 71 ns the decode step holds 20.
    assert series(out, "mean", (3, 1)) == [0, 3, 18, 18, 18, 18, 19, 2]


def test_what_is_kept_leaves_less_room(play: Play) -> None:
    # Each prompt holds 16 of 30 bytes, so one at a time: the second waits for the first's KV to go.
    requests = [*stages(), {"arrival": 1, "prompt": 8, "output": 1}]
    pools = [
        {"tier": tier, "capacity": capacity}
        for tier, capacity in ((0, 30), (1, 0), (2, 0), (0, 99))
    ]
    out = play(pair(requests, pools=pools))
    assert out["start"].tolist() == [0, 18, 50]


def test_in_the_midst_of_an_iteration_it_is_freed_at_its_end(play: Play) -> None:
    # 24 tokens are fed from 18 ns on in chunks of 8: 36, 54. The KV has gone at 50 ns and leaves at
    # 54, when the last prompt comes in.
    requests = [
        *stages(),
        {"arrival": 1, "prompt": 24, "output": 1},
        {"arrival": 2, "prompt": 8, "output": 1},
    ]
    pools = [
        {"tier": tier, "capacity": capacity}
        for tier, capacity in ((0, 70), (1, 0), (2, 0), (0, 99))
    ]
    out = play(pair(requests, pools=pools), horizon=100, bin=2)
    assert out["start"].tolist() == [0, 18, 18, 54]
    assert series(out, "mean", (0, 1))[24:29] == [64, 64, 64, 64, 64]


@pytest.mark.parametrize(
    ("bytes_ahead", "handed"),
    [
        # 12 of 16 bytes: 9 have gone by the end at 18. The other 3 and the last 4 share the link,
        # which is never idle: 32 ns for all, whichever goes first.
        (12, 32),
        (14, 32),
        (16, 32),
        # A byte: through long before the end.
        (1, 48),
    ],
)
def test_layer_by_layer(play: Play, bytes_ahead: int, handed: int) -> None:
    out = play(pair(stages(ahead=bytes_ahead)))
    assert out["handed"].tolist() == [-1, handed]
    assert out["moved"].sum(axis=1).tolist() == [32, 0]


def test_who_is_booked_counts_and_is_waited_for(play: Play) -> None:
    # Two decode replicas. The first prefill books replica 1 at 0, so row 4 goes to 2 at 5. It has
    # ended when the second prefill begins at 18, and books 2.
    services = [SERVICES[0], {"replica": 1, "replicas": 2, "max_jobs": 8, "max_tokens": 1000}]
    common = {"dram": 1, "home": 2, "store": 2, "start": 1}
    replicas = [common | {"service": min(1, r), "hbm": hbm} for r, hbm in enumerate((0, 3, 4))]
    pools = [*POOLS, {"tier": 0, "capacity": 100}]
    requests = [
        {"prompt": 8, "output": 1},
        {"prompt": 8, "output": 1},
        {"klass": 1, "prompt": 9, "output": 2, "after": [0], "handover": [16], "ahead": [8]},
        {"klass": 1, "prompt": 9, "output": 2, "after": [1], "handover": [16], "ahead": [8]},
        {"klass": 1, "arrival": 5, "prompt": 1, "output": 1},
    ]
    tables = pair(requests, services=services, replicas=replicas, pools=pools)
    assert play(tables)["replica"].tolist() == [0, 0, 1, 2, 2]
    # Replica 1 fails while row 2 is expected there: it goes, all of it, to the other.
    out = play(tables, script=[(4, "fail", 1)])
    assert out["replica"].tolist() == [0, 0, 2, 2, 2]
    assert out["moved"].sum(axis=1).tolist() == [2 * (16 + 16 + 8), 0]


def test_a_giver_that_fails_takes_the_bytes_with_it(play: Play) -> None:
    # At 30 ns 12 of 32 ns are done; the transfer goes on to 50, and the decode feeds all 9 tokens
    # itself: 8 in 18 ns, 1 in 11.
    out = play(pair(stages()), script=[(30, "fail", 0)])
    assert out["handed"].tolist() == [-1, -1]
    assert out["first"].tolist() == [18, 79]
    # Before its admission: nothing moves.
    requests = [*stages()]
    requests[1] |= {"delay": 20}
    out = play(pair(requests), script=[(30, "fail", 0)])
    assert out["start"].tolist() == [0, 38]
    assert out["first"].tolist() == [18, 38 + 29]
    assert out["moved"].sum() == 0


def test_a_taker_that_fails_computes_its_prompt(play: Play) -> None:
    # The transfer runs on to 50 ns, when the giver is rid of its bytes; at 40 the taker is up again
    # (its weights are 0 bytes) and computes.
    script = [(30, "fail", 1), (40, "start", 1)]
    out = play(pair(stages()), script=script, horizon=80, bin=10)
    assert out["first"].tolist() == [18, 40 + 29]
    assert out["handed"].tolist() == [-1, -1]
    assert series(out, "mean", (0, 1)) == [16] * 5 + [0] * 3


def test_a_join_waits_for_all_and_a_fork_keeps_the_most(play: Play) -> None:
    # Fixed works, 10 ns each. Row 0 hands 4 bytes to row 1 and 8 to row 2; it keeps 8 until both
    # have moved: they share the path of 1 byte/ns that each crosses twice.
    segments = [{"steps": 1, "live": 8}]
    requests = [
        {},
        {"klass": 1, "after": [0], "handover": [4]},
        {"klass": 1, "after": [0], "handover": [8]},
    ]
    works = [{"segment": 0, "segments": 1}]
    out = play(pair(requests, segments=segments, works=works), horizon=60, bin=1)
    # A quarter of a byte a ns each: 16 ns for the 4; then 4 bytes at half a byte a ns: 8 ns.
    assert out["handed"].tolist() == [-1, 26, 34]
    assert series(out, "mean", (0, 1)) == [8] * 34 + [0] * 26
    join = [{}, {"arrival": 3}, {"arrival": 3, "klass": 1, "after": [0, 1], "handover": [2, 8]}]
    out = play(pair(join, segments=segments, works=works))
    # Row 1 runs from 10 to 20. Then 2 bytes in 8 ns, and the other 6 in 12.
    assert out["handed"].tolist() == [-1, -1, 40]
    assert out["end"].tolist() == [10, 20, 50]


def test_who_is_refused_frees_what_was_kept(play: Play) -> None:
    # Row 1 needs more than its replica has. It arrives at 28, and row 0 keeps its bytes till then.
    segments = [{"steps": 1, "live": 8}, {"steps": 1, "live": 1000}]
    works = [{"segment": 0, "segments": 1}, {"segment": 1, "segments": 1}]
    requests = [{}, {"klass": 1, "work": 1, "after": [0], "delay": 18, "handover": [8]}]
    out = play(pair(requests, segments=segments, works=works), horizon=60, bin=10)
    assert out["outcome"].tolist() == [COMPLETED, REJECTED]
    assert series(out, "mean", (0, 1)) == [8, 8, 6, 0, 0, 0]


def test_a_large_one_waits_till_nothing_is_kept(play: Play) -> None:
    # It alone has no budget to itself, and no tokens either: it joins when nobody is there.
    requests = [*stages(), {"arrival": 1, "work": 1}]
    segments = [*SEGMENTS, {"steps": 1, "tokens": 5000, "live": 100}]
    works = [*WORKS, {"segment": 2, "segments": 1}]
    out = play(pair(requests, segments=segments, works=works))
    assert out["start"].tolist() == [0, 18, 50]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("handover", [17], "requests row 1: is handed over more than is held at the end"),
        ("handover", [-1], "requests row 1: 0 <= ahead <= handover"),
        ("ahead", [17], "requests row 1: 0 <= ahead <= handover"),
        ("fed", [0, 10], "requests row 1: fed: tokens of its prompt that a hand-over brings"),
        ("fed", [1, 8], "requests row 0: fed: tokens of its prompt that a hand-over brings"),
        ("klass", [1, 0], "requests row 1: hand-overs go to a service of a higher row"),
        ("klass", [0, 0], "requests row 1: hand-overs go to a service of a higher row"),
        ("fed", [0], "requests row 0: hand-overs: arrays differ in length"),
        ("ahead", None, "no table ahead"),
    ],
)
def test_a_wrong_hand_over_is_named(name: str, value: list[int] | None, message: str) -> None:
    tables = pair(stages())
    if value is None:
        del tables[name]
    else:
        tables[name] = np.array(value, dtype=np.int64)
    with pytest.raises(ValueError, match=message):
        Engine(tables, 1000, 100)


def test_bytes_go_ahead_to_one_that_waits_for_one_alone() -> None:
    requests = [
        *stages()[:1],
        *stages()[:1],
        stages()[1] | {"after": [0, 1], "handover": [4, 0], "ahead": [1, 0]},
    ]
    with pytest.raises(ValueError, match="requests row 2: bytes go ahead only to one that waits"):
        Engine(pair(requests), 1000, 100)
