"""How the text of a field of a request log is read; the formats are in `spec/logs.py`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from dcsim.spec.logs import LogFormat

__all__ = ["MAX_NUMBER", "MAX_SECONDS", "parse_number", "parsers"]

MAX_NUMBER = 2**31 - 1
"""The most tokens (or frames, or steps) a row may have: more is a damaged row."""

MAX_SECONDS = 1e9
"""The latest arrival in a log, some 30 years: as nanoseconds it still fits 64 bits."""

_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parsers(layout: LogFormat) -> Mapping[str, Callable[[object], int]]:
    """By column: what turns a field into an integer, or raises `ValueError`."""
    return {
        layout.time: lambda value: parse_time(value, layout),
        layout.prompt: parse_number,
        layout.output: parse_number,
    }


def parse_time(value: object, layout: LogFormat) -> int:
    """An arrival time in ns."""
    if layout.per_second is None:
        return _date(str(value).strip())
    return _clock(value, layout.per_second)


def parse_number(value: object) -> int:
    """A whole number of tokens, frames or steps, at least 1."""
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError(f"{value!r} is not a whole number")
    if not 1 <= int(text) <= MAX_NUMBER:
        raise ValueError(f"{text} is not within 1 to {MAX_NUMBER}")
    return int(text)


def _clock(value: object, per_second: float) -> int:
    unit = "seconds" if per_second == 1.0 else "milliseconds"
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{value!r} is not a number of {unit}")
    if not 0 <= number <= MAX_SECONDS * per_second:
        raise ValueError(f"{value} is not within 0 to {MAX_SECONDS * per_second:.0e} {unit}")
    return round(number * (1e9 / per_second))


def _date(text: str) -> int:
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time like 2023-11-16 18:15:46.680")
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone or '+00:00'}")
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time: {error}") from None
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    return seconds * 10**9 + int((fraction or "0").ljust(9, "0"))
