"""Rates and distributions as they are written."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from dcsim.spec.fields import (
    Count,
    Duration,
    Instant,
    PerSecond,
    Positive,
    Resolution,
    Written,
)


def _only_one(model: Written, names: tuple[str, ...], what: str) -> None:
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        listed = ", ".join(names)
        said = " and ".join(given) if given else "none"
        raise ValueError(f"{what} takes one of {listed}; {said} is given")


# Rates


class Diurnal(Written):
    """A day with one peak, repeated."""

    mean: PerSecond
    """Mean rate of the day."""
    peak_to_mean: Annotated[float, Field(ge=1, le=24)]
    """Peak rate over mean rate."""
    peak_at: Instant
    """Time of the peak, from the start of the day (which is the start of the run)."""


class Curve(Written):
    """A rate that changes."""

    diurnal: Diurnal | None = None
    """A day with one peak."""
    piecewise: Annotated[tuple[tuple[Instant, PerSecond], ...], Field(min_length=1)] | None = None
    """Points `[time, rate]`, the first at `0 s`, ascending."""
    interpolate: Literal["linear", "step"] = "linear"
    """Between points: a straight line, or the value of the point before."""
    repeat: Duration | None = None
    """Start over after this time."""

    @model_validator(mode="after")
    def _check(self) -> Curve:
        _only_one(self, ("diurnal", "piecewise"), "a rate")
        if self.piecewise is None:
            return self
        times = [time for time, _ in self.piecewise]
        if times[0] != 0:
            raise ValueError("the first point of piecewise must be at 0 s")
        if any(b <= a for a, b in pairwise(times)):
            raise ValueError("the times of piecewise must ascend")
        if self.repeat is not None and self.repeat <= times[-1]:
            raise ValueError("repeat must be after the last point of piecewise")
        return self


def _text_or_mapping(value: Any) -> str | None:
    if isinstance(value, dict):
        return "(mapping)"
    return "(text)"


RateField = Annotated[
    Annotated[PerSecond, Tag("(text)")] | Annotated[Curve, Tag("(mapping)")],
    Discriminator(_text_or_mapping),
]


# Distributions


class LogNormalDraw(Written):
    """exp of a normal."""

    median: Positive
    """Median."""
    sigma: Annotated[float, Field(ge=0, le=20)]
    """Standard deviation of the logarithm."""
    min: Count = 1
    """Smaller draws become this."""
    max: Count
    """Larger draws become this."""

    @model_validator(mode="after")
    def _order(self) -> LogNormalDraw:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self


class UniformDraw(Written):
    """Whole numbers, equally likely."""

    min: Count
    """Least."""
    max: Count
    """Most, included."""

    @model_validator(mode="after")
    def _order(self) -> UniformDraw:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self


class EmpiricalDraw(Written):
    """Drawn from given values, with replacement."""

    values: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """The values."""
    file: str | None = None
    """A CSV file (may be gzipped) that has them, relative to the scenario."""
    column: str | None = None
    """The column of that file."""

    @model_validator(mode="after")
    def _one(self) -> EmpiricalDraw:
        _only_one(self, ("values", "file"), "empirical")
        if (self.file is None) != (self.column is None):
            raise ValueError("file and column go together")
        return self


class NumberDraw(Written):
    """A distribution over whole numbers."""

    choice: Annotated[dict[str, Positive], Field(min_length=1)] | None = None
    """`{value: weight, ...}`."""
    uniform: UniformDraw | None = None
    """Equally likely between two numbers."""
    lognormal: LogNormalDraw | None = None
    """Lognormal."""
    empirical: EmpiricalDraw | None = None
    """Drawn from a list or a file."""

    @model_validator(mode="after")
    def _check(self) -> NumberDraw:
        _only_one(self, ("choice", "uniform", "lognormal", "empirical"), "a distribution")
        for value in self.choice or {}:
            if not (value.isascii() and value.isdigit() and 1 <= int(value) < 2**63):
                raise ValueError(f"{value!r} in choice is no whole number of 1 or more")
        return self


class SizeDraw(Written):
    """A distribution over resolutions."""

    choice: Annotated[dict[Resolution, Positive], Field(min_length=1)]
    """`{1280x720: weight, ...}`."""


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return "(mapping)"
    return "(text)" if isinstance(value, str) else "(number)"


def _from_log(value: Any) -> Any:
    if value != "from_log":
        raise ValueError(
            f"{value!r} is no whole number, nor from_log, nor a distribution "
            "(choice, uniform, lognormal, empirical)"
        )
    return value


NumberField = Annotated[
    Annotated[Count, Tag("(number)")]
    | Annotated[Literal["from_log"], BeforeValidator(_from_log), Tag("(text)")]
    | Annotated[NumberDraw, Tag("(mapping)")],
    Discriminator(_kind),
]
SizeField = Annotated[
    Annotated[Resolution, Tag("(text)")] | Annotated[SizeDraw, Tag("(mapping)")],
    Discriminator(_text_or_mapping),
]
