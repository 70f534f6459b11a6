"""Hit rates of the published log, the curve of all capacities, and Che's approximation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from block_cache import leaf_cache, published_lru

import dcsim
from dcsim.engine import Forest
from dcsim.planning.hitrate import read_prefixes
from dcsim.workload import BlockLog, read_blocks

LOG = "mooncake_fast25_synthetic.jsonl.gz"
POLICIES = ("lru", "lfu", "fifo")


@pytest.fixture(scope="module")
def mooncake(logs: Path) -> BlockLog:
    return read_blocks(logs / LOG, 512)


def prompts(log: BlockLog) -> list[list[int]]:
    return [part.tolist() for part in np.split(log.blocks, log.start[1:-1])]


@pytest.mark.traces
def test_the_published_hit_rates(logs: Path, mooncake: BlockLog) -> None:
    published = json.loads((logs / "kv_hit_rates.json").read_text(encoding="utf-8"))
    rates = dcsim.hit_rates(mooncake, published["capacity_tokens"]).hit_rate
    assert len(rates) == 5
    for ours, theirs in zip(rates, published["hit_rate"], strict=True):
        assert abs(ours - theirs) < 0.006


@pytest.mark.traces
def test_the_published_log_by_single_blocks(mooncake: BlockLog) -> None:
    """Request by request, at the published capacities and below."""
    requests = prompts(mooncake)
    forest = read_prefixes(mooncake).forest
    assert (forest.blocks, len(forest.parent)) == (43_924, 4_177)
    for capacity in (19, 195, 1_953, 7_812, 19_531, 43_924):
        assert forest.hits("lru", capacity).tolist() == published_lru(requests, capacity)


@pytest.mark.traces
@pytest.mark.parametrize("policy", ["lfu", "fifo"])
def test_other_policies_on_the_published_log(mooncake: BlockLog, policy: str) -> None:
    """Its first requests: the plain cache looks at every leaf for each block."""
    requests = prompts(mooncake)[:150]
    start = mooncake.start[: len(requests) + 1]
    forest = Forest(start, mooncake.blocks[: start[-1]])
    for capacity in (20, 400):
        assert forest.hits(policy, capacity).tolist() == leaf_cache(requests, capacity, policy)


@pytest.mark.traces
def test_the_curve_is_the_replay_at_each_capacity(mooncake: BlockLog) -> None:
    prefixes = read_prefixes(mooncake)
    curve = dcsim.hit_rate_curve(prefixes)
    assert curve.blocks[[0, -1]].tolist() == [0, 43_924]
    assert (np.diff(curve.hits) >= 0).all()
    some = np.concatenate([np.geomspace(1, 1e9, 80), curve.capacity_tokens[::50]])
    assert (curve.at(some) == dcsim.hit_rates(prefixes, some).hit_rate).all()
    assert (curve.at(curve.capacity_tokens) == curve.hit_rate).all()
    assert curve.unlimited == prefixes.unlimited


def write(folder: Path, *ids: list[int]) -> Path:
    path = folder / "log.jsonl"
    rows = [
        {"timestamp": t, "input_length": 10 * len(each), "output_length": 1, "hash_ids": each}
        for t, each in enumerate(ids)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_by_hand(tmp_path: Path) -> None:
    """The log of docs/hitrate.md: 16 full blocks, room for four."""
    log = write(tmp_path, [1, 2, 3], [1, 2, 4], [1, 2, 3], [1, 5], [1, 2, 4], [1, 5])
    for policy, hits in (("lru", 10), ("lfu", 9), ("fifo", 11)):
        found = dcsim.hit_rates(str(log), [40, 49.9, 0, 9, 1e9], policy, block_tokens=10)
        assert found.hit_rate.tolist() == [hits / 16, hits / 16, 0, 0, 11 / 16]
        assert found.unlimited == 11 / 16


def test_a_partial_block_takes_room_but_is_no_hit() -> None:
    """As in the published definition: all blocks are kept, full ones are counted."""
    ones = np.ones(2, dtype=np.int64)
    log = BlockLog(4, ones, 7 * ones, ones, np.array([0, 2, 4]), np.array([0, 1, 0, 1]))
    assert dcsim.hit_rates(log, [4, 8]).hit_rate.tolist() == [0.5, 0.5]
    assert dcsim.hit_rate_curve(log).hits.tolist() == [0, 1, 1]


def test_nothing_that_could_hit_is_refused(tmp_path: Path) -> None:
    log = write(tmp_path, [1], [1])
    with pytest.raises(dcsim.SpecError, match=r"log.jsonl: no prompt fills a block of 11 tokens"):
        dcsim.hit_rates(log, [1e6], block_tokens=11)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), 1e30])
def test_capacities_that_are_none(tmp_path: Path, wrong: float) -> None:
    log = write(tmp_path, [1], [1])
    with pytest.raises(ValueError, match="0 to 2\\^62 tokens"):
        dcsim.hit_rates(log, [1.0, wrong], block_tokens=10)


def test_an_unknown_policy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no policy 'lruu'; did you mean 'lru'"):
        dcsim.hit_rates(tmp_path / "none", [1.0], "lruu")
