"""Jobs as they are written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Strict, Tag, model_validator

from dcsim.spec.fields import (
    Composable,
    Count,
    CountOrZero,
    Duration,
    Instant,
    Positive,
    Written,
)
from dcsim.spec.written_draws import NumberField, RateField, SizeField


class ShapeFields(Written):
    """What a request asks for: of a diffusion model resolution, frames and steps; of an LLM
    prompt and output tokens."""

    resolution: SizeField | None = None
    """Of a diffusion model: width x height in pixels, or a choice of such."""
    frames: NumberField | None = None
    """Of a diffusion model: frames of the clip; 1, an image, is the default."""
    steps: NumberField | None = None
    """Of a diffusion model: denoising steps."""
    prompt: NumberField | None = None
    """Of an LLM: prompt tokens."""
    output: NumberField | None = None
    """Of an LLM: output tokens."""

    @model_validator(mode="after")
    def _one_kind(self) -> ShapeFields:
        clip = [n for n in ("resolution", "frames", "steps") if getattr(self, n) is not None]
        tokens = [n for n in ("prompt", "output") if getattr(self, n) is not None]
        if clip and tokens:
            raise ValueError(
                f"{', '.join(clip)} (a diffusion model's) and {', '.join(tokens)} (an LLM's) "
                "do not go together"
            )
        need = ("resolution", "steps") if clip else ("prompt", "output")
        missing = [name for name in need if getattr(self, name) is None]
        if missing:
            raise ValueError(f"needs {' and '.join(missing)}")
        return self


# Arrivals


class ConstantArrivals(Written):
    """Equal gaps."""

    process: Literal["constant"]
    """Equal gaps."""
    rate: RateField
    """Such as `5/s`, or a curve."""


class PoissonArrivals(Written):
    """Exponential gaps."""

    process: Literal["poisson"]
    """Exponential gaps."""
    rate: RateField
    """Such as `5/s`, or a curve."""


class GammaProcess(Written):
    """Gamma gaps."""

    process: Literal["gamma"]
    """Gamma gaps."""
    rate: RateField
    """Such as `5/s`, or a curve."""
    cv: Positive
    """Coefficient of variation of the gaps: 1 as Poisson, more is burstier."""


class ReplayArrivals(Written):
    """A request log."""

    process: Literal["replay"]
    """A request log."""
    log: str
    """The file, relative to the scenario; `${NAME}` stands for an environment variable."""
    format: Literal["azure", "mooncake", "csv"]
    """Its format."""
    speed: Positive = 1.0
    """Twice the speed is half the time between requests."""
    start: Annotated[Instant | None, Field(alias="from")] = None
    """Leave out what is before this time of the log, which becomes time 0."""
    until: Duration | None = None
    """Leave out what is at or after this time of the log."""


ArrivalsField = Annotated[
    ConstantArrivals | PoissonArrivals | GammaProcess | ReplayArrivals,
    Field(discriminator="process"),
]


# Jobs


class LayoutFields(Written):
    """How a replica is spread over GPUs."""

    tp: Count = 1
    """Tensor parallel."""
    sp: Count = 1
    """Sequence parallel (Ulysses)."""
    cfg: Count = 1
    """CFG parallel: 2 puts the two guidance branches on GPUs of their own."""


class PlaceFields(Written):
    """The GPUs of one replica."""

    domain: str
    """Name of the domain: `rack/node0`, or the rack's where the rack is the domain."""
    gpus: Annotated[tuple[CountOrZero, ...], Field(min_length=1)]
    """Numbers of its GPUs, from 0."""


class ReplicaFields(Written):
    """How many replicas, and where."""

    count: Count | None = None
    """How many; needed without `place`."""
    on: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Racks or domains that may hold them; absent: any."""
    place: Annotated[tuple[PlaceFields, ...], Field(min_length=1)] | None = None
    """The exact GPUs of each; not together with `on`."""

    @model_validator(mode="after")
    def _check(self) -> ReplicaFields:
        if self.count is None and self.place is None:
            raise ValueError("count or place is required")
        if self.place is not None:
            if self.on is not None:
                raise ValueError("on and place do not go together")
            if self.count is not None and self.count != len(self.place):
                raise ValueError(f"count is {self.count} but place has {len(self.place)} entries")
        return self


ReplicasField = Annotated[
    Annotated[Count, Tag("(number)")] | Annotated[ReplicaFields, Tag("(mapping)")],
    Discriminator(lambda value: "(mapping)" if isinstance(value, dict) else "(number)"),
]


class SchedulerFields(Written):
    """Iteration-level batching."""

    max_jobs: Count | None = None
    """Jobs in a batch. Default 256 for LLMs, 1 for diffusion models."""
    max_batched_tokens: Count | None = None
    """Tokens of an iteration over all jobs. Default 8192 for LLMs, no limit for diffusion."""
    prefill_chunk: Count | None = None
    """Most prompt tokens that a request feeds in one iteration (LLMs). Default 2048."""
    router: Literal["least_loaded", "round_robin"] = "least_loaded"
    """Which replica gets a new job."""
    same_shape: Annotated[bool, Strict()] | None = None
    """Batch only jobs of equal shape; absent: as the model needs it."""


class KeepTimesFields(Written):
    """How long an object stays in each tier; absent: it is not put there."""

    dram: Instant = 0
    """In host DRAM, first."""
    nand: Instant = 0
    """In NAND, after DRAM."""


class KeepFields(Written):
    """What stays after a job has ended."""

    artifact: KeepTimesFields = KeepTimesFields()
    """The finished clip or image."""
    context: KeepTimesFields = KeepTimesFields()
    """The KV of a finished turn."""
    store: str | None = None
    """NAND that takes them: `local` (the default), or the name of a shelf."""
    weights_in_dram: Annotated[bool, Strict()] | None = None
    """Weights stay in DRAM after loading. Default false."""


class JobFields(Composable):
    """A class of jobs."""

    like = "Another job of the scenario"
    by_name = False

    model: str | None = None
    """The model that serves it; needed without `shares`."""
    options: dict[str, Any] | None = None
    """Options of the model's implementation, such as `dtype`."""
    layout: LayoutFields | None = None
    """How a replica is spread over GPUs; absent: one GPU."""
    replicas: ReplicasField | None = None
    """How many replicas, and where; needed without `shares`."""
    shares: str | None = None
    """Another job, whose replicas serve this one too: no `model`, `options`, `layout`,
    `replicas` or `scheduler` then."""
    scheduler: SchedulerFields | None = None
    """Batching on a replica."""
    arrivals: ArrivalsField
    """When requests come."""
    shape: ShapeFields | None = None
    """What they ask for; absent with `replay`: as the log says."""
    keep: KeepFields = KeepFields()
    """What stays after a job has ended."""

    @model_validator(mode="after")
    def _served(self) -> JobFields:
        own = ("model", "options", "layout", "replicas", "scheduler")
        given = [name for name in own if getattr(self, name) is not None]
        if self.shares is not None and given:
            raise ValueError(
                f"with shares, {', '.join(given)} come from the job {self.shares!r}; leave them out"
            )
        if self.shares is None:
            missing = [name for name in ("model", "replicas") if getattr(self, name) is None]
            if missing:
                raise ValueError(f"needs {' and '.join(missing)}, or shares")
        if self.shape is None and self.arrivals.process != "replay":
            raise ValueError("needs shape")
        return self
