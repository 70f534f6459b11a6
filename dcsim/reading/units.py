"""Quantities with units: `80 GB`, `80 GiB`, `8 TB/s`, `400 Gb/s`, `1.5 h`, `30/s`, `25 USD/GB`.

Bytes (B) and bits (b) differ, and so do decimal (k, M, G, ...) and binary (Ki, Mi, Gi, ...)
prefixes. Conversion is exact (rational), rounding to a whole number of bytes or nanoseconds
comes last. A bare number where a unit is due is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

INT64 = 2**63 - 1

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?"
_QUANTITY = re.compile(rf"^\s*({_NUMBER})\s*(\S.*?)?\s*$")

_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_BINARY = {p + "i": 1024**n for n, p in enumerate("KMGTPE", start=1)}
_PREFIXES = _DECIMAL | _BINARY

_TIMES = {
    "ns": Fraction(1),
    "us": Fraction(10**3),
    "µs": Fraction(10**3),
    "ms": Fraction(10**6),
    "s": Fraction(10**9),
    "min": Fraction(60 * 10**9),
    "h": Fraction(3600 * 10**9),
    "d": Fraction(86_400 * 10**9),
    "w": Fraction(7 * 86_400 * 10**9),
}
_PER = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_SIZES = {p + "B": Fraction(n) for p, n in _PREFIXES.items()} | {
    p + "b": Fraction(n, 8) for p, n in _PREFIXES.items()
}
_MONEY = {"USD": Fraction(1), "kUSD": Fraction(10**3), "MUSD": Fraction(10**6)}


@dataclass(frozen=True, eq=False)
class Dimension:
    """What a quantity measures: its units (value in the base unit) and how to write one."""

    name: str
    units: Mapping[str, Fraction]
    example: str
    allowed: str
    """The units in words, for messages."""

    @property
    def pattern(self) -> str:
        """A regular expression for JSON Schema that accepts quantities of this dimension."""
        units = "|".join(re.escape(unit) for unit in sorted(self.units))
        return rf"^\s*{_NUMBER}\s*({units})\s*$"

    @property
    def nothing(self) -> str:
        """How to write 0, in the unit of the example."""
        return re.sub(rf"^{_NUMBER}", "0", self.example)


SIZE = Dimension("a size", _SIZES, "80 GB", "B, kB, MB, GB, TB, PB; KiB, MiB, GiB, TiB; Gb (bits)")
TIME = Dimension("a time", _TIMES, "1.5 h", "ns, us, ms, s, min, h, d, w")
BANDWIDTH = Dimension(
    "a bandwidth",
    {f"{s}/{t}": n / _PER[t] for s, n in _SIZES.items() for t in _PER},
    "8 TB/s",
    "B/s, MB/s, GB/s, TB/s; GiB/s; Gb/s (bits)",
)
COMPUTE = Dimension(
    "a compute rate",
    {p + u: Fraction(n) for p, n in _DECIMAL.items() for u in ("FLOP/s", "FLOPS")},
    "989 TFLOP/s",
    "GFLOP/s, TFLOP/s, PFLOP/s",
)
RATE = Dimension(
    "a rate", {f"/{t}": Fraction(1, n) for t, n in _PER.items()}, "30/s", "/s, /min, /h, /d"
)
POWER = Dimension(
    "a power", {p + "W": Fraction(_DECIMAL[p]) for p in ("", "k", "M")}, "700 W", "W, kW, MW"
)
MONEY = Dimension("a price", _MONEY, "30000 USD", "USD, kUSD, MUSD")
UNIT_PRICE = Dimension(
    "a price per size",
    {f"USD/{size}": 1 / n for size, n in _SIZES.items()},
    "25 USD/GB",
    "USD/GB, USD/TB, USD/GiB",
)

DIMENSIONS = (SIZE, BANDWIDTH, TIME, RATE, COMPUTE, POWER, MONEY, UNIT_PRICE)


def parse(value: object, dimension: Dimension) -> Fraction:
    """The quantity in base units (bytes, ns, per second, W, USD).

    Raises ValueError with what is wrong and how to write it.
    """
    due = f"{dimension.name} with its unit is due, such as {dimension.example!r}"
    if isinstance(value, bool) or value is None:
        raise ValueError(f"{shown(value)} is no quantity: {due}")
    if isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is a bare number: {due} (units: {dimension.allowed})")
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{shown(value)} is no quantity: {due}")
    number, unit = Fraction(match[1]), match[2]
    if unit is None:
        raise ValueError(f"{value!r} is a bare number: {due} (units: {dimension.allowed})")
    unit = re.sub(r"\s*/\s*", "/", unit)
    if unit not in dimension.units:
        raise ValueError(f"{value!r}: {_unknown(unit, dimension)}")
    return number * dimension.units[unit]


def whole(value: object, dimension: Dimension) -> int:
    """The quantity rounded to whole base units (bytes, ns, bytes/s, FLOP/s), within int64."""
    exact = parse(value, dimension)
    rounded = round(exact)
    if abs(rounded) > INT64:
        raise ValueError(f"{value!r} is more than 64 bits hold")
    if rounded == 0 and exact != 0:
        raise ValueError(f"{value!r} is less than the smallest unit that is counted")
    return rounded


def time_as_written(ns: int) -> str:
    """A time in the largest unit of which it is a whole number, such as `1 min`."""
    if ns == 0:
        return "0 s"
    unit = max((u for u in _TIMES if ns % _TIMES[u] == 0), key=lambda u: _TIMES[u])
    return f"{ns / _TIMES[unit]} {unit}"


def shown(value: object) -> str:
    """A value as messages show it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return repr(value)


def _unknown(unit: str, dimension: Dimension) -> str:
    reply = f"the unit {unit!r} is not {dimension.name}'s (units: {dimension.allowed})"
    bare = unit.split("/")[0]
    if bare in ("KB", "Kb", "K", "KB/s"):
        return reply + "; write k for 1000, Ki for 1024"
    near = [known for known in dimension.units if known.lower() == unit.lower()]
    if near:
        return reply + f"; did you mean {' or '.join(map(repr, near))}?"
    for other in DIMENSIONS:
        if unit in other.units:
            return reply + f"; that is {other.name}, here {dimension.example!r} would do"
    return reply
