"""A router that knows prefixes, by hand on both engines."""

from __future__ import annotations

from typing import Any

from engine.test_content import HOUR, reuse, turn
from engine.world import Play

ROOT = [{"tokens": 40, "bytes": 40}]
PREFIX_AWARE = 3


def pair(requests: list[dict[str, Any]], drams: tuple[int, int] = (2, 2), **service: int) -> Any:
    """Two replicas with a cache in HBM (pools 0 and 1) and DRAM of these pools (2, 3)."""
    service = {"replicas": 2, "router": PREFIX_AWARE, "max_jobs": 8, "max_tokens": 10**6} | service
    replicas = [
        {"hbm": hbm, "dram": dram, "home": 4, "store": 4, "start": 1, "offload": 1}
        for hbm, dram in enumerate(drams)
    ]
    pools = [{"tier": tier, "capacity": 1000} for tier in (0, 0, 1, 1, 2)]
    return reuse(requests, ROOT, pools=pools, services=[service], replicas=replicas)


def where(play: Play, tables: Any) -> list[int]:
    return list(play(tables)["replica"].tolist())


def test_it_goes_where_its_prefix_is_unless_that_is_too_much(play: Play) -> None:
    # A stranger runs where the prefix of 40 tokens is: if it asked for as many it is no gain, and
    # fewer requests decide
    for stranger, replica in ((39, 0), (40, 1), (41, 1)):
        requests = [turn(0, 40, leaves=0), turn(195, stranger), turn(200, 70, reads=0)]
        out = where(play, pair(requests, cache_hbm=1))
        assert out == [0, 0, replica]


def test_dram_saves_three_quarters(play: Play) -> None:
    # 3 x 40 quarters in the DRAM of the first replica alone: the price of 30 tokens
    for stranger, replica in ((29, 0), (30, 1)):
        requests = [turn(0, 40, leaves=0), turn(195, stranger), turn(200, 70, reads=0)]
        out = where(play, pair(requests, (2, 3), cache_dram=HOUR))
        assert out == [0, 0, replica]


def test_nand_saves_a_quarter_and_both_may_have_it(play: Play) -> None:
    # in NAND, which the two share: nothing to tell them apart
    requests = [turn(0, 40, leaves=0), turn(195, 1), turn(200, 70, reads=0)]
    assert where(play, pair(requests, cache_nand=HOUR)) == [0, 0, 1]


def test_without_content_it_takes_the_fewest_tokens(play: Play) -> None:
    requests = [turn(0, 50) | {"output": 9}, turn(1, 20) | {"output": 9}, turn(2, 20), turn(3, 9)]
    assert where(play, pair(requests)) == [0, 1, 1, 1]


def test_what_was_evicted_meanwhile_is_not_found(play: Play) -> None:
    # 100 bytes of HBM: a stranger of 20 tokens from 100 to 130 grows by one each 10 ns, and at 530
    # the prefix of 40 has no room beside it (see test_slack)
    for arrival, replica in ((529, 0), (530, 1)):
        requests = [turn(0, 40, leaves=0), turn(100, 20) | {"output": 71}]
        requests.append(turn(arrival, 50, reads=0))
        tables = pair(requests, cache_hbm=1)
        tables["pools"][:2, 1] = 100
        assert where(play, tables) == [0, 0, replica]
