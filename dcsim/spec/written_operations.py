"""Operations as they are written."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcsim.spec.fields import BytesOrZero, CountOrZero, Duration, Instant, Written

OutageScript = Annotated[tuple[tuple[Instant, CountOrZero, Duration], ...], Field(min_length=1)]


class FailuresFields(Written):
    """Replicas fail and are repaired: exponential times, or a script."""

    kind: Literal["failures"]
    """Replica failure and repair."""
    job: str
    """Whose replicas."""
    replica: CountOrZero | None = None
    """Only this one, from 0; absent: each on its own."""
    mtbf: Duration | None = None
    """Mean time between failures; with `mttr`."""
    mttr: Duration | None = None
    """Mean time to repair; with `mtbf`."""
    script: OutageScript | None = None
    """In place of `mtbf` and `mttr`: entries `[at, replica, down for]`."""

    @model_validator(mode="after")
    def _one_form(self) -> FailuresFields:
        if self.script is not None:
            if self.mtbf is not None or self.mttr is not None or self.replica is not None:
                raise ValueError("script stands alone: no mtbf, mttr or replica beside it")
        elif self.mtbf is None or self.mttr is None:
            raise ValueError("mtbf and mttr are required, or a script")
        return self


class CapacityFields(Written):
    """Capacities change by script."""

    kind: Literal["capacity"]
    """A shelf arrives, a shelf dies."""
    script: Annotated[tuple[tuple[Instant, str, BytesOrZero], ...], Field(min_length=1)]
    """Entries `[at, pool, bytes]`; a pool is the name of a shelf, or `DOMAIN/dram`,
    `DOMAIN/nand`."""


class SamplerFields(Written):
    """The state is written down again and again."""

    kind: Literal["sampler"]
    """Periodic sample."""
    every: Duration
    """How often."""


OperationField = Annotated[
    FailuresFields | CapacityFields | SamplerFields, Field(discriminator="kind")
]
