"""Cases small enough to work by hand, on both engines: transfers, weights, kept objects."""

from __future__ import annotations

from typing import Any

from engine.world import Play, flows, series, world

CACHE, ARTIFACTS = 3, 4


def pools(dram: int, nand: int, replicas: int = 1) -> list[dict[str, int]]:
    hbm = [{"tier": 0, "capacity": 1000}] * replicas
    return [*hbm, {"tier": 1, "capacity": dram}, {"tier": 2, "capacity": nand}]


def loading(
    starts: tuple[int, ...], dram: int = 1000, keep: int = 1, checkpoint: int = 100
) -> dict[str, Any]:
    """Replicas over one DRAM; loads take 1 ns a byte, onboards half of that."""
    n = len(starts)
    return {
        "pools": pools(dram, 1000, n),
        "channels": [{"bandwidth": 10**9, "latency": 3}, {"bandwidth": 2 * 10**9, "latency": 0}],
        "paths": [[0], [1]],
        "services": {
            "replicas": n, "max_jobs": 8, "max_tokens": 1, "weights": 120,
            "checkpoint": checkpoint, "keep": keep,
        },
        "replicas": [
            {"hbm": i, "dram": n, "home": n + 1, "store": n + 1, "onboard": 1, "start": start}
            for i, start in enumerate(starts)
        ],
    }  # fmt: skip


def ups(out: dict[str, Any]) -> list[tuple[int, int]]:
    return [(time, row) for time, kind, row, _ in out["events"].tolist() if kind == 1]


