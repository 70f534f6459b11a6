"""`dcsim compare`: variants side by side on the same arrivals."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli_scenes import SHORT, VARIANTS, Dcsim, files_below, write_scene
from rich.console import Console
from scene import scene

from dcsim.report.screen import show_comparison, show_topology
from dcsim.results import Comparison, Figure
from dcsim.spec import load_topology

FILES = {"comparison.json", "comparison.parquet", "manifest.json"}
PLOTS = {"demand.png", "latency.png", "outcomes.png"}


def test_all_variants_of_the_file(dcsim: Dcsim, short: Path, tmp_path: Path) -> None:
    done = dcsim("compare", short, "--out", "out")
    assert (done.code, done.err) == (0, "")
    out = tmp_path / "out"
    names = {"base", *VARIANTS}
    assert {path.name for path in out.iterdir()} == FILES | PLOTS | names
    assert files_below(tmp_path) == {"short.yaml", "out"} | {
        f"out/{name}" for name in files_below(out)
    }
    for name in PLOTS:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    header = next(line for line in done.out.splitlines() if "small_dram" in line)
    assert header.split() == ["base", "small_dram", "busier"]
    assert done.out.splitlines()[-1] == "results: out"
    compared = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert compared["variants"] == ["base", "small_dram", "busier"]
    # Common random numbers: the same arrivals, the same draws, wherever nothing was asked for.
    tables = {name: pq.read_table(out / name / "requests.parquet") for name in names}
    base, small = (tables[name].select(["arrival_ns", "job"]) for name in ("base", "small_dram"))
    assert base.equals(small)
    summaries = {
        name: json.loads((out / name / "summary.json").read_text(encoding="utf-8"))
        for name in names
    }
    assert summaries["small_dram"]["tiers"]["dram"]["capacity"] == 19 * 10**9
    assert summaries["busier"]["requests"]["arrived"] > summaries["base"]["requests"]["arrived"]


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--what-if", "busier"], ["base", "busier"]),
        (["--what-if", "busier", "--what-if", "busier"], ["base", "busier"]),
        (["--what-if", "busier", "--what-if", "small_dram"], ["base", "busier", "small_dram"]),
        (["--set", "seed=5"], ["base", "changed"]),
        (["--set", "seed=5", "--set", "jobs.chat.replicas=3"], ["base", "changed"]),
        (["--what-if", "small_dram", "--set", "seed=5"], ["base", "small_dram", "changed"]),
    ],
)
def test_what_is_compared(
    dcsim: Dcsim, short: Path, tmp_path: Path, options: list[str], names: list[str]
) -> None:
    done = dcsim("compare", short, "--out", "out", "--quiet", *options)
    assert (done.code, done.out, done.err) == (0, "", "")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert list(manifest["variants"]) == names
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == set(names)


@pytest.mark.usefixtures("no_plots")
def test_a_log_that_the_base_lacks_is_for_all(dcsim: Dcsim, tmp_path: Path) -> None:
    """The path of the shipped scenario's log has a variable that is not set everywhere."""
    data = scene(**SHORT, what_if={"small_dram": VARIANTS["small_dram"]})
    replay = {"process": "replay", "log": "${NO_SUCH_VARIABLE}/log.csv", "format": "csv"}
    data["jobs"]["chat"]["arrivals"] = replay
    (tmp_path / "s.yaml").write_text(json.dumps(data), encoding="utf-8")
    (tmp_path / "log.csv").write_text("arrival_s\n1\n2\n3\n", encoding="utf-8")
    given = ["--set", "jobs.chat.arrivals.log=log.csv"]
    for more, names in (
        ([], {"base", "small_dram"}),
        (["--set", "seed=5"], {"base", "changed"}),
    ):
        done = dcsim("compare", "s.yaml", "--out", "out", "--quiet", *given, *more)
        assert (done.code, done.err) == (0, "")
        found = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
        assert found == names
    assert "NO_SUCH_VARIABLE is not set" in dcsim("compare", "s.yaml", "--set", "seed=5").err


