"""What is written to NAND and how long it lasts, worked by hand: `docs/wear.md`."""

from __future__ import annotations

import re
from math import erf, exp, log, sqrt
from pathlib import Path
from typing import Any

import pytest
from scene import scene

from dcsim.assembly import make_plan
from dcsim.planning import compare, load, run
from dcsim.results import Results
from dcsim.spec import scenario_from_data
from dcsim.testing import check_wear

ROOT = Path(__file__).parents[2]
SECOND, TB = 10**9, 10**12
KV_8B = 32 * 2 * 8 * 128 * 2
"""Bytes a token of Llama 3.1 8B: layers, keys and values, heads, their width, bytes."""
KV_70B = 80 * 2 * 8 * 128 * 2


def one_turn(**drive: Any) -> Results:
    """A turn of 1,000 and 101 tokens at 30 s, whose context a drive of 864 GB takes."""
    data = scene(duration="1 min", bin="1 s")
    del data["jobs"]["image"]
    data["topology"]["shelves"]["shelf"] = {
        "extends": "bluefield-4-context",
        "dpus": 1,
        "ssds": 1,
        "ssd": {"extends": "kioxia-lc9-123tb", "capacity": "864 GB"} | drive,
    }
    data["jobs"]["chat"] |= {
        "arrivals": {"process": "constant", "rate": "1/min"},
        "shape": {"prompt": 1000, "output": 101},
        "keep": {"context": {"nand": "1 h"}, "store": "shelf"},
    }
    results = run(make_plan(scenario_from_data(data)))
    check_wear(results)
    return results


def shelf(results: Results) -> list[dict[str, Any]]:
    """The wear of the shelf, a row a bin."""
    return [row for row in results.wear().to_pylist() if row["pool"] == "shelf/nand"]


