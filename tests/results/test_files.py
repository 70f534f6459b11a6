"""Results on disk: whole or not at all, the same whenever made again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from results_scene import SECOND, jobs, made_up, make_plan, make_results, run_engine
from workload_scenes import scene

from dcsim.results import Results, check_target, collect, replacing
from dcsim.results.files import write_json

FILES = {
    "requests.parquet",
    "timeline.parquet",
    "tiers.parquet",
    "contents.parquet",
    "channels.parquet",
    "wear.parquet",
    "events.parquet",
    "summary.json",
    "manifest.json",
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    made_up().write(tmp_path / "deep" / "out")
    assert {path.name for path in (tmp_path / "deep" / "out").iterdir()} == FILES
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    back = Results.read(tmp_path / "deep" / "out")
    assert back.summary == made_up().summary
    assert back.manifest == made_up().manifest
    assert back.tables.keys() == made_up().tables.keys()
    assert all(back.tables[name].equals(table) for name, table in made_up().tables.items())


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        results = make_results(troubled=True)
        results.summary.pop("engine")
        results.write(tmp_path / name)
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_earlier_results_are_replaced_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "out") as fresh:
        made_up().save(fresh)
        (fresh / "extra.png").touch()
    assert (tmp_path / "out" / "extra.png").exists()
    made_up().write(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    made_up().write(tmp_path / "out")
    before = (tmp_path / "out" / "summary.json").read_bytes()

    def fail(target: Path) -> None:
        with replacing(target) as fresh:
            (fresh / "summary.json").write_text("half")
            raise RuntimeError("no space left")

    for target in ("out", "new"):
        with pytest.raises(RuntimeError, match="no space left"):
            fail(tmp_path / target)
    assert (tmp_path / "out" / "summary.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_that_are_no_results_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="does not hold results"):
        check_target(tmp_path)
    with pytest.raises(FileExistsError, match="does not hold results"):
        made_up().write(tmp_path)
    with pytest.raises(FileExistsError, match="is a file"):
        made_up().write(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_or_a_missing_directory_will_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        check_target(tmp_path / name)
        with replacing(tmp_path / name) as fresh:
            (fresh / "file").touch()
        assert (tmp_path / name / "file").exists()


def test_json_takes_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "nan.json", {"a": float("nan")})


def test_tables_of_others_are_kept(tmp_path: Path) -> None:
    plan = make_plan()
    outputs = run_engine(plan, lifted=False), run_engine(plan, lifted=True)
    samples = pa.table({"time_ns": [1, 2], "value": [3.5, 4.5]})
    results = collect(plan, *outputs, seconds=1.0, lifted_seconds=1.0, extra={"samples": samples})
    results.write(tmp_path / "out")
    assert Results.read(tmp_path / "out").tables["samples"].equals(samples)
    with pytest.raises(KeyError, match="nothing"):
        results.arrays("nothing")


def test_the_manifest_tells_runs_apart() -> None:
    def manifest(dram: int = 2000, **changes: object) -> dict[str, object]:
        base = replace(
            scene(*jobs(), seconds=7200.0),
            bin=60 * SECOND,
            resolved={"dram": dram, "log": Path("a")},
        )
        return make_results(make_plan(replace(base, **changes))).manifest  # type: ignore[arg-type]

    base = manifest()
    assert base == manifest()
    assert base["inputs"] == {"dram": 2000, "log": "a"}
    assert set(base["versions"]) == {"python", "dcsim", "numpy", "pyarrow", "simpy"}  # type: ignore[call-overload]
    half, other = manifest(dram=1000), manifest(seed=8)
    assert half["hash"] != base["hash"] != other["hash"]
    assert half["requests_hash"] == base["requests_hash"] != other["requests_hash"]


def test_paths_may_be_text(tmp_path: Path) -> None:
    results = made_up()
    results.write(str(tmp_path / "out"))
    assert Results.read(str(tmp_path / "out")).summary == results.summary


KILLED = """
import os, signal, sys
from pathlib import Path
from dcsim.results import replacing

with replacing(Path("out")) as fresh:
    (fresh / "manifest.json").write_text("{}")
    if sys.argv[1] == "between":
        Path("out").rename(fresh.parent / "old")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["before", "between"])
def test_what_a_killed_run_left_is_cleared(tmp_path: Path, when: str) -> None:
    """Also where it died with the earlier results put away: those come back."""
    with replacing(tmp_path / "out") as fresh:
        (fresh / "manifest.json").write_text("earlier")
    subprocess.run([sys.executable, "-c", KILLED, when], cwd=tmp_path, check=False)
    assert len(list(tmp_path.glob(".out.*"))) == 1
    with pytest.raises(RuntimeError), replacing(tmp_path / "out"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert (tmp_path / "out" / "manifest.json").read_text() == "earlier"


def test_what_a_living_run_uses_is_left_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "out") as slow:
        (slow / "manifest.json").write_text("slow")
        with replacing(tmp_path / "out") as quick:
            (quick / "manifest.json").write_text("quick")
    assert (tmp_path / "out" / "manifest.json").read_text() == "slow"


def test_a_full_disk_is_reported_with_its_place(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")

    def write() -> None:
        with replacing(tmp_path / "out") as fresh:
            (fresh / "summary.json").symlink_to(full)
            write_json(fresh / "summary.json", {})

    with pytest.raises(OSError, match="No space left") as raised:
        write()
    assert raised.value.filename == str(tmp_path / "out")
