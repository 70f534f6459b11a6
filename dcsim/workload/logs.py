"""Request logs: recorded arrivals to replay, read at once when sound and row by row when not.

The formats are in `spec/logs.py`; each file is plain or gzip'd.
Rows need not be in order. Tokens are at least 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsim.spec import Problem, SpecError
from dcsim.spec.logs import FORMATS
from dcsim.workload.formats import parse_number, parsers
from dcsim.workload.rows import RowError, parse_rows

__all__ = ["LogError", "RequestLog", "read_column", "read_log"]

Ints = NDArray[np.int64]


class LogError(SpecError):
    """A request log that cannot be used: every broken row, by file and line, in `problems`."""


@dataclass(frozen=True)
class RequestLog:
    """A log in order of arrival.

    `arrival` int64[N], ns from the log's beginning; `prompt` and `output` int64[N], tokens, or
    None where the log has none.
    """

    arrival: Ints
    prompt: Ints | None
    output: Ints | None

    def __len__(self) -> int:
        return len(self.arrival)


def read_log(path: Path, form: str) -> RequestLog:
    """A request log in one of the formats of `FORMATS`.

    A sound log goes through Arrow's readers. One that they refuse is read again row by row, to
    name each broken row. Raises `LogError` with all problems, `ValueError` for another format.
    """
    from dcsim.workload.columns import log_columns  # most runs replay no log

    if form not in FORMATS:
        raise ValueError(f"no log format {form!r}; there are {', '.join(FORMATS)}")
    layout = FORMATS[form]
    optional = (layout.prompt, layout.output) if layout.tokens_optional else ()
    read = _read(
        path,
        lambda: log_columns(path, layout),
        lambda: parse_rows(path, parsers(layout), json_lines=layout.json, optional=optional),
    )
    arrival = read[layout.time]
    if layout.per_second is None:
        arrival = arrival - arrival.min()
    order = np.argsort(arrival, kind="stable")
    prompt, output = read.get(layout.prompt), read.get(layout.output)
    return RequestLog(
        arrival[order],
        None if prompt is None else prompt[order],
        None if output is None else output[order],
    )


def read_column(path: Path, column: str) -> Ints:
    """One column of whole numbers, at least 1, of a CSV with a header: int64[N].

    Raises `LogError` with all broken rows.
    """
    from dcsim.workload.columns import number_column

    read = _read(
        path,
        lambda: number_column(path, column),
        lambda: parse_rows(path, {column: parse_number}, json_lines=False),
    )
    return read[column]


def _read(
    path: Path,
    at_once: Callable[[], dict[str, Ints] | None],
    by_row: Callable[[], dict[str, Ints]],
) -> dict[str, Ints]:
    try:
        found = at_once()
    except (pa.ArrowException, OSError, EOFError, KeyError, UnicodeDecodeError):
        found = None
    if found is not None:
        return found
    try:
        return by_row()
    except RowError as error:
        problems = [_problem(path, line, message) for line, message in error.rows]
    except (OSError, EOFError, zlib.error) as error:
        problems = [_problem(path, None, f"cannot be read: {error}")]
    raise LogError(problems)


def _problem(path: Path, line: int | None, message: str) -> Problem:
    return Problem(path, line, None if line is None else 1, "", message)
