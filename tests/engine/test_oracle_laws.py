"""Laws that hold for any run of the oracle."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import oracle_links
import pytest
from hypothesis import given, settings
from oracle import Oracle
from oracle_links import fair_rates
from oracle_work import COLUMNS

from dcsim.validation.fair import exact_rates
from engine.case import Case, run
from engine.tables import cases

QUEUED, RUNNING, COMPLETED, REJECTED = range(4)
CACHED = (3, 5)
"""Categories of what is cached in HBM."""
TAKEN, MOVED, EXPIRED, EVICTED, LOST, DROPPED, SPILLED, READ = range(8)


def laws(test: Any) -> Any:
    return pytest.mark.slow(settings(deadline=None, max_examples=60)(given(cases())(test)))


def held(machine: Oracle) -> dict[tuple[int, int, int, int], int]:
    """Bytes of objects and of what is swapped, by account, as they lie now."""
    out: dict[tuple[int, int, int, int], int] = {}
    for number, pool in enumerate(machine.pools):
        for kept in pool.objects:
            account = machine.store.account(kept, number)
            out[account] = out.get(account, 0) + kept.bytes
        for lies in pool.nodes:
            account = machine.content.account(lies.node, number)
            out[account] = out.get(account, 0) + lies.bytes
        for swapped in pool.swapped:
            out[swapped.account] = out.get(swapped.account, 0) + swapped.bytes
    for replica in machine.replicas:
        for here in replica.slack.nodes.values():
            account, amount = replica.slack.account(here.node), replica.slack.bytes(here.node)
            out[account] = out.get(account, 0) + (0 if here.users else amount)
    return out


class Kept(Oracle):
    """An oracle that leaves itself behind for a look."""

    last: Oracle

    def finish(self) -> dict[str, Any]:
        Kept.last = self
        return super().finish()


@laws
def test_bytes_are_conserved(case: Case) -> None:
    for lifted in (False, True):
        out = run(Kept, case, lifted)
        left = held(Kept.last)
        total = out["flow"].sum(axis=2)
        for row, account in enumerate(map(tuple, out["accounts"].tolist())):
            gone = total[row, [MOVED, EXPIRED, EVICTED, LOST]].sum()
            assert total[row, TAKEN] == gone + left.get(account, 0)
        if lifted:
            below = case.tables["pools"][out["accounts"][:, 0], 0] > 0
            assert not total[np.ix_(below, [EVICTED, LOST, DROPPED, SPILLED])].any()


@laws
def test_nothing_runs_before_it_arrives(case: Case) -> None:
    out = run(Oracle, case, lifted=False)
    arrival = case.tables["arrival"]
    started, ended = out["start"] >= 0, out["end"] >= 0
    assert (out["start"][started] >= arrival[started]).all()
    assert (out["end"][ended] >= out["start"][ended]).all()
    shown = out["first"] >= 0
    assert (out["first"][shown] >= out["start"][shown]).all()
    assert (out["first"][shown & ended] <= out["end"][shown & ended]).all()
    assert (ended == (out["outcome"] == COMPLETED)).all()
    assert started[out["outcome"] == RUNNING].all()
    assert not started[out["outcome"] == REJECTED].any()
    assert (out["end"] <= case.horizon).all()


@laws
def test_no_pool_holds_more_than_it_has(case: Case) -> None:
    out = run(Oracle, case, lifted=False)
    capacity = case.tables["pools"][:, 1].copy()
    for _, kind, *arguments in case.script:
        if kind == "set_capacity":
            pool, amount = arguments
            capacity[pool] = max(capacity[pool], amount)
    below = case.tables["pools"][:, 0] > 0
    assert (out["top"].max(axis=1)[below] <= capacity[below]).all()
    assert (out["mean"] >= 0).all()
    for row, (pool, category, _, _) in enumerate(out["accounts"].tolist()):
        if below[pool] or category not in CACHED:
            assert (out["mean"][row] <= out["top"][pool]).all()


@settings(deadline=None, max_examples=60)
@given(cases(focus=("reuse", "slack", "adapters")))
def test_no_node_lies_without_its_parent(case: Case) -> None:
    """Looked at after every event. In NAND of exclusive tiers it may lie in DRAM, or be gone."""
    column = COLUMNS["policies"].split().index("exclusive")
    exclusive = "policies" in case.tables and case.tables["policies"][:, column].any()

    class Watched(Oracle):
        def run_until(self, t: int) -> None:
            while self.heap and self.heap[0][0] <= t:
                super().run_until(max(self.now, self.heap[0][0]))
                for pool in self.pools:
                    if pool.tier == 2 and exclusive:
                        continue
                    here = {lies.node for lies in pool.nodes}
                    parents = {self.content.nodes[node].parent for node in here} - {-1}
                    assert parents <= here
                for replica in self.replicas:
                    nodes = replica.slack.nodes
                    used = {node for node in nodes if nodes[node].users}
                    for here in (set(nodes), used):
                        parents = {self.content.nodes[node].parent for node in here} - {-1}
                        assert parents <= here
            super().run_until(t)

    run(Watched, case, lifted=False)


@laws
def test_a_replica_keeps_to_its_budget(case: Case) -> None:
    out = run(Oracle, case, lifted=False)
    for row, (pool, category, service, _) in enumerate(out["accounts"].tolist()):
        if category == 1 and case.tables["pools"][pool, 0] == 0:
            weights, reserve = case.tables["services"][service, 6:8]
            budget = case.tables["pools"][pool, 1] - weights - reserve
            assert (out["mean"][row] <= max(0, budget)).all()


@settings(deadline=None, max_examples=60)
@given(cases(focus=("slack", "adapters")))
def test_what_is_cached_in_hbm_never_exceeds_the_slack(case: Case) -> None:
    """Live and cached bytes together keep to the budget, in both passes where holds do."""
    bins = case.bin
    for width in (bins, max(1, bins // 50)):
        case.bin = width
        out = run(Oracle, case, lifted=False)
        accounts = [tuple(row) for row in out["accounts"].tolist()]
        for pool, category, service, _ in accounts:
            if category == 1:
                weights, reserve = case.tables["services"][service, 6:8]
                budget = case.tables["pools"][pool, 1] - weights - reserve
                mine = [(pool, each, service, -1) for each in (1, *CACHED)]
                rows = [accounts.index(each) for each in mine if each in accounts]
                assert (out["mean"][rows].sum(axis=0) <= max(0, budget)).all()


@laws
def test_the_same_run_twice_is_the_same(case: Case) -> None:
    first, second = run(Oracle, case, lifted=False), run(Oracle, case, lifted=False)
    assert first.pop("stats") == second.pop("stats")
    for name, array in first.items():
        np.testing.assert_array_equal(second[name], array)


@laws
def test_stops_change_nothing(case: Case) -> None:
    case.script = []
    whole = run(Oracle, case, lifted=False)
    case.script = [(t, "stop") for t in range(0, case.horizon, max(1, case.horizon // 7))]
    parts = run(Oracle, case, lifted=False)
    for name in set(whole) - {"stats", "looks"}:
        np.testing.assert_array_equal(parts[name], whole[name])


@laws
def test_a_link_carries_no_more_than_its_bandwidth(case: Case) -> None:
    """But where it has fewer bytes a second than transfers, which have one each."""
    out = run(Oracle, case, lifted=False)
    edges = [min(i * case.bin, case.horizon) for i in range(out["moved"].shape[1] + 1)]
    for bandwidth, moved in zip(case.tables["channels"][:, 0].tolist(), out["moved"], strict=True):
        if bandwidth > 1000:
            for begin, end, amount in zip(edges, edges[1:], moved.tolist(), strict=False):
                assert 0 <= amount <= bandwidth * (end - begin) // 10**9 + 1


@laws
def test_what_moves_is_what_was_taken(case: Case) -> None:
    """Without weights, and with all transfers through, a link has moved what went over it."""
    case.script = []
    case.horizon = 2**60
    case.bin = 2**60
    for name, columns in (("services", [6, 9]), ("replicas", [9])):
        case.tables[name] = case.tables[name].copy()
        case.tables[name][:, columns] = 1 if name == "replicas" else 0
    out = run(Moved, case, lifted=False)
    assert Moved.last is not None
    assert out["moved"].sum(axis=1).tolist() == Moved.last


class Moved(Oracle):
    """An oracle that adds up the bytes of its transfers by channel."""

    last: list[int] | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        links = self.store.links
        total = Moved.last = [0] * len(links.channels)
        start = links.transfer

        def transfer(now: int, amount: int, path: list[int], then: Any) -> int:
            for channel in path:
                total[channel] += amount
            return start(now, amount, path, then)

        links.transfer = transfer  # type: ignore[method-assign]


@laws
def test_bytes_have_no_scale(case: Case) -> None:
    """All bytes and bandwidths three times larger: the same times, three times the bytes.

    Where every division into shares is without remainder: rates are whole bytes/s.
    """
    if case.tables["pools"].max() > 10**15:
        return
    uneven = []

    def rates(bandwidths: list[int], paths: list[list[int]]) -> list[int]:
        found = fair_rates(bandwidths, paths)
        uneven.append(found != exact_rates(bandwidths, paths))
        return found

    with patch.object(oracle_links, "fair_rates", rates):
        once = run(Oracle, case, lifted=False)
    if any(uneven):
        return
    columns = {
        "pools": [1],
        "channels": [0],
        "segments": [9, 10, 11, 12],
        "works": [2, 3],
        "services": [6, 7, 8, 9, 10],
    }
    if "nodes" in case.tables:
        columns["nodes"] = [2]
    for name, scaled in columns.items():
        case.tables[name] = case.tables[name].copy()
        case.tables[name][:, scaled] *= 3
    case.script = [
        (t, kind, *((a[0], 3 * a[1]) if kind == "set_capacity" else a))
        for t, kind, *a in case.script
    ]
    thrice = run(Oracle, case, lifted=False)
    for name in ("start", "first", "end", "outcome", "preemptions", "replica", "refused"):
        np.testing.assert_array_equal(thrice[name], once[name])
    for name in ("top", "flow"):
        np.testing.assert_array_equal(thrice[name], 3 * once[name])
    assert (thrice["mean"] // 3 == once["mean"]).all()
