"""The paths that overrides take: each is taken, and has the value that it says."""

from __future__ import annotations

import pytest
from spec_scenes import scene

import dcsim
from dcsim.spec import Layout, Setting, paths, scenario_from_data


def test_settings_have_value_and_meaning() -> None:
    found = {each.path: each for each in paths(scenario_from_data(scene()))}
    assert found["seed"] == Setting("seed", "0", "Seed of all random streams.")
    gpu = "topology.racks.rack0.node.gpu"
    assert found[gpu].value == "h100", "a part is known by its name"
    assert found[f"{gpu}.hbm"].value == "81559 MiB", "though the file names only the rack"
    assert found["bin"].value == "1 min", "a default, as one would write it"
    assert found["jobs.chat.shape.prompt.lognormal.max"].value == "4096"
    assert found["jobs.chat.keep.context.dram"].value == "0 s", "a mapping that is not there"
    assert found["jobs.video.arrivals.process"].meaning == "Exponential gaps."
    assert "jobs.video.shape.prompt" not in found, "a diffusion model's"
    assert "topology.racks.rack0.part" not in found, "what composition left"
    assert "topology.racks.rack0.node.dpu.bandwidth" not in found, "no such part"
    assert all(each.meaning for each in found.values())


def test_what_a_sharing_job_does_not_have_is_there_to_be_set() -> None:
    data = scene()
    job = {"arrivals": {"process": "constant", "rate": "1/s"}, "shape": {"prompt": 1, "output": 1}}
    data["jobs"]["code"] = {"shares": "chat", **job}
    found = {each.path: each.value for each in paths(scenario_from_data(data), "jobs.code")}
    assert found["jobs.code.shares"] == "chat"
    assert found["jobs.code.replicas.count"] == ""


def test_a_profile_that_a_named_part_brings_is_there_to_be_set() -> None:
    gpu = "topology.racks.rack0.node.gpu"
    path = f"{gpu}.profiles.eager.efficiency.dense"
    changed = scenario_from_data(scene(), overrides=[f"{path}=0.25"])
    assert {each.path: each.value for each in paths(changed)}[path] == "0.25"


def test_patterns() -> None:
    scenario = scenario_from_data(scene())
    assert [each.path for each in paths(scenario, "*.gpu.hbm")] == [
        "topology.racks.rack0.node.gpu.hbm"
    ]
    assert {each.path for each in paths(scenario, "chat.lay")} == {
        f"jobs.chat.layout.{axis}" for axis in vars(Layout())
    }
    assert paths(scenario, "hmb") == []
    assert dcsim.paths is paths


@pytest.mark.slow
def test_every_path_is_taken_and_its_value_is_the_one_now() -> None:
    data = scene() | {
        "operations": [
            {"kind": "sampler", "every": "1 min"},
            {"kind": "failures", "job": "chat", "mtbf": "1 d", "mttr": "1 h"},
        ]
    }
    scenario = scenario_from_data(data)
    found = paths(scenario)
    for each in found:
        if each.path.startswith(("what_if", "topology.parts", "topology.include")):
            continue  # they act before: what they bring is in place
        there = scenario.tree is not None and scenario.tree.at(*each.path.split("."))
        value = each.value if there else "null"  # what is not there has a default, at most
        same = scenario_from_data(data, overrides=[f"{each.path}={value}"])
        if not any(other.path.startswith(f"{each.path}.") for other in found):
            assert same.topology == scenario.topology, each
        assert same.jobs == scenario.jobs, each
        assert same.operations == scenario.operations, each
