"""The figures of docs/adapters.md."""

from __future__ import annotations

import numpy as np
import pytest

from dcsim import planning
from dcsim.planning.compare import variants
from dcsim.results import Results
from dcsim.testing import check_all

ADAPTER = 2 * 32 * (19 * 8 * 6144 + 38 * (3 * 6144 + 18_432))
"""Bytes of one."""


@pytest.fixture(scope="module")
def results() -> dict[str, Results]:
    wanted = ["styles", "styles_from_the_shelf"]
    return planning.compare(variants("community_media", what_if=wanted))


def test_the_laws_hold(results: dict[str, Results]) -> None:
    for each in results.values():
        check_all(each)


def test_a_millisecond_each(results: dict[str, Results]) -> None:
    base, styles = (results[name].summary["jobs"]["image"] for name in ("base", "styles"))
    bring = -(-ADAPTER * 10**9 // (225 * 10**9)) + 305_000
    assert styles["first_ns"]["p50"] == base["first_ns"]["p50"] == 80_634_506
    assert styles["first_ns"]["p95"] == base["first_ns"]["p95"] + bring
    assert round(bring / 1e6, 3) == 0.969


def test_where_they_were(results: dict[str, Results]) -> None:
    told = {name: each.summary["jobs"]["image"].get("adapters") for name, each in results.items()}
    styles, shelf = told["styles"], told["styles_from_the_shelf"]
    assert told["base"] is None
    shares = [styles[f"{place}_share"] for place in ("hbm", "dram", "nand", "library")]
    assert [round(share, 3) for share in shares] == [0.696, 0.130, 0, 0.174]
    assert round(shelf["library_share"], 3) == 0.304
    for figures in (styles, shelf):
        assert figures["requests"] == 32_169
        assert figures["used"] == 3801
        times = round(figures["library_share"] * 32_169)
        assert figures["library_bytes"] == times * ADAPTER
    for name, gigabytes in (("styles", 837), ("styles_from_the_shelf", 1460)):
        read = results[name].summary["links"]["context/nand/read"]["bytes"]
        assert read == told[name]["library_bytes"]
        assert round(read / 1e9) == gigabytes


def test_how_many_differ(results: dict[str, Results]) -> None:
    """HBM evicts next to nothing, so each comes once to each replica."""
    shelf = results["styles_from_the_shelf"]
    assert shelf.summary["tiers"]["hbm"]["flows"]["evicted"] == 42 * ADAPTER
    rows = shelf.arrays("requests")
    mine = (rows["job"] == "image") & (rows["start_ns"] != None)  # noqa: E711
    pairs = set(zip(rows["replica"][mine], rows["adapter"][mine], strict=True))
    told = shelf.summary["jobs"]["image"]["adapters"]
    assert told["library_bytes"] // ADAPTER - len(pairs) in range(42)
    popular = 1 / np.arange(1, 5001)
    popular /= popular.sum()
    assert round(float((1 - np.exp(-32_169 / 8 * popular)).sum())) == 1278
    assert round(float((1 - np.exp(-32_169 * popular)).sum())) == 3839


def test_what_they_hold(results: dict[str, Results]) -> None:
    for name, dram in (("styles", 215), ("styles_from_the_shelf", 0)):
        tiers = results[name].summary["tiers"]
        held = {tier: tiers[tier]["occupancy_by_category"]["adapters"] for tier in ("hbm", "dram")}
        assert round(held["dram"] / 1e9) == dram
        assert round(held["hbm"] / 1e9) == 859
