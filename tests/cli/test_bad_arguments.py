"""Wrong arguments, places that cannot be written to, request logs with broken rows."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from cli_scenes import RUN, VARIANTS, Dcsim, File, files_below, refused, write
from scene import changed, scene

pytestmark = pytest.mark.usefixtures("nothing_runs")

COMPARE = ("compare", "s.yaml", "--out", "out")
AN_OVERRIDE = "an override is written dotted.path=value"
NO_MODEL = "model: no model 'dit-xl-3': did you mean"


def sets(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


ARGUMENTS: dict[str, tuple[list[str], list[str]]] = {
    "--set without a value": ([*RUN, *sets("seed")], [f"seed: {AN_OVERRIDE}"]),
    "--set without a path": ([*RUN, *sets("=5")], [f"=5: {AN_OVERRIDE}"]),
    "--set of nothing": ([*RUN, *sets("")], [AN_OVERRIDE]),
    "--set with a hole": ([*RUN, *sets("jobs..x=1")], ["jobs..x: is no dotted path"]),
    "--set far down": ([*RUN, *sets("a." * 3000 + "b=1")], ["a.a.a."]),
    "--set that is not YAML": ([*RUN, *sets("bin=[1")], ["bin: is not YAML: while parsing"]),
    "--set of a control character": ([*RUN, *sets("bin=\x01")], [r"bin: is not YAML ... '\x01'"]),
    "--set of digits": ([*RUN, *sets("seed=" + "9" * 5000)], ["seed: a number of 5000 digits"]),
    "--set of twins": ([*RUN, *sets("jobs.chat.layout={tp: 1, tp: 2}")], ["jobs.chat.layout: g"]),
    "--set of an unknown key": (
        [*RUN, *sets("jobs.chat.replics=1")],
        ["jobs.chat.replics: unknown key; did you mean 'replicas'?"],
    ),
    "--set below a value": ([*RUN, *sets("seed.x=1")], ["seed.x: seed holds a single value here"]),
    "--set that takes too much": (
        [*RUN, *sets("jobs=", "duration=null")],
        ["s.yaml:1:1: duration: is required and not given", "s.yaml:1:1: jobs: is required"],
    ),
    "several --set at once": (
        [*RUN, *sets("bin=[1", "jobs.cat.x=1", "duration=5", "jobs.chat.replicas=0")],
        [
            "bin: is not YAML",
            "jobs.cat.x: no 'cat'",
            "duration: 5 is a ba",
            "jobs.chat.replicas: 0",
        ],
    ),
    "an unknown variant": (
        [*RUN, "--what-if", "bussier"],
        ["s.yaml: what_if: no what_if 'bussier'; did you mean 'busier'?"],
    ),
    "a long seed": ([*RUN, "--seed", str(2**63)], ["seed: 9223372036854775808 must be less"]),
    "a file that is not there": (["run", "none.yaml"], ["none.yaml: cannot be read: No such file"]),
    "a directory": (["run", "folder"], ["folder: cannot be read: Is a directory"]),
    "check of a directory": (["check", "folder"], ["folder: cannot be read: Is a directory"]),
    "show of a directory": (["show", "folder"], ["folder: cannot be read: Is a directory"]),
    "compare of a directory": (["compare", "folder"], ["folder: cannot be read: Is a directory"]),
    "unknown variants": (
        [*COMPARE, "--what-if", "x", "--what-if", "y", *sets("bin=5")],
        ["s.yaml: ... no variant 'x'; known: small_dram", "s.yaml: ... no var", "bin: 5 is a bare"],
    ),
    "nothing to compare": (["compare", "plain.yaml"], ["plain.yaml: what_if: nothing to compare"]),
    "show of no topology": (["show", "hgx_h10"], ["topology: no shipped ... mean 'hgx_h100'?"]),
    "show of parts": (["show", "parts.yaml"], ["parts.yaml:1:1: holds parts of the catalogue; a"]),
    "show with a wrong --set": (
        ["show", "s.yaml", *sets("topology.racks.rack0.dram=5")],
        ["topology.racks.rack0.dram: 5 is a bare number"],
    ),
    "trace of no model": (["trace", "dit-xl-3"], [NO_MODEL]),
    "trace on no GPU": (
        ["trace", "dit-xl-2", "--gpu", "h10"],
        ["--gpu: no GPU 'h10'; did you mea"],
    ),
    "trace, all at once": (
        ["trace", "dit-xl-3", "--gpu", "h10", *sets("steps", "[=1"), "--plot", "no/p.txt"],
        [
            "--plot: no/p.txt is written as one of .png, .svg, .pdf",
            "--plot: there is no directory no",
            "--gpu: no GPU",
            NO_MODEL,
            "steps: a setting is written key=value",
        ],
    ),
    "trace with wrong settings": (
        [
            "trace",
            "dit-xl-2",
            *sets("widht=512", "steps=0", "frames=[1", "dtype=x", "a.b=1", "shape.tp=2", "tp=x"),
        ],
        [
            "frames: is not YAML",
            "widht: unknown; did you mean 'width'?",
            "shape.steps: 0 is not a whole number above 0",
            "a.b: no group 'a'; known: shape, layout, options",
            "shape.tp: unknown; known: frames, height, input, resolution, steps, strength, width",
            "layout.tp: 'x' is not a whole number above 0",
            "options.dtype: 'x' is not allowed: known: bf16, fp16, fp32",
        ],
    ),
    "trace of too much": (
        ["trace", "llama-3.1-8b", *sets("output=1000000000", "chunk=9000000")],
        ["shape.output: 1000000000 must be", "shape.chunk: 9000000 must be 1048576 or less"],
    ),
    "trace of a terapixel": (
        ["trace", "dit-xl-2", *sets("width=999984", "height=999984")],
        ["shape: width 999984, height 999984 ... more FLOPs or bytes than 64 bits hold"],
    ),
    "trace into a directory": (
        ["trace", "dit-s-8", "--out", "folder"],
        ["--out: folder is written as .npz", "--out: folder is a dir"],
    ),
    "trace below a file": (
        ["trace", "dit-s-8", "--out", "s.yaml/t.npz"],
        ["--out: there is no direc"],
    ),
    "trace of nothing": (["trace"], ["MODEL: name a model, or a factory with --torch"]),
    "trace of two things": (
        ["trace", "dit-s-8", "--torch", "a:b"],
        ["MODEL: name a model, or a factory with --torch"],
    ),
    "trace of no file": (["trace", "none.npz"], ["model: none.npz: No such file"]),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(dcsim: Dcsim, tmp_path: Path, name: str) -> None:
    arguments, expected = ARGUMENTS[name]
    write(tmp_path / "s.yaml", scene(what_if=VARIANTS))
    write(tmp_path / "plain.yaml", scene())
    write(tmp_path / "parts.yaml", "gpus: {mine: h100}\n")
    (tmp_path / "folder").mkdir()
    refused(dcsim, tmp_path, arguments, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'SCENARIO'"),
        (["run", "s.yaml", "--ouput", "x"], "No such option: --ouput"),
        (["run", "s.yaml", "--seed", "-1"], "Invalid value for '--seed'"),
        (["run", "s.yaml", "--seed", "one"], "Invalid value for '--seed'"),
        (["simulate", "s.yaml"], "No such command 'simulate'"),
        (["check"], "Missing argument 'FILES'"),
        (["bench", "--requests", "10"], "Invalid value for '--requests'"),
        (["schema", "rack"], "'rack' is not one of"),
    ],
)
def test_usage(dcsim: Dcsim, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = dcsim(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert files_below(tmp_path) == set()


# Places


def _a_file(folder: Path) -> None:
    (folder / "out").write_text("mine", encoding="utf-8")


def _foreign(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "notes").touch()


def _dangling(folder: Path) -> None:
    (folder / "out").symlink_to("nowhere")


@pytest.mark.parametrize("command", [RUN, (*COMPARE, "--set", "seed=2")], ids=["run", "compare"])
@pytest.mark.parametrize(
    ("prepare", "target", "message"),
    [
        (_a_file, "out", "--out: out is a file; results need a directory"),
        (_a_file, "out/below", "--out: cannot write to out/below: Not a directory"),
        (_foreign, "out", "--out: out has files in it but no manifest.json"),
        (_dangling, "out", "--out: out is a file"),
        (None, "x" * 300, "--out: cannot write to xxx ... File name too long"),
        (None, "/dev/null", "--out: /dev/null is a file"),
        (None, "/dev/null/x", "--out: cannot write to /dev/null/x: Not a directory"),
        (None, "", "--out: . has files in it but no manifest.json"),
    ],
)
def test_places(
    dcsim: Dcsim, tmp_path: Path, command: tuple[str, ...], prepare: Any, target: str, message: str
) -> None:
    write(tmp_path / "s.yaml", scene())
    if prepare is not None:
        prepare(tmp_path)
    refused(dcsim, tmp_path, [target if part == "out" else part for part in command], [message])


def test_a_file_where_results_go_by_default(dcsim: Dcsim, tmp_path: Path) -> None:
    write(tmp_path / "s.yaml", scene())
    _a_file(tmp_path)
    message = "--out: cannot write to out/s: Not a directory"
    refused(dcsim, tmp_path, ["run", "s.yaml"], [message])


def test_a_directory_that_is_not_ours(dcsim: Dcsim, tmp_path: Path) -> None:
    write(tmp_path / "s.yaml", scene())
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("root may write everywhere")
    message = "--out: cannot write to locked/out: Permission denied"
    refused(dcsim, tmp_path, ["run", "s.yaml", "--out", "locked/out"], [message])
    trace = ["trace", "dit-s-8", "--out", "locked/t.npz"]
    refused(dcsim, tmp_path, trace, ["--out: locked cannot be written to"])


# Request logs


def replaying(log: str, form: str = "csv", **more: Any) -> dict[str, Any]:
    arrivals = {"process": "replay", "log": log, "format": form, **more}
    data = changed("jobs.chat.arrivals", arrivals)
    data["jobs"]["chat"]["shape"] = {"prompt": "from_log", "output": "from_log"}
    return data


LOG = "jobs.chat.arrivals.log"
HEADER = "arrival_s,prompt,output\n"
BROKEN = HEADER + "1,2,3\nx,2,3\n1,-2,3\n1,2\nnan,1,1\n5,1.5,0\n"
LOGS: dict[str, tuple[File, str, list[str]]] = {
    "broken rows": (
        BROKEN,
        "csv",
        [
            f":3:1: {LOG}: arrival_s: 'x' is not a number of seconds",
            f":4:1: {LOG}: prompt: -2 is not within 1 to 2147483647",
            f":5:1: {LOG}: has 2 fields, the header 3",
            f":6:1: {LOG}: arrival_s: 'nan' is not a number of seconds",
            f":7:1: {LOG}: prompt: '1.5' is not a whole number",
            f":7:1: {LOG}: output: 0 is not within 1 to 2147483647",
        ],
    ),
    "broken JSON lines": (
        '{"timestamp": 1, "input_length": 3}\nno\n[1]\n',
        "mooncake",
        [
            f":1:1: {LOG}: output_length is missing",
            f":2:1: {LOG}: is not JSON",
            f":3:1: {LOG}: is not an object: [1]",
        ],
    ),
    "another format": (
        HEADER + "1,2,3\n",
        "azure",
        [
            f":1:1: {LOG}: the header has no column '{name}': known: arrival_s, prompt, output"
            for name in ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
        ],
    ),
    "a misspelt column": (
        "arrival_s,promt,output\n1,2,3\n",
        "csv",
        [f":1:1: {LOG}: the header has no column 'prompt': did you mean 'promt'?"],
    ),
    "no rows": (HEADER, "csv", [f": {LOG}: has no rows"]),
    "nothing": ("", "csv", [f":1:1: {LOG}: "]),
    "no tokens": (
        "arrival_s\n1\n",
        "csv",
        ["s.yaml:24:15: jobs.chat.shape.prompt: the request lo"],
    ),
    "binary": (bytes(range(256)) * 9, "csv", [f":1:1: {LOG}: the header has no column"]),
    "a packed log that is cut": (
        gzip.compress(HEADER.encode() + b"1,2,3\n" * 9999)[:60],
        "csv",
        [f": {LOG}: cannot be read: Compressed file ended before"],
    ),
    "no packed log at all": (b"\x1f\x8b" + b"junk" * 9, "csv", [f": {LOG}: cannot be read: "]),
}


@pytest.mark.parametrize("name", LOGS)
def test_logs(dcsim: Dcsim, tmp_path: Path, name: str) -> None:
    content, form, expected = LOGS[name]
    write(tmp_path / "log", content)
    write(tmp_path / "s.yaml", replaying("log", form))
    log = str(tmp_path / "log")
    expected = [each if each.startswith("s.yaml") else log + each for each in expected]
    refused(dcsim, tmp_path, RUN, expected)
    assert "\x00" not in dcsim(*RUN).err  # what would steer a terminal is written out


def test_a_log_of_broken_rows_is_not_printed_to_the_end(dcsim: Dcsim, tmp_path: Path) -> None:
    write(tmp_path / "log", HEADER + "x,1,1\n" * 20_000)
    write(tmp_path / "s.yaml", replaying("log"))
    done = dcsim(*RUN)
    assert done.code == 2
    assert len(done.errors) == 100
    assert done.err.splitlines()[-2:] == [
        "... and 19,900 more",
        "20,000 problems; nothing was written",
    ]


def test_a_broken_log_hides_nothing_else(dcsim: Dcsim, tmp_path: Path) -> None:
    write(tmp_path / "log", HEADER + "x,1,1\n")
    data = replaying("log")
    data["jobs"]["chat"]["model"] = "llama-3.1-70b"
    data["jobs"]["image"]["options"] = {"dtpye": "bf16"}
    write(tmp_path / "s.yaml", data)
    expected = ["", "s.yaml ... does not fit its replica", "s.yaml ... did you mean 'dtype'?"]
    refused(dcsim, tmp_path, RUN, expected)


def test_a_packed_log_needs_no_name_for_it(dcsim: Dcsim, tmp_path: Path) -> None:
    """And what is far past the end of a slowed replay does no harm."""
    write(tmp_path / "log", gzip.compress((HEADER + "1,2,3\n900000000,2,3\n").encode()))
    write(tmp_path / "s.yaml", replaying("log", speed=0.01))
    done = dcsim("check", "s.yaml")
    assert (done.code, done.err) == (0, "")


def test_logs_that_are_not_there(dcsim: Dcsim, tmp_path: Path) -> None:
    data = replaying("${NO_SUCH_VARIABLE}/log.csv")
    data["jobs"]["image"]["shape"]["steps"] = {"empirical": {"file": "no.csv", "column": "c"}}
    data["bin"] = 5
    write(tmp_path / "s.yaml", data)
    del data["bin"]
    write(tmp_path / "t.yaml", data)
    expected = [
        f"{LOG}: the environment variable NO_SUCH_VARIABLE is not set; set it, or give it with",
        "jobs.image.shape.steps.empirical.file: no such file: no.csv; give it with --set",
    ]
    refused(dcsim, tmp_path, ["run", "t.yaml"], expected, within="t.yaml")
    refused(dcsim, tmp_path, RUN, ["bin: 5 is a bare number", *expected], within="s.yaml")
