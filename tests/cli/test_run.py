"""`dcsim run`: what it writes and prints, twice the same, and where it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_scenes import Dcsim, files_below, write_scene

TABLES = {"requests", "timeline", "tiers", "contents", "channels", "wear", "events"}
PLOTS = {"demand.png", "contents.png", "links.png", "latency.png", "wear.png"}
FILES = {f"{name}.parquet" for name in TABLES} | PLOTS | {"summary.json", "manifest.json"}


def summary(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return loaded


def test_a_run_writes_everything(dcsim: Dcsim, short: Path, tmp_path: Path) -> None:
    done = dcsim("run", "short.yaml", "--out", "out")
    assert done.code == 0, done.err
    assert done.err == ""
    assert files_below(tmp_path / "out") == FILES
    assert files_below(tmp_path) == {"short.yaml", "out"} | {f"out/{name}" for name in FILES}
    for name in PLOTS:
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert done.out.splitlines()[-1] == "results: out"
    assert all(len(line) <= 80 for line in done.out.splitlines())
    for word in ("HBM", "DRAM", "NAND", "chat", "image", "first short"):
        assert word in done.out


@pytest.mark.usefixtures("no_plots")
def test_the_summary_has_what_is_promised(dcsim: Dcsim, short: Path, tmp_path: Path) -> None:
    assert dcsim("run", short, "--out", "out", "--quiet").code == 0
    found = summary(tmp_path / "out")
    requests = pq.read_table(tmp_path / "out" / "requests.parquet")
    outcomes = found["requests"]["outcomes"]
    assert found["requests"]["arrived"] == sum(outcomes.values()) == len(requests) > 0
    named = requests.column("outcome").to_pylist()
    assert outcomes == {name: named.count(name) for name in outcomes}
    for tier in ("hbm", "dram", "nand"):
        figures = found["tiers"][tier]
        assert figures["capacity"] > 0
        assert "first_shortfall_ns" in figures
        for what in ("occupancy", "demand"):
            spread = figures[what]
            assert spread["mean"] <= spread["peak"]
            assert spread["p95"] <= spread["peak"]
    assert list(found["jobs"]) == ["chat", "image"]
    for job in found["jobs"].values():
        assert {"p50", "p90", "p95", "p99"} <= set(job["latency_ns"])
        assert job["throughput"]["requests_per_s"] > 0
    engine = found["engine"]
    wanted = {"events", "boundaries", "steps", "wall_seconds", "requests_per_second"}
    assert wanted <= set(engine)
    assert all(engine[name] > 0 for name in wanted)


@pytest.mark.usefixtures("no_plots")
def test_the_timeline_covers_the_run(dcsim: Dcsim, short: Path, tmp_path: Path) -> None:
    assert dcsim("run", short, "--out", "out", "--quiet").code == 0
    timeline = pq.read_table(tmp_path / "out" / "timeline.parquet").to_pydict()
    assert max(timeline["end_ns"]) == 30 * 10**9
    assert min(timeline["start_ns"]) == 0
    assert set(timeline["tier"]) == {"hbm", "dram", "nand"}
    held = sum(np.array(timeline[name]) for name in ("weights", "live", "transient", "cache"))
    held = held + np.array(timeline["artifacts"])
    assert (held + np.array(timeline["free"]) == np.array(timeline["capacity"])).all()


def test_two_runs_are_equal_byte_for_byte(dcsim: Dcsim, short: Path, tmp_path: Path) -> None:
    first, second = (dcsim("run", short, "--out", name) for name in ("one", "two"))
    assert first.out.replace("results: one", "results: two") == second.out
    one, two = tmp_path / "one", tmp_path / "two"
    for name in FILES - {"summary.json"}:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    walls = ("wall_seconds", "requests_per_second")
    told = [summary(one), summary(two)]
    for each in told:
        for engine in (each["engine"], each["engine"]["lifted"]):
            for wall in walls:
                del engine[wall]
    assert told[0] == told[1]


@pytest.mark.usefixtures("no_plots")
def test_set_seed_and_what_if(dcsim: Dcsim, short: Path, tmp_path: Path) -> None:
    def run(*options: object) -> dict[str, Any]:
        # Again and again into one directory: results give way to results.
        done = dcsim("run", short, "--out", "out", "--quiet", *options)
        assert (done.code, done.out, done.err) == (0, "", "")
        assert files_below(tmp_path / "out") == FILES
        return summary(tmp_path / "out")

    base = run()
    assert run("--seed", 7)["seed"] == 7
    both = run("--set", "topology.racks.rack0.dram=30 GB", "--set", "jobs.chat.replicas=3")
    assert both["tiers"]["dram"]["capacity"] == 30 * 10**9
    variant = run("--what-if", "small_dram")
    assert variant["tiers"]["dram"]["capacity"] == 19 * 10**9 < base["tiers"]["dram"]["capacity"]
    assert variant["requests"]["arrived"] == base["requests"]["arrived"]
    # --seed has the last word.
    assert run("--set", "seed=3", "--seed", 4)["seed"] == 4


@pytest.mark.usefixtures("no_plots")
def test_results_go_to_out_by_default(dcsim: Dcsim, short: Path, tmp_path: Path) -> None:
    done = dcsim("run", short)
    assert done.code == 0
    assert done.out.splitlines()[-1] == "results: out/short"
    assert files_below(tmp_path / "out" / "short") == FILES


def test_another_directory_is_refused_before_anything_runs(
    dcsim: Dcsim, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dcsim import planning

    monkeypatch.setattr(planning, "run", lambda *_, **__: pytest.fail("it ran"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work", encoding="utf-8")
    before = files_below(tmp_path)
    done = dcsim("run", short, "--out", "mine")
    assert done.code == 2
    assert "does not hold results" in done.err
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left", "x")])
def test_nothing_half_written_stays(
    dcsim: Dcsim,
    short: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    from dcsim.report import pictures

    assert dcsim("run", short, "--out", "out", "--quiet").code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(pictures, "plot_latency", fails)
    for target in ("out", "new"):
        done = dcsim("run", short, "--seed", 9, "--out", target)
        if isinstance(error, KeyboardInterrupt):
            assert (done.code, done.err) == (130, "interrupted\n")
        else:
            assert (done.code, done.err) == (1, "error: x: No space left\n")
        assert done.out == ""
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"short.yaml", "out"}


@pytest.mark.parametrize("name", [r"costs $5 and $\nothing{_", "数据中心 [/red]", "n" * 500])
def test_any_name_will_do(dcsim: Dcsim, tmp_path: Path, name: str) -> None:
    """Names are text: no mathematics for the plots, no markup for the terminal."""
    write_scene(tmp_path / "named.yaml", name=name)
    done = dcsim("run", "named.yaml", "--out", "out")
    assert (done.code, done.err) == (0, "")
    assert summary(tmp_path / "out")["scenario"] == name


@pytest.mark.usefixtures("no_plots")
def test_a_run_without_a_single_request(dcsim: Dcsim, tmp_path: Path) -> None:
    write_scene(tmp_path / "idle.yaml")
    rates = [f"jobs.{job}.arrivals.rate=0/s" for job in ("chat", "image")]
    done = dcsim("run", "idle.yaml", "--out", "out", "--set", rates[0], "--set", rates[1])
    assert done.code == 0, done.err
    found = summary(tmp_path / "out")
    assert found["requests"]["arrived"] == 0
    assert found["jobs"]["chat"]["latency_ns"] is None


@pytest.mark.traces
@pytest.mark.usefixtures("no_plots")
def test_the_azure_log_is_found_by_the_environment(
    dcsim: Dcsim, logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dcsim.spec.compose import shipped

    scenario = shipped("scenarios") / "azure_chat_and_video.yaml"
    monkeypatch.delenv("DCSIM_TRACES", raising=False)
    missing = dcsim("run", scenario, "--out", "out")
    assert missing.code == 2
    assert "DCSIM_TRACES" in missing.err
    assert "--set jobs.chat.arrivals.log=PATH" in missing.err
    assert files_below(tmp_path) == set()
    log = f"jobs.chat.arrivals.log={logs / 'azure2023_llm_conv.csv.gz'}"
    assert dcsim("run", scenario, "--out", "out", "--quiet", "--set", log).code == 0
    assert summary(tmp_path / "out")["jobs"]["chat"]["arrived"] == 19_366
