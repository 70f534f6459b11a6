"""The commands that run nothing: check, show, schema, info, trace, help."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_scenes import Dcsim, files_below, write_scene

from dcsim.spec.compose import shipped
from dcsim.traces.files import load

COMMANDS = ("run", "compare", "check", "show", "schema", "info", "trace", "hitrate", "kv", "bench")
TOPOLOGIES = sorted(shipped("topologies").glob("*.yaml"))
PARTS = sorted(shipped("topologies").glob("parts/*.yaml"))
SCENARIOS = sorted(shipped("scenarios").glob("*.yaml"))


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(dcsim: Dcsim, command: str) -> None:
    done = dcsim(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Usage: ")
    assert all(len(line) <= 80 for line in done.out.splitlines())
    if not command:
        for name in COMMANDS:
            assert re.search(rf"^  {name} +[A-Z].*\.$", done.out, re.MULTILINE), name


def test_version(dcsim: Dcsim) -> None:
    import dcsim as package

    done = dcsim("--version")
    assert (done.code, done.out) == (0, f"{package.__version__}\n")


# check


@pytest.mark.slow
@pytest.mark.traces
def test_check_of_all_that_is_shipped(
    dcsim: Dcsim, logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DCSIM_TRACES", str(logs))
    files = [*SCENARIOS, *TOPOLOGIES, *PARTS]
    assert len(files) > 15
    done = dcsim("check", *files)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"{file}: ok" for file in files]
    assert files_below(tmp_path) == set()


def test_check_of_several_files(dcsim: Dcsim, short: Path, tmp_path: Path) -> None:
    write_scene(tmp_path / "long.yaml", duration=60, seed=-1)
    done = dcsim("check", short, "long.yaml", "none.yaml", "long.yaml")
    assert done.code == 2
    assert done.out == f"{short}: ok\n"
    assert [error.split(": ")[0] for error in done.errors] == [
        "long.yaml:2:7",
        "long.yaml:3:11",
        "none.yaml",
    ]
    assert done.err.splitlines()[-1] == "3 problems"


# show


@pytest.mark.parametrize("file", TOPOLOGIES, ids=lambda file: file.stem)
def test_show_of_a_topology(dcsim: Dcsim, file: Path) -> None:
    done = dcsim("show", file)
    assert (done.code, done.err) == (0, "")
    assert dcsim("show", file.stem).out == done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())


@pytest.mark.parametrize(
    ("pooled", "said"),
    [
        ("true", "pooled: one DRAM and NAND for all nodes"),
        ("false", "each of its 18 nodes has its own"),
    ],
)
def test_show_says_whose_memory_is_whose(dcsim: Dcsim, pooled: str, said: str) -> None:
    out = dcsim("show", "pipelines_nvl72", "--set", f"topology.racks.rack0.pooled={pooled}").out
    assert "72 x gb300 in 18 nodes" in out
    assert said in out
    assert said not in dcsim("show", "pipelines_nvl72").out


def test_show_has_totals(dcsim: Dcsim, short: Path) -> None:
    out = dcsim("show", "hgx_h100").out
    for line in ("totals: 8 GPUs in 1 rack(s)", "HBM   684 GB", "DRAM  2.05 TB", "NAND  30.7 TB"):
        assert line in out
    # Of a scenario: its topology, its shelf with its share of the pod.
    done = dcsim("show", short, "--set", "topology.racks.rack0.dram=1 TB")
    assert done.code == 0
    for line in ("DRAM  1.00 TB", "shelf shelf, for rack0", "NAND  34.9 TB"):
        assert line in done.out
    assert "DRAM  3.00 TB" in dcsim("show", "hgx_h100", "--set", "racks.rack0.dram=3TB").out


def test_show_takes_names_as_they_are(dcsim: Dcsim, tmp_path: Path) -> None:
    write_scene(tmp_path / "s.yaml")
    done = dcsim("show", "s.yaml", "--set", "topology.name='a [/b] [red]c'")
    assert done.out.startswith("a [/b] [red]c\n")


# schema


@pytest.mark.parametrize("kind", ["", "scenario", "topology", "parts"])
def test_schema_is_a_json_schema(dcsim: Dcsim, kind: str) -> None:
    done = dcsim("schema", *kind.split())
    assert (done.code, done.err) == (0, "")
    schema = json.loads(done.out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    _check_schema(schema, schema)


TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}


def _check_schema(schema: Any, root: dict[str, Any]) -> None:
    """Whether each keyword has the form that the draft gives it, and references lead somewhere."""
    if isinstance(schema, bool):
        return
    assert isinstance(schema, dict)
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        assert name in root["$defs"], schema["$ref"]
    assert schema.get("type", "object") in TYPES
    re.compile(schema.get("pattern", ""))
    for key in ("required", "enum"):
        assert isinstance(schema.get(key, []), list)
    for key in ("properties", "$defs", "patternProperties"):
        for below in schema.get(key, {}).values():
            _check_schema(below, root)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        assert schema.get(key, [None])
        for below in schema.get(key, []):
            _check_schema(below, root)
    for key in ("items", "additionalProperties", "not", "propertyNames"):
        _check_schema(schema.get(key, True), root)


# info


def test_info(dcsim: Dcsim) -> None:
    facts = json.loads(dcsim("info", "--json").out)
    assert facts["dcsim"] == facts["engine"]["version"]
    assert {"compiler", "flags", "standard", "sanitizers"} <= set(facts["engine"])
    assert facts["packages"]["numpy"] is not None
    done = dcsim("info")
    assert (done.code, done.err) == (0, "")
    assert facts["engine"]["compiler"] in done.out


# trace

KEYS = {"model", "params", "weights_bytes", "peak_bytes", "peak_phase", "phases", "residency_bytes"}


def test_trace_as_json(dcsim: Dcsim) -> None:
    done = dcsim("trace", "video-dit-2b", "--json", "--gpu", "h200")
    assert (done.code, done.err) == (0, "")
    facts = json.loads(done.out)
    assert set(facts) >= KEYS | {"gpu", "seconds", "fits"}
    assert facts["model"] == "video-dit-2b"
    assert facts["gpu"] == "h200"
    names = [phase["name"] for phase in facts["phases"]]
    assert names == ["text", "denoise", "vae"]
    assert facts["peak_phase"] in names
    assert facts["peak_bytes"] >= facts["residency_bytes"] >= facts["weights_bytes"]
    assert sum(phase["seconds"] for phase in facts["phases"]) == pytest.approx(facts["seconds"])
    wanted = {"name", "steps", "flops", "weights_bytes", "peak_bytes", "live_bytes", "seconds"}
    for phase in facts["phases"]:
        assert wanted <= set(phase)


def test_trace_as_text(dcsim: Dcsim) -> None:
    done = dcsim("trace", "dit-xl-2", "--set", "width=512", "--set", "shape.height=512")
    assert (done.code, done.err) == (0, "")
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert done.out.startswith("dit-xl-2 on 1 x h100: width 512, height 512, frames 1, steps 250")
    assert "parameters 0.675 B" in done.out


def test_trace_settings(dcsim: Dcsim) -> None:
    options = ["cfg=sequential", "layout.sp=2", "tp=1", "frames=49", "options.attention=math"]
    sets = [part for option in options for part in ("--set", option)]
    facts = json.loads(dcsim("trace", "video-dit-2b", "--json", *sets).out)
    assert facts["options"]["cfg"] == "sequential"
    assert facts["options"]["attention"] == "math"
    assert facts["layout"]["sp"] == facts["layout"]["gpus"] == 2
    assert facts["layout"]["tp"] == facts["layout"]["cfg"] == facts["layout"]["pp"] == 1
    assert facts["shape"]["frames"] == 49


def test_trace_takes_what_is_brought(dcsim: Dcsim) -> None:
    edit = ("flux.1-dev", "--set", "input=image", "--set", "strength=0.5")
    found = json.loads(dcsim("trace", *edit, "--json").out)
    assert found["shape"] == {
        "width": 1024,
        "height": 1024,
        "frames": 1,
        "steps": 28,
        "given": 1,
        "strength": 0.5,
    }
    assert [phase["name"] for phase in found["phases"]][2:] == ["input", "denoise", "vae"]
    assert "input" in dcsim("trace", *edit).out
    said = dcsim("explain", *edit).out
    assert "steps that are run, rounded up: 0.5 x 28 = 14 steps" in said
    clip = dcsim("trace", "wan2.1-t2v-1.3b", "--json", "--set", "input=video", "--set", "frames=17")
    assert json.loads(clip.out)["shape"]["given"] == 17
    wrong = dcsim("trace", "flux.1-dev", "--set", "input=picture", "--set", "strength=2")
    assert wrong.code == 2
    assert "shape.input: 'picture' is not allowed" in wrong.err
    assert "shape.strength: 2 must be 1 or less" in wrong.err


def test_trace_takes_a_resolution(dcsim: Dcsim) -> None:
    """As a job's shape does; docs/models.md said so before it was true."""
    one = dcsim("trace", "video-dit-2b", "--json", "--set", "resolution=1280x720").out
    two = dcsim("trace", "video-dit-2b", "--json", "--set", "width=1280", "--set", "height=720")
    assert json.loads(one)["shape"]["width"] == 1280
    assert one == two.out
    wrong = dcsim("trace", "dit-xl-2", "--set", "resolution=720p")
    assert (wrong.code, wrong.out) == (2, "")
    assert "shape.resolution: '720p' is no resolution: width x height in pixels" in wrong.err
    assert dcsim("trace", "llama-3.1-8b", "--set", "resolution=8x8").code == 2


