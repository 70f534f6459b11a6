"""Bytes and times as people read them."""

from __future__ import annotations

from dcsim.reading.units import time_as_written

__all__ = ["byte_unit", "bytes_text", "gap_text", "percent", "rate_text", "time_text", "time_unit"]

_BYTES = ((10**15, "PB"), (10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "B"))
_SPANS = (
    (4 * 86_400 * 10**9, 86_400 * 10**9, "d"),
    (3 * 3_600 * 10**9, 3_600 * 10**9, "h"),
    (5 * 60 * 10**9, 60 * 10**9, "min"),
    (2 * 10**9, 10**9, "s"),
    (2 * 10**6, 10**6, "ms"),
    (0, 10**3, "us"),
)


def byte_unit(largest: float) -> tuple[int, str]:
    """Bytes in, and name of, the decimal unit that suits values up to `largest` bytes."""
    for size, name in _BYTES:
        if largest >= size:
            return size, name
    return 1, "B"


def time_unit(span: int) -> tuple[int, str]:
    """ns in, and name of, the unit that suits an axis of `span` ns."""
    for least, size, name in _SPANS:
        if span >= least:
            return size, name
    return 1, "ns"


def bytes_text(value: float) -> str:
    """Bytes to three digits: `1.23 TB`. A difference keeps its sign."""
    size, name = byte_unit(abs(value) * 1.0005)
    return f"{_digits(value / size)} {name}"


def time_text(ns: float) -> str:
    """A duration to three digits: `350 ms`, `12.5 s`, `3.2 min`, `26.1 h`."""
    for least, size, name in (
        (48 * 3_600 * 10**9, 86_400 * 10**9, "d"),
        (2 * 3_600 * 10**9, 3_600 * 10**9, "h"),
        (120 * 10**9, 60 * 10**9, "min"),
        (10**9, 10**9, "s"),
        (10**6, 10**6, "ms"),
        (10**3, 10**3, "us"),
    ):
        if abs(ns) >= least:
            return f"{_digits(ns / size)} {name}"
    return f"{ns:.0f} ns" if ns else "0 s"


def gap_text(start: int, end: int | None) -> str:
    """A class of reuse gaps, ns: `below 1 s`, `4 s to 15 s`, `above 64 h`."""
    first, last = (time_as_written(n) if n is not None else "" for n in (start, end))
    if end is None:
        return f"above {first}"
    return f"{first} to {last}" if start else f"below {last}"


def rate_text(per_second: float, what: str) -> str:
    """A rate in the unit of time in which it is at least one: `1.2 requests/s`, `43 clips/h`."""
    for seconds, name in ((1, "s"), (60, "min"), (3_600, "h")):
        if per_second * seconds >= 1:
            return f"{_digits(per_second * seconds)} {what}/{name}"
    return f"{_digits(per_second * 86_400)} {what}/d"


def percent(part: float) -> str:
    """A ratio as a percentage."""
    return f"{100 * part:.1f} %"


def _digits(value: float) -> str:
    """Three significant digits, in full."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}"
