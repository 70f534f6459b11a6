"""Links: rates against exact fractions, and transfers worked by hand on both engines."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_links import fair_rates

from dcsim.engine import Engine
from dcsim.validation.fair import exact_rates
from engine.world import NS, Play, player, world

GB = 10**9
"""Bytes a second: one a nanosecond."""
Start = tuple[int, int, list[int]]


def clips(
    channels: list[tuple[int, int]], starts: list[Start], dram: int = 1 << 60
) -> dict[str, Any]:
    """A replica a transfer, whose only request ends as the transfer starts.

    `channels`: (bandwidth, latency); `starts`: (time of at least 1, bytes, path), by time. A
    clip stays in DRAM for 1 ns after its transfer, and has a class, so an account, of its own.
    """
    n = len(starts)
    return world(
        [{"arrival": t - 1, "klass": i, "work": i} for i, (t, _, _) in enumerate(starts)],
        pools=[
            *({"tier": 0, "capacity": 1000} for _ in starts),
            {"tier": 1, "capacity": dram},
            {"tier": 2, "capacity": 0},
        ],
        channels=[{"bandwidth": b, "latency": latency} for b, latency in channels],
        paths=[path for _, _, path in starts],
        phases={"launch": NS},
        segments=[{"steps": 1}],
        works=[{"segments": 1, "artifact": size} for _, size, _ in starts],
        services={"router": 1, "replicas": n},
        classes=[{"artifact_dram": 1} for _ in starts],
        replicas=[
            {"hbm": i, "dram": n, "home": n + 1, "store": n + 1, "start": 1, "offload": i}
            for i in range(n)
        ],
    )


def ends(
    play: Play, channels: list[tuple[int, int]], starts: list[Start], horizon: int = 400
) -> list[int | None]:
    """When each transfer ends; None: not within the horizon."""
    out = play(clips(channels, starts), horizon=horizon, bin=1)
    found: list[int | None] = [None] * len(starts)
    for (pool, category, _, klass), flow in zip(out["accounts"], out["flow"], strict=True):
        expired = flow[2].nonzero()[0].tolist()
        if (pool, category) == (len(starts), 4) and expired:
            found[klass] = expired[0] - 1
    return found


# Rates.


@st.composite
def networks(draw: Any, least: int, most: int) -> tuple[list[int], list[list[int]]]:
    one = draw(st.integers(1, 5))
    bandwidths = draw(st.lists(st.integers(least, most), min_size=one, max_size=one))
    path = st.lists(st.integers(0, one - 1), min_size=1, max_size=4)
    return bandwidths, draw(st.lists(path, max_size=10))


@given(networks(10**12, 10**13))
def test_rates_are_max_min_fair_up_to_rounding(network: tuple[list[int], list[list[int]]]) -> None:
    for rate, exact in zip(fair_rates(*network), exact_rates(*network), strict=True):
        assert rate == pytest.approx(float(exact), rel=1e-6)


@given(networks(100, 1000))
def test_every_transfer_has_a_full_link_where_none_is_faster(
    network: tuple[list[int], list[list[int]]],
) -> None:
    """The mark of max-min fairness: who wants more takes it from one who has no more."""
    bandwidths, paths = network
    rates = fair_rates(bandwidths, paths)
    used = [
        sum(r * path.count(channel) for r, path in zip(rates, paths, strict=True))
        for channel in range(len(bandwidths))
    ]
    assert all(taken <= bandwidth for taken, bandwidth in zip(used, bandwidths, strict=True))
    for rate, path in zip(rates, paths, strict=True):
        assert any(
            rate == max(r for r, p in zip(rates, paths, strict=True) if channel in p)
            and bandwidths[channel] - used[channel]
            < sum(p.count(channel) for r, p in zip(rates, paths, strict=True) if r == rate)
            for channel in path
        )


def test_what_a_division_leaves_over_is_not_used() -> None:
    assert fair_rates([10], [[0], [0], [0]]) == [3, 3, 3]
    assert exact_rates([10], [[0], [0], [0]])[0] * 3 == 10


def test_more_transfers_than_bytes_have_a_byte_each() -> None:
    assert fair_rates([2], [[0]] * 5) == [1] * 5
    # two of the five bytes are left when the last four come: they are over the bandwidth
    assert fair_rates([3, 5], [[0, 1], [1], [1], [1], [1], [1]]) == [1] * 6


def test_equal_shares_go_by_bandwidth_then_by_row() -> None:
    # floor(11 / 3) = floor(7 / 2) = 3. Channel 1 first: its two at 3, and the last at
    # floor((11 - 3) / 2) = 4
    assert fair_rates([11, 7], [[0], [0], [0, 1], [1]]) == [4, 4, 3, 3]
    assert fair_rates([7, 7], [[0], [0, 1], [1]]) == [3, 3, 4]
    assert fair_rates([7, 7], [[1], [0, 1], [0]]) == [4, 3, 3]


# Transfers.


def test_two_share_a_link_and_the_second_gains_when_the_first_is_through(play: Play) -> None:
    # 40 and 100 bytes from 10 on: half a byte a ns until 90, then 60 bytes alone
    assert ends(play, [(GB, 0)], [(10, 40, [0]), (10, 100, [0])]) == [90, 150]
    # the second 20 ns later: 80 left and 100; 160 ns later, at 190, 20 left
    assert ends(play, [(GB, 0)], [(10, 100, [0]), (30, 100, [0])]) == [190, 210]


def test_what_one_link_keeps_back_goes_to_others(play: Play) -> None:
    """Links of 1 and 4 bytes a ns: two share the narrow one, the third has what they leave."""
    channels = [(GB, 0), (4 * GB, 0)]
    starts: list[Start] = [(10, 50, [0, 1]), (10, 100, [0, 1]), (10, 330, [1])]
    # 0.5, 0.5 and 3 until 110; then 1 and 3 for 10 ns until 120 (50 + 10 of 100, 330 of 330);
    # the last 40 bytes at 1
    assert ends(play, channels, starts) == [110, 160, 120]


def test_a_transfer_takes_turns_at_being_held_up(play: Play) -> None:
    """Links of 3 and 4 bytes a ns: crossing traffic moves the limit from one to the other."""
    channels = [(3 * GB, 0), (4 * GB, 0)]
    starts: list[Start] = [(10, 300, [0, 1]), (20, 60, [1]), (20, 60, [1]), (30, 60, [0])]
    # first alone at 3: 30 bytes by 20. Then 4/3 for each on link 1, and from 30 on the other 5/3
    # of link 0 for the last: 60 bytes in 36 ns, until 66; the two others take 45 ns and a bit.
    # The first has done 30 + 46 * 4/3 = 91.3 by 66, and 208.7 left: 69.6 ns at 3
    assert ends(play, channels, starts) == [136, 66, 66, 66]


def test_latency_takes_no_bandwidth(play: Play) -> None:
    channels = [(GB, 30), (2 * GB, 7)]
    starts: list[Start] = [(10, 40, [0]), (50, 40, [0]), (50, 40, [0, 1])]
    # through at 50, just as the others start: they have half a byte a ns each
    assert ends(play, channels, starts) == [80, 130 + 30, 130 + 37]


def test_a_channel_named_twice_bears_twice_and_waits_twice(play: Play) -> None:
    # rates: GB / 3 each; 10 bytes in 30 ns and a bit; then 20 - 10 at GB
    starts: list[Start] = [(10, 10, [0, 0]), (10, 20, [0])]
    assert ends(play, [(GB, 4)], starts) == [10 + 31 + 8, 10 + 31 + 10 + 4]


def test_bytes_moved_are_whole_in_sum(play: Play) -> None:
    tables = clips([(GB // 3, 0), (GB, 0)], [(1, 5, [0, 1]), (1, 4, [0]), (2, 6, [1, 1])])
    moved = play(tables, horizon=60, bin=7)["moved"]
    assert moved.sum(axis=1).tolist() == [9, 5 + 12]
    # channel 0 is never idle until 9 bytes are through: 333,333,332 bytes/s by pairs
    whole = [0, *(int(0.333333332 * (x - 1)) for x in (7, 14, 21, 28))]
    assert moved[0, :4].tolist() == [b - a for a, b in pairwise(whole)]


def test_what_is_under_way_at_the_end_has_moved_in_part(play: Play) -> None:
    out = play(clips([(GB, 0)], [(10, 90, [0]), (10, 90, [0])]), horizon=75, bin=50)
    assert out["moved"].tolist() == [[40, 25]]


def test_a_transfer_beyond_73_years_never_ends(play: Play) -> None:
    years = 2**61
    tables = clips([(1, 0), (1, years)], [(1, 1 << 33, [0]), (2, 1, [1])])
    out = play(tables, horizon=years, bin=years)
    assert out["flow"][:, 0].sum() == (1 << 33) + 1
    assert not out["flow"][:, 2].any()
    assert out["moved"].sum(axis=1).tolist() == [(years - 1) // GB, 1]


def test_no_law_another_transfer_may_speed_one_up(play: Play) -> None:
    """Over several links: the third slows the second, and so the first is faster."""
    channels = [(4 * GB, 0), (2 * GB, 0)]
    starts: list[Start] = [(10, 240, [0]), (10, 100, [0, 1]), (10, 100, [1])]
    # both at 2 until 60, then 140 bytes at 4
    assert ends(play, channels, starts[:2]) == [95, 60]
    # 3, 1 and 1 until 90
    assert ends(play, channels, starts) == [90, 110, 110]


@given(st.data())
def test_on_one_link_another_transfer_speeds_none_up(data: Any) -> None:
    play = player(Engine)
    one = st.tuples(st.integers(1, 60), st.integers(1, 50), st.just([0]))
    starts = sorted(data.draw(st.lists(one, min_size=2, max_size=6)))
    channel = [(data.draw(st.sampled_from([GB, GB // 3, 2 * GB + 1])), 0)]
    out = data.draw(st.integers(0, len(starts) - 1))
    more = ends(play, channel, starts, 2000)
    fewer = ends(play, channel, starts[:out] + starts[out + 1 :], 2000)
    for before, after in zip(fewer, more[:out] + more[out + 1 :], strict=True):
        assert before is not None
        assert after is not None
        assert before <= after
