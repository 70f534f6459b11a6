"""`dcsim models`, `dcsim explain`, and the pictures of `dcsim trace`."""

from __future__ import annotations

import json
from pathlib import Path

from cli_scenes import Dcsim, files_below

from dcsim import models


def test_models(dcsim: Dcsim) -> None:
    rows = json.loads(dcsim("models", "--json").out)
    assert [row["name"] for row in rows] == list(models.names())
    named = {row["name"]: row for row in rows}
    assert named["dit-xl-2"]["parameters"] == models.get("dit-xl-2").all_params()
    assert named["dit-xl-2"]["makes"] == "image"
    assert named["video-dit-xl"]["makes"] == "video"
    assert named["video-dit-xl"]["request"]["frames"] == 81
    assert named["llama-3.1-8b"]["kind"] == "llm"
    text = dcsim("models").out
    assert all(row["name"] in text for row in rows)


def test_explain(dcsim: Dcsim) -> None:
    given = ("explain", "dit-xl-2", "--set", "resolution=512x512", "--gpu", "h200")
    done = dcsim(*given)
    assert (done.code, done.err) == (0, "")
    assert "tokens, a patch each: (1 // 1) x (64 // 2) x (64 // 2) = 1,024 tokens" in done.out
    found = {line["what"]: line for line in json.loads(dcsim(*given, "--json").out)}
    assert found["tokens, a patch each"]["value"] == 1024
    assert dcsim("trace", "dit-xl-2", "--out", "t.npz").code == 0
    assert "the finished clip" in dcsim("explain", "t.npz").out


def test_explain_under_a_profile(dcsim: Dcsim) -> None:
    given = ("explain", "llama-3.1-8b", "--json")
    plain, eager = (
        {line["what"]: line["value"] for line in json.loads(dcsim(*given, *more).out)}
        for more in ((), ("--profile", "trt-llm"))
    )
    assert plain["in all"] != eager["in all"]
    assert plain["of the replica"] == eager["of the replica"]
    assert (
        dcsim(*given, "--profile", "trt-lm").errors[0].startswith("--profile: h100 has no profile")
    )


def test_explain_of_what_is_not(dcsim: Dcsim) -> None:
    done = dcsim("explain", "dit-xl-3", "--gpu", "h10", "--set", "steps")
    assert done.code == 2
    assert [error.split(":")[0] for error in done.errors] == ["--gpu", "model", "steps"]


def test_a_trace_says_what_holds_its_peak_and_draws_it(dcsim: Dcsim, tmp_path: Path) -> None:
    given = ("trace", "dit-s-8", "--set", "steps=2", "--plot", "p.svg", "--perfetto", "p.json")
    done = dcsim(*given)
    assert (done.code, done.err) == (0, "")
    assert {"p.svg", "p.json"} == {Path(file).name for file in files_below(tmp_path)}
    assert "fullest moment of decode:" in done.out
    assert "conv of decoder." in done.out
    assert "traceEvents" in json.loads(Path("p.json").read_text(encoding="utf-8"))
    facts = json.loads(dcsim("trace", "dit-s-8", "--json").out)
    for peak in facts["peaks"]:
        assert peak["bytes"] == sum(each["bytes"] for each in peak["holdings"])
    refused = dcsim("trace", "dit-s-8", "--perfetto", "p.txt")
    assert refused.errors == ["--perfetto: p.txt is written as .json, by the end of its name"]
