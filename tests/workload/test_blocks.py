"""Logs with prefix blocks: read at once when sound, each broken row named when not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_scenes import public_log

from dcsim.spec.logs import FORMATS
from dcsim.workload import BlockLog, LogError, columns, read_blocks

COLUMNS = ("arrival", "prompt", "output", "start", "blocks")
SOUND = {"timestamp": 5, "input_length": 9, "output_length": 1, "hash_ids": [0, 7, 3]}


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def complaints(path: Path, block_tokens: int = 4) -> list[str]:
    with pytest.raises(LogError) as error:
        read_blocks(path, block_tokens)
    assert all(problem.file == path for problem in error.value.problems)
    return [f"{problem.line}: {problem.message}" for problem in error.value.problems]


def same(one: BlockLog, two: BlockLog) -> bool:
    return all((getattr(one, name) == getattr(two, name)).all() for name in COLUMNS)


def by_row(path: Path, block_tokens: int, monkeypatch: pytest.MonkeyPatch) -> BlockLog:
    with monkeypatch.context() as patch:
        patch.setattr(columns, "block_columns", lambda *_: None)
        return read_blocks(path, block_tokens)


@pytest.mark.traces
def test_the_mooncake_log(monkeypatch: pytest.MonkeyPatch) -> None:
    path = public_log("mooncake_fast25_synthetic.jsonl.gz")
    log = read_blocks(path, 512)
    assert (len(log), len(log.blocks), log.full.sum()) == (3_993, 121_877, 117_888)
    assert log.blocks[:3].tolist() == [0, 1, 2]
    assert log.start[:3].tolist() == [0, 79, 151]
    assert same(log, by_row(path, 512, monkeypatch))


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4), min_size=1))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, ids: list[list[int]]
) -> None:
    rows = [SOUND | {"input_length": 4 * len(each) - i % 4, "hash_ids": each}
            for i, each in enumerate(ids)]  # fmt: skip
    path = tmp_path_factory.mktemp("log") / "log.gz"
    path.write_bytes(gzip.compress("\n\n".join(map(json.dumps, rows)).encode()))
    assert columns.block_columns(path, FORMATS["mooncake"], "hash_ids") is not None
    log = read_blocks(path, 4)
    assert log.blocks.tolist() == [each for row in ids for each in row]
    assert log.start.tolist() == [sum(map(len, ids[:i])) for i in range(len(ids) + 1)]
    assert log.full.tolist() == [row["input_length"] // 4 for row in rows]  # type: ignore[operator]
    with pytest.MonkeyPatch.context() as patch:
        assert same(log, by_row(path, 4, patch))


def test_only_full_blocks_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "log", SOUND | {"hash_ids": [0, 7]}, SOUND | {"input_length": 3})
    assert complaints(path) == [
        "2: hash_ids: 3 blocks where 3 tokens are 0 or 1 of 4: are its blocks of 4 tokens?"
    ]
    path = write(tmp_path / "log", SOUND, SOUND | {"hash_ids": [0, 7]}, {**SOUND, "more": "keys"})
    assert read_blocks(path, 4).start.tolist() == [0, 3, 5, 8]


def test_every_broken_row_is_named(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log",
        SOUND,
        {},
        "not JSON",
        [1, 2],
        SOUND | {"timestamp": -1, "input_length": -9, "output_length": 1.5},
        SOUND | {"hash_ids": "abc"},
        SOUND | {"hash_ids": [1, "b", 2.5]},
        SOUND | {"hash_ids": [1, 2, 2**63]},
        SOUND | {"hash_ids": None},
        SOUND | {"hash_ids": [0, None, 1]},
        SOUND | {"input_length": 8},
        SOUND | {"input_length": 20},
        "[" * 100_000,
    )
    got = complaints(path)
    assert got[:4] == [f"2: {name} is missing" for name in SOUND]
    assert got[4].startswith("3: is not JSON: ")
    assert got[5:] == [
        "4: is not an object: [1, 2]",
        "5: timestamp: -1 is not within 0 to 1e+12 milliseconds",
        "5: input_length: -9 is not within 1 to 2147483647",
        "5: output_length: 1.5 is not a whole number",
        "6: hash_ids: 'abc' is not a list of block ids",
        "7: hash_ids: 'b' is not a whole number of 64 bits",
        "8: hash_ids: '9223372036854775808' is not a whole number of 64 bits",
        "9: hash_ids: 'None' is not a list of block ids",
        "10: hash_ids: 'None' is not a whole number of 64 bits",
        "11: hash_ids: 3 blocks where 8 tokens are 2 of 4: are its blocks of 4 tokens?",
        "12: hash_ids: 3 blocks where 20 tokens are 5 of 4: are its blocks of 4 tokens?",
        "13: is not JSON that is read here: it is nested too deep",
    ]


def test_files_that_are_none(tmp_path: Path) -> None:
    assert complaints(tmp_path / "none")[0].startswith("None: cannot be read: [Errno 2]")
    assert complaints(write(tmp_path / "empty")) == ["None: has no rows"]
    assert complaints(write(tmp_path / "lines", "", "")) == ["None: has no rows"]
    (tmp_path / "cut.gz").write_bytes(gzip.compress(json.dumps(SOUND).encode() * 99)[:-9])
    assert "cannot be read" in complaints(tmp_path / "cut.gz")[0]
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    assert "is not JSON" in complaints(tmp_path / "bytes")[0]