def test_a_budget_throttles() -> None:
    """One drive write a day of 864 GB is 10 MB/s: 144 MB take 14.4 s, to the byte in each bin."""
    size, rate = 1_100 * KV_8B, 10 * 10**6
    throttled, free = one_turn(write_budget=1), one_turn()
    end = free.requests()["end_ns"].to_pylist()[0]
    assert throttled.requests()["end_ns"].to_pylist() == [end], "who writes does not wait for it"
    done = [0]
    for row in shelf(throttled):
        assert row["budget"] == rate
        done.append(min(max(row["end_ns"] - end, 0) * rate // SECOND, size))
        assert row["written"] == done[-1] - done[-2]
    assert done[-1] == size
    whole = [row["written"] for row in shelf(throttled) if row["written"] == rate]
    assert len(whole) in (13, 14)
    assert sum(row["written"] > 0 for row in shelf(free)) <= 2, "3 GB/s"
    assert all(row["budget"] is None for row in shelf(free))
    link = throttled.summary["links"]["shelf/nand/write"]
    assert link["bandwidth"] == rate
    assert link["load_fullest"] == 1.0
    assert link["load"] == pytest.approx(size / (60 * rate))


def test_a_budget_above_the_drives_changes_nothing() -> None:
    free, wide = one_turn(), one_turn(write_budget=10**6)
    assert wide.channels().equals(free.channels())
    pool = wide.summary["tiers"]["nand"]["wear"]["pools"]["shelf/nand"]
    assert pool["budget_drive_writes_per_day"] == 10**6


def test_wear_by_hand() -> None:
    """144 MB in a minute on 864 GB at 0.3 a day for 5 years, three bytes of flash a byte."""
    results = one_turn(write_amplification=3)
    pool = results.summary["tiers"]["nand"]["wear"]["pools"]["shelf/nand"]
    size = 1_100 * KV_8B
    assert pool["bytes_taken"] == {"artifacts": 0, "contexts": size, "reused": 0}
    assert pool["bytes_written"] == size
    assert pool["flash_bytes_written"] == 3 * size == sum(row["flash"] for row in shelf(results))
    assert pool["drive_writes_per_day"] == pytest.approx(size * 1440 / 864e9)
    assert pool["endurance_used"] == pytest.approx(3 * size / (864e9 * 0.3 * 365 * 5))
    years = 864e9 * 0.3 * 5 / (3 * size * 1440)
    assert pool["lifetime_years"] == pytest.approx(years)
    assert {row["rated"] for row in shelf(results)} == {round(864e9 * 0.1 / 86_400)}


@pytest.fixture(scope="module")
def agents() -> dict[str, Results]:
    file = ROOT / "scenarios" / "agentic_chat_nvl72.yaml"
    variants = ("write_budget", "written_when_left_twice", "half_dram")
    plans = {"base": load(file)} | {name: load(file, what_if=name) for name in variants}
    return dict(compare(plans))


def mean(median: float, sigma: float, low: float, high: float) -> float:
    """Of a log-normal whose draws are brought within bounds."""

    def below(x: float, shift: float) -> float:
        return 0.5 * (1 + erf(((log(x / median) / sigma) - shift) / sqrt(2)))

    inside = median * exp(sigma * sigma / 2) * (below(high, sigma) - below(low, sigma))
    return inside + low * below(low, 0) + high * (1 - below(high, 0))


def wear(results: Results) -> Any:
    return results.summary["tiers"]["nand"]["wear"]["pools"]["context/nand"]


def test_the_wear_of_the_agents(agents: dict[str, Results]) -> None:
    """A turn writes what it adds: its new tokens and its answer."""
    base = agents["base"]
    turns = base.summary["requests"]["outcomes"]["completed"]
    new = mean(1200, 1.0, 16, 32768) + mean(300, 0.8, 1, 4096)
    systems = 40 * 4000
    written = (turns * new + systems) * KV_70B
    assert wear(base)["bytes_written"] == pytest.approx(written, rel=0.01)
    a_day = written * 6 / (600 * TB)
    assert wear(base)["drive_writes_per_day"] == pytest.approx(a_day, rel=0.01)
    assert wear(base)["lifetime_years"] == pytest.approx(5 * 0.3 / a_day, rel=0.01)
    used = written / (600 * TB * 0.3 * 365 * 5)
    assert wear(base)["endurance_used"] == pytest.approx(used, rel=0.01)
    link = base.summary["links"]["context/nand/write"]
    assert link["bandwidth"] == 64 // 16 * 5 * 14 * 10**9, "a sixteenth of 64 x 5 drives"
    assert link["load"] == pytest.approx(written / 14_400 / 280e9, rel=0.01)


def test_what_moves_the_wear_of_the_agents(agents: dict[str, Results]) -> None:
    base, budget, twice, half = agents.values()
    allowed = 600 * TB * 0.3 / 6
    assert 0.95 * allowed < wear(budget)["bytes_written"] <= allowed
    sessions = 0.6 * 14_400  # of each the newest turn has been left once
    saved = 1 - wear(twice)["bytes_written"] / wear(base)["bytes_written"]
    turns = base.summary["requests"]["outcomes"]["completed"]
    assert saved == pytest.approx(sessions / turns, rel=0.05)
    assert wear(half)["bytes_written"] == pytest.approx(wear(base)["bytes_written"], rel=0.001)
    reads, shares = (
        [pick(each.summary) for each in (base, half)]
        for pick in (
            lambda summary: summary["links"]["context/network/out"]["load"],
            lambda summary: summary["jobs"]["agent"]["reuse"]["nand_share"],
        )
    )
    assert reads[1] / reads[0] == pytest.approx(shares[1] / shares[0], rel=0.02)


def test_the_table_of_the_page(agents: dict[str, Results]) -> None:
    text = (ROOT / "docs" / "wear.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| `?(\w+)`? \| (.+?) TB \| (.+?) \| (.+?) years \|", text, re.M)
    assert len(rows) >= len(agents)
    told = {variant: row for _, variant, *row in rows}
    for name, results in agents.items():
        figures = wear(results)
        shown = [
            f"{figures['bytes_written'] / TB:.1f}",
            f"{figures['drive_writes_per_day']:.3f}",
            f"{figures['lifetime_years']:.2f}",
        ]
        assert told[name] == shown, name
