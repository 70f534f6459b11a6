"""`dcsim hitrate`: hit rates of a log, the curve, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from cli_scenes import Dcsim, File, files_below, refused, write

IDS = ([1, 2, 3], [1, 2, 4], [1, 2, 3], [1, 5], [1, 2, 4], [1, 5])
BY_HAND = {"lru": 10 / 16, "lfu": 9 / 16, "fifo": 11 / 16}
LOG = "\n".join(
    json.dumps({"timestamp": t, "input_length": 10 * len(ids), "output_length": 1, "hash_ids": ids})
    for t, ids in enumerate(IDS)
)
HITRATE = ("hitrate", "log", "--block-tokens", "10")


@pytest.fixture(autouse=True)
def log(tmp_path: Path) -> None:
    write(tmp_path / "log", LOG)


@pytest.mark.parametrize("policy", BY_HAND)
def test_as_json(dcsim: Dcsim, policy: str) -> None:
    done = dcsim(*HITRATE, "--policy", policy, "--capacity-tokens", "4e1,0, 100000", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {
        "log": "log",
        "policy": policy,
        "block_tokens": 10,
        "requests": 6,
        "full_blocks": 16,
        "distinct_blocks": 5,
        "runs": 5,
        "unlimited_hit_rate": 11 / 16,
        "capacity_tokens": [40, 0, 100_000],
        "capacity_blocks": [4, 0, 10_000],
        "hit_rate": [BY_HAND[policy], 0, 11 / 16],
    }


def test_as_text(dcsim: Dcsim, tmp_path: Path) -> None:
    done = dcsim(*HITRATE, "--capacity-tokens", "40,1e6,12.5")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "log: 6 requests, 16 full blocks of 10 tokens",
        "5 distinct blocks in 5 runs; one cache, lru",
        "",
        "capacity (tokens)   blocks  hit rate",
        "               40        4    62.50%",
        "        1,000,000  100,000    68.75%",
        "             12.5        1    31.25%",
        "        unlimited      all    68.75%",
    ]
    assert files_below(tmp_path) == {"log"}


def test_a_packed_log_needs_no_name_for_it(dcsim: Dcsim, tmp_path: Path) -> None:
    plain = dcsim(*HITRATE, "--capacity-tokens", "40").out
    write(tmp_path / "log", gzip.compress(LOG.encode()))
    assert dcsim(*HITRATE, "--capacity-tokens", "40").out == plain


def test_the_curve(dcsim: Dcsim) -> None:
    done = dcsim(*HITRATE, "--curve", "--json")
    assert (done.code, done.err) == (0, "")
    facts = json.loads(done.out)
    assert facts["capacity_tokens"] == [0, 10, 20, 30, 40, 50]
    assert facts["hit_rate"] == [hits / 16 for hits in (0, 5, 7, 8, 10, 11)]
    some = json.loads(dcsim(*HITRATE, "--curve", "--json", "--capacity-tokens", "45,9e9").out)
    assert some["capacity_tokens"] == [0, 10, 20, 30, 40, 45, 50, 9e9]
    assert some["hit_rate"][5:] == [10 / 16, 11 / 16, 11 / 16]
    assert some["enough_tokens"] == 50
    text = dcsim(*HITRATE, "--curve").out.splitlines()
    assert [line.split()[0] for line in text[4:8]] == ["10", "20", "50", "unlimited"]
    assert text[8:] == ["", "50 tokens hit as often as room for all."]
    asked = dcsim(*HITRATE, "--curve", "--capacity-tokens", "40").out
    assert asked.startswith(dcsim(*HITRATE, "--capacity-tokens", "40").out)


def test_a_log_in_which_nothing_comes_again(dcsim: Dcsim, tmp_path: Path) -> None:
    write(tmp_path / "log", LOG.splitlines()[0])
    done = dcsim(*HITRATE, "--curve", "--plot", "c.png")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[4:] == [
        "               10       1     0.00%",
        "        unlimited     all     0.00%",
        "",
        "0 tokens hit as often as room for all.",
    ]


@pytest.mark.traces
def test_the_curve_of_the_mooncake_log_is_the_replay(dcsim: Dcsim, logs: Path) -> None:
    log = logs / "mooncake_fast25_synthetic.jsonl.gz"
    curve = json.loads(dcsim("hitrate", log, "--curve", "--json").out)
    points = list(zip(curve["capacity_tokens"], curve["hit_rate"], strict=True))[::100]
    listed = ",".join(str(capacity) for capacity, _ in points)
    replay = json.loads(dcsim("hitrate", log, "--capacity-tokens", listed, "--json").out)
    assert list(zip(replay["capacity_tokens"], replay["hit_rate"], strict=True)) == points


def test_the_plot(dcsim: Dcsim, tmp_path: Path) -> None:
    done = dcsim(*HITRATE, "--curve", "--plot", "c.png", "--capacity-tokens", "1,40,5e9")
    assert (done.code, done.err) == (0, "")
    assert files_below(tmp_path) == {"log", "c.png"}
    picture = (tmp_path / "c.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    dcsim(*HITRATE, "--curve", "--plot", "c.png", "--capacity-tokens", "1,40,5e9")
    assert (tmp_path / "c.png").read_bytes() == picture


def test_a_plot_takes_names_as_they_are(dcsim: Dcsim, tmp_path: Path) -> None:
    """A `$` begins no formula."""
    write(tmp_path / r"$\frac{$.jsonl", LOG)
    done = dcsim("hitrate", r"$\frac{$.jsonl", *HITRATE[2:], "--curve", "--plot", "c.png")
    assert (done.code, done.err) == (0, "")


C = ("--capacity-tokens", "40")
ARGUMENTS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "no capacity": (HITRATE, ["--capacity-tokens: is due, such as 1e5,1e6; or --curve"]),
    "an unknown policy": (
        (*HITRATE, *C, "--policy", "lur"),
        ["--policy: no policy 'lur'; did you mean 'lru'? (known: lru, lfu, fifo)"],
    ),
    "a curve of another policy": (
        (*HITRATE, "--curve", "--policy", "fifo"),
        ["--curve: one pass gives all capacities of lru alone; of fifo name some"],
    ),
    "a plot without the curve": ((*HITRATE, *C, "--plot", "c.png"), ["--plot: draws the curve"]),
    "capacities that are no numbers": (
        (*HITRATE, "--capacity-tokens", "1e5,,10 GB,nan,inf,-1,1e40"),
        [
            "--capacity-tokens: '' is not a number of tokens, such as 1e6",
            "--capacity-tokens: '10 GB' is not a number",
            "--capacity-tokens: 'nan' is not a number",
            "--capacity-tokens: 'inf' is not a number",
            "--capacity-tokens: -1 is not within 0 to 2^62 tokens",
            "--capacity-tokens: 1e40 is not within 0 to 2^62 tokens",
        ],
    ),
    "all at once": (
        ("hitrate", "none", "--policy", "", "--capacity-tokens", "x", "--plot", "no/c.svg"),
        [
            "--policy: no policy ''; known: lru, lfu, fifo",
            "--plot: draws the curve",
            "--plot: no/c.svg is written as .png, by the end of its name",
            "--plot: there is no directory no",
            "--capacity-tokens: 'x' is not",
            "none: cannot be read: ... No such file",
        ],
    ),
    "a directory": (("hitrate", ".", *C), [".: cannot be read: ... directory"]),
    "blocks too large": (
        ("hitrate", "log", *C, "--block-tokens", "31"),
        ["log:1:1: hash_ids: 3 blocks where 30 tokens are 0 or 1 of 31", *["log:"] * 5],
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(dcsim: Dcsim, tmp_path: Path, name: str) -> None:
    arguments, expected = ARGUMENTS[name]
    refused(dcsim, tmp_path, arguments, expected)


@pytest.mark.parametrize("tokens", ["0", "-5", "many", "3000000000"])
def test_blocks_of_no_tokens(dcsim: Dcsim, tokens: str) -> None:
    done = dcsim("hitrate", "log", *C, "--block-tokens", tokens)
    assert (done.code, done.out) == (2, "")
    assert "Invalid value for '--block-tokens'" in done.err


ROW = '{"timestamp": 0, "input_length": 10, "output_length": 1, "hash_ids": [1]}\n'
LOGS: dict[str, tuple[File, list[str]]] = {
    "nothing": ("", ["log: has no rows"]),
    "no JSON": (ROW + "timestamp,input_length\n", ["log:2:1: is not JSON"]),
    "broken rows": (
        ROW
        + '{"timestamp": "x", "input_length": -1, "output_length": 1, "hash_ids": 5}\n'
        + ROW.replace("[1]", "[1, 2]")
        + '{"timestamp": 0}\n',
        [
            "log:2:1: timestamp: 'x' is not a number of milliseconds",
            "log:2:1: input_length: -1 is not within 1 to 2147483647",
            "log:2:1: hash_ids: '5' is not a list of block ids",
            "log:3:1: hash_ids: 2 blocks where 10 tokens are 1 of 10: are its blocks",
            "log:4:1: input_length is missing",
            "log:4:1: output_length is missing",
            "log:4:1: hash_ids is missing",
        ],
    ),
    "no full block": (ROW.replace("10", "9"), ["log: no prompt fills a block of 10 tokens"]),
    "a packed log that is cut": (
        gzip.compress(ROW.encode() * 99)[:-12],
        ["log: cannot be read: Compressed file ended before"],
    ),
}


@pytest.mark.parametrize("name", LOGS)
def test_logs(dcsim: Dcsim, tmp_path: Path, name: str) -> None:
    content, expected = LOGS[name]
    write(tmp_path / "log", content)
    refused(dcsim, tmp_path, [*HITRATE, *C], expected)


def test_a_log_of_broken_rows_is_not_printed_to_the_end(dcsim: Dcsim, tmp_path: Path) -> None:
    write(tmp_path / "log", ROW.replace("[1]", "[]") * 20_000)
    done = dcsim(*HITRATE, *C)
    assert (done.code, done.out, len(done.errors)) == (2, "", 100)
    assert done.err.splitlines()[-2:] == ["... and 19,900 more", "20,000 problems"]
