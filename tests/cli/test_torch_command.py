"""`dcsim trace --torch`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_scenes import Dcsim, files_below

pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
pytestmark = pytest.mark.torch

MINE = """
import torch

def linear(rows=4):
    return torch.nn.Linear(64, 64), torch.zeros(rows, 64)

def reads():
    class Reads(torch.nn.Module):
        def forward(self, x):
            return self.inner(x)
    class Inner(torch.nn.Module):
        def forward(self, x):
            return x.tolist()
    module = Reads()
    module.inner = Inner()
    return module, torch.zeros(3)

def fails():
    raise ValueError("a wrong size")

def ends():
    raise SystemExit(5)

number = 3
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE, encoding="utf-8")
    return file


def test_a_factory_is_traced_saved_and_traced_from_the_file(dcsim: Dcsim, mine: Path) -> None:
    given = ("--torch", "mine.py:linear", "--set", "rows=32")
    done = dcsim("trace", *given, "--json", "--out", "t.npz")
    assert (done.code, done.err) == (0, "")
    facts = json.loads(done.out)
    assert facts["phases"][0]["flops"] == 2 * 32 * 64 * 64
    assert facts["options"]["rows"] == 32
    again = dcsim("trace", "t.npz", "--json")
    assert json.loads(again.out) == facts
    assert "1 x h200" in dcsim("trace", "t.npz", "--gpu", "h200").out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nope:x"], "--torch: importing nope: ModuleNotFoundError"),
        (["none.py:x"], "--torch: there is no file none.py"),
        (["mine"], "--torch: 'mine' is not MODULE:FACTORY"),
        (["mine.py:liner"], "--torch: mine.py has no 'liner'; did you mean 'linear'?"),
        (["mine.py:number"], "--torch: mine.py:number is a int, which cannot be called"),
        (["mine.py:fails"], "--torch: mine.py:fails raised: ValueError: a wrong size (mine.py"),
        (["mine.py:ends"], "--torch: mine.py:ends raised: SystemExit: 5"),
        (["mine.py:reads"], "--torch: stage 'forward', module inner, op aten._local_scalar_dense"),
        (["mine.py:linear", "--set", "row=3"], "row: unknown; did you mean 'rows'?"),
        (["mine.py:linear", "--set", "dtype=int8"], "options.dtype: 'int8' is not allowed"),
        (["mine.py:linear", "--set", "rows"], "rows: a setting is written key=value"),
        (["mine.py:linear", "--out", "t.txt"], "--out: t.txt is written as .npz"),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(
    dcsim: Dcsim, mine: Path, tmp_path: Path, given: list[str], said: str
) -> None:
    before = files_below(tmp_path)
    done = dcsim("trace", "--torch", *given)
    assert (done.code, done.out) == (2, "")
    [error] = done.errors
    assert error.startswith(said)
    assert done.err.count("\n") == 1
    assert {file for file in files_below(tmp_path) if "__pycache__" not in str(file)} == before
