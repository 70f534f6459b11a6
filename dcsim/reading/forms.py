"""How values are written: a form reads a value of the tree, and describes itself in JSON Schema.

Reading goes on past what is wrong. A value that cannot be read is a `HOLE`, and whoever looks into
a hole is sent away by `Unknown`: so one round finds what is wrong with the fields and what is
wrong between them, but nothing that only follows.
"""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from dcsim.reading import units
from dcsim.reading.errors import Finding, Problem, did_you_mean, dotted
from dcsim.reading.tree import Mark, Node, locate, plain
from dcsim.reading.units import Dimension, shown

Steps = tuple[str | int, ...]
"""A path of keys and positions."""
Schema = dict[str, Any]

YEAR = 365 * 86_400 * 10**9


class Unknown(Exception):
    """What was looked at could not be read; that has been said already."""


class _Hole:
    def _unknown(self, *_: object) -> NoReturn:
        raise Unknown

    __getattr__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __contains__ = _unknown
    __lt__ = __le__ = __gt__ = __ge__ = __getitem__ = __int__ = __index__ = __float__ = _unknown
    __add__ = __radd__ = __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = __truediv__ = _unknown


HOLE: Any = _Hole()
"""Stands for a value that could not be read."""
LATER: Any = None
"""The default of a field that is filled in when the rest is known."""


def sure(value: Any) -> Any:
    """The value, for those who ask what it is. Raises Unknown for a hole."""
    if value is HOLE:
        raise Unknown
    return value


@dataclass
class Reading:
    """One reading of a tree, with what is wrong in it."""

    problems: list[Problem] = field(default_factory=list)

    def wrong(self, mark: Mark, path: Steps, message: str) -> Any:
        """Notes a problem; the value is a hole then."""
        self.problems.append(mark.problem(dotted(path), message))
        return HOLE

    def found(self, node: Node, path: Steps, findings: Iterable[Finding]) -> bool:
        """Notes findings below a node; whether there are any. What cannot be seen is passed
        over."""
        before = len(self.problems)
        with suppress(Unknown):
            for below, message in findings:
                keys = tuple(below.split(".")) if below else ()
                self.wrong(locate(node, keys), (*path, *keys), message)
        return len(self.problems) > before


class TooMuch(ValueError):
    """More than can be counted: the value is read all the same, to see what else is wrong."""

    def __init__(self, value: float, message: str) -> None:
        super().__init__(message)
        self.value = value


NEEDED: Any = object()


@dataclass(frozen=True)
class Key:
    """A key of a mapping."""

    name: str
    form: Form
    default: Any
    """NEEDED where it must be given."""
    owner: Any
    """The concept that it is a key of."""
    field: str = ""
    """The field that it fills, if it fills one; its docstring says what the key means."""
    hidden: bool = False
    """Written by composition, not by people."""


class Form(ABC):
    """A way to write a value."""

    concept: Any = None
    """The concept whose keys a mapping of this form has, if it is of one."""

    @abstractmethod
    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        """The value in base units, or HOLE with what is wrong added to the reading; `name` is
        that of the entry which it is of a mapping."""

    @abstractmethod
    def schema(self, defs: dict[str, Schema]) -> Schema:
        """JSON Schema of what can be written; that of mappings with a name goes to `defs`."""

    def keys(self, node: Node) -> Mapping[str, Key]:
        """The keys that a mapping takes, which may depend on what stands there."""
        return {}

    def below(self, node: Node, key: str) -> Form | None:
        """The form of what stands in the node under a key or at a position, where it is known."""
        known = self.keys(node).get(key)
        return None if known is None else known.form

    def replaces(self, base: Node, over: Node) -> bool:
        """Whether a mapping over another replaces it whole: half a distribution is none."""
        return False

    def written(self, value: Any) -> Any:
        """A default as one would write it; None where there is nothing to say."""
        return value if isinstance(value, str | int | float) and value != "" else None


# One value


class Scalar(Form):
    """A single value."""

    @abstractmethod
    def parse(self, value: Any) -> Any:
        """The value in base units. Raises ValueError with what is wrong."""

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        try:
            return self.parse(plain(node))
        except ValueError as error:
            reading.wrong(node.place, path, str(error))
            return error.value if isinstance(error, TooMuch) else HOLE


