"""Bad input: everything wrong at once, each with its place, its value and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_scenes import scene

from dcsim.spec import SpecError, check_file, load_scenario, load_topology, scenario_from_data

Change = Callable[[dict[str, Any]], object]


def set_at(path: str, value: object) -> Change:
    def change(data: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for step in parents:
            data = data[step]
        data[last] = value

    return change


NAN = float("nan")
REPLAY = {"process": "replay", "log": __file__, "format": "csv"}

CASES: list[tuple[Change, str]] = [
    (set_at("seeed", 1), "seeed: unknown key; did you mean 'seed'?"),
    (set_at("seed", -1), "seed: -1 must be 0 or more"),
    (set_at("seed", "x"), "seed: 'x' where a whole number is due"),
    (set_at("duration", 3600), "duration: 3600 is a bare number"),
    (set_at("duration", "0 s"), "duration: '0 s' must be more than 0"),
    (set_at("bin", "2 h"), "bin: is longer than the duration"),
    (set_at("bin", "1 us"), "bin: makes 3600000000 bins"),
    (set_at("jobs", {}), "jobs: needs at least 1"),
    (set_at("jobs", [1]), "jobs: a list where a mapping is due"),
    (set_at("topology", 5), "topology: 5 where a mapping is due"),
    (set_at("topology", "hgx_h10"), "topology: no shipped topology 'hgx_h10'"),
    (set_at("topology", "x.yaml"), "x.yaml: cannot be read: No such file"),
    (set_at("topology.racks", {}), "topology.racks: needs at least one rack"),
    (set_at("topology.racks.rack0.node", "hgx"), "no 'hgx' among the nodes of the catalogue"),
    (set_at("topology.racks.rack0.node", {"gpu": "h10O"}), "did you mean 'h100'?"),
    (set_at("topology.racks.rack0.dram", "1 TBB"), "rack0.dram: '1 TBB': the unit 'TBB'"),
    (set_at("topology.racks.rack0.count", 10**9), "1000000000 x 1 nodes are over 1000000"),
    (set_at("topology.shelves.local", "bluefield-4-context"), "give the shelf another name"),
    (set_at("topology.shelves.shelf.serves", ["rack7"]), "no rack 'rack7'; did you mean 'rack0'"),
    (set_at("topology.shelves.shelf.pod_gpus", 4), "4 is less than the 8 GPUs"),
    (set_at("topology.include", ["none.yaml"]), "none.yaml: cannot be read"),
    (set_at("topology.parts", {"gpu": {}}), "unknown kind of parts; did you mean 'gpus'?"),
    (set_at("jobs.a b", scene()["jobs"]["video"]), "a name has letters, digits"),
    (set_at("jobs.chat.model", 5), "jobs.chat.model: 5 where text is due"),
    (set_at("jobs.chat.replicas", 0), "jobs.chat.replicas: 0 must be 1 or more"),
    (set_at("jobs.chat.replicas", True), "jobs.chat.replicas: true where a whole number is due"),
    (set_at("jobs.chat.replicas.on", ["rock0"]), "did you mean 'rack0'?"),
    (set_at("jobs.chat.replicas.place", []), "jobs.chat.replicas.place: needs at least 1"),
    (set_at("jobs.chat.replicas", {"on": ["rack0"]}), "count or place is required"),
    (set_at("jobs.chat.layout", {"tp": 16}), "takes 16 GPUs a replica; the largest domain"),
    (set_at("jobs.video.replicas", 7), "all replicas together take 9 GPUs; the topology has 8"),
    (set_at("jobs.chat.arrivals", {"rate": "1/s"}), "jobs.chat.arrivals: process is required"),
    (
        set_at("jobs.chat.arrivals.process", "poison"),
        "process: 'poison' is not known; did you mean 'poisson'",
    ),
    (
        set_at("jobs.chat.arrivals.rate", "-1/s"),
        "jobs.chat.arrivals.rate: '-1/s' must be 0 or more",
    ),
    (set_at("jobs.chat.arrivals.rate", NAN), "jobs.chat.arrivals.rate: nan is a bare number"),
    (set_at("jobs.chat.arrivals.cv", NAN), "jobs.chat.arrivals.cv: nan is not a finite number"),
    (set_at("jobs.chat.arrivals.cv", 0), "jobs.chat.arrivals.cv: 0 must be more than 0"),
    (
        set_at("jobs.chat.arrivals.rate", {}),
        "a rate takes one of diurnal, piecewise; none is given",
    ),
    (
        set_at("jobs.chat.arrivals.rate", {"piecewise": [["1 s", "1/s"]]}),
        "the first point of piecewise must be at 0 s",
    ),
    (
        set_at("jobs.chat.arrivals.rate", {"piecewise": [["0 s", "1/s"], ["0 s", "2/s"]]}),
        "the times of piecewise must ascend",
    ),
    (
        set_at("jobs.chat.arrivals.rate", {"piecewise": [["0 s", "1/s"]], "repeat": "0 s"}),
        "jobs.chat.arrivals.rate.repeat: '0 s' must be more than 0",
    ),
    (
        set_at(
            "jobs.chat.arrivals.rate",
            {"diurnal": {"mean": "1/s", "peak_to_mean": 0.5, "peak_at": "1 h"}},
        ),
        "jobs.chat.arrivals.rate.diurnal.peak_to_mean: 0.5 must be 1",
    ),
    (set_at("jobs.chat.arrivals", {**REPLAY, "log": "nowhere"}), "no such file"),
    (set_at("jobs.chat.arrivals", {**REPLAY, "from": "2 s", "until": "1 s"}), "must be after from"),
    (set_at("jobs.chat.shape.prompt", "from_log"), "from_log needs arrivals with process: replay"),
    (set_at("jobs.chat.shape.prompt", "5 tokens"), "'5 tokens' is no whole number, nor from_log"),
    (set_at("jobs.chat.shape.prompt", 0), "jobs.chat.shape.prompt: 0 must be 1 or more"),
    (set_at("jobs.chat.shape.prompt", {"choice": {"a": 1}}), "'a' in choice is no whole number"),
    (
        set_at("jobs.chat.shape.prompt", {"uniform": {"min": 2, "max": 1}}),
        "min 2 is more than max 1",
    ),
    (
        set_at("jobs.chat.shape.prompt", {"empirical": {"file": "x.csv"}}),
        "file and column go together",
    ),
    (set_at("jobs.chat.shape.steps", 5), "do not go together"),
    (set_at("jobs.chat.shape", {"prompt": 5}), "jobs.chat.shape: needs output"),
    (set_at("jobs.chat.shape", None), "jobs.chat: needs shape"),
    (set_at("jobs.video.shape.resolution", "720p"), "'720p' is no resolution: width x height"),
    (
        set_at("jobs.chat.scheduler", {"prefill_chunk": 9000}),
        "9000 is more than max_batched_tokens, 8192",
    ),
    (
        set_at("jobs.chat.scheduler", {"router": "random"}),
        "'random' is not allowed; known: least_loaded",
    ),
    (set_at("jobs.chat.keep.context.dram", "-1 s"), "'-1 s' must be 0 or more"),
    (set_at("jobs.chat.keep.store", "shlf"), "no shelf 'shlf'; did you mean 'shelf'?"),
    (set_at("jobs.chat.keep.artifact", {"dram": "1 s"}), "an LLM job leaves no artifact"),
    (
        set_at("topology.racks.rack0.node", {"extends": "hgx-h100", "ssds": 0}),
        "no node has local drives; name a shelf",
    ),
    (set_at("operations", [{"kind": "capcity"}]), "did you mean 'capacity'?"),
    (set_at("operations", [{"kind": "failures", "job": "chat"}]), "mtbf and mttr are required"),
    (
        set_at("operations", [{"kind": "failures", "job": "chat", "mtbf": "1 d"}]),
        "mtbf and mttr are required, or a script",
    ),
    (
        set_at(
            "operations",
            [{"kind": "failures", "job": "chat", "mtbf": "1 d", "script": [["1 s", 0, "1 s"]]}],
        ),
        "script stands alone",
    ),
    (
        set_at("operations", [{"kind": "failures", "job": "x", "mtbf": "1 d", "mttr": "1 h"}]),
        "operations.0.job: no job 'x'; known: video, chat",
    ),
    (
        set_at("operations", [{"kind": "failures", "job": "chat", "script": [["1 s", 2, "1 s"]]}]),
        "operations.0.script.0.1: no replica 2 of 'chat': it has 2, from 0",
    ),
    (
        set_at("operations", [{"kind": "capacity", "script": [["1 s", "rack0/dram", "0 B"]]}]),
        "no pool 'rack0/dram'; did you mean 'rack0/node0/dram'?",
    ),
    (
        set_at("what_if", {"a": {"jobs.caht.replicas": 1}}),
        "no 'caht' in jobs; did you mean 'chat'?",
    ),
    (set_at("what_if", {"a": {"bin": 5}}), "what_if.a: bin: 5 is a bare number"),
    (set_at("what_if", {"a": {"name.x": 5}}), "holds a single value here"),
    (set_at("what_if", {"a": {"": 5}}), "is no dotted path"),
    (set_at("what_if", {"a": 5}), "what_if.a: 5 where a mapping is due"),
]


@pytest.mark.parametrize(("change", "message"), CASES, ids=[message[:50] for _, message in CASES])
def test_each_mistake_is_named(change: Change, message: str) -> None:
    data = scene()
    change(data)
    with pytest.raises(SpecError) as caught:
        scenario_from_data(data)
    assert message in str(caught.value)


def test_shares_must_make_sense() -> None:
    data = scene()
    job = {"arrivals": {"process": "poisson", "rate": "1/s"}, "shape": {"prompt": 1, "output": 1}}
    data["jobs"] |= {
        "a": {"shares": "cat", **job},
        "b": {"shares": "b", **job},
        "c": {"shares": "d", **job},
        "d": {"shares": "chat", **job, "keep": {"store": "local"}},
        "e": {"shares": "video", **job},
        "f": {"shares": "chat", **job, "keep": {"weights_in_dram": True}},
    }
    with pytest.raises(SpecError) as caught:
        scenario_from_data(data)
    assert [str(problem) for problem in caught.value.problems] == [
        "jobs.a.shares: no job 'cat'; did you mean 'chat'? (known: video, chat, b, c, d, e, f)",
        "jobs.b.shares: a job cannot share its own replicas",
        "jobs.c.shares: 'd' has no replicas of its own; share 'chat'",
        "jobs.d.keep.store: must be that of 'chat': 'shelf'",
        "jobs.e.shares: one is a diffusion job and the other an LLM's: e, video",
        "jobs.f.keep.weights_in_dram: is for 'chat' to say",
    ]
    with pytest.raises(SpecError, match="with shares, model come from the job 'chat'"):
        scenario_from_data(
            {**data, "jobs": {**scene()["jobs"], "g": {"shares": "chat", "model": "x", **job}}}
        )


def test_placements_must_not_overlap() -> None:
    data = scene()
    places = [("rack0/node0", [0, 1]), ("rack0/node0", [1, 2]), ("rack0/node0", [7, 8])]
    places += [("rack0/node0", [3, 3]), ("rack0", [4, 5]), ("rack0/node0", [6])]
    data["jobs"]["video"]["layout"] = {"sp": 2}
    data["jobs"]["video"]["replicas"] = {
        "place": [{"domain": domain, "gpus": gpus} for domain, gpus in places]
    }
    with pytest.raises(SpecError) as caught:
        scenario_from_data(data)
    text = str(caught.value)
    for message in (
        "place.1.gpus: GPU 1 of rack0/node0 is already given to replica 0 of video",
        "place.2.gpus: no GPU 8 of rack0/node0: it has 8, from 0",
        "place.3.gpus: GPU 3 of rack0/node0 is named 2 times",
        "place.4.domain: no domain 'rack0'; did you mean 'rack0/node0'?",
        "place.5.gpus: 1 GPUs, but the layout takes 2",
    ):
        assert message in text


def test_rack_names_must_differ() -> None:
    data = scene()
    data["topology"]["racks"] = {"r": {"extends": "hgx-h100", "count": 2}, "r1": "hgx-h100"}
    with pytest.raises(SpecError, match=r"the rack 'r1' is also one of racks.r"):
        scenario_from_data(data)


def test_all_at_once_in_file_order(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: bad\n"
        "duration: 2\n"
        "topology:\n"
        "  name: x\n"
        "  racks:\n"
        "    a: {extends: hgx-h100, node: {gpu: {extends: h1000, hbm: 80}}}\n"
        "    b: gb300-nvl27\n"
        "jobs:\n"
        "  chat:\n"
        "    modle: llama-3.1-8b\n"
        "    replicas: -1\n"
        "    arrivals: {process: gamma, rate: -5/s, cv: .nan}\n"
        "    shape: {prompt: 5, output: 5}\n"
        "what_if: {}\n"
    )
    found = [str(problem).removeprefix(f"{file}:") for problem in check_file(file)]
    starts = [
        "2:11: duration: 2 is a bare number",
        "6:50: topology.racks.a.node.gpu.extends: no 'h1000' among the gpus",
        "6:62: topology.racks.a.node.gpu.hbm: 80 is a bare number",
        "7:8: topology.racks.b: no 'gb300-nvl27' among the racks of the catalogue; did you mean",
        "10:5: jobs.chat.modle: unknown key; did you mean 'model'?",
        "11:15: jobs.chat.replicas: -1 must be 1 or more",
        "12:38: jobs.chat.arrivals.rate: '-5/s' must be 0 or more",
        "12:48: jobs.chat.arrivals.cv: nan is not a finite number",
    ]
    assert len(found) == len(starts), found
    for line, start in zip(found, starts, strict=True):
        assert line.startswith(start)


def test_problems_of_parts_are_placed_in_their_file(tmp_path: Path) -> None:
    parts = tmp_path / "parts.yaml"
    parts.write_text(
        "gpus:\n  mine: {extends: h100, hbm: 80, hbmm: 1}\n  other: {extends: other}\n"
    )
    topology = tmp_path / "t.yaml"
    topology.write_text("name: t\ninclude: [parts.yaml]\nracks: {r: hgx-h100}\n")
    for found in (check_file(parts), check_file(topology)):
        assert [str(problem).removeprefix(str(parts)) for problem in found] == [
            ":2:30: gpus.mine.hbm: 80 is a bare number: a size with its unit is due, such as "
            "'80 GB' (units: B, kB, MB, GB, TB, PB; KiB, MiB, GiB, TiB; Gb (bits))",
            ":2:34: gpus.mine.hbmm: unknown key; did you mean 'hbm'? (known: title, sources, "
            "power, price, hbm, hbm_bandwidth, flops, scale_up, host_link, efficiency, launch, "
            "host, step, collective, profiles)",
            ":3:20: gpus.other.extends: parts extend each other: other -> other",
        ]


def test_files_that_extend_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{extends: b.yaml, racks: {}}")
    (tmp_path / "b.yaml").write_text("{extends: a.yaml, racks: {}}")
    with pytest.raises(SpecError, match=r"files extend each other: b.yaml -> a.yaml -> b.yaml"):
        load_topology(tmp_path / "a.yaml")


def test_a_node_with_drives_but_no_kind_of_drive() -> None:
    data = scene()
    data["topology"]["racks"]["rack0"]["node"] = {"extends": "hgx-h100", "ssd": None}
    with pytest.raises(SpecError, match="ssds is 8 but no ssd is named"):
        scenario_from_data(data)


def test_overrides_that_cannot_be() -> None:
    for override, message in [
        ("seed", "seed: an override is written dotted.path=value"),
        ("bin=[", "bin: is not YAML"),
        ("jobs.chat.arrivals.rate.x.y=1", "rate holds a single value here"),
        ("jobs.cat.model=x", "jobs.cat.model: no 'cat' in jobs; did you mean 'chat'?"),
        ("jobs.cat=null", "jobs.cat: no 'cat' in jobs"),
        ("operations.3.kind=x", "'3' is no position in a list of 1"),
        ("operations.².kind=x", "'²' is no position in a list of 1"),
        ("seed=1.5", "seed: 1.5 where a whole number is due"),
    ]:
        data = {**scene(), "operations": [{"kind": "sampler", "every": "1 s"}]}
        with pytest.raises(SpecError) as caught:
            scenario_from_data(data, overrides=[override])
        assert message in str(caught.value)
    with pytest.raises(SpecError, match=r"no what_if 'x'; none is defined"):
        scenario_from_data(scene(), what_if="x")


def test_a_variant_is_placed_where_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "scene.yaml"
    data = {**scene(), "what_if": {"bad": {"jobs.chat.replicas.count": 100}}}
    file.write_text(json.dumps(data, indent=1))
    with pytest.raises(SpecError, match=r"all replicas together take 102 GPUs") as caught:
        load_scenario(file)
    (problem,) = caught.value.problems
    assert problem.path == "what_if.bad: jobs"
    assert problem.file == file


def test_check_knows_what_a_file_is(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    for text, start in [
        ("foo: 1", "is no scenario (jobs), topology (racks) or parts file"),
        ("[1]", "is no scenario"),
        ("extends: hgx_h100", None),
        ("{extends: hgx_h100, what_if: {}}", "extends: no shipped scenario 'hgx_h100'"),
        ("extends: quickstart", None),
        ("{extends: quickstart, jobs: {chat: {replicas: 3}}}", None),
        ("{extends: quickstrat, seed: 1}", "did you mean 'quickstart'"),
        ("ssds: {x: kioxia-lc9-123tb}", None),
    ]:
        file.write_text(text)
        found = check_file(file)
        assert (start is None) == (found == []), found
        if start is not None:
            assert any(start in str(problem) for problem in found)
    assert "cannot be read" in str(check_file(tmp_path / "none.yaml")[0])


junk = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
things = st.recursive(
    junk, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=5), t, max_size=3)
)


def _paths(data: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path] if path else []
    if isinstance(data, dict):
        for key, value in data.items():
            found += _paths(value, (*path, key))
    return found


@given(st.sampled_from(_paths(scene())), things)
def test_no_junk_gets_past_the_error(path: tuple[str, ...], value: Any) -> None:
    """Whatever stands anywhere: a scenario or a SpecError, never another exception."""
    data = scene()
    set_at(".".join(path), value)(data)
    with suppress(SpecError):
        scenario_from_data(data)


def test_a_missing_topology_hides_nothing_else(tmp_path: Path) -> None:
    """A newcomer's mistakes: the name of the topology was the only one told."""
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: bad\nduration: 90\ntopology: hgx_h1000\njobs:\n  chat:\n    model: m\n"
        "    replicas: 2\n    arivals: {process: poisson, rate: 2/s}\n    shape: {prompt: 1}\n",
        encoding="utf-8",
    )
    with pytest.raises(SpecError) as caught:
        load_scenario(file)
    found = [(p.line, p.path) for p in caught.value.problems]
    assert (2, "duration") in found
    assert (3, "topology") in found
    assert (8, "jobs.chat.arivals") in found


