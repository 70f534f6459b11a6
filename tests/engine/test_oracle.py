"""Cases small enough to work by hand, on both engines: iterations, batches and routing."""

from __future__ import annotations

from typing import Any

import pytest

from engine.world import NS, Play, series, world

PREFILL = {"rule": 1, "tokens": 4, "first": 1, "live": 1}
DECODE = {"rule": 2, "tokens": 1, "live": 1}


def chat(
    prefill: dict[str, int] | None = None, decode: dict[str, int] | None = None, **rows: Any
) -> dict[str, Any]:
    """Tables of one token work, without requests."""
    return {
        "segments": [PREFILL | (prefill or {}), DECODE | (decode or {})],
        "works": {"segments": 2},
        **rows,
    }


def ask(arrival: int, prompt: int, output: int) -> dict[str, int]:
    return {"arrival": arrival, "prompt": prompt, "output": output}


def test_steps_of_a_fixed_job_grow_by_its_slope(play: Play) -> None:
    row = {"steps": 3, "dense": 2 * NS, "own": 5 * NS, "own_slope": NS, "first": 1}
    out = play(world([{"arrival": 7}], segments=row))
    # launch 10, dense 2, own 5 + 6 + 7
    assert out["start"].tolist() == [7]
    assert out["first"].tolist() == [7 + 17 + 18 + 19]
    assert out["end"].tolist() == out["first"].tolist()
    assert out["outcome"].tolist() == [2]
    assert (out["stats"]["steps"], out["stats"]["iterations"]) == (3, 3)


