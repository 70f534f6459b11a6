"""The command line called in process, as its entry point calls it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from scene import scene

from dcsim.cli import app


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The problems it named, without the `error: ` before each."""
        lines = self.err.splitlines()
        return [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]


Dcsim = Callable[..., Done]

# Half a minute of chat and images: quick to run, every tier has something in it.
SHORT = {"duration": "30 s", "bin": "1 s"}
VARIANTS = {
    "small_dram": {"topology.racks.rack0.dram": "19 GB"},
    "busier": {"jobs.chat.arrivals.rate": "4/s"},
}


@pytest.fixture
def dcsim(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Dcsim:
    """Runs `dcsim ARGUMENTS` in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("dcsim.report.painter.cores", lambda: 1)  # pictures are drawn here

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 1, out, err)

    return call


def write_scene(file: Path, **changes: object) -> Path:
    """The small scenario as a file."""
    text = yaml.safe_dump(scene(**{**SHORT, **changes}), sort_keys=False)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A small scenario with two variants, `short.yaml` in the working directory."""
    return write_scene(tmp_path / "short.yaml", what_if=VARIANTS)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are most of the time of a small run; where they do not matter, empty files do."""
    from dcsim.report import pictures

    plots = ("demand", "contents", "latency", "demands", "latencies", "outcomes")
    for name in plots:
        monkeypatch.setattr(pictures, f"plot_{name}", lambda outline, path: path.touch())


def files_below(folder: Path) -> set[str]:
    """Every file and directory below, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# What is refused

File = str | bytes | dict[str, Any]
RUN = ("run", "s.yaml", "--out", "out")


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong input is found before the engine is started."""
    from dcsim import planning

    def ran(*_: object, **__: object) -> None:
        pytest.fail("it ran")

    monkeypatch.setattr(planning, "run", ran)
    monkeypatch.setattr(planning, "compare", ran)


def write(path: Path, content: File) -> None:
    """A file of bytes, of text, or of data in YAML."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8", newline="")
    else:
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def refused(
    dcsim: Dcsim,
    folder: Path,
    arguments: Sequence[str],
    expected: Sequence[str],
    *,
    within: str | None = None,
) -> None:
    """Exit code 2, nothing on stdout, nothing written; the errors are those expected, in order.

    An expected error is its beginning and, after ` ... `, what else it has. With `within` each
    begins with a line and column of that file, which the expected ones leave out.
    """
    before = files_below(folder)
    done = dcsim(*arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert "Traceback" not in done.err
    assert files_below(folder) == before
    errors = done.errors
    assert len(errors) == len(expected), done.err
    if within is not None:
        place = re.compile(rf"{re.escape(within)}:[0-9]+:[0-9]+: ")
        assert all(place.match(error) for error in errors), done.err
        errors = [place.sub("", error, count=1) for error in errors]
    for error, parts in zip(errors, expected, strict=True):
        start, *rest = parts.split(" ... ")
        assert error.startswith(start), (error, start)
        for part in rest:
            assert part in error, (error, part)
    last = done.err.splitlines()[-1]
    assert last.startswith("error: ") if len(errors) == 1 else f"{len(errors)} problems" in last
