"""`dcsim split`: prices in, places out, all that is wrong at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scene import scene
from typer.testing import CliRunner

from dcsim.assembly import make_plan
from dcsim.cli import app
from dcsim.planning import run
from dcsim.spec import scenario_from_data

PRICES = ["--dram", "10 USD/GB", "--nand", "0.2 USD/GB", "--recompute", "0.32 USD/TB"]


def written(folder: Path, **reuse: Any) -> str:
    data = scene(duration="2 min")
    data["jobs"]["chat"] |= {"session": {"turns": 3, "think": "5 s"}}
    data["jobs"]["chat"]["keep"] |= reuse
    run(make_plan(scenario_from_data(data))).write(folder)
    return str(folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("split") / "out", reuse={})


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["split", *arguments])


def test_text_and_json(kept: str) -> None:
    said = call(kept, *PRICES)
    assert said.exit_code == 0
    assert "break-even of DRAM and NAND: 9.60 min" in said.output
    assert "4 s to 15 s" in said.output
    data = json.loads(call(kept, *PRICES, "--json").output)
    assert data["break_even_ns"]["dram_nand"] == pytest.approx(9.6 * 60e9)
    assert set(data["places"]) == {"dram", "nand", "recompute"}
    worn = json.loads(call(kept, *PRICES, "--dwpd", "1", "--json").output)
    assert worn["least_gap_ns"] == pytest.approx(86_400e9)


def test_all_that_is_wrong_is_said_at_once(kept: str) -> None:
    wrong = ["--dram", "10 GB", "--nand", "0 USD/GB", "--recompute", "cheap", "--dwpd", "0"]
    said = call(kept, *wrong, "--drive", "micron-9550", "--life", "5")
    assert said.exit_code == 2
    for option in ("--dram", "--nand", "--recompute", "--dwpd", "--drive", "--life"):
        assert f"{option}: " in said.stderr
    assert "25 USD/GB" in said.stderr
    assert "micron-9550-max-26tb" in said.stderr


def test_results_that_cannot_be_split(tmp_path: Path) -> None:
    said = call(str(tmp_path / "nowhere"), *PRICES)
    assert said.exit_code == 2
    assert "holds no results" in said.stderr
    said = call(written(tmp_path / "out"), *PRICES)
    assert said.exit_code == 2
    assert "no job has `keep.reuse`" in said.stderr
