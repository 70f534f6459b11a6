"""Draws: how the numbers and the resolutions of requests come about.

A distribution is one class: how it is written, and how it is drawn. A draw takes one value of the
stream, so draw i of a changed distribution (another median, other weights) falls on the same
quantile. A fixed value takes none.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from dcsim.reading.concept import Concept, Default, Fields, Least, defined, doc_of, variants
from dcsim.reading.errors import did_you_mean
from dcsim.reading.forms import (
    NEEDED,
    Either,
    File,
    Form,
    Key,
    Made,
    Number,
    Reading,
    Schema,
    Steps,
    Text,
    up_to,
)
from dcsim.reading.tree import Node, plain
from dcsim.reading.units import INT64, shown
from dcsim.spec.rates import only_one

Ints = npt.NDArray[np.int64]
Random = np.random.Generator
Value = TypeVar("Value", bound=object)
Size = tuple[int, int]
"""A resolution: width and height in pixels."""

MOST = 2**31 - 1
"""Tokens, frames or steps, as in request logs."""
FIGURE = Number(1, within=up_to(MOST), whole=True)
Figure = Annotated[int, FIGURE]
WEIGHT = Number(above=0, within=up_to(1e15))


class Draw(Concept, ABC):
    """A distribution; one with a tag is written as a mapping with that key alone."""

    @abstractmethod
    def draw(self, count: int, random: Random) -> Ints:
        """Values for `count` requests: int64[count], or int64[count, 2] of resolutions."""

    @classmethod
    def body(cls, value: Callable[[str], Any]) -> Form:
        """The form of what stands below its key; `value` reads a single value from text."""
        return Fields(cls)


@dataclass(frozen=True)
class Fixed(Draw, Generic[Value]):
    """Always the same value."""

    value: Value

    def draw(self, count: int, random: Random) -> Ints:
        one = np.asarray(self.value, dtype=np.int64)
        return np.full((count, *one.shape), one)


@dataclass(frozen=True)
class FromLog(Draw):
    """The figure that the replayed request log has for this request."""

    def draw(self, count: int, random: Random) -> Ints:
        raise ValueError("numbers from a request log are read, not drawn")


@dataclass(frozen=True)
class Choice(Draw, Generic[Value]):
    """`{value: weight, ...}`."""

    tag = "choice"

    values: tuple[Value, ...]
    weights: tuple[float, ...]
    """Positive, not necessarily adding up to 1."""

    @classmethod
    def body(cls, value: Callable[[str], Any]) -> Form:
        return Weights(value)

    def draw(self, count: int, random: Random) -> Ints:
        total = np.cumsum(self.weights)
        rows = np.searchsorted(total, random.random(count) * total[-1], side="right")
        return np.asarray(np.array(self.values, dtype=np.int64)[np.minimum(rows, len(total) - 1)])


@dataclass(frozen=True)
class Uniform(Draw):
    """Whole numbers, equally likely."""

    tag = "uniform"

    min: Figure
    """Least."""
    max: Figure
    """Most, included."""

    def check(self) -> None:
        _in_order(self.min, self.max)

    def draw(self, count: int, random: Random) -> Ints:
        steps = np.floor(random.random(count) * (self.max - self.min + 1))
        return np.asarray(self.min + steps.astype(np.int64))


@dataclass(frozen=True)
class LogNormal(Draw):
    """exp of a normal, rounded."""

    tag = "lognormal"

    median: Annotated[float, Number(above=0, within=up_to(MOST))]
    """Median."""
    sigma: Annotated[float, Number(0, high=20)]
    """Standard deviation of the logarithm."""
    min: Annotated[Figure, Default(1)]
    """Smaller draws become this."""
    max: Figure
    """Larger draws become this."""

    def check(self) -> None:
        _in_order(self.min, self.max)

    def draw(self, count: int, random: Random) -> Ints:
        drawn = np.exp(np.log(self.median) + self.sigma * random.standard_normal(count))
        return np.asarray(np.rint(np.clip(drawn, self.min, self.max)).astype(np.int64))


@dataclass(frozen=True)
class Empirical(Draw):
    """Drawn from given values, with replacement."""

    tag = "empirical"

    values: Annotated[tuple[Figure, ...], Least(1)] | None = None
    """The values."""
    file: Annotated[Path, File()] | None = None
    """A CSV file (may be gzipped) that has them, relative to the scenario."""
    column: str | None = None
    """The column of that file."""

    def check(self) -> None:
        only_one(self, ("values", "file"), "empirical")
        if (self.file is None) != (self.column is None):
            raise ValueError("file and column go together")

    def draw(self, count: int, random: Random) -> Ints:
        if self.values is None:
            raise ValueError("the values of a file are read before they are drawn: pick")
        return self.pick(np.array(self.values, dtype=np.int64), count, random)

    def pick(self, pool: Ints, count: int, random: Random) -> Ints:
        """Draws from values that have been read."""
        return pool[np.floor(random.random(count) * len(pool)).astype(np.int64)]


def _in_order(low: int, high: int) -> None:
    if low > high:
        raise ValueError(f"min {low} is more than max {high}")


# How they are written


_SIZE = re.compile(r"^([1-9][0-9]{0,5})x([1-9][0-9]{0,5})$")


@dataclass(frozen=True)
class Resolution(Text):
    """`1280x720`, as (width, height) in pixels."""

    def parse(self, value: Any) -> tuple[int, int]:
        match = _SIZE.match(super().parse(value))
        if match is None:
            what = "is no resolution: width x height in pixels, as '1280x720'"
            raise ValueError(f"{value!r} {what}")
        return int(match[1]), int(match[2])

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {"type": "string", "pattern": _SIZE.pattern, "examples": ["1280x720"]}


@dataclass(frozen=True)
class Weights(Form):
    """`{value: weight, ...}`, as a choice."""

    value: Callable[[str], Any]

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        if not node.map:
            what = (
                "needs at least 1"
                if node.map == {}
                else f"{shown(plain(node))} where a mapping is due"
            )
            return reading.wrong(node.place, path, what)
        values = []
        for text, child in node.map.items():
            try:
                values.append(self.value(text))
            except ValueError as error:
                reading.wrong(child.key or child.mark, (*path, text), str(error))
        weights = [WEIGHT.read(child, (*path, k), reading) for k, child in node.map.items()]
        return Choice(tuple(values), tuple(weights))

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {"type": "object", "additionalProperties": WEIGHT.schema(defs), "minProperties": 1}


@dataclass(frozen=True)
class Distribution(Form):
    """A mapping whose only key says which distribution stands below it."""

    title: str
    doc: str
    value: Callable[[str], Any]
    only: tuple[str, ...] = ()
    """The keys that will do; none: all there are."""

    def kinds(self) -> dict[str, type[Draw]]:
        """The distributions that will do, by their keys."""
        return {
            tag: kind
            for tag, kind in variants(Draw).items()
            if tag and (not self.only or tag in self.only) and issubclass(kind, Draw)
        }

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        kinds, given = self.kinds(), node.map or {}
        for key in given.keys() - kinds.keys():
            near = did_you_mean(key, kinds)
            reading.wrong(given[key].key or given[key].mark, (*path, key), f"unknown key; {near}")
        known = [key for key in kinds if key in given]
        values = [
            kinds[key].body(self.value).read(given[key], (*path, key), reading) for key in known
        ]
        if len(known) == 1:
            return values[0]
        said = " and ".join(known) if known else "none"
        message = f"a distribution takes one of {', '.join(kinds)}; {said} is given"
        return reading.wrong(node.place, path, message)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {"$ref": defined(self.title, defs, lambda: self._schema(defs))}

    def _schema(self, defs: dict[str, Schema]) -> Schema:
        properties = {
            tag: kind.body(self.value).schema(defs) | {"description": doc_of(kind)}
            for tag, kind in self.kinds().items()
        }
        return {
            "type": "object",
            "description": self.doc,
            "properties": properties,
            "additionalProperties": False,
        }

    def keys(self, node: Node) -> Mapping[str, Key]:
        kinds = self.kinds().items()
        return {tag: Key(tag, kind.body(self.value), NEEDED, kind) for tag, kind in kinds}

    def replaces(self, base: Node, over: Node) -> bool:
        return True


@dataclass(frozen=True)
class FigureOrLog(Number):
    """A whole number, or `from_log`."""

    def parse(self, value: Any) -> Draw:
        if isinstance(value, str) and value != "from_log":
            raise ValueError(
                f"{value!r} is no whole number, nor from_log, nor a distribution "
                f"({', '.join(NUMBERS.kinds())})"
            )
        return FromLog() if value == "from_log" else Fixed(FIGURE.parse(value))

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {"anyOf": [FIGURE.schema(defs), {"type": "string", "const": "from_log"}]}


def _figure(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= INT64):
        raise ValueError(f"{text!r} in choice is no whole number of 1 or more")
    return int(FIGURE.parse(int(text)))


NUMBERS = Distribution("Numbers", "A distribution over whole numbers.", _figure)
Numbers = Annotated[Draw, Either(FigureOrLog(), NUMBERS)]
SIZES = Distribution("Sizes", "A distribution over resolutions.", Resolution().parse, ("choice",))
Sizes = Annotated[Draw, Either(Made(Resolution(), Fixed), SIZES)]
