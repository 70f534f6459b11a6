"""The shipped pipelines, and what docs/pipelines.md works out of them by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcsim import planning
from dcsim.planning.compare import variants
from dcsim.results import Results
from dcsim.testing import check_all


@pytest.fixture(scope="module")
def results() -> dict[str, Results]:
    """The shipped scenario and its variants."""
    return planning.compare(variants("pipelines_nvl72", overrides=[]))


def jobs(results: Results) -> dict[str, Any]:
    return results.summary["jobs"] | results.summary["asked"]


def test_the_laws_hold(results: dict[str, Results]) -> None:
    for each in results.values():
        check_all(each)


def test_users_are_the_same_in_all_variants(results: dict[str, Results]) -> None:
    first: dict[str, list[Any]] = {}
    for each in results.values():
        asked = each.arrays("asked")
        for name in ("agent", "film"):
            arrived = asked["arrival_ns"][asked["job"] == name].tolist()
            assert arrived == first.setdefault(name, arrived)
        rows = each.arrays("requests")
        chat = np.isin(rows["job"], ["chat", "chat/prefill"])
        assert rows["prompt_tokens"][chat].tolist() == first.setdefault(
            "chat", rows["prompt_tokens"][chat].tolist()
        )


def test_disaggregated_tokens_come_faster(results: dict[str, Results]) -> None:
    base, apart = (jobs(results[name])["chat"] for name in ("base", "disaggregated"))
    assert apart["per_token_ns"]["p50"] < 0.8 * base["per_token_ns"]["p50"]
    assert apart["first_ns"]["p99"] > base["first_ns"]["p99"]


def test_a_layer_is_left_of_the_kv(results: dict[str, Results]) -> None:
    handed = {
        name: jobs(results[name])["chat/decode"]["handed_ns"]["p99"]
        for name in ("disaggregated", "disaggregated_overlap")
    }
    ratio = handed["disaggregated"] / handed["disaggregated_overlap"]
    assert 60 < ratio <= 80  # of 80 layers


def test_stages_hold_what_they_need(results: dict[str, Results]) -> None:
    held = {}
    for name in ("base", "clips_in_stages"):
        contents = results[name].arrays("contents")
        mine = (contents["tier"] == "hbm") & (contents["category"] == "weights")
        held[name] = int(contents["mean_bytes"][mine & (contents["start_ns"] == 0)].sum())
    text, denoiser, vae = 9_524_621_312, 3_862_564_992, 492_957_606
    saved = 12 * (text + denoiser + vae) - (text + 9 * denoiser + 2 * vae)
    assert held["base"] - held["clips_in_stages"] == saved


def test_one_sub_agent_waits_for_fewer_tools(results: dict[str, Results]) -> None:
    base, alone = (jobs(results[name])["agent"]["latency_ns"] for name in ("base", "no_sub_agents"))
    assert base["p50"] - alone["p50"] > 3.3e9
