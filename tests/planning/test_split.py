"""Which tier context belongs in: the break-even rule by hand, and sums of columns of a run."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from scene import scene

from dcsim.assembly import make_plan
from dcsim.planning import Prices, run, split
from dcsim.planning.split import YEAR
from dcsim.report.split import split_text
from dcsim.results import Results
from dcsim.spec import scenario_from_data

GB, TB = 10**9, 10**12
MINUTE, HOUR, DAY = 60 * 10**9, 3600 * 10**9, 86_400 * 10**9


def prices(**changes: Any) -> Prices:
    """10 USD/GB of DRAM, 0.2 USD/GB of a 25.6 TB drive of 3 drive writes a day, for five years."""
    given: dict[str, Any] = {
        "dram": 10 / GB,
        "nand": 0.2 / GB,
        "recompute": 0.00032 / GB,
        "capacity": 25_600 * GB,
        "read": 14 * GB,
        "write": 10 * GB,
        "dwpd": 3.0,
    }
    return Prices(**given | changes)


def test_break_even_by_hand() -> None:
    """As docs/reuse.md works it."""
    even = prices().break_even()
    assert prices().least_gap == pytest.approx(8 * HOUR)  # a day over three writes
    assert even["dram_nand"] == pytest.approx(0.2 * 480 / 10 * MINUTE)  # 9.6 min
    assert even["dram_recompute"] == pytest.approx(0.00032 * 1825 * 24 * 60 / 10 * MINUTE)
    assert even["nand_recompute"] == pytest.approx(0.00032 * 1825 / 0.2 * DAY)  # 2.92 d
    costs = prices().costs(float(YEAR))
    assert costs["dram"] == pytest.approx(10 / GB / 5)
    assert costs["nand"] == pytest.approx(0.2 / GB / 5)
    # below 8 h a write costs what 8 h of room do
    assert prices().costs(1.0)["nand"] == prices().costs(8.0 * HOUR)["nand"]


def test_without_a_rating_bandwidth_is_what_counts() -> None:
    unrated = prices(dwpd=None)
    assert unrated.least_gap == pytest.approx(2560 * 10**9)  # to write 25.6 TB at 10 GB/s
    assert prices(dwpd=None, read=5 * GB).least_gap == pytest.approx(5120 * 10**9)
    # for ten years half as many writes are left for each day
    assert prices(life=10 * YEAR).least_gap == pytest.approx(16 * HOUR)


def test_one_may_always_be_cheaper() -> None:
    assert prices(dram=0.1 / GB).break_even()["dram_nand"] is None
    assert prices(recompute=1e-9 / GB).break_even()["nand_recompute"] is None


@cache
def sessions() -> Results:
    """Three turns a session, some seconds apart."""
    data = scene(duration="5 min")
    data["jobs"]["chat"] |= {"session": {"turns": 3, "think": "10 s"}}
    data["jobs"]["chat"]["keep"]["reuse"] = {}
    return run(make_plan(scenario_from_data(data)))


def test_a_split_is_a_sum_of_columns() -> None:
    results = sessions()
    table = results.arrays("useful")
    seconds = (table["end_ns"] - table["start_ns"]) / 1e9
    whole = (table["useful_demand_bytes"] * seconds).sum() / 300
    assert whole > 0
    for changes in ({}, {"dram": 1000 / GB}, {"dram": 1 / TB}, {"recompute": 1e-12 / GB}):
        found = split(results, prices(**changes))
        places = found.places.values()
        assert sum(place.demand_mean for place in places) == pytest.approx(whole)
        rate = sum(place.reused_bytes_per_s for place in places)
        assert rate == pytest.approx(table["reused_demand_bytes"].sum() / 300)
        for each in found.classes:
            assert each.costs[each.place] == min(each.costs.values())
    nand = [split(results, prices(dram=usd / GB)).places["nand"] for usd in (1, 10, 1000, 10**5)]
    means = [place.demand_mean for place in nand]
    assert means == sorted(means)  # dearer DRAM never takes from NAND
    assert means[0] < means[-1]
    for place in nand:
        least = place.reused_bytes_per_s * 8 * 3600
        assert place.capacity_bytes >= max(place.demand_peak, round(least))


def test_useful_bytes_are_those_between_turns() -> None:
    """What a turn leaves waits for the next one: from its end to the other's start."""
    results = sessions()
    requests, table = results.arrays("requests"), results.arrays("useful")
    assert table["reused_bytes"].sum() > 0
    follows = requests["after"]
    later = np.flatnonzero(~np.isnan(follows.astype(float)))
    waits = [
        requests["start_ns"][row] - requests["end_ns"][int(follows[row])]
        for row in later
        if requests["start_ns"][row] == requests["start_ns"][row]
    ]
    longest = table["gap_from_ns"][table["reused_bytes"] > 0].max()
    assert longest <= max(waits)
    figures = results.summary["jobs"]["chat"]["reuse"]
    seconds = (table["end_ns"] - table["start_ns"]) / 1e9
    assert figures["useful_bytes"] == pytest.approx(
        (table["useful_bytes"] * seconds).sum() / 300, abs=1
    )
    assert figures["kept_bytes"] > figures["useful_bytes"]


def test_a_run_without_reuse_has_nothing_to_split() -> None:
    results = run(make_plan(scenario_from_data(scene(duration="1 min"))))
    assert "useful" not in results.tables
    with pytest.raises(ValueError, match=r"keep\.reuse"):
        split(results, prices())


def test_a_split_as_text_and_as_data() -> None:
    found = split(sessions(), prices())
    text = split_text(found)
    assert "break-even of DRAM and NAND: 9.60 min" in text
    assert "break-even of NAND and compute again: 2.92 d" in text
    assert "below a gap of 8.00 h" in text
    assert json.loads(json.dumps(found.as_dict()))["places"]["dram"]["usd"] >= 0
