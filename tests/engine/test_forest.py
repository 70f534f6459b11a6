"""The prefix forest and the caches over it, against plain Python caches of single blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from block_cache import Prompt, leaf_cache, published_lru, runs
from hypothesis import given
from hypothesis import strategies as st

from dcsim.engine import Forest, Int64

POLICIES = ("lru", "lfu", "fifo")


@st.composite
def prompts(draw: st.DrawFn) -> list[list[int]]:
    """Prompts that share prefixes; ids come again under other parents, and within a prompt."""
    out: list[list[int]] = []
    ids = st.lists(st.integers(0, 3), max_size=6)
    for _ in range(draw(st.integers(1, 25))):
        prefix: list[int] = []
        if out:
            known = draw(st.sampled_from(out))
            prefix = known[: draw(st.integers(0, len(known)))]
        out.append(prefix + draw(ids))
    return out


def forest(prompts: Sequence[Prompt]) -> Forest:
    return Forest(*columns(prompts))


def columns(prompts: Sequence[Prompt]) -> tuple[Int64, Int64]:
    start = np.cumsum([0, *map(len, prompts)], dtype=np.int64)
    return start, np.array([each for prompt in prompts for each in prompt], dtype=np.int64)


@given(prompts())
def test_runs_are_the_blocks_always_used_together(prompts: list[list[int]]) -> None:
    found = forest(prompts)
    expected, ends = runs(prompts)
    rows = list(zip(found.parent, found.length, found.above, strict=True))
    assert rows == expected
    assert found.ends.tolist() == ends
    assert found.blocks == sum(blocks for _, blocks, _ in expected)


@given(prompts(), st.integers(0, 30))
def test_lru_is_that_of_single_blocks(prompts: list[list[int]], capacity: int) -> None:
    hits = forest(prompts).hits("lru", capacity).tolist()
    assert hits == published_lru(prompts, capacity)
    assert hits == leaf_cache(prompts, capacity, "lru")


@pytest.mark.parametrize("policy", ["lfu", "fifo"])
@given(prompts=prompts(), capacity=st.integers(0, 30))
def test_other_policies_are_those_of_single_blocks(
    policy: str, prompts: list[list[int]], capacity: int
) -> None:
    assert forest(prompts).hits(policy, capacity).tolist() == leaf_cache(prompts, capacity, policy)


@given(prompts(), st.data())
def test_lru_at_all_capacities_is_the_replay_at_each(
    prompts: list[list[int]], data: st.DataObject
) -> None:
    found = forest(prompts)
    counted = np.array([data.draw(st.integers(0, len(p) + 1)) for p in prompts], dtype=np.int64)
    curve = found.lru_hits(counted)
    assert len(curve) == found.blocks + 1
    for capacity, hits in enumerate(curve):
        assert hits == np.minimum(found.hits("lru", capacity), counted).sum()
    assert curve[-1] == np.minimum(found.hits("lru", 10**15), counted).sum()


@given(prompts())
def test_lru_never_hits_less_with_more_room(prompts: list[list[int]]) -> None:
    found = forest(prompts)
    before = found.hits("lru", 0)
    assert not before.any()
    for capacity in range(1, found.blocks + 1):
        hits = found.hits("lru", capacity)
        assert (hits >= before).all()
        before = hits


@pytest.mark.parametrize("policy", POLICIES)
@given(prompts=prompts())
def test_with_room_for_all_every_policy_gives_the_ideal(
    policy: str, prompts: list[list[int]]
) -> None:
    seen: set[tuple[int, ...]] = set()
    ideal = []
    for prompt in prompts:
        prefixes = [tuple(prompt[: i + 1]) for i in range(len(prompt))]
        ideal.append(sum(prefix in seen for prefix in prefixes))
        seen.update(prefixes)
    found = forest(prompts)
    assert found.hits(policy, found.blocks).tolist() == ideal
    assert found.hits(policy, 1 << 62).tolist() == ideal


def test_policies_differ_by_hand() -> None:
    """The worked example of docs/hitrate.md: room for four blocks."""
    log = [[1, 2, 3], [1, 2, 4], [1, 2, 3], [1, 5], [1, 2, 4], [1, 5]]
    by_hand = {
        "lru": [0, 2, 3, 1, 2, 2],
        "lfu": [0, 2, 3, 1, 2, 1],
        "fifo": [0, 2, 3, 1, 3, 2],
    }
    for policy, hits in by_hand.items():
        assert forest(log).hits(policy, 4).tolist() == hits
    # Distances: block 1 five times 1; block 2 2, 2, 3; block 3 4; block 4 5; block 5 4.
    assert forest(log).lru_hits(np.array([3, 3, 3, 2, 3, 2])).tolist() == [0, 5, 7, 8, 10, 11]


def test_a_prompt_longer_than_the_cache_leaves_its_head() -> None:
    long = list(range(10))
    for policy in POLICIES:
        assert forest([long, long, [0, 1], [0, 7]]).hits(policy, 3).tolist() == [0, 3, 2, 1]


def test_no_requests_and_no_blocks() -> None:
    none = forest([])
    assert (none.blocks, len(none.parent), len(none.ends)) == (0, 0, 0)
    assert none.lru_hits(np.zeros(0, dtype=np.int64)).tolist() == [0]
    empty = forest([[], [7], []])
    assert empty.ends.tolist() == [-1, 0, -1]
    assert empty.hits("lru", 1).tolist() == [0, 0, 0]


def test_ids_may_be_any_64_bits() -> None:
    ends = [-(2**63), 2**63 - 1, -1, 0]
    assert forest([ends, ends]).hits("lru", 4).tolist() == [0, 4]


def test_the_forest_keeps_nothing_of_its_arrays() -> None:
    start, blocks = columns([[1, 2], [1, 2]])
    found = Forest(start, blocks)
    start[:], blocks[:] = 9, 9
    assert found.hits("lru", 2).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("start", "blocks", "wrong"),
    [
        ([], [], "begins with 0"),
        ([1], [1], "begins with 0"),
        ([0, 1], [1, 2], "ends with the number of blocks"),
        ([0, 2, 1], [1], "request 1 has fewer than 0"),
    ],
)
def test_wrong_arrays_are_refused(start: list[int], blocks: list[int], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Forest(np.array(start, dtype=np.int64), np.array(blocks, dtype=np.int64))


def test_wrong_calls_are_refused() -> None:
    found = forest([[1]])
    with pytest.raises(ValueError, match="policy: there is no arc"):
        found.hits("arc", 1)
    with pytest.raises(ValueError, match="less than 0"):
        found.hits("lru", -1)
    with pytest.raises(ValueError, match="one a request"):
        found.lru_hits(np.zeros(2, dtype=np.int64))
    with pytest.raises(TypeError):
        Forest(np.zeros(1), np.zeros(0))  # type: ignore[arg-type]
