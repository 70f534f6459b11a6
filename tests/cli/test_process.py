"""The command as a process of its own: exit codes, streams, signals, a terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_scenes import files_below, write_scene

BUSY = ("duration=1 h", "jobs.chat.arrivals.rate=300/s")
"""Over a million requests: the engine is at work for seconds."""


def dcsim(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dcsim", *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_streams_and_exit_codes(tmp_path: Path) -> None:
    write_scene(tmp_path / "short.yaml", operations=[{"kind": "sampler", "every": "10 s"}])
    done = dcsim("run", "short.yaml", "--out", "out", "--no-plots", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("results: out\n")
    wrong = dcsim("run", "short.yaml", "--out", "out", "--set", "bin=5", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: bin: 5 is a bare number")


def test_a_picture_of_hit_rates_says_nothing_on_stderr(tmp_path: Path) -> None:
    """Frames that imports had kept alive kept the compiled forest, which the core then reported."""
    row = '{"timestamp": 0, "input_length": 512, "output_length": 1, "hash_ids": [1]}\n'
    (tmp_path / "log").write_text(2 * row, encoding="utf-8")
    done = dcsim("hitrate", "log", "--curve", "--plot", "c.png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert files_below(tmp_path) == {"log", "c.png"}


@pytest.mark.slow
def test_equal_whatever_python_hashes(tmp_path: Path) -> None:
    """Sets and dicts of text change their order from process to process; results do not."""
    write_scene(tmp_path / "short.yaml")
    for seed in ("1", "2"):
        done = dcsim("run", "short.yaml", "--out", seed, cwd=tmp_path, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
    one, two = tmp_path / "1", tmp_path / "2"
    assert files_below(one) == files_below(two)
    for name in files_below(one):
        if name != "summary.json":  # that has wall times
            assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dcsim", "schema"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) != 0
    process.stderr.close()


def hear_interrupts() -> None:
    """A shell starts what runs in the background with SIGINT ignored, and children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def on_a_terminal(
    folder: Path, seen: str, kind: signal.Signals | None = None, command: str = "run"
) -> tuple[int, str, str]:
    """Runs the busy scenario, or compares it with the short one, with a terminal for stderr until
    `seen` shows there, then sends it the signal, if any. Exit code, stdout, and what the terminal
    showed."""
    ours, theirs = os.openpty()
    sets = [part for setting in BUSY for part in ("--set", setting)]
    with subprocess.Popen(
        [sys.executable, "-m", "dcsim", command, "short.yaml", "--out", "out", *sets],
        cwd=folder,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        preexec_fn=hear_interrupts,
    ) as process:
        os.close(theirs)
        shown = b""
        end = time.monotonic() + 60
        sent = kind is None
        while time.monotonic() < end:
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed: the process has ended
                break
            shown += piece
            if not piece:
                break
            if not sent and kind is not None and seen.encode() in shown:
                process.send_signal(kind)
                sent = True
        os.close(ours)
        out = process.communicate(timeout=60)[0]
    return process.returncode, out, shown.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "kind", "code", "last"),
    [
        ("run", signal.SIGINT, 130, "interrupted"),
        ("run", signal.SIGTERM, 143, ""),
        ("compare", signal.SIGINT, 130, "interrupted"),
    ],
)
def test_stopped_in_the_middle(
    tmp_path: Path, command: str, kind: signal.Signals, code: int, last: str
) -> None:
    write_scene(tmp_path / "short.yaml")
    returned, out, shown = on_a_terminal(tmp_path, "simulating", kind, command)
    assert (returned, out) == (code, "")
    assert "Traceback" not in shown
    assert last in shown
    assert "writing" not in shown
    assert files_below(tmp_path) == {"short.yaml"}


@pytest.mark.slow
def test_progress_on_a_terminal(tmp_path: Path) -> None:
    write_scene(tmp_path / "short.yaml")
    code, out, shown = on_a_terminal(tmp_path, "")
    assert code == 0
    steps = ("reading", "simulating", "writing results and plots")
    places = [shown.find(step) for step in steps]
    assert places == sorted(places)
    assert places[0] >= 0
    assert re.search(r"\d+%", shown)
    assert "\x1b" not in out  # stdout is no terminal
    assert "results: out" in out
    assert shown.rstrip().endswith("\x1b[2K")  # the bar is wiped away at the end


def test_interrupted_at_once(tmp_path: Path) -> None:
    """Ctrl-C while the first modules are still being imported."""
    code = (
        "import builtins, dcsim.__main__ as entry\n"
        "plain = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'dcsim.cli':\n"
        "        raise KeyboardInterrupt\n"
        "    return plain(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "entry.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_no_plots_draws_and_imports_nothing(tmp_path: Path) -> None:
    write_scene(tmp_path / "short.yaml")
    code = (
        "import sys\n"
        "from dcsim.cli import app\n"
        "words = 'run short.yaml --out out --no-plots --quiet'\n"
        "app(words.split(), standalone_mode=False)\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not any(path.suffix == ".png" for path in (tmp_path / "out").iterdir())
    assert (tmp_path / "out" / "requests.parquet").is_file()