@pytest.mark.usefixtures("no_plots")
def test_again_into_the_same_directory(dcsim: Dcsim, short: Path, tmp_path: Path) -> None:
    assert dcsim("compare", short, "--quiet").code == 0
    home = tmp_path / "out" / "short-compare"
    assert (home / "busier").is_dir()
    assert dcsim("compare", short, "--quiet", "--what-if", "small_dram").code == 0
    assert not (home / "busier").exists()
    assert (home / "small_dram").is_dir()


def test_problems_of_the_base_are_said_once(dcsim: Dcsim, tmp_path: Path) -> None:
    # What does not fit shows only when it is put together: in the base and in each variant.
    large = {"jobs.chat.options": {"memory_utilization": 0.1}}
    variants = {"a": {"jobs.chat.options.memory_utilization": 0.2}, "b": {"seed": 2}, "c": large}
    file = write_scene(tmp_path / "large.yaml", what_if=variants)
    model = ["--set", "jobs.chat.model=llama-3.1-70b"]
    write_scene(tmp_path / "base.yaml", what_if=variants, **_with_model("llama-3.1-70b"))
    done = dcsim("compare", "base.yaml", "--out", "out")
    assert done.code == 2
    assert len(done.errors) == 1
    assert "does not fit its replica" in done.errors[0]
    # And where only the variants have them, each says whose it is.
    done = dcsim("compare", file, "--out", "out", "--what-if", "a", "--what-if", "c", *model)
    assert done.code == 2
    starts = ["what_if.a: jobs.chat.layout", "what_if.c: jobs.chat.layout", "jobs.chat.layout"]
    for error, start in zip(done.errors, starts, strict=True):
        assert f": {start}: " in error
    assert done.err.splitlines()[-1] == "3 problems; nothing was written"
    assert files_below(tmp_path) == {"large.yaml", "base.yaml"}


def _with_model(name: str) -> dict[str, object]:
    from scene import scene

    jobs = scene()["jobs"]
    jobs["chat"]["model"] = name
    return {"jobs": jobs}


def test_names_that_are_taken(dcsim: Dcsim, tmp_path: Path) -> None:
    write_scene(tmp_path / "taken.yaml", what_if={"base": {"seed": 2}, "changed": {"seed": 3}})
    done = dcsim("compare", "taken.yaml", "--out", "out")
    assert done.code == 2
    assert len(done.errors) == 2
    assert "what_if.base: 'base' is taken by dcsim compare" in done.errors[0]


def _comparison(variants: int) -> Comparison:
    names = ("base", *(f"variant_{i}_of_a_long_name" for i in range(variants)))
    values = tuple(float(i * 10**9) for i in range(variants + 1))
    return Comparison(names, (Figure("tier", "dram", "capacity", "bytes", values),))


def shown(comparison: Comparison, *, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, width=80, force_terminal=terminal, no_color=True)
    show_comparison(comparison, {}, console)
    return re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue())


def test_many_variants_lose_nothing() -> None:
    """Eighty columns hold the base and two of these beside it."""
    for terminal in (True, False):
        text = shown(_comparison(7), terminal=terminal)
        assert "…" not in text
        for i in range(7):
            assert f"variant_{i}_of_a_long_name" in text
    text = shown(_comparison(7), terminal=True)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text.count("base") == 2 * 4
    whole = shown(_comparison(7), terminal=False)
    assert whole.count("capacity") == 1


def test_the_tree_of_a_topology_is_whole() -> None:
    topology = load_topology("gb300_nvl72_context")
    text = io.StringIO()
    show_topology(topology, Console(file=text, width=40))
    assert "read 1.01 TB/s, write 720 GB/s, 3 drive writes a day)\n" in text.getvalue()
    text = io.StringIO()
    show_topology(topology, Console(file=text, width=40, force_terminal=True, no_color=True))
    assert "drive writes a" in text.getvalue()
    assert "…" not in text.getvalue()
