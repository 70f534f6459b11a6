"""Request logs row by row: slower than Arrow, but it can say which rows are broken and how."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from dcsim.spec import did_you_mean

__all__ = ["RowError", "json_rows", "open_text", "parse_rows"]

Parsers = Mapping[str, Callable[[object], int]]
Row = tuple[int, dict[str, Any] | str]
"""A line number, and the row's fields by name or what is wrong with it as a whole."""


class RowError(Exception):
    """Every broken row: `rows`, a list of (line or None, what is wrong)."""

    def __init__(self, rows: list[tuple[int | None, str]]) -> None:
        super().__init__(f"{len(rows)} broken rows")
        self.rows = rows


def parse_rows(
    path: Path, parsers: Parsers, *, json_lines: bool, optional: Collection[str] = ()
) -> dict[str, NDArray[np.int64]]:
    """The columns of a log that have a parser, int64[N] each.

    `optional` columns may be missing from a CSV, but only all together. Raises `RowError` with
    all broken rows, `OSError`, `EOFError` or `zlib.error` where the file cannot be read.
    """
    problems: list[tuple[int | None, str]] = []
    columns: dict[str, list[int]] = {name: [] for name in parsers}
    with open_text(path) as text:
        for line, row in json_rows(text) if json_lines else _csv_rows(text, parsers, optional):
            if isinstance(row, str):
                problems.append((line, row))
                continue
            for name, values in columns.items():
                try:
                    if name in row:
                        values.append(parsers[name](row[name]))
                    elif json_lines:
                        problems.append((line, f"{name} is missing"))
                except ValueError as error:
                    problems.append((line, f"{name}: {error}"))
    if not problems and not any(columns.values()):
        problems.append((None, "has no rows"))
    if problems:
        raise RowError(problems)
    return {name: np.array(values, dtype=np.int64) for name, values in columns.items() if values}


def open_text(path: Path) -> TextIO:
    """A file as text, gzip'd or not."""
    with path.open("rb") as head:
        packed = head.read(2) == b"\x1f\x8b"
    how: Any = gzip.open if packed else open
    text: TextIO = how(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return text


def _csv_rows(text: TextIO, parsers: Parsers, optional: Collection[str]) -> Iterator[Row]:
    reader = csv.reader(text)
    names = next(reader, [])
    faults = _header_faults(names, parsers, optional)
    yield from ((1, fault) for fault in faults)
    while not faults:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, f"is not CSV: {error}"
            continue
        if fields is None:
            return
        if len(fields) == len(names):
            yield reader.line_num, dict(zip(names, fields, strict=True))
        elif fields:
            yield reader.line_num, f"has {len(fields)} fields, the header {len(names)}"


def _header_faults(names: list[str], parsers: Parsers, optional: Collection[str]) -> list[str]:
    any_optional = any(name in names for name in optional)
    wanted = [name for name in parsers if name not in optional or any_optional]
    faults = [f"column {name!r} is there twice" for name in wanted if names.count(name) > 1]
    for name in wanted:
        if name not in names:
            faults.append(f"the header has no column {name!r}: {did_you_mean(name, names)}")
    return faults


def json_rows(text: TextIO) -> Iterator[Row]:
    """The rows of JSON lines; empty lines are none."""
    for line, content in enumerate(text, start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except ValueError as error:
            yield line, f"is not JSON: {error}"
            continue
        except RecursionError:
            yield line, "is not JSON that is read here: it is nested too deep"
            continue
        yield line, row if isinstance(row, dict) else f"is not an object: {content.strip()[:40]}"
