"""The shipped community service, and the Sora-2-class pipeline in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcsim import planning
from dcsim.planning.compare import variants
from dcsim.results import Results
from dcsim.testing import check_all

WHAT_IF = ["packed_sora", "silent_sora", "sora_10b"]


@pytest.fixture(scope="module")
def results() -> dict[str, Results]:
    return planning.compare(variants("community_media", what_if=WHAT_IF))


def clips(results: Results) -> dict[str, Any]:
    """Columns of the requests for Sora's clips that were completed."""
    rows = results.arrays("requests")
    mine = (rows["job"] == "sora") & (rows["outcome"] == "completed")
    return {name: np.asarray(column)[mine] for name, column in rows.items()}


def test_the_laws_hold(results: dict[str, Results]) -> None:
    for each in results.values():
        check_all(each)


def test_a_clip_is_stored_with_its_sound(results: dict[str, Results]) -> None:
    """0.15 bits a pixel, and 128 kbit/s of as many 24ths of a second as it has frames."""
    found = clips(results["base"])
    assert set(found["frames"]) == {97, 193, 289}
    assert set(zip(found["width"], found["height"], strict=True)) == {
        (1280, 720),
        (720, 1280),
        (960, 960),
    }
    pixels = found["width"] * found["height"] * found["frames"]
    assert (pixels * 15 % 800 == 0).all()
    seen, heard = pixels * 15 // 800, -(-found["frames"] * 128_000 // 192)
    assert (found["artifact_bytes"] == seen + heard).all()
    silent = clips(results["silent_sora"])
    assert (
        silent["artifact_bytes"] * 800 == silent["width"] * silent["height"] * silent["frames"] * 15
    ).all()


def test_a_prompt_is_expanded_before_it_is_shot(results: dict[str, Results]) -> None:
    rows, asked = (results["base"].arrays(name) for name in ("requests", "asked"))
    mine = rows["asked"] == "sora_film"
    assert int((rows["job"] == "cameo").sum()) > 40
    writing, shot = (mine & (rows["job"] == job) for job in ("writing", "sora"))
    ends = dict(zip(rows["number"][writing], rows["end_ns"][writing], strict=True))
    assert len(ends) > 150
    for number, arrival in zip(rows["number"][shot], rows["arrival_ns"][shot], strict=True):
        assert arrival == ends[number] + 50_000_000
    films = asked["job"] == "sora_film"
    assert set(asked["requests"][films]) <= {1, 2}


def test_packed_clips_do_not_wait_for_longer_ones(results: dict[str, Results]) -> None:
    """Two clips of any sizes in one batch: nobody waits behind a long one, all take longer."""
    waited = {
        name: int((np.asarray(found["start_ns"]) - found["arrival_ns"] > 10**9).sum())
        for name in ("base", "packed_sora")
        for found in [clips(results[name])]
    }
    assert waited["packed_sora"] < 0.9 * waited["base"]
    alone, both = (
        np.asarray(each["end_ns"]) - np.asarray(each["start_ns"])
        for each in (clips(results["base"]), clips(results["packed_sora"]))
    )
    assert both.max() > 1.5 * alone.max()


def test_a_smaller_model_is_faster(results: dict[str, Results]) -> None:
    """Of the same clip the matrices cost a third (10.07 of 29.29 B) and the attention 4/9."""
    took = {}
    for name in ("base", "sora_10b"):
        found = clips(results[name])
        one = (found["frames"] == 97) & (found["width"] == 1280)
        took[name] = int((found["end_ns"] - found["start_ns"])[one].min())
    assert took["sora_10b"] / took["base"] == pytest.approx(0.40, abs=0.06)


def test_an_edit_takes_its_share_of_the_steps(results: dict[str, Results]) -> None:
    """17 of 28 steps, a text and a decode as for an image, and an encode of the decode's order."""
    rows = {name: np.asarray(each) for name, each in results["base"].arrays("requests").items()}
    took = {}
    for job in ("image", "edit"):
        mine = (rows["job"] == job) & (rows["outcome"] == "completed") & (rows["width"] == 1024)
        took[job] = int((rows["end_ns"] - rows["start_ns"])[mine].min())
    assert took["edit"] / took["image"] == pytest.approx(17 / 28, abs=0.01)
    animated = (rows["job"] == "animate") & (rows["outcome"] == "completed")
    assert animated.sum() > 300
    assert set(rows["artifact_bytes"][animated]) == {832 * 480 * 81 * 15 // 800}


def test_a_cameo_costs_attention_in_every_step(results: dict[str, Results]) -> None:
    """Of 46,800 patches and 14,400 of a cameo: matrices 1.31, attention 1.71 times as dear; and
    its encode."""
    rows = results["base"].arrays("requests")
    took = np.asarray(rows["end_ns"]) - np.asarray(rows["start_ns"])
    done = (rows["outcome"] == "completed") & (rows["frames"] == 97) & (rows["height"] == 1280)
    plain, shown = (int(took[done & (rows["job"] == job)].min()) for job in ("sora", "cameo"))
    assert 1.31 < shown / plain < 1.71