@dataclass(frozen=True)
class Quantity(Scalar):
    """A number with its unit, in base units: whole ones, or `exact` as a float."""

    dimension: Dimension
    positive: bool = False
    """More than 0; else 0 will do."""
    exact: bool = False
    years: int | None = None
    """The most, of a time."""

    def parse(self, value: Any) -> int | float:
        number = (units.parse if self.exact else units.whole)(value, self.dimension)
        if number < 0 or (self.positive and number == 0):
            raise ValueError(f"{value!r} must be {'more than 0' if self.positive else '0 or more'}")
        if self.years is not None and number > self.years * YEAR:
            raise TooMuch(int(number), f"{number / YEAR:.3g} years must be {self.years} or less")
        try:
            return float(number) if self.exact else int(number)
        except OverflowError:
            raise ValueError(f"{value!r} is more than a number can be") from None

    def schema(self, defs: dict[str, Schema]) -> Schema:
        # A pattern cannot say well that 0 is allowed; an example can.
        zero = [] if self.positive else [self.dimension.nothing]
        examples = [self.dimension.example, *zero]
        return {"type": "string", "pattern": self.dimension.pattern, "examples": examples}

    def written(self, value: Any) -> Any:
        return units.time_as_written(value) if self.dimension is units.TIME else None


@dataclass(frozen=True)
class Number(Scalar):
    """A number without a unit, whole or any."""

    low: float | None = None
    above: float | None = None
    high: float | None = None
    under: int | None = None
    within: tuple[float, float] = (-math.inf, math.inf)
    """What can be counted, of that."""
    whole: bool = False

    def parse(self, value: Any) -> Any:
        kind, due = (int, "a whole number") if self.whole else (int | float, "a number")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{shown(value)} where {due} is due")
        if not self.whole and not -math.inf < value < math.inf:
            raise ValueError(f"{shown(value)} is not a finite number")
        if self.above is not None and value <= self.above:
            raise ValueError(f"{shown(value)} must be more than {self.above:g}")
        if self.low is not None and value < self.low:
            raise ValueError(f"{shown(value)} must be {self.low:g} or more")
        if self.high is not None and value > self.high:
            raise ValueError(f"{shown(value)} must be {self.high:g} or less")
        if self.under is not None and value >= self.under:
            raise TooMuch(value, f"{shown(value)} must be less than {self.under}")
        low, most = self.within
        if not low <= value <= most:
            bounds = f"from {low:g} to {most:g}" if low > -math.inf else f"{_figure(most)} or less"
            raise TooMuch(value, f"{shown(value)} must be {bounds}")
        return value if self.whole else float(value)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        bounds = {"exclusiveMinimum": self.above, "minimum": self.low, "maximum": self.high}
        given = {bound: value for bound, value in bounds.items() if value is not None}
        return {"type": "integer" if self.whole else "number", **given}


