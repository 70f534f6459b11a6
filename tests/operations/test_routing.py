"""Functions of the caller's as routers: by name, in both passes, with the laws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from scene import changed, scene

import dcsim
from dcsim.assembly import Plan, make_plan
from dcsim.operations import Arriving, Candidate, DataCenter
from dcsim.planning import run, simulate
from dcsim.spec import scenario_from_data
from dcsim.testing import check_all


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(scenario_from_data(changed("jobs.chat.replicas", 3)))


def least_loaded(request: Arriving, candidates: Sequence[Candidate]) -> str:
    return min(candidates, key=lambda each: each.requests).replica


def short_prompts_apart(request: Arriving, candidates: Sequence[Candidate]) -> str:
    """Prompts of 500 tokens or less to the last replica, the others to the rest."""
    mine = candidates[-1:] if request.prompt <= 500 else candidates[:-1]
    return min(mine, key=lambda each: each.prompt_tokens).replica


def tables(folder: Path) -> dict[str, bytes]:
    """All that a run writes but the two files that have wall times."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_what_is_built_in_written_by_a_user(plan: Plan, tmp_path: Path) -> None:
    run(plan).write(tmp_path / "own")
    run(plan, routers={"chat": least_loaded, "image": least_loaded}).write(tmp_path / "mine")
    assert tables(tmp_path / "own") == tables(tmp_path / "mine")
    assert len(tables(tmp_path / "own")) > 5


def test_a_rule_of_ones_own(plan: Plan) -> None:
    results = run(plan, routers={"chat": short_prompts_apart})
    check_all(results)
    rows = results.arrays("requests")
    chat = rows["job"] == "chat"
    short = rows["prompt_tokens"][chat] <= 500
    assert 100 < short.sum() < chat.sum() - 100
    assert ((rows["replica"][chat] == "chat/2") == short).all()


def test_what_it_sees(plan: Plan) -> None:
    seen: list[tuple[Arriving, list[Candidate]]] = []

    def watch(request: Arriving, candidates: Sequence[Candidate]) -> str:
        seen.append((request, list(candidates)))
        return candidates[0].replica

    simulate(plan, routers={"image": watch})
    assert len(seen) == (plan.requests.klass == plan.classes.index("image")).sum() > 300
    request, candidates = seen[0]
    assert (request.job, request.prompt, request.output, request.before) == ("image", 0, 0, None)
    assert candidates == [Candidate("image/0", 0, 0, 0.0)]
    assert [each[0].time for each in seen] == sorted(each[0].time for each in seen)


def test_turns_know_where_the_one_before_was() -> None:
    session = {"turns": 3, "think": "2 s"}
    plan = make_plan(scenario_from_data(changed("jobs.chat.session", session)))
    before: list[str | None] = []

    def back(request: Arriving, candidates: Sequence[Candidate]) -> str:
        before.append(request.before)
        return request.before or candidates[-1].replica

    simulate(plan, routers={"chat": back})
    assert set(before) == {None, "chat/1"}


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (lambda *_: "chat/7", ValueError, "gave 'chat/7', which is no candidate; did you mean"),
        (lambda *_: None, ValueError, "gave None, which is no candidate"),
        (lambda request, _: request.nothing, AttributeError, "nothing"),
    ],
)
def test_an_error_ends_the_run(plan: Plan, answer: object, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        run(plan, routers={"chat": answer})  # type: ignore[dict-item]


def test_a_service_that_there_is_not(plan: Plan) -> None:
    with pytest.raises(LookupError, match="no service 'chta': did you mean 'chat'"):
        DataCenter(plan, routers={"chta": least_loaded})


def test_variants_too(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(scene(what_if={"more": {"jobs.chat.replicas": 4}})))
    found = dcsim.compare(dcsim.variants(file), routers={"chat": lambda _, all_: all_[-1].replica})
    for name, last in (("base", "chat/1"), ("more", "chat/3")):
        rows = found[name].arrays("requests")
        assert set(rows["replica"][rows["job"] == "chat"]) <= {last, None}