def test_replicas_share_a_weight_set(play: Play) -> None:
    out = play(world([{}], **loading((0, 0))), horizon=300)
    # load over at 103; two onboards, each at half of the 2 bytes a ns
    assert ups(out) == [(223, 0), (223, 1)]
    assert out["start"].tolist() == [223]
    assert out["accounts"].tolist()[6:8] == [[2, 0, 0, -1], [3, 0, 0, -1]]
    assert out["mean"][6].tolist() == [100, 100, 100]
    assert out["mean"][7].tolist() == [100, 100, 100]
    assert out["mean"][0].tolist() == [0, 120 * 97 // 100, 120]
    assert out["mean"][3].tolist() == out["mean"][0].tolist()
    assert out["moved"].tolist() == [[100, 0, 0], [0, 2 * 97, 240 - 2 * 97]]


def test_without_keep_the_set_leaves_after_the_last_onboard(play: Play) -> None:
    out = play(world([], **loading((0, 0), keep=0)), horizon=300)
    assert ups(out) == [(223, 0), (223, 1)]
    assert out["mean"][6].tolist() == [100, 100, 23]
    later = play(world([], **loading((0, 2), keep=0)), horizon=300, script=[(170, "start", 1)])
    # gone at 163, loaded anew from 170 on; the second replica is up at 333 only
    assert ups(later) == [(163, 0)]
    assert later["mean"][6].tolist() == [100, 63 + 30, 100]


def test_weights_go_past_a_full_dram(play: Play) -> None:
    out = play(world([], **loading((0,), dram=99)), horizon=300)
    # 100 bytes over both channels at once: max(100, 50) + 3
    assert ups(out) == [(103, 0)]
    assert out["mean"][0].tolist() == [120, 120, 120]
    assert out["mean"][3].tolist() == [0, 0, 0]
    assert out["moved"].tolist() == [[100, 0, 0], [100, 0, 0]]
    lifted = play(world([], **loading((0,), dram=99)), horizon=300, lifted=True)
    assert ups(lifted) == [(163, 0)]


def test_a_warm_start_leaves_its_set_in_dram(play: Play) -> None:
    script = [(10, "fail", 0), (10, "start", 0)]
    out = play(world([], **loading((1,))), horizon=300, script=script)
    assert ups(out) == [(0, 0), (70, 0)]
    out = play(world([], **loading((1,), keep=0)), horizon=300, script=script)
    assert ups(out) == [(0, 0), (10 + 163, 0)]


def test_a_load_outlives_the_replica_that_asked(play: Play) -> None:
    script = [(50, "fail", 0), (60, "start", 0), (110, "fail", 0), (120, "start", 0)]
    out = play(world([], **loading((0,))), horizon=400, script=script)
    # at 60 it waits for the load of 103; failed while onboarding (103 to 163);
    # at 120 the set is resident; the onboard of the failed start has 86 bytes to go, so both
    # have a byte a ns until 206, and the last 34 bytes of the new one go at two
    assert ups(out) == [(223, 0)]
    assert out["mean"][0].tolist() == [0, 120 * 87 // 100, 120, 120]
    assert [e[:3] for e in out["events"].tolist()] == [
        [0, 0, 0], [50, 2, 0], [60, 0, 0], [110, 2, 0], [120, 0, 0], [223, 1, 0],
    ]  # fmt: skip
    out = play(world([], **loading((0,), keep=0)), horizon=200, script=script[:1])
    assert out["mean"][3].tolist() == [100, 3]


def test_a_channel_named_twice_is_used_twice(play: Play) -> None:
    rows = loading((0,), dram=0) | {"paths": [[0, 0], [0, 1]]}
    rows["replicas"][0] |= {"load": 0, "onboard": 1}
    out = play(world([], **rows), horizon=1000)
    # three times on channel 0: a rate of 333,333,333, so 100 bytes take a little over 300 ns
    assert ups(out) == [(301 + 9, 0)]
    assert out["moved"].sum(axis=1).tolist() == [300, 100]


def test_transfers_spread_their_bytes(play: Play) -> None:
    rows = loading((0,), checkpoint=7)
    rows["channels"] = [{"bandwidth": 10**9 // 3, "latency": 0}] * 2
    out = play(world([], **rows), horizon=20, bin=5)
    # ceil(7e9 / 333333333) = 22 ns; floor(7 * x / 22) at 5, 10, 15, 20
    assert out["moved"][0].tolist() == [1, 2, 1, 2]


def clips(dram: int, nand: int, times: tuple[int, int], artifact: int = 50) -> dict[str, Any]:
    """A replica whose requests of one step of 10 ns leave clips; channels of 1 ns a byte."""
    return {
        "pools": pools(dram, nand),
        "channels": [{"bandwidth": 10**9, "latency": 0}, {"bandwidth": 10**9, "latency": 5}],
        "paths": [[0], [1]],
        "segments": {"steps": 1},
        "works": {"segments": 1, "artifact": artifact},
        "classes": {"artifact_dram": times[0], "artifact_nand": times[1]},
        "replicas": {"spill": 1},
    }


def test_a_clip_goes_down_the_tiers(play: Play) -> None:
    out = play(world([{}], **clips(100, 100, (40, 200))), horizon=500)
    # taken at 10, resident at 60, due at 100; spilled until 155, expired at 355
    assert flows(out, (1, ARTIFACTS)) == {"taken": 50, "moved": 50}
    assert flows(out, (2, ARTIFACTS)) == {"taken": 50, "expired": 50}
    assert series(out, "mean", (1, ARTIFACTS)) == [45, 27, 0, 0, 0]
    assert series(out, "mean", (2, ARTIFACTS)) == [0, 50, 50, 27, 0]
    assert out["top"][2].tolist() == [0, 50, 50, 50, 0]
    assert out["moved"].tolist() == [[50, 0, 0, 0, 0], [0, 50, 0, 0, 0]]


def test_a_clip_without_nand_time_expires_in_dram(play: Play) -> None:
    out = play(world([{}], **clips(100, 100, (40, 0))), horizon=500)
    assert flows(out, (1, ARTIFACTS)) == {"taken": 50, "expired": 50}
    assert flows(out, (2, ARTIFACTS)) == {}
    out = play(world([{}], **clips(100, 100, (0, 0))), horizon=500)
    assert not out["flow"].any()


def test_a_full_dram_spills_and_a_full_nand_drops(play: Play) -> None:
    out = play(world([{}], **clips(49, 100, (40, 20))), horizon=500)
    # straight on at 10: over both channels until 65, expired at 85
    assert flows(out, (1, ARTIFACTS)) == {"spilled": 50}
    assert flows(out, (2, ARTIFACTS)) == {"taken": 50, "expired": 50}
    assert series(out, "mean", (2, ARTIFACTS)) == [50 * 75 // 100, 0, 0, 0, 0]
    out = play(world([{}], **clips(49, 49, (40, 20))), horizon=500)
    assert flows(out, (1, ARTIFACTS)) == {"spilled": 50}
    assert flows(out, (2, ARTIFACTS)) == {"dropped": 50}
    out = play(world([{}], **clips(49, 49, (40, 0))), horizon=500)
    assert flows(out, (1, ARTIFACTS)) == {"spilled": 50, "dropped": 50}
    out = play(world([{}], **clips(50, 49, (40, 20))), horizon=500)
    assert flows(out, (1, ARTIFACTS)) == {"taken": 50, "moved": 50}
    assert flows(out, (2, ARTIFACTS)) == {"dropped": 50}
    assert series(out, "mean", (1, ARTIFACTS)) == [45, 0, 0, 0, 0]


def chats(nand: int, requests: list[dict[str, int]], artifact: int = 0) -> dict[str, Any]:
    """Contexts of prompt + output - 1 bytes go straight to NAND, for 1000 ns."""
    segments = [{"rule": 1, "tokens": 99, "live": 1}, {"rule": 2, "tokens": 1, "live": 1}]
    rows = clips(0, nand, (0, 1000), artifact)
    rows["classes"] |= {"context_nand": 1000}
    rows["works"] |= {"segments": 2}
    return world(requests, **rows | {"segments": segments})


def test_what_a_fixed_work_leaves_goes_the_way_of_contexts(play: Play) -> None:
    """Beside its artifact, after it, and evicted where artifacts stay."""
    rows = clips(200, 100, (40, 1000))
    rows["works"] |= {"context": 30}
    rows["classes"] |= {"context_dram": 40, "context_nand": 1000}
    out = play(world([{}], **rows), horizon=500)
    # Both leave at 10 and share the way down: 30 of each until 70, the artifact's last 20 until 90.
    assert flows(out, (1, ARTIFACTS)) == {"taken": 50, "moved": 50}
    assert flows(out, (1, CACHE)) == {"taken": 30, "moved": 30}
    assert flows(out, (2, CACHE)) == {"taken": 30}
    # resident at 70, due at 110
    assert series(out, "mean", (1, CACHE))[0] == 30 * 90 // 100
    # Of a second the context is due first, at 310: the old one makes room. It is on its way when
    # the artifact is due, at 330: 50 + 30 + 50 do not fit, and nothing can go.
    out = play(world([{}, {"arrival": 200}], **rows), horizon=500)
    assert flows(out, (2, CACHE)) == {"taken": 60, "evicted": 30}
    assert flows(out, (2, ARTIFACTS)) == {"taken": 50, "dropped": 50}


def ask(arrival: int, prompt: int) -> dict[str, int]:
    return {"arrival": arrival, "prompt": prompt, "output": 1}


def test_the_oldest_contexts_make_room(play: Play) -> None:
    requests = [ask(0, 30), ask(100, 40), ask(200, 60), ask(300, 101)]
    out = play(chats(100, requests), horizon=600)
    # 60 needs both to go (30 + 40 + 60 > 100, 40 + 60 = 100: only the first goes);
    # 101 never fits, and nothing is evicted for it
    assert flows(out, (2, CACHE)) == {"taken": 130, "evicted": 30, "dropped": 101}
    assert out["top"][2].tolist() == [30, 70, 100, 100, 100, 100]


def test_what_is_in_flight_is_not_evicted(play: Play) -> None:
    # the second request ends at 20, while the context of the first is under way until 45
    out = play(chats(50, [ask(0, 30), ask(1, 30)]), horizon=600)
    assert flows(out, (2, CACHE)) == {"taken": 30, "dropped": 30}


def test_clips_are_not_evicted(play: Play) -> None:
    out = play(chats(100, [ask(0, 20), ask(300, 41)], artifact=30), horizon=600)
    # two clips stay (60): the old context goes only if the new one then fits
    assert flows(out, (2, ARTIFACTS)) == {"taken": 60}
    assert flows(out, (2, CACHE)) == {"taken": 20, "dropped": 41}


def test_a_shrinking_shelf_loses_contexts_then_clips_then_what_is_coming(play: Play) -> None:
    requests = [ask(0, 20), ask(200, 25), ask(400, 10)]
    # at 411 the third clip (30) and context (10) are in flight
    tables = chats(1000, requests, artifact=30)
    for capacity, kept, contexts, artifacts in (
        (145, 145, 0, 0),
        (144, 125, 20, 0),
        (124, 100, 45, 0),
        (99, 70, 45, 30),
        (40, 40, 45, 60),
        (39, 10, 45, 90),
        (9, 0, 55, 90),
    ):
        out = play(tables, horizon=420, bin=3, script=[(411, "set_capacity", 2, capacity)])
        assert flows(out, (2, CACHE)).get("lost", 0) == contexts
        assert flows(out, (2, ARTIFACTS)).get("lost", 0) == artifacts
        assert out["top"][2][-1] == kept
        assert out["events"].tolist()[-1] == [411, 3, 2, capacity]
    lifted = play(tables, horizon=420, script=[(411, "set_capacity", 2, 0)], lifted=True)
    assert not lifted["flow"][:, 4].any()
    assert lifted["events"].tolist()[-1] == [411, 3, 2, 0]


def test_a_clip_on_the_move_is_lost_in_both_pools(play: Play) -> None:
    for pool in (1, 2):
        tables = world([{}], **clips(100, 100, (40, 200)))
        out = play(tables, horizon=500, script=[(120, "set_capacity", pool, 0)])
        assert flows(out, (1, ARTIFACTS)) == {"taken": 50, "lost": 50}
        assert flows(out, (2, ARTIFACTS)) == {"taken": 50, "lost": 50}
        # the transfer runs on
        assert out["moved"].sum(axis=1).tolist() == [50, 50]


def test_dues_of_one_time_go_by_residence(play: Play) -> None:
    rows = clips(1000, 60, (10, 200)) | {"works": {"segments": 2, "artifact": 50}}
    rows["segments"] = [{"rule": 1, "tokens": 99, "live": 1}, {"rule": 2, "tokens": 1, "live": 1}]
    rows["classes"] |= {"context_dram": 30, "context_nand": 200}
    out = play(world([ask(0, 30)], **rows))
    # from 10 on both at half a byte a ns: context (30) resident at 70, clip (50) at 90;
    # both due at 100: the context takes the room
    assert flows(out, (2, CACHE)) == {"taken": 30, "expired": 30}
    assert flows(out, (2, ARTIFACTS)) == {"dropped": 50}


def test_transfers_that_end_together_land_in_order_of_start(play: Play) -> None:
    rows: dict[str, Any] = {
        "pools": pools(0, 70, 2),
        "channels": [{"bandwidth": 10**9, "latency": latency} for latency in (60, 0, 9)],
        "paths": [[0], [1]],
        "segments": [{"rule": 1, "tokens": 99, "live": 1}, {"rule": 2, "tokens": 1, "live": 1}],
        "works": {"segments": 2},
        "services": {"router": 1, "replicas": 2, "max_jobs": 1, "max_tokens": 9},
        "classes": {"context_nand": 1000},
        "replicas": [
            {"hbm": i, "dram": 2, "home": 3, "store": 3, "start": 1, "offload": i, "spill": i}
            for i in (0, 1)
        ],
    }
    # 20 bytes from replica 0 at 20, twice over a channel of latency 60: 40 + 120, at 180;
    # 40 bytes from replica 1 at 100: 80, at 180
    out = play(world([ask(10, 20), ask(90, 40), ask(300, 30)], **rows))
    assert flows(out, (3, CACHE)) == {"taken": 90, "evicted": 20}


def test_weights_cannot_be_lost(play: Play) -> None:
    tables = world([], **loading((0,)))
    script = [(200, "set_capacity", 1, 99), (200, "set_capacity", 2, 99)]
    out = play(tables, horizon=300, script=script)
    assert out["refused"].tolist() == [0, 1]
    assert len(out["events"]) == 2
    script = [(200, "set_capacity", 1, 100), (200, "set_capacity", 0, 10**6)]
    assert play(tables, horizon=300, script=script)["refused"].tolist() == [1]
