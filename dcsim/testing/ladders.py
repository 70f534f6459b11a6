"""Round figures between bounds: quantities that read well and shrink to their simplest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from dcsim.reading.units import RATE, SIZE, TIME, Dimension, parse, whole

__all__ = [
    "Count",
    "Span",
    "count",
    "rates",
    "several",
    "size_text",
    "sizes",
    "span",
    "time_text",
    "times",
]

Span = str | tuple[str, str]
"""Bounds of a quantity with units, both included, such as `("1 GB", "2 TB")`; or one value."""

Count = int | tuple[int, int]
"""Bounds of a whole number, both included; or one value."""

SECOND = 10**9
_SIZES = {"PB": 10**15, "TB": 10**12, "GB": 10**9, "MB": 10**6, "kB": 10**3, "B": 1}
_TIMES = {
    "d": 86_400 * SECOND,
    "h": 3600 * SECOND,
    "min": 60 * SECOND,
    "s": SECOND,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}


def count(bounds: Count) -> st.SearchStrategy[int]:
    """Whole numbers within bounds; the least is the simplest."""
    low, high = (bounds, bounds) if isinstance(bounds, int) else bounds
    if low > high:
        raise InvalidArgument(f"bounds {bounds!r}: the first is more than the second")
    return st.integers(low, high)


def several(draw: Any, bounds: Count) -> Iterator[int]:
    """0, 1, ... as often as drawn within bounds. Each time is drawn by itself, so that a failing
    example can lose one of several things, whichever it is."""
    low, high = (bounds, bounds) if isinstance(bounds, int) else bounds
    if low > high:
        raise InvalidArgument(f"bounds {bounds!r}: the first is more than the second")
    for i in range(high):
        if i >= low and not draw(st.booleans()):
            return
        yield i


def span(bounds: Span, dimension: Dimension) -> tuple[int, int]:
    """Bounds in base units (bytes, ns)."""
    low, high = _ends(bounds)
    least, most = whole(low, dimension), whole(high, dimension)
    if least > most:
        raise InvalidArgument(f"bounds {bounds!r}: the first is more than the second")
    return least, most


def sizes(bounds: Span) -> st.SearchStrategy[str]:
    """Sizes such as `50 GB`; the greatest is the simplest, for it makes the least trouble."""
    low, high = span(bounds, SIZE)
    steps = [m * 10**e for e in range(19) for m in (1, 2, 5)]
    return st.sampled_from([size_text(n) for n in reversed(_between(low, high, steps))])


def times(bounds: Span) -> st.SearchStrategy[str]:
    """Times such as `5 min`; the shortest is the simplest."""
    low, high = span(bounds, TIME)
    steps = [m * 10**e for e in range(11) for m in (1, 2, 5)]
    steps = [n for n in steps if n < 60 * SECOND]
    steps += [n * 60 * SECOND for n in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1440, 4320, 10080)]
    return st.sampled_from([time_text(n) for n in _between(low, high, steps)])


def rates(bounds: Span, most: float = float("inf")) -> st.SearchStrategy[str]:
    """Rates such as `0.2/s` within bounds, and not above `most` a second unless all are."""
    low, high = (float(parse(end, RATE)) for end in _ends(bounds))
    if not 0 <= low <= high:
        raise InvalidArgument(f"bounds {bounds!r}: the first is more than the second, or negative")
    steps = [m * 10.0**e for e in range(-9, 9) for m in (1, 2, 3, 5, 7)]
    found = [low, *(r for r in steps if low < r < high), *([high] if high > low else [])]
    return st.sampled_from([f"{r:.12g}/s" for r in found if r <= most or r == low])


def size_text(size: int) -> str:
    """Bytes in the largest unit that takes them without a fraction."""
    return _text(size, _SIZES, "B")


def time_text(time: int) -> str:
    """ns in the largest unit that takes them without a fraction."""
    return _text(time, _TIMES, "s")


def _ends(bounds: Span) -> tuple[str, str]:
    return (bounds, bounds) if isinstance(bounds, str) else bounds


def _between(low: int, high: int, steps: list[int]) -> list[int]:
    return sorted({low, high, *(n for n in steps if low < n < high)})


def _text(amount: int, units: dict[str, int], zero: str) -> str:
    if amount == 0:
        return f"0 {zero}"
    unit = next(name for name, size in units.items() if amount % size == 0)
    return f"{amount // units[unit]} {unit}"
