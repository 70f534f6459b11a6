"""From YAML to resolved objects: defaults, composition, overrides, variants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spec_scenes import scene

from dcsim.spec import (
    Capacity,
    CapacityChange,
    Choice,
    ClipShape,
    Empirical,
    Failures,
    Fixed,
    FromLog,
    GammaArrivals,
    Keep,
    KeepTimes,
    Layout,
    LogNormal,
    Outage,
    Place,
    Poisson,
    Rate,
    Replay,
    Sampler,
    Scheduler,
    SpecError,
    TokenShape,
    Uniform,
    load_parts,
    load_scenario,
    load_topology,
    scenario_from_data,
)

SECOND = 10**9
HOUR = 3600 * SECOND


def test_what_is_written_is_what_is_meant() -> None:
    scenario = scenario_from_data(scene())
    assert (scenario.name, scenario.seed, scenario.duration) == ("scene", 0, HOUR)
    assert (scenario.bin, scenario.start_cold) == (60 * SECOND, False)
    assert list(scenario.jobs) == ["video", "chat"], "in the order of the file"
    video, chat = scenario.jobs["video"], scenario.jobs["chat"]
    assert video.arrivals == Poisson(Rate.flat(1 / 60))
    assert video.shape == ClipShape(Fixed((832, 480)), Fixed(49), Fixed(30))
    assert video.layout == Layout(1, 1, 1)
    assert video.scheduler == Scheduler(max_jobs=1, max_batched_tokens=None)
    assert video.keep == Keep(KeepTimes(60 * SECOND, HOUR), KeepTimes(), "local", False)
    assert chat.arrivals == GammaArrivals(Rate.flat(2.0), 2)
    assert chat.shape == TokenShape(LogNormal(500, 1, 1, 4096), Choice((10, 200), (3, 1)))
    assert chat.scheduler == Scheduler(max_jobs=256, max_batched_tokens=8192, prefill_chunk=2048)
    assert chat.keep == Keep(KeepTimes(), KeepTimes(0, 600 * SECOND), "shelf", False)
    assert chat.replicas is not None
    assert (chat.replicas.count, chat.replicas.on) == (2, ("rack0/node0",))


def test_all_forms_of_arrivals_and_distributions(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("x\n")
    data = scene()
    data["jobs"]["chat"]["arrivals"] = {
        "process": "replay",
        "log": str(log),
        "format": "azure",
        "speed": 2,
        "from": "1 min",
        "until": "2 min",
    }
    data["jobs"]["chat"]["shape"] = {
        "prompt": "from_log",
        "output": {"empirical": {"file": str(log), "column": "x"}},
    }
    data["jobs"]["video"]["arrivals"]["rate"] = {
        "piecewise": [["0 s", "1/s"], ["1 min", "3/s"]],
        "interpolate": "step",
        "repeat": "2 min",
    }
    data["jobs"]["video"]["shape"] = {
        "resolution": {"choice": {"832x480": 1, "1280x720": 2}},
        "steps": {"uniform": {"min": 10, "max": 50}},
    }
    jobs = scenario_from_data(data).jobs
    replay = Replay(log.resolve(), "azure", 2, 60 * SECOND, 120 * SECOND)
    assert jobs["chat"].arrivals == replay
    assert jobs["chat"].shape == TokenShape(FromLog(), Empirical(None, log.resolve(), "x"))
    rate = Rate((0, 60 * SECOND), (1, 3), "step", 120 * SECOND)
    assert jobs["video"].arrivals == Poisson(rate)
    size = Choice(((832, 480), (1280, 720)), (1, 2))
    assert jobs["video"].shape == ClipShape(size, Fixed(1), Uniform(10, 50))
    del data["jobs"]["chat"]["shape"]
    shape = scenario_from_data(data).jobs["chat"].shape
    assert shape == TokenShape(FromLog(), FromLog()), "a replayed job takes the log's"


def test_operations() -> None:
    data = scene()
    data["operations"] = [
        {"kind": "failures", "job": "chat", "mtbf": "1 d", "mttr": "1 h"},
        {"kind": "failures", "job": "chat", "script": [["1 min", 1, "5 min"]]},
        {
            "kind": "capacity",
            "script": [["5 min", "shelf", "0 B"], ["6 min", "rack0/node0/dram", "1 TB"]],
        },
        {"kind": "sampler", "every": "30 s"},
    ]
    assert scenario_from_data(data).operations == (
        Failures("chat", None, 24 * HOUR, HOUR),
        Failures("chat", script=(Outage(60 * SECOND, 1, 300 * SECOND),)),
        Capacity(
            (
                CapacityChange(300 * SECOND, "nand", "shelf", 0),
                CapacityChange(360 * SECOND, "dram", "rack0/node0", 10**12),
            )
        ),
        Sampler(30 * SECOND),
    )


def test_shared_replicas() -> None:
    data = scene()
    data["jobs"]["code"] = {
        "shares": "chat",
        "arrivals": {"process": "constant", "rate": "1/s"},
        "shape": {"prompt": 10, "output": 10},
        "keep": {"context": {"dram": "1 min"}},
    }
    code = scenario_from_data(data).jobs["code"]
    assert (code.shares, code.model, code.layout, code.replicas) == ("chat", None, None, None)
    assert code.scheduler is None
    assert code.keep.store == "shelf", "that of the job whose replicas it shares"


def test_a_job_extends_another() -> None:
    data = scene()
    data["jobs"]["long"] = {"extends": "chat", "shape": {"prompt": 9000}, "replicas": 1}
    long, chat = (scenario_from_data(data).jobs[name] for name in ("long", "chat"))
    assert long.shape == TokenShape(Fixed(9000), chat.shape.output)  # type: ignore[union-attr]
    assert (long.arrivals, long.keep, long.model) == (chat.arrivals, chat.keep, chat.model)
    assert long.replicas is not None
    assert long.replicas.count == 1


def test_explicit_places_and_names_of_racks() -> None:
    data = scene()
    data["topology"]["racks"]["rack0"]["count"] = 2
    data["topology"]["racks"]["big"] = "gb300-nvl72"
    data["jobs"]["video"]["layout"] = {"tp": 2}
    data["jobs"]["video"]["replicas"] = {"place": [{"domain": "rack0-1/node0", "gpus": [3, 1]}]}
    scenario = scenario_from_data(data)
    names = [domain.name for domain in scenario.topology.domains]
    assert names == ["rack0-0/node0", "rack0-1/node0", "big"]
    assert scenario.topology.racks == ("rack0-0", "rack0-1", "big")
    chat, video = scenario.jobs["chat"].replicas, scenario.jobs["video"].replicas
    assert chat is not None
    assert chat.on == ("rack0-0/node0", "rack0-1/node0"), "an entry stands for all its racks"
    assert video is not None
    assert video.place == (Place("rack0-1/node0", (3, 1)),)


# Composition and overrides


def dram(*overrides: str) -> int:
    return scenario_from_data(scene(), overrides=overrides).topology.dram


def test_overrides_reach_below_references() -> None:
    assert dram() == 2_048 * 10**9
    assert dram("topology.racks.rack0.dram=1TB") == 10**12
    assert dram("topology.racks.0.dram=1TB") == 10**12, "by position"
    assert dram("topology.racks.rack0.node.host.dram=3 TB") == 3 * 10**12
    assert dram("topology.racks.rack0.node.host=grace") == 480 * 10**9
    assert dram("topology.racks.rack0.node.hosts=2") == 4_096 * 10**9
    assert dram("topology.racks.rack0=gb300-nvl72", "jobs.chat.replicas.on=null") == 17_280 * 10**9


def test_later_overrides_win_and_null_takes_away() -> None:
    scenario = scenario_from_data(
        scene(),
        overrides=["seed=1", "seed=2", "jobs.video=null", "jobs.chat.shape.prompt=7"],
    )
    assert scenario.seed == 2
    assert list(scenario.jobs) == ["chat"]
    assert scenario.jobs["chat"].shape.prompt == Fixed(7)  # type: ignore[union-attr]


def test_a_topology_extends_a_shipped_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "extends: gb300_nvl72_context\n"
        "name: mine\n"
        "include: [parts.yaml]\n"
        "parts:\n"
        "  hosts: {grace: {dram: 960 GB}}\n"
        "racks:\n"
        "  rack0: {node: {gpu: big, ssds: 0}}\n"
        "shelves:\n"
        "  context: null\n"
    )
    (tmp_path / "parts.yaml").write_text("gpus: {big: {extends: gb300, hbm: 1 TB}}\n")
    topology = load_topology(file)
    (rack,) = topology.domains
    assert (topology.name, topology.shelves) == ("mine", ())
    assert (rack.hbm, rack.nand, rack.dram) == (72 * 10**12, 0, 36 * 960 * 10**9)
    assert rack.gpu.name == "big"
    assert topology.parts.gpus["big"].hbm == 10**12
    assert load_topology("gb300_nvl72").domains[0].dram == 36 * 480 * 10**9, "others stay"
    assert "big" in load_parts(tmp_path / "parts.yaml").gpus


def test_files_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    for folder in ("scenarios", "racks", "logs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "logs/log.csv").write_text("x\n")
    (tmp_path / "racks/mine.yaml").write_text("{name: mine, racks: {a: hgx-h100}}\n")
    data = scene()
    data["topology"] = "../racks/mine.yaml"
    del data["jobs"]["chat"]
    data["jobs"]["video"]["arrivals"] = {
        "process": "replay",
        "log": "../logs/log.csv",
        "format": "csv",
    }
    (tmp_path / "scenarios/base.yaml").write_text(json.dumps(data))
    (tmp_path / "top.yaml").write_text("extends: scenarios/base.yaml\nseed: 5\n")
    scenario = load_scenario(tmp_path / "top.yaml")
    assert scenario.seed == 5
    assert scenario.topology.name == "mine"
    arrivals = scenario.jobs["video"].arrivals
    assert isinstance(arrivals, Replay)
    assert arrivals.log == tmp_path / "logs/log.csv"


def test_variables_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = scene()
    data["jobs"]["chat"]["arrivals"] = {
        "process": "replay",
        "log": "${SOME_TRACES}/log.csv",
        "format": "csv",
    }
    monkeypatch.delenv("SOME_TRACES", raising=False)
    with pytest.raises(
        SpecError,
        match=r"jobs.chat.arrivals.log: the environment variable SOME_TRACES is not set; "
        r"set it, or give it with --set jobs.chat.arrivals.log=PATH",
    ):
        scenario_from_data(data)
    (tmp_path / "log.csv").write_text("x\n")
    monkeypatch.setenv("SOME_TRACES", str(tmp_path))
    arrivals = scenario_from_data(data).jobs["chat"].arrivals
    assert isinstance(arrivals, Replay)
    assert arrivals.log == tmp_path / "log.csv"


def test_variants() -> None:
    data = scene()
    data["what_if"] = {
        "half": {"topology.racks.rack0.dram": "1 TB"},
        "none": {"topology.shelves.shelf": None, "jobs.chat.keep.store": "local"},
    }
    base = scenario_from_data(data)
    assert base.what_if == data["what_if"]
    half = scenario_from_data(data, what_if="half")
    assert (base.topology.dram, half.topology.dram) == (2_048 * 10**9, 10**12)
    assert scenario_from_data(data, what_if="none").topology.shelves == ()
    both = scenario_from_data(data, overrides=["topology.racks.rack0.dram=3TB"], what_if="half")
    assert both.topology.dram == 10**12, "the variant comes last"


def test_resolved_input_is_complete() -> None:
    """Plain data that gives the same scenario again, catalogue or not."""
    scenario = scenario_from_data(scene(), overrides=["topology.racks.rack0.node.gpu.hbm=96 GB"])
    resolved: Any = json.loads(json.dumps(scenario.resolved))
    assert resolved["topology"]["racks"]["rack0"]["node"]["gpu"]["hbm"] == "96 GB"
    assert "extends" not in json.dumps(resolved)
    again = scenario_from_data(resolved)
    assert (again.topology, again.jobs) == (scenario.topology, scenario.jobs)
    assert again == scenario


def test_a_problem_found_later_is_placed(tmp_path: Path) -> None:
    file = tmp_path / "scene.yaml"
    file.write_text(json.dumps(scene(), indent=1))
    problem = load_scenario(file).problem("jobs.chat.model", "does not fit")
    line = file.read_text().splitlines()[(problem.line or 0) - 1]
    assert "llama-3.1-8b" in line
    assert str(problem) == f"{file}:{problem.line}:13: jobs.chat.model: does not fit"
    overridden = load_scenario(file, overrides=["jobs.chat.model=x"])
    assert str(overridden.problem("jobs.chat.model", "no")) == "jobs.chat.model: no"