@pytest.mark.parametrize("model", ["dit-s-8", "llama-3.1-8b"])
def test_trace_saves_and_draws(dcsim: Dcsim, tmp_path: Path, model: str) -> None:
    done = dcsim("trace", model, "--json", "--out", "t.npz", "--plot", "t.svg")
    assert (done.code, done.err) == (0, "")
    assert files_below(tmp_path) == {"t.npz", "t.svg"}
    assert "<svg" in (tmp_path / "t.svg").read_text(encoding="utf-8")
    from dcsim.spec import load_parts
    from dcsim.traces.report import report
    from dcsim.traces.trace import MemoryTrace

    saved: MemoryTrace = load(tmp_path / "t.npz")
    assert report(saved, load_parts().gpus["h100"]) == json.loads(done.out)
    assert dcsim("trace", model, "--out", "again.npz").code == 0
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "t.npz").read_bytes()


# bench


def test_bench_says_how_fast(dcsim: Dcsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DCSIM_TRACES", raising=False)
    done = dcsim("bench", "--json", "--requests", 1000)
    assert (done.code, done.err) == (0, "")
    figures = json.loads(done.out)
    assert figures["engine"]["requests_per_second"] > 1000
    assert figures["engine"]["steps_per_second"] > 1000
    assert figures["engine"]["times_the_floor"] > 0
    assert figures["trace"]["seconds"] < 60
    assert {"oracle", "run", "build"} <= set(figures)
    cache = figures["hitrate"]
    assert cache["requests"] == 1000
    assert cache["blocks_per_request"] > cache["runs_per_request"] > 1
    assert set(cache["nanoseconds_per_request"]) == {"build", "lru", "lfu", "fifo", "curve"}
    assert cache["plain"]["lru_is_faster_by"] > 1


@pytest.mark.traces
def test_bench_repeats_the_mooncake_log(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dcsim.bench.hitrate import hitrate_figures, hitrate_rows

    monkeypatch.setenv("DCSIM_TRACES", str(logs))
    figures = hitrate_figures(2 * 3993, 1)
    assert figures["requests"] == 2 * 3993
    assert figures["runs_per_request"] == pytest.approx(1.541, abs=0.001)
    assert figures["blocks_per_request"] == pytest.approx(121_877 / 3993)
    assert all(len(line) <= 72 for _, line in hitrate_rows(figures))


def test_shipped_scenarios_go_by_name(dcsim: Dcsim, tmp_path: Path) -> None:
    assert dcsim("check", "quickstart").out == "quickstart: ok\n"
    assert "totals: 8 GPUs" in dcsim("show", "quickstart").out
    done = dcsim("run", "quickstrt")
    assert (done.code, done.out) == (2, "")
    assert (
        "no shipped scenario 'quickstrt', and no .yaml file; did you mean 'quickstart'" in done.err
    )
    assert list(tmp_path.iterdir()) == []


def test_paths_say_what_can_be_set(dcsim: Dcsim) -> None:
    line = dcsim("paths", "quickstart", "*.gpu.hbm").out
    assert line.split()[:3] == ["topology.racks.rack0.node.gpu.hbm", "81559", "MiB"]
    assert "HBM as its driver reports it" in line
    changed = dcsim("paths", "quickstart", "chat.replicas", "--set", "jobs.chat.replicas=2").out
    assert changed.split()[:2] == ["jobs.chat.replicas", "2"]
    assert len(dcsim("paths", "quickstart").out.splitlines()) > 100
    done = dcsim("paths", "quickstart", "hmb")
    assert (done.code, done.err) == (2, "error: hmb: no path of quickstart is like it\n")


def test_list_has_all_that_has_a_name(dcsim: Dcsim) -> None:
    out = dcsim("list").out
    for word in ("quickstart", "gb300_nvl72_context", "bluefield-4", "llama-3.1-8b", "scenarios:"):
        assert word in out


def test_init_writes_a_scenario_that_runs(dcsim: Dcsim, tmp_path: Path) -> None:
    assert dcsim("init", "mine.yaml").code == 0
    assert dcsim("check", "mine.yaml").out == "mine.yaml: ok\n"
    before = (tmp_path / "mine.yaml").read_bytes()
    again = dcsim("init", "mine.yaml", "--from", "video_and_chat_nvl72")
    assert (again.code, again.err) == (2, "error: mine.yaml: File exists\n")
    assert (tmp_path / "mine.yaml").read_bytes() == before
    assert "did you mean 'quickstart'" in dcsim("init", "b.yaml", "--from", "quikstart").err
    assert "ends in .yaml" in dcsim("init", "b.txt").err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.traces
def test_bench_runs_the_mooncake_log_through_tiers(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dcsim.bench.tiers import tiers_figures, tiers_rows

    monkeypatch.setenv("DCSIM_TRACES", str(logs))
    figures = tiers_figures(5000, 1)
    assert figures["requests"] == 2 * 3993
    assert 0.6 < figures["loaded_share"] < 0.7
    assert figures["requests_per_second"] > 0
    assert figures["requests_per_second_hbm"] > 0
    assert "tokens loaded" in tiers_rows(figures)[1][1]
    assert "with HBM too" in tiers_rows(figures)[2][1]
    monkeypatch.setenv("DCSIM_TRACES", "nowhere")
    assert "DCSIM_TRACES" in tiers_rows(tiers_figures(5000, 1))[0][1]
