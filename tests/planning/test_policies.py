"""Policies of kept content as they are written, and through whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scene import changed

from dcsim import spec
from dcsim.assembly import make_plan
from dcsim.engine import COLUMNS, EVICTIONS, ROUTERS
from dcsim.planning import simulate
from dcsim.spec import Eviction, Reuse, SpecError, load_parts, scenario_from_data
from dcsim.spec import reuse as written
from dcsim.spec.reuse import Watermarks

REUSE = "jobs.chat.keep.reuse"


def policies(reuse: dict[str, Any]) -> dict[str, int]:
    """The engine's row of the service of `chat`."""
    plan = make_plan(scenario_from_data(changed(REUSE, reuse, duration="10 s")))
    row = plan.tables["policies"][plan.services.index("chat")]
    return dict(zip(COLUMNS["policies"], row.tolist(), strict=True))


def test_the_words_are_the_engines() -> None:
    assert written.EVICTIONS == EVICTIONS
    assert spec.ROUTERS == ROUTERS


def test_one_word_or_one_a_tier() -> None:
    tiers = ("evict_dram", "evict_nand", "admit_dram", "admit_nand", "back", "exclusive")
    selective = {"write": "write_through_selective"}
    for reuse, row in (
        ({}, (0, 0, 1, 1, 0, 0)),
        ({"eviction": "lfu", "admission": 2}, (1, 1, 2, 2, 0, 0)),
        ({"eviction": {"nand": "fifo"}, "admission": {"dram": 3}}, (0, 2, 3, 1, 0, 0)),
        (selective, (0, 0, 1, 2, 0, 0)),
        (selective | {"admission": 3}, (0, 0, 3, 3, 0, 0)),
        ({"write": "write_back"}, (0, 0, 1, 1, 1, 0)),
        ({"write": "write_back", "exclusive": True}, (0, 0, 1, 1, 1, 1)),
    ):
        assert tuple(policies(reuse)[column] for column in tiers) == row


def test_onboarding_is_a_word_or_a_time() -> None:
    long = {"timeout": "1 s", "per_1024_tokens": "250 ms"}
    for onboarding, row in (
        ("wait_complete", (0, 0, 0)),
        ("best_effort", (1, 0, 0)),
        (long, (1, 10**9, 250 * 10**6)),
    ):
        got = policies({"onboarding": onboarding})
        assert (got["wait"], got["wait_base"], got["wait_ki"]) == row
    hicache = load_parts().reuse["hicache"].onboarding
    assert (hicache.timeout, hicache.per_1024_tokens) == (10**9, 250 * 10**6)


def test_watermarks_are_in_millionths() -> None:
    row = policies({"watermarks": {"dram": {"high": 0.9, "low": 0.85}}, "faster": True})
    assert [row[name] for name in ("high_dram", "low_dram", "high_nand", "low_nand")] == [
        900_000,
        850_000,
        0,
        0,
    ]
    assert row["faster"] == 1


def test_presets_are_parts_and_what_stands_beside_wins() -> None:
    reuse = load_parts().reuse
    assert set(reuse) >= {"vllm", "lmcache", "hicache", "kvbm", "mooncake"}
    assert reuse["mooncake"].watermarks.dram == Watermarks(0.90, 0.85)
    for short in ("kvbm", {"extends": "kvbm", "least": 100}):
        scenario = scenario_from_data(changed(REUSE, short, duration="10 s"))
        got = scenario.jobs["chat"].keep.reuse
        assert got is not None
        assert (got.admission.nand, got.admission.dram, got.name) == (2, 1, "kvbm")
        assert got.least == (0 if short == "kvbm" else 100)
    row = policies({"extends": "kvbm", "admission": {"nand": 3}})
    assert (row["admit_dram"], row["admit_nand"]) == (1, 3)


def test_each_figure_of_a_preset_has_its_source() -> None:
    plain = Reuse()
    for name, preset in load_parts().reuse.items():
        given = {k for k, v in vars(preset).items() if v != getattr(plain, k)}
        given -= {"name", "title", "sources"}
        assert given <= set(preset.sources), name
        assert set(preset.sources) <= set(vars(preset)), name


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    parts = "reuse: {mine: {extends: lmcache, eviction: lfu}}"
    (tmp_path / "parts.yaml").write_text(parts, encoding="utf-8")
    data = changed(REUSE, "mine", duration="10 s")
    data["topology"]["include"] = [str(tmp_path / "parts.yaml")]
    got = scenario_from_data(data).jobs["chat"].keep.reuse
    assert got is not None
    assert (got.block, got.eviction) == (256, Eviction("lfu", "lfu"))


@pytest.mark.parametrize(
    ("reuse", "message"),
    [
        ("kvmb", "keep.reuse: no 'kvmb' among the reuse of the catalogue; did you mean 'kvbm'"),
        ({"extends": 3}, "among the reuse of the catalogue"),
        (
            {"watermarks": {"dram": {"high": 0.5, "low": 0.6}}},
            "keep.reuse.watermarks.dram: low (0.6) is above high (0.5)",
        ),
        ({"watermarks": {"nand": {"high": 0.5}}}, "watermarks.nand.low: is required"),
        ({"eviction": "lfru"}, "keep.reuse.eviction: 'lfru' is not allowed; did you mean 'lru'"),
        ({"eviction": {"dram": "mru"}}, "keep.reuse.eviction.dram: 'mru' is not allowed"),
        ({"eviction": {"hmb": "lru"}}, "keep.reuse.eviction.hmb: unknown key"),
        ({"onboarding": "timeout"}, "keep.reuse.onboarding: 'timeout' is not allowed"),
        ({"onboarding": {}}, "keep.reuse.onboarding.timeout: is required"),
        ({"exclusive": True}, "keep.reuse: exclusive needs write: write_back"),
        ({"write": "back"}, "keep.reuse.write: 'back' is not allowed"),
        ({"admission": 0}, "keep.reuse.admission: 0 must be 1 or more"),
        (
            {"admission": {"nand": "2"}},
            "keep.reuse.admission.nand: '2' where a whole number is due",
        ),
    ],
)
def test_what_is_wrong_is_said(reuse: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        scenario_from_data(changed(REUSE, reuse))
    assert any(message in str(problem) for problem in caught.value.problems), caught.value.problems


def talk(**reuse: Any) -> dict[str, Any]:
    """Sessions whose context is used again, in tiers that hold a part of it."""
    return changed(
        "jobs.chat",
        {
            "model": "llama-3.1-8b",
            "replicas": 2,
            "arrivals": {"process": "poisson", "rate": "1/s"},
            "session": {"turns": 5, "think": "5 s", "system": {"tokens": 500, "count": 3}},
            "shape": {"prompt": 300, "output": 50},
            "keep": {"context": {"dram": "1 min", "nand": "5 min"}, "reuse": reuse},
        },
        duration="3 min",
    )


def test_what_is_never_asked_again_is_not_written() -> None:
    """With `admission` 2 NAND takes what a second turn has left; all else goes on as before."""
    taken = []
    for least in (1, 2):
        plan = make_plan(scenario_from_data(talk(admission={"nand": least})))
        out = simulate(plan, lifted=False).outputs
        nand = [plan.pools[pool].tier == "nand" for pool, *_ in out["accounts"].tolist()]
        cache = out["accounts"][:, 1] == 3
        taken.append(out["flow"][nand & cache, 0].sum())
    # a session's last turn is never asked again: of 5 turns a part of the last two is left out
    assert 0.5 * taken[0] < taken[1] < 0.9 * taken[0]
