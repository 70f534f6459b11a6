"""The shipped scenarios load, and their variants differ where they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsim.spec import ClipShape, Fixed, Replay, check_file, load_scenario

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


def test_quickstart() -> None:
    scenario = load_scenario(SCENARIOS / "quickstart.yaml")
    assert scenario.duration >= 3600 * 10**9
    assert 10 * 10**9 <= scenario.bin <= 60 * 10**9
    assert {type(job.shape).__name__ for job in scenario.jobs.values()} == {
        "ClipShape",
        "TokenShape",
    }
    assert scenario.topology.nand > 0


def test_a_rack_day_and_its_variants() -> None:
    file = SCENARIOS / "video_and_chat_nvl72.yaml"
    assert check_file(file) == []
    base = load_scenario(file)
    assert list(base.what_if) == ["half_dram", "no_shelf", "720p_for_480p"]
    variants = {name: load_scenario(file, what_if=name) for name in base.what_if}
    assert 2 * variants["half_dram"].topology.dram == base.topology.dram
    assert base.topology.shelves
    assert not variants["no_shelf"].topology.shelves
    shape = variants["720p_for_480p"].jobs["video"].shape
    assert isinstance(shape, ClipShape)
    assert shape.resolution == Fixed((1280, 720))
    for variant in variants.values():
        arrivals = [job.arrivals for job in variant.jobs.values()]
        assert arrivals == [job.arrivals for job in base.jobs.values()]


def test_the_replayed_log_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SCENARIOS / "azure_chat_and_video.yaml"
    monkeypatch.delenv("DCSIM_TRACES", raising=False)
    (problem,) = check_file(file)
    assert "the environment variable DCSIM_TRACES is not set" in problem.message
    monkeypatch.setenv("DCSIM_TRACES", str(tmp_path))
    (problem,) = check_file(file)
    assert "no such file" in problem.message
    log = tmp_path / "azure2023_llm_conv.csv.gz"
    log.write_bytes(b"")
    assert check_file(file) == []
    monkeypatch.delenv("DCSIM_TRACES")
    arrivals = load_scenario(file, overrides=[f"jobs.chat.arrivals.log={log}"])
    assert isinstance(arrivals.jobs["chat"].arrivals, Replay)