def test_ticks_round_up_only_at_the_border(play: Play) -> None:
    phases = {"launch": NS // 2 + 1}
    out = play(world([{}, {"arrival": 1}], phases=phases, segments={"steps": 2}))
    # edges of request 0 at 32769 ticks (seen at 1, before the arrival) and 65538 (seen at 2);
    # request 1 joins there and ends at 131076, 4 ticks after 2 ns
    assert out["start"].tolist() == [0, 2]
    assert out["end"].tolist() == [2, 3]


def test_first_is_the_first_of_several(play: Play) -> None:
    segments = [{"steps": 1, "first": 0}, {"steps": 2, "first": 1}, {"steps": 1, "first": 1}]
    out = play(world([{}], segments=segments, works={"segments": 3}))
    assert out["first"].tolist() == [30]
    assert out["end"].tolist() == [40]


def test_a_phase_pays_its_weights_or_the_dense_work_of_all(play: Play) -> None:
    phases = {"launch": 10 * NS, "weights": 7 * NS}
    segments = {"steps": 1, "dense": 5 * NS, "own": NS}
    assert play(world([{}], phases=phases, segments=segments))["end"].tolist() == [18]
    # the first arrival starts alone; the next three share an iteration: 10 + 15 + 3
    crowd: list[dict[str, int]] = [{}, {}, {}, {}]
    assert play(world(crowd, phases=phases, segments=segments))["end"].tolist() == [18, 46, 46, 46]


def test_phases_of_one_iteration_run_in_order(play: Play) -> None:
    segments = [
        {"steps": 1, "phase": 1, "live": 100, "mean": 10, "peak": 30},
        {"steps": 1, "phase": 0, "live": 200, "mean": 20, "peak": 50},
    ]
    works = [{"segments": 2}, {"segment": 1, "segments": 1}]
    phases = [{"launch": 10 * NS}, {"launch": 30 * NS}]
    requests = [{}, {"work": 0}, {"work": 1}]
    tables = world(requests, segments=segments, works=works, phases=phases)
    out = play(tables, horizon=110, bin=10)
    # [0, 30) request 0 in phase 1; [30, 70) request 0 and 2 in phase 0, request 1 in phase 1;
    # [70, 80) request 1 in phase 0
    assert out["end"].tolist() == [70, 80, 70]
    assert series(out, "mean", (0, 1)) == [100] * 3 + [500] * 4 + [200] + [0] * 3
    assert series(out, "mean", (0, 2)) == [10] * 3 + [40] + [10] * 3 + [20] + [0] * 3
    assert out["top"][0].tolist() == [130] * 3 + [600] * 4 + [250] + [0] * 3


@pytest.mark.parametrize(
    ("prompt", "steps", "ns"),
    [
        # launch 10 a step; 4 tokens at 1 each; pairs n*o + n(n+1)/2 at 2 against ctx 15*(o+n)
        (3, 1, 10 + 3 + max(2 * 6, 15 * 3)),
        (4, 1, 10 + 4 + max(2 * 10, 15 * 4)),
        (8, 2, 14 + 60 + 14 + max(2 * 26, 15 * 8)),
        (9, 3, 14 + 60 + 14 + 120 + 10 + 1 + max(2 * 9, 15 * 9)),
    ],
)
def test_prefill_chunks(play: Play, prompt: int, steps: int, ns: int) -> None:
    prefill = {"own": NS, "pair": 2 * NS, "ctx": 15 * NS}
    out = play(world([ask(0, prompt, 1)], **chat(prefill)))
    assert out["end"].tolist() == [ns]
    assert out["first"].tolist() == [ns]
    assert out["stats"]["steps"] == steps


def test_chunks_shrink_to_what_decodes_leave(play: Play) -> None:
    # 4 tokens an iteration, 1 ns each in prefill and launch 10. The first request takes all 4,
    # so the second waits; then a decode leaves 3, 3 and, when it has ended, the last 2 of 8.
    services = {"replicas": 1, "max_jobs": 8, "max_tokens": 4}
    rows = chat({"own": NS}, services=services)
    out = play(world([ask(0, 4, 3), ask(0, 8, 1)], **rows))
    assert out["start"].tolist() == [0, 14]
    assert out["first"].tolist() == [14, 14 + 13 + 13 + 12]
    assert out["end"].tolist() == [14 + 13 + 13, 14 + 13 + 13 + 12]
    assert (out["stats"]["steps"], out["stats"]["iterations"]) == (6, 4)


def test_prefills_share_what_is_left_in_order_of_admission(play: Play) -> None:
    # 6 tokens an iteration, rows of 4: 4 and 2; then 1 (the last of 5) and 4 (of the 4 left)
    services = {"replicas": 1, "max_jobs": 8, "max_tokens": 6}
    rows = chat({"own": NS}, services=services)
    out = play(world([ask(0, 1, 1), ask(1, 5, 1), ask(1, 6, 1)], **rows))
    # the first is alone in the batch until 11, then both others join
    assert out["start"].tolist() == [0, 11, 11]
    assert out["end"].tolist() == [11, 11 + 16 + 15, 11 + 16 + 15]


def test_prefill_crosses_from_context_to_pairs(play: Play) -> None:
    # chunk 4: pairs cost 4*o + 10, context 3.5*(o + 4): equal at o = 8
    out = play(world([ask(0, 16, 1)], **chat({"pair": 2 * NS, "ctx": 7 * NS})))
    costs = [max(2 * (4 * o + 10), 7 * (o + 4)) for o in (0, 4, 8, 12)]
    assert costs == [28, 56, 84, 116]
    assert out["end"].tolist() == [4 * 10 + sum(costs)]


def test_decode_reads_a_growing_context(play: Play) -> None:
    out = play(world([ask(0, 5, 4)], **chat(decode={"own": NS, "ctx": 3 * NS, "pair": 2 * NS})))
    prefill = 2 * 10
    decode = sum(10 + 1 + 3 * n for n in (6, 7, 8))
    assert out["first"].tolist() == [prefill]
    assert out["end"].tolist() == [prefill + decode]


def test_live_bytes_of_a_token_work(play: Play) -> None:
    out = play(world([ask(0, 5, 4)], **chat({"peak": 2, "mean": 1})), horizon=60, bin=10)
    assert series(out, "mean", (0, 1)) == [5, 5, 6, 7, 8, 0]
    # transient: 4 tokens, then the one that is left over
    assert series(out, "mean", (0, 2)) == [4, 1, 0, 0, 0, 0]
    assert out["top"][0].tolist() == [5 + 8, 5 + 2, 6, 7, 8, 0]


def test_max_jobs_tokens_and_shape(play: Play) -> None:
    requests = [{}, {"work": 1}, {}, {}]
    works = [{"segments": 1}, {"segments": 1}]
    segments = {"steps": 1, "tokens": 5}

    def ends(**limits: int) -> list[int]:
        services = {"replicas": 1, "max_jobs": 8, "max_tokens": 1000} | limits
        out = play(world(requests, works=works, segments=segments, services=services))
        return list(out["end"])

    # the first starts alone, at its arrival
    assert ends() == [10, 20, 20, 20]
    assert ends(max_jobs=2) == [10, 20, 20, 30]
    assert ends(max_tokens=14) == [10, 20, 20, 30]
    assert ends(max_tokens=15) == [10, 20, 20, 20]
    assert ends(max_tokens=1) == [10, 20, 30, 40]
    assert ends(same_shape=1) == [10, 20, 30, 30]


def test_the_watermark_holds_admission_back(play: Play) -> None:
    segments = {"steps": 1, "live": 300, "peak": 30}
    services = {"replicas": 1, "max_jobs": 8, "max_tokens": 9, "weights": 5, "reserve": 5}
    crowd: list[dict[str, int]] = [{}] * 4
    # budget 990 = 3 * 330
    assert play(world(crowd, segments=segments, services=services))["end"].tolist() == [
        10, 20, 20, 20,
    ]  # fmt: skip
    services["watermark"] = 1
    assert play(world(crowd, segments=segments, services=services))["end"].tolist() == [
        10, 20, 20, 30,
    ]  # fmt: skip


def test_the_youngest_is_preempted_and_keeps_its_tokens(play: Play) -> None:
    pools = [{"tier": 0, "capacity": 12}, {"tier": 1}, {"tier": 2}]
    tables = world([ask(0, 4, 5), ask(0, 4, 5)], **chat(pools=pools))
    out = play(tables)
    # needs are 8. Request 0 runs alone in [0, 10). From 10 on it decodes: holds 5 + 4, 6 + 5,
    # then 7 + 6 > 12 at 30: request 1 leaves with two tokens out (prompt 6, output 3).
    # Request 0 ends at 50; request 1: prefill in two chunks to 70, decode of two to 90.
    assert out["preemptions"].tolist() == [0, 1]
    assert out["start"].tolist() == [0, 10]
    assert out["first"].tolist() == [10, 20]
    assert out["end"].tolist() == [50, 90]


def test_a_job_that_never_fits_is_rejected(play: Play) -> None:
    pools = [{"tier": 0, "capacity": 7}, {"tier": 1}, {"tier": 2}]
    out = play(world([ask(0, 4, 5), ask(0, 4, 4)], **chat(pools=pools)))
    assert out["outcome"].tolist() == [3, 2]
    assert out["end"].tolist()[0] == -1
    assert out["replica"].tolist() == [-1, 0]
    lifted = play(world([ask(0, 4, 5), ask(0, 4, 4)], **chat(pools=pools)), lifted=True)
    assert lifted["outcome"].tolist() == [2, 2]


def farm(router: int, starts: tuple[int, ...] = (1, 1, 1)) -> dict[str, Any]:
    n = len(starts)
    pools = [{"tier": 0, "capacity": 1000}] * n + [{"tier": 1}, {"tier": 2}]
    replicas = [
        {"hbm": i, "dram": n, "home": n + 1, "store": n + 1, "start": start}
        for i, start in enumerate(starts)
    ]
    services = {"router": router, "replicas": n, "max_jobs": 1, "max_tokens": 1}
    return {"pools": pools, "replicas": replicas, "services": services}


def test_least_loaded_takes_the_fewest_jobs_then_the_lowest_row(play: Play) -> None:
    requests = [{}, {}, {}, {}, {"arrival": 30}]
    segments = [{"steps": 3}, {"steps": 1}]
    works = [{"segments": 1}, {"segments": 1, "segment": 1}]
    requests[1] = {"work": 1}
    out = play(world(requests, segments=segments, works=works, **farm(0)))
    # at 30 replica 0 has request 3 (its edge comes first), 1 and 2 are idle
    assert out["replica"].tolist() == [0, 1, 2, 0, 1]


def test_round_robin_passes_over_those_that_are_down(play: Play) -> None:
    out = play(world([{}] * 5, **farm(1)))
    assert out["replica"].tolist() == [0, 1, 2, 0, 1]
    out = play(world([{}] * 5, **farm(1, (1, 2, 1))))
    assert out["replica"].tolist() == [0, 2, 0, 2, 0]


def test_limbo_is_routed_when_a_replica_begins_to_load(play: Play) -> None:
    tables = world([{}, {"arrival": 5}], **farm(0, (2, 2)))
    out = play(tables, script=[(20, "start", 1)])
    assert out["replica"].tolist() == [1, 1]
    assert out["start"].tolist() == [20, 30 + 20]
    assert out["events"].tolist() == [[20, 0, 1, 0], [20, 1, 1, 0]]
    out = play(tables)
    assert out["replica"].tolist() == [-1, -1]
    assert out["outcome"].tolist() == [0, 0]


def test_failure_cuts_the_iteration_and_sends_the_jobs_on(play: Play) -> None:
    segments = {"steps": 3, "live": 100, "mean": 10, "peak": 40}
    rows = farm(0, (1, 1)) | {"segments": segments}
    rows["services"] = {"replicas": 2, "max_jobs": 8, "max_tokens": 1, "weights": 200}
    out = play(world([{}], **rows), horizon=100, bin=20, script=[(15, "fail", 0)])
    assert out["stats"]["iterations"] == 1 + 3
    assert out["replica"].tolist() == [1]
    assert out["start"].tolist() == [0]
    assert out["end"].tolist() == [45]
    assert out["preemptions"].tolist() == [0]
    assert out["mean"][0].tolist() == [150, 0, 0, 0, 0]
    assert out["mean"][1].tolist() == [75, 0, 0, 0, 0]
    assert out["mean"][2].tolist() == [7, 0, 0, 0, 0]
    assert out["top"][0].tolist() == [340, 0, 0, 0, 0]
    assert out["top"][1].tolist() == [340, 340, 340, 200, 200]
    assert out["tier_top"][0].tolist() == [540, 340, 340, 200, 200]
    assert out["events"].tolist() == [[0, 1, 0, 0], [0, 1, 1, 0], [15, 2, 0, 0]]


def test_a_failed_decode_keeps_its_tokens(play: Play) -> None:
    tables = world([ask(0, 4, 5)], **chat())
    out = play(tables, script=[(25, "fail", 0), (25, "start", 0)])
    # two tokens out at 20; from 25 on prompt 6 in two chunks, then two steps
    assert out["end"].tolist() == [25 + 40]
    assert out["first"].tolist() == [10]


def test_fail_of_what_is_down_and_start_of_what_is_up_are_errors(play: Play) -> None:
    script = [(0, "start", 0), (0, "fail", 0), (0, "fail", 0), (0, "start", 0)]
    out = play(world([]), script=script)
    assert out["refused"].tolist() == [0, 2]


def test_an_edge_comes_before_an_arrival_of_the_same_time(play: Play) -> None:
    out = play(world([{}, {"arrival": 30}], services={"max_jobs": 1, "replicas": 1}))
    assert out["end"].tolist() == [30, 60]
    # one tick longer, and the arrival at 30 waits for the edge seen at 31
    phases = {"launch": 10 * NS + 1}
    tables = world([{}, {"arrival": 30}], phases=phases, services={"max_jobs": 1, "replicas": 1})
    out = play(tables)
    assert out["start"].tolist() == [0, 31]


def test_bins_and_the_horizon_cut(play: Play) -> None:
    segments = {"steps": 3, "live": 9}
    out = play(world([{"arrival": 3}], segments=segments), horizon=25, bin=10)
    # steps end at 13, 23, (33); bins [0, 10), [10, 20), [20, 25)
    assert out["outcome"].tolist() == [1]
    assert series(out, "mean", (0, 1)) == [9 * 7 // 10, 9, 9]
    assert out["stats"]["iterations"] == 2
    out = play(world([{"arrival": 3}], segments=segments), horizon=33, bin=1000)
    assert out["outcome"].tolist() == [2]
    assert series(out, "mean", (0, 1)) == [9 * 30 // 33]


@pytest.mark.parametrize(
    ("live", "slope", "most"),
    # 100, 150, 200 from 0 on and again from 15 on: 200 beside 150 in [25, 30), never beside 200
    [(100, 50, [250, 350, 200]), (200, -50, [350, 300, 100])],
    ids=["growing", "falling"],
)
def test_pools_of_a_tier_that_peak_apart(
    live: int, slope: int, most: list[int], play: Play
) -> None:
    segments = {"steps": 3, "live": live, "live_slope": slope}
    out = play(world([{}, {"arrival": 15}], segments=segments, **farm(1)), horizon=60, bin=20)
    assert out["tier_top"][0].tolist() == most
    assert (out["top"][:3].sum(axis=0) >= most).all()
    assert (out["tier_top"][1:] == 0).all()
