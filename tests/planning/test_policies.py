"""Policies of kept content as they are written, and through whole runs."""

from __future__ import annotations

from typing import Any

import pytest
from scene import changed

from dcsim.assembly import make_plan
from dcsim.engine import COLUMNS, EVICTIONS
from dcsim.planning import simulate
from dcsim.spec import SpecError, scenario_from_data
from dcsim.spec import reuse as written

REUSE = "jobs.chat.keep.reuse"


def policies(reuse: dict[str, Any]) -> dict[str, int]:
    """The engine's row of the service of `chat`."""
    plan = make_plan(scenario_from_data(changed(REUSE, reuse, duration="10 s")))
    row = plan.tables["policies"][plan.services.index("chat")]
    return dict(zip(COLUMNS["policies"], row.tolist(), strict=True))


def test_the_words_are_the_engines() -> None:
    assert written.EVICTIONS == EVICTIONS


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


@pytest.mark.parametrize(
    ("reuse", "message"),
    [
        ({"eviction": "lfru"}, "keep.reuse.eviction: 'lfru' is not allowed; did you mean 'lru'"),
        ({"eviction": {"dram": "mru"}}, "keep.reuse.eviction.dram: 'mru' is not allowed"),
        ({"eviction": {"hmb": "lru"}}, "keep.reuse.eviction.hmb: unknown key"),
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