ROUND = """\
extends: nowhere.yaml
name: bad
duration: 90
topology:
  extends: hgx_h1000
  racks:
    rack0: {dram: 2 tb}
jobs:
  chat:
    extends: chta
    replicas: 0
    shares: nobody
  clips:
    model: dit-xl-2
    replicas: {count: 1, on: [rack9]}
    arrivals: {process: poisson, rate: 2}
    shape: {resolution: 512x512, steps: 5, fps: 3}
    keep: {store: nix}
operations:
  - {kind: failures, job: clips, mtbf: 5, mttr: 1 h}
  - {kind: failures, job: clops, mtbf: 1 d, mttr: 1 h}
"""


def of_round(tmp_path: Path, text: str) -> list[tuple[int | None, str]]:
    file = tmp_path / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    return [(problem.line, problem.path) for problem in check_file(file)]


def test_a_failed_extends_hides_no_other_problem(tmp_path: Path) -> None:
    """What is missing, or not known by name, may be in the file that is not there."""
    assert of_round(tmp_path, ROUND) == [
        (1, "extends"),
        (3, "duration"),
        (5, "topology"),
        (7, "topology.racks.rack0.dram"),
        (11, "jobs.chat.replicas"),
        (16, "jobs.clips.arrivals.rate"),
        (17, "jobs.clips.shape.fps"),
        (20, "operations.0.mtbf"),
    ]


def test_fields_and_references_are_checked_in_one_round(tmp_path: Path) -> None:
    text = "\n" + ROUND.partition("\n")[2]
    fields = [(11, "jobs.chat.replicas"), (16, "jobs.clips.arrivals.rate")]
    fields += [(17, "jobs.clips.shape.fps"), (20, "operations.0.mtbf")]
    names = [(10, "jobs.chat.extends"), (12, "jobs.chat.shares"), (21, "operations.1.job")]
    head = [(3, "duration"), (5, "topology"), (7, "topology.racks.rack0.dram")]
    assert of_round(tmp_path, text) == sorted([*head, *fields, *names])
    # With racks that can be read, what refers to them is checked too.
    text = text.replace("hgx_h1000", "hgx_h100").replace("2 tb", "2 TB")
    racks = [(15, "jobs.clips.replicas.on.0"), (18, "jobs.clips.keep.store")]
    assert of_round(tmp_path, text) == sorted([head[0], *fields, *names, *racks])
