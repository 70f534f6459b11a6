"""Request logs: the public ones as published, and broken ones with every fault named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_scenes import SECOND, public_log

from dcsim.spec.logs import FORMATS
from dcsim.workload import LogError, read_log
from dcsim.workload.columns import log_columns
from dcsim.workload.formats import parsers
from dcsim.workload.logs import read_column
from dcsim.workload.rows import parse_rows

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def write(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def complaints(path: Path, form: str) -> list[str]:
    with pytest.raises(LogError) as error:
        read_log(path, form)
    assert all(problem.file == path for problem in error.value.problems)
    return [f"{problem.line}: {problem.message}" for problem in error.value.problems]


@pytest.mark.traces
def test_the_azure_conversation_log() -> None:
    log = read_log(public_log("azure2023_llm_conv.csv.gz"), "azure")
    assert log.prompt is not None
    assert log.output is not None
    assert len(log) == 19_366
    assert log.arrival[0] == 0
    assert log.arrival[1] == 4_314_579_000
    assert log.arrival[-1] // SECOND == 3501
    assert (np.diff(log.arrival) >= 0).all()
    assert (log.prompt[0], log.output[0]) == (374, 44)
    assert log.prompt.max() == 14_050


@pytest.mark.traces
def test_the_mooncake_log() -> None:
    log = read_log(public_log("mooncake_fast25_synthetic.jsonl.gz"), "mooncake")
    assert log.prompt is not None
    assert len(log) == 3_993
    assert log.arrival[-1] == 1_022_025 * 10**6
    assert log.prompt[0] == 40_160


@pytest.mark.traces
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("azure2023_llm_conv.csv.gz", "azure"),
        ("azure2023_llm_code.csv.gz", "azure"),
        ("mooncake_fast25_synthetic.jsonl.gz", "mooncake"),
    ],
)
def test_both_readers_read_the_same(name: str, form: str) -> None:
    path, layout = public_log(name), FORMATS[form]
    fast = log_columns(path, layout)
    slow = parse_rows(path, parsers(layout), json_lines=layout.json)
    assert fast is not None
    assert fast.keys() == slow.keys()
    assert all((fast[column] == slow[column]).all() for column in slow)


def test_a_burstgpt_log(tmp_path: Path) -> None:
    """Rows as the public files have them; a request that failed has no response."""
    text = (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "45,ChatGPT,1087,230,1317,Conversation log\n"
        "5,ChatGPT,472,18,490,Conversation log\n"
        "118.5,GPT-4,417,276,693,API log\n"
    )
    log = read_log(write(tmp_path / "log.csv", text), "burstgpt")
    assert log.arrival.tolist() == [5 * SECOND, 45 * SECOND, 237 * SECOND // 2]
    assert log.prompt is not None
    assert log.output is not None
    assert (log.prompt.tolist(), log.output.tolist()) == ([472, 1087, 417], [18, 230, 276])
    failed = write(tmp_path / "fails.csv", text + "1106,ChatGPT,0,0,0,Conversation log\n")
    assert complaints(failed, "burstgpt") == [
        "5: Request tokens: 0 is not within 1 to 2147483647",
        "5: Response tokens: 0 is not within 1 to 2147483647",
    ]


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1
    ),
    st.sampled_from([form for form, layout in FORMATS.items() if layout.per_second]),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, int, int]], form: str
) -> None:
    layout = FORMATS[form]
    names = (layout.time, layout.prompt, layout.output)
    if layout.json:
        lines = [json.dumps(dict(zip(names, row, strict=True)) | {"hash_ids": [1]}) for row in rows]
    else:
        lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
    path = write(tmp_path_factory.mktemp("log") / "log.gz", "\n".join(lines))
    fast = log_columns(path, layout)
    slow = parse_rows(path, parsers(layout), json_lines=layout.json)
    assert fast is not None
    assert all((fast[column] == slow[column]).all() for column in slow)
    log = read_log(path, form)
    assert sorted(zip(fast[names[0]], fast[names[1]], strict=True)) == sorted(
        zip(log.arrival, log.prompt if log.prompt is not None else (), strict=True)
    )
    assert (np.diff(log.arrival) >= 0).all()


def test_every_broken_row_is_named_with_its_line(tmp_path: Path) -> None:
    text = AZURE + (
        "2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:50.9951690,x,109\n"
        "\n"
        "yesterday,879,0\n"
        "2023-11-16 18:15:51.39\n"
        "2023-13-16 18:15:51,1,1\n"
        "2023-11-16 18:15:52,1.5,-3\n"
        "2023-11-16 18:15:53,99999999999,\n"
    )
    assert complaints(write(tmp_path / "broken.csv", text), "azure") == [
        "3: ContextTokens: 'x' is not a whole number",
        "5: TIMESTAMP: 'yesterday' is not a time like 2023-11-16 18:15:46.680",
        "5: GeneratedTokens: 0 is not within 1 to 2147483647",
        "6: has 1 fields, the header 3",
        "7: TIMESTAMP: '2023-13-16 18:15:51' is not a time: month must be in 1..12",
        "8: ContextTokens: '1.5' is not a whole number",
        "8: GeneratedTokens: -3 is not within 1 to 2147483647",
        "9: ContextTokens: 99999999999 is not within 1 to 2147483647",
        "9: GeneratedTokens: '' is not a whole number",
    ]


def test_broken_json_lines(tmp_path: Path) -> None:
    lines = [
        '{"timestamp": 0, "input_length": 3, "output_length": 1}',
        '{"timestamp": -1, "input_length": true, "output_length": 1}',
        '{"timestamp": "NaN", "input_length": 3}',
        '{"timestamp": 0, "input_le',
        "[1, 2]",
        '{"timestamp": null, "input_length": 1e3, "output_length": 1}',
    ]
    got = complaints(write(tmp_path / "broken.jsonl", "\n".join(lines)), "mooncake")
    assert [each.split(":")[0] for each in got] == ["2", "2", "3", "3", "4", "5", "6", "6"]
    assert got[0] == "2: timestamp: -1 is not within 0 to 1e+12 milliseconds"
    assert got[1] == "2: input_length: True is not a whole number"
    assert got[2] == "3: timestamp: 'NaN' is not a number of milliseconds"
    assert got[3] == "3: output_length is missing"
    assert got[5] == "5: is not an object: [1, 2]"


def test_a_misspelt_column(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "TIMESTAMP,ContextToken,GeneratedTokens\n")
    assert len(complaints(path, "azure")) == 1
    assert "no column 'ContextTokens': did you mean 'ContextToken'?" in complaints(path, "azure")[0]


@pytest.mark.parametrize("text", ["", AZURE, "\n\n"])
def test_an_empty_log(tmp_path: Path, text: str) -> None:
    assert complaints(write(tmp_path / "log.csv", text), "azure")


def test_files_that_are_none(tmp_path: Path) -> None:
    assert complaints(tmp_path / "missing.csv", "azure")[0].startswith("None: cannot be read")
    cut = gzip.compress((AZURE + "2023-11-16 18:15:46,374,44\n" * 1000).encode())[:-20]
    (tmp_path / "cut.csv.gz").write_bytes(cut)
    assert "cannot be read" in complaints(tmp_path / "cut.csv.gz", "azure")[0]
    assert "is a directory" in complaints(tmp_path, "azure")[0].lower()


def test_a_generic_log_may_have_no_tokens_or_both(tmp_path: Path) -> None:
    bare = read_log(write(tmp_path / "bare.csv", "arrival_s,note\n2.5,a\n1,b\n"), "csv")
    assert bare.arrival.tolist() == [SECOND, 2_500_000_000]
    assert bare.prompt is None
    assert bare.output is None
    half = write(tmp_path / "half.csv", "arrival_s,prompt\n1,5\n")
    assert "no column 'output'" in complaints(half, "csv")[0]


def test_rows_out_of_order_are_put_in_order_and_ties_keep_theirs(tmp_path: Path) -> None:
    text = "arrival_s,prompt,output\n3,1,1\n1,2,1\n3,3,1\n1,4,1\n"
    log = read_log(write(tmp_path / "log.csv", text), "csv")
    assert log.prompt is not None
    assert log.prompt.tolist() == [2, 4, 1, 3]


def test_times_with_a_zone(tmp_path: Path) -> None:
    text = AZURE + ("2024-05-10 00:00:00.009930+00:00,1,1\n2024-05-10 02:00:01.009930+02:00,1,1\n")
    assert read_log(write(tmp_path / "log.csv", text), "azure").arrival.tolist() == [0, SECOND]


def test_one_column_of_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv.gz", AZURE + "x,3,4\ny,5,6\n")
    assert read_column(path, "GeneratedTokens").tolist() == [4, 6]
    with pytest.raises(LogError, match=r"log.csv.gz:2:1: TIMESTAMP: 'x' is not a whole number"):
        read_column(path, "TIMESTAMP")
    with pytest.raises(LogError, match="no column 'Generated'"):
        read_column(path, "Generated")


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are azure, mooncake, csv"):
        read_log(tmp_path / "log", "parquet")
