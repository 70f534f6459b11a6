"""What the request log formats are: their columns, and how the text of a field is read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = ["FORMATS", "MAX_NUMBER", "MAX_SECONDS", "Format", "parse_number"]

MAX_NUMBER = 2**31 - 1
"""The most tokens (or frames, or steps) a row may have: more is a damaged row."""

MAX_SECONDS = 1e9
"""The latest arrival in a log, some 30 years: as nanoseconds it still fits 64 bits."""

_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Format:
    """The columns of a log format and how its times are meant."""

    time: str
    """The column of the arrival time."""
    prompt: str
    output: str
    per_second: float | None
    """The clock's ticks in a second; None: times are dates, and the first arrival is time 0."""
    json: bool = False
    """JSON lines rather than CSV."""
    tokens_optional: bool = False

    @property
    def parsers(self) -> Mapping[str, Callable[[object], int]]:
        """By column: what turns a field into an integer, or raises `ValueError`."""
        return {self.time: self.parse_time, self.prompt: parse_number, self.output: parse_number}

    def parse_time(self, value: object) -> int:
        """An arrival time in ns."""
        if self.per_second is None:
            return _date(str(value).strip())
        return _clock(value, self.per_second)


FORMATS: Mapping[str, Format] = {
    "azure": Format("TIMESTAMP", "ContextTokens", "GeneratedTokens", per_second=None),
    "mooncake": Format("timestamp", "input_length", "output_length", per_second=1e3, json=True),
    "csv": Format("arrival_s", "prompt", "output", per_second=1.0, tokens_optional=True),
}


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
