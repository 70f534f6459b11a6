"""Files that hold no scenario, and one with nearly everything wrong: all at once, placed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from cli_scenes import RUN, Dcsim, File, refused, write
from hypothesis import given
from hypothesis import strategies as st
from scene import scene

from dcsim.planning import check

pytestmark = pytest.mark.usefixtures("nothing_runs")

TEXTS: dict[str, tuple[File, list[str]]] = {
    "empty": ("", ["s.yaml:1:1: is empty"]),
    "comments alone": ("# nothing\n\n", ["s.yaml:1:1: is empty"]),
    "not YAML": ("name: [1, 2\nseed: {", ["s.yaml:2:5: is not YAML ... expected ',' or ']'"]),
    "a colon too many": ("name: a: b\n", ["s.yaml:1:8: is not YAML: mapping values"]),
    "tabs": ("name: x\njobs:\n\tchat: 1\n", ["s.yaml:3:1: is not YAML ... use spaces in place"]),
    "a tab before a value": ("name:\tx\n", ["s.yaml:1:6: is not YAML ... use spaces in place"]),
    "two documents": ("a: 1\n---\nb: 1\n", ["s.yaml:2:1: is not YAML ... single document"]),
    "binary": (bytes(range(128, 256)), ["s.yaml:1:1: is not UTF-8 text: byte 0x80"]),
    "latin-1": ("name: a\nseed: é".encode("latin-1"), ["s.yaml:2:7: is not UTF-8 text: byte 0xe9"]),
    "UTF-16": ("name: x\n".encode("utf-16"), ["s.yaml:1:1: is not UTF-8 text: byte 0xff"]),
    "NUL": ("name: a\nseed: \0\n", [r"s.yaml:2:7: is not YAML: the character '\x00' is not allo"]),
    "bell": ("name: '\a'\n", [r"s.yaml:1:8: is not YAML: the character '\x07' is not allowed"]),
    "a number": ("42", ["s.yaml:1:1: 42 where a mapping is due (keys: name,"]),
    "a list": ("- 1\n- 2\n", ["s.yaml:1:1: a list where a mapping is due"]),
    "an unknown alias": ("name: *x\n", ["s.yaml:1:7: is not YAML: found undefined alias 'x'"]),
    "deep lists": ("a: " + "[" * 100_000, ["s.yaml:1:104: is not YAML: nested over 100 deep"]),
    "deep mappings": (
        "\n".join(" " * i + "a:" for i in range(1500)),
        ["s.yaml:101:101: is not YAML: nested over 100 deep"],
    ),
    "aliases of aliases": (
        "\n".join(
            f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else '1'] * 10)}]" for i in range(9)
        ),
        ["s.yaml:1 ... has more than 200000 values, by aliases"],
    ),
    "a topology": (
        "name: t\nracks: {r: hgx-h100}\n",
        ["s.yaml:1:1: holds a topology (racks); a scenario (jobs on a topology) is due here"],
    ),
    "parts": ("gpus: {mine: h100}\n", ["s.yaml:1:1: holds parts of the catalogue; a scenario"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_are_no_scenario(dcsim: Dcsim, tmp_path: Path, name: str) -> None:
    content, expected = TEXTS[name]
    write(tmp_path / "s.yaml", content)
    refused(dcsim, tmp_path, RUN, expected)


MESSY = """\
name: messy
seed: 1
duration: 3600
duration: 1 h
bin: 1 GB
topology:
  name: t
  racks:
    rack0: {extends: hgx-h1000, dram: 2 tb}
jobs:
  chat:
    modell: llama-3.1-8b
    <<: {replicas: 1}
    replicas: 0
    arrivals: {process: gamma, rate: -1/s, cv: .nan}
    shape: {prompt: !!int many, output: 200}
  clips:
    model: dit-xl-2
    replicas: 1
    arrivals: {process: replay, log: nowhere.csv, format: cvs}
"""


def test_all_at_once_in_the_order_of_the_file(dcsim: Dcsim, tmp_path: Path) -> None:
    write(tmp_path / "s.yaml", MESSY)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").touch()
    options = ["--set", "jobs.chta.replicas=1", "--set", "seed", "--what-if", "cheaper"]
    expected = [
        "--out: out has files in it but no manifest.json",
        "seed: an override is written dotted.path=value",
        "jobs.chta.replicas: no 'chta' in jobs; did you mean 'chat'? (known: chat, clips)",
        "s.yaml: what_if: no what_if 'cheaper'; none is defined",
        "s.yaml:3:11: duration: 3600 is a bare number ... such as '1.5 h'",
        "s.yaml:4:1: duration: given twice, first in line 3",
        "s.yaml:5:6: bin: '1 GB': the unit 'GB' is not a time's ... that is a size",
        "s.yaml:9:22: topology.racks.rack0.extends: no 'hgx-h1000' ... did you mean 'hgx-h100'?",
        "s.yaml:9:39: topology.racks.rack0.dram: '2 tb' ... did you mean 'TB' or 'Tb'?",
        "s.yaml:12:5: jobs.chat.modell: unknown key; did you mean 'model'?",
        "s.yaml:13:5: jobs.chat.<<: merge keys are not read",
        "s.yaml:14:15: jobs.chat.replicas: 0 must be 1 or more",
        "s.yaml:15:38: jobs.chat.arrivals.rate: '-1/s' must be 0 or more",
        "s.yaml:15:48: jobs.chat.arrivals.cv: nan is not a finite number",
        "s.yaml:16:21: jobs.chat.shape.prompt: 'many' is not a whole number",
        "s.yaml:17:3: jobs.clips.shape: dit-xl-2 takes resolution, frames, steps",
        "s.yaml:20:38: jobs.clips.arrivals.log: no such file: nowhere.csv; give it with --set",
        "s.yaml:20:59: jobs.clips.arrivals.format: 'cvs' is not allowed; did you mean 'csv'?",
    ]
    refused(dcsim, tmp_path, [*RUN, *options], expected)


SCENE = yaml.safe_dump(
    scene(
        operations=[
            {"kind": "failures", "job": "chat", "mtbf": "1 h", "mttr": "1 min"},
            {"kind": "capacity", "script": [["1 min", "shelf", "1 TB"]]},
            {"kind": "sampler", "every": "1 min"},
        ],
        what_if={"a": {"topology.racks.rack0.dram": "1 TB"}, "b": {"jobs.chat.replicas": 3}},
    ),
    sort_keys=False,
)
VALUE = re.compile(r"(?<=: )\S.*$|(?<=- )\S.*$", re.MULTILINE)
PLACES = [match.span() for match in VALUE.finditer(SCENE)]
JUNK = """0 -1 1e308 .nan .inf null [] {} "" 9223372036854775807 9223372036854775808 true a 1_s 1_ns
9_EB 1_B 0/s 1e17/s 1.5 [1] {a:_1} !!int_x &a *a <<:_1 ? - ' " # % @ ` | > 0x10 999999x16 rack0
local shelf chat video-dit-13b llama-3.1-70b gb300-nvl72 .. / 290_w 1e6_h 2147483648 \u2028
\u0000"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("junk") / "s.yaml"


@given(st.sampled_from(PLACES), st.sampled_from(JUNK.split()))
def test_junk_anywhere_is_a_problem_or_none(place: Path, span: tuple[int, int], junk: str) -> None:
    """Whatever stands in place of a value, `check` says what it thinks of it: nothing is raised."""
    start, end = span
    write(place, SCENE[:start] + junk.replace("_", " ") + SCENE[end:])
    for problem in check(place):
        assert problem.message