def _figure(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def up_to(most: float) -> tuple[float, float]:
    """What can be counted, up to a figure."""
    return -math.inf, most


@dataclass(frozen=True)
class Text(Scalar):
    """Text as it stands."""

    def parse(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"{shown(value)} where text is due")
        return value

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {"type": "string"}


@dataclass(frozen=True)
class Flag(Scalar):
    """`true` or `false`."""

    def parse(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{shown(value)} where true or false is due")
        return value

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Word(Scalar):
    """One of some words."""

    allowed: tuple[str, ...]

    def parse(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.allowed:
            near = did_you_mean(str(value), self.allowed)
            raise ValueError(f"{shown(value)} is not allowed; {near}")
        return value

    def schema(self, defs: dict[str, Schema]) -> Schema:
        one = len(self.allowed) == 1
        return {
            "type": "string",
            **({"const": self.allowed[0]} if one else {"enum": [*self.allowed]}),
        }


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expand_variables(text: str) -> str:
    """`${NAME}` replaced by the environment variable. Raises ValueError where it is not set."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found:
            raise ValueError(f"the environment variable {match[1]} is not set")
        return found

    return _VARIABLE.sub(value, text)


@dataclass(frozen=True)
class File(Text):
    """A file that is there, relative to the one that names it, as a path."""

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        text = super().read(node, path, reading)
        if text is HOLE:
            return HOLE
        hint = f"give it with --set {dotted(path)}=PATH"
        try:
            text = expand_variables(text)
        except ValueError as error:
            reading.wrong(node.mark, path, f"{error}; set it, or {hint}")
            return Path(text)
        found = (Path.cwd() if node.mark.file is None else node.mark.file.parent) / text
        if not found.is_file():
            reading.wrong(node.mark, path, f"no such file: {found}; {hint}")
        return found.resolve()


@dataclass(frozen=True)
class Anything(Form):
    """What others make sense of, later."""

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        return plain(node)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {}


# Several values


@dataclass(frozen=True)
class ListOf(Form):
    """A list, as a tuple."""

    entry: Form
    least: int = 0

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        if node.items is None:
            return reading.wrong(node.place, path, f"{shown(plain(node))} where a list is due")
        if len(node.items) < self.least:
            return reading.wrong(node.place, path, f"needs at least {self.least}")
        entries = enumerate(node.items)
        return tuple(self.entry.read(each, (*path, i), reading) for i, each in entries)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        least = {"minItems": self.least} if self.least else {}
        return {"type": "array", "items": self.entry.schema(defs), **least}

    def below(self, node: Node, key: str) -> Form | None:
        return self.entry


@dataclass(frozen=True)
class Row(Form):
    """A list of a fixed length, each place of its own form: `[10 min, rack0/dram, 1 TB]`."""

    places: tuple[Form, ...]
    make: Callable[..., Any]

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        if node.items is None:
            return reading.wrong(node.place, path, f"{shown(plain(node))} where a list is due")
        count, due = len(node.items), len(self.places)
        if count != due:
            return reading.wrong(node.place, path, f"has {count} entries where {due} are due")
        pairs = enumerate(zip(self.places, node.items, strict=True))
        values = [form.read(each, (*path, i), reading) for i, (form, each) in pairs]
        return HOLE if any(value is HOLE for value in values) else self.make(*values)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        places = [form.schema(defs) for form in self.places]
        return {
            "type": "array",
            "prefixItems": places,
            "minItems": len(places),
            "maxItems": len(places),
        }

    def below(self, node: Node, key: str) -> Form | None:
        return self.places[int(key)] if key.isdecimal() and int(key) < len(self.places) else None


@dataclass(frozen=True)
class MapOf(Form):
    """A mapping from names to entries."""

    entry: Form
    least: int = 0

    @property
    def closed(self) -> bool:
        """Whether its entries are mappings themselves: a path leads to those that are there."""
        return self.entry.concept is not None or isinstance(self.entry, MapOf)

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        if node.map is None:
            return reading.wrong(node.place, path, f"{shown(plain(node))} where a mapping is due")
        if len(node.map) < self.least and not node.partial:
            return reading.wrong(node.place, path, f"needs at least {self.least}")
        return {
            key: self.entry.read(child, (*path, key), reading, key)
            for key, child in node.map.items()
            if not (child.value is None and isinstance(self.entry, Scalar))  # taken away
        }

    def schema(self, defs: dict[str, Schema]) -> Schema:
        least = {"minProperties": self.least} if self.least else {}
        entry: Any = self.entry.schema(defs) or True
        if isinstance(self.entry, Scalar):
            entry = {"anyOf": [entry, {"type": "null"}]}
        return {"type": "object", "additionalProperties": entry, **least}

    def below(self, node: Node, key: str) -> Form | None:
        return self.entry


# One of two forms


@dataclass(frozen=True)
class Made(Form):
    """Something made of a value of another form; what `make` refuses is wrong."""

    form: Form
    make: Callable[[Any], Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "concept", self.form.concept)

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        value = self.form.read(node, path, reading, name)
        try:
            return HOLE if value is HOLE else self.make(value)
        except Unknown:
            return HOLE
        except ValueError as error:
            return reading.wrong(node.place, path, str(error))

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return self.form.schema(defs)

    def keys(self, node: Node) -> Mapping[str, Key]:
        return self.form.keys(node)

    def replaces(self, base: Node, over: Node) -> bool:
        return self.form.replaces(base, over)


@dataclass(frozen=True)
class Either(Form):
    """A short form, or a mapping that says more."""

    short: Form
    mapping: Form

    def __post_init__(self) -> None:
        object.__setattr__(self, "concept", self.mapping.concept)

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        form = self.short if node.map is None else self.mapping
        return form.read(node, path, reading, name)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        short, mapping = self.short.schema(defs), self.mapping.schema(defs)
        return {"anyOf": [*short.get("anyOf", [short]), mapping]}

    def keys(self, node: Node) -> Mapping[str, Key]:
        return self.mapping.keys(node)

    def replaces(self, base: Node, over: Node) -> bool:
        return self.mapping.replaces(base, over)
