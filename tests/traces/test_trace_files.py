"""A trace file as a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scene import changed, scene

from dcsim import planning, traces
from dcsim.assembly import make_plan
from dcsim.models import ModelError
from dcsim.spec import Layout, SpecError, scenario_from_data
from dcsim.traces import Clip, Turn

CLIP = Clip(256, 256, 1, 50)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`image.npz` and `chat.npz`, what the scene serves, in the working directory."""
    monkeypatch.chdir(tmp_path)
    traces.save(traces.trace("dit-xl-2", None, CLIP), "image.npz")
    traces.save(traces.trace("llama-3.1-8b", None, Turn(9, 9, 2048)), "chat.npz")


def test_a_file_stands_for_what_it_was_traced_of() -> None:
    found = traces.trace("image.npz")
    assert found == traces.trace("dit-xl-2", None, CLIP)
    assert traces.trace("image.npz", {"dtype": "bf16"}, CLIP, Layout()) == found
    for steps in (1, 2, 80):
        shape = replace(CLIP, steps=steps)
        assert traces.trace("image.npz", None, shape) == traces.trace("dit-xl-2", None, shape)
    chat = traces.trace("chat.npz", None, Turn(700, 30, 2048))
    assert chat == traces.trace("llama-3.1-8b", None, Turn(700, 30, 2048))


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        (({"dtyp": "bf16"}, CLIP, None), ["options.dtyp"]),
        (({"dtype": "fp32"}, CLIP, None), ["options.dtype"]),
        (({}, Clip(512, 256, 1, 50), Layout(2)), ["layout.tp", "shape.width"]),
        (({}, Turn(3, 4), None), ["shape"]),
    ],
)
def test_what_a_file_does_not_know_is_refused(given: tuple[Any, ...], paths: list[str]) -> None:
    with pytest.raises(ModelError) as error:
        traces.trace("image.npz", *given)
    assert [path for path, _ in error.value.problems] == paths


def run(data: dict[str, Any]) -> Any:
    return planning.run(make_plan(scenario_from_data(data)))


def test_a_run_with_files_is_the_run_with_the_models() -> None:
    files = scene(duration="1 min")
    files["jobs"]["chat"]["model"] = "chat.npz"
    files["jobs"]["image"]["model"] = "image.npz"
    plain = make_plan(scenario_from_data(scene(duration="1 min")))
    filed = make_plan(scenario_from_data(files))
    for table in plain.tables:
        assert plain.tables[table].tolist() == filed.tables[table].tolist(), table
    del files["jobs"]["image"]["shape"]  # as traced
    bare = make_plan(scenario_from_data(files))
    assert bare.requests.shapes[1] == (CLIP,)
    assert bare.requests.arrival.tolist() == plain.requests.arrival.tolist()


def test_problems_of_a_job_with_a_file_have_a_place() -> None:
    def problems(data: dict[str, Any]) -> list[str]:
        with pytest.raises(SpecError) as error:
            make_plan(scenario_from_data(data))
        return [f"{p.path}: {p.message}" for p in error.value.problems]

    data = changed("jobs.image.model", "none.npz")
    del data["jobs"]["image"]["shape"]
    assert problems(data) == ["jobs.image.model: none.npz: No such file or directory"]
    Path("text.npz").write_text("no trace")
    [said] = problems(changed("jobs.image.model", "text.npz"))
    assert said.startswith("jobs.image.model: text.npz is not a memory trace")
    data = changed("jobs.image.model", "chat.npz")
    del data["jobs"]["image"]["shape"]
    assert problems(data) == ["jobs.image.shape: chat.npz takes prompt, output"]
    data = changed("jobs.image.model", "dit-xl-2")
    del data["jobs"]["image"]["shape"]
    with pytest.raises(SpecError, match="needs shape"):
        scenario_from_data(data)


def test_the_hash_of_a_run_covers_the_file() -> None:
    data = changed("jobs.image.model", "image.npz", duration="20 s")
    one = run(data).manifest["hash"]
    assert run(data).manifest["hash"] == one
    traces.save(traces.trace("dit-xl-2", {"embedders": "block"}, CLIP), "image.npz")
    assert run(data).manifest["hash"] != one
