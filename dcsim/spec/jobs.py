"""The job mix: resolved, in base units, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from dcsim.spec.rates import Rate

Value = TypeVar("Value", bound=object)
Size = tuple[int, int]
"""A resolution: width and height in pixels."""


@dataclass(frozen=True)
class Fixed(Generic[Value]):
    """Always the same value."""

    value: Value


@dataclass(frozen=True)
class Choice(Generic[Value]):
    """One of some values, by weight (positive, not necessarily adding up to 1)."""

    values: tuple[Value, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Uniform:
    """Whole numbers from `min` to `max`, both included, equally likely."""

    min: int
    max: int


@dataclass(frozen=True)
class LogNormal:
    """exp of a normal: `median`, and `sigma` of the logarithm; rounded, clipped to [min, max]."""

    median: float
    sigma: float
    min: int
    max: int


@dataclass(frozen=True)
class Empirical:
    """Drawn with replacement from `values`, or from the `column` of a CSV `file`."""

    values: tuple[int, ...] | None = None
    file: Path | None = None
    column: str | None = None


@dataclass(frozen=True)
class FromLog:
    """The figure that the replayed request log has for this request."""


Sizes = Fixed[Size] | Choice[Size]
Numbers = Fixed[int] | Choice[int] | Uniform | LogNormal | Empirical | FromLog


@dataclass(frozen=True)
class ClipShape:
    """Shapes of the requests to a diffusion model: an image has 1 frame."""

    resolution: Sizes
    frames: Numbers
    steps: Numbers


@dataclass(frozen=True)
class TokenShape:
    """Shapes of the requests to an LLM, in tokens."""

    prompt: Numbers
    output: Numbers


Shape = ClipShape | TokenShape


@dataclass(frozen=True)
class Constant:
    """Equal gaps: the n-th arrival when the integral of the rate reaches n - 1/2."""

    rate: Rate


@dataclass(frozen=True)
class Poisson:
    """Exponential gaps."""

    rate: Rate


@dataclass(frozen=True)
class GammaArrivals:
    """Gamma gaps with this coefficient of variation (1 is Poisson, above is burstier)."""

    rate: Rate
    cv: float


@dataclass(frozen=True)
class Replay:
    """The arrivals of a request log, its clock divided by `speed`."""

    log: Path
    format: Literal["azure", "mooncake", "csv"]
    speed: float = 1.0
    start: int | None = None
    """Leave out what comes before this time of the log (ns); it becomes time 0."""
    until: int | None = None
    """Leave out what comes at or after this time of the log (ns)."""


Arrivals = Constant | Poisson | GammaArrivals | Replay


@dataclass(frozen=True)
class Layout:
    """How one replica is spread over GPUs."""

    tp: int = 1
    """Tensor parallel."""
    sp: int = 1
    """Sequence parallel (Ulysses)."""
    cfg: int = 1
    """CFG parallel: 2 puts the two guidance branches on GPUs of their own."""

    @property
    def gpus(self) -> int:
        """GPUs of a replica."""
        return self.tp * self.sp * self.cfg


@dataclass(frozen=True)
class Place:
    """One replica's GPUs, by number within the domain."""

    domain: str
    gpus: tuple[int, ...]


@dataclass(frozen=True)
class Replicas:
    """How many, and where."""

    count: int
    on: tuple[str, ...] = ()
    """Names of the domains that may hold them, in order; empty: any."""
    place: tuple[Place, ...] | None = None
    """The exact GPUs of each replica, or None: placed in order on free ones."""


@dataclass(frozen=True)
class Scheduler:
    """Iteration-level batching of a replica, first come first served."""

    max_jobs: int = 256
    max_batched_tokens: int | None = 8192
    """Tokens of one iteration over all jobs; None: no limit."""
    prefill_chunk: int = 2048
    """Prompt tokens fed in one iteration of a job (LLMs)."""
    router: Literal["least_loaded", "round_robin"] = "least_loaded"
    same_shape: bool | None = None
    """Batch only jobs of equal shape; None: the model's default (DiT yes, LLM no)."""


@dataclass(frozen=True)
class KeepTimes:
    """How long a finished object stays in a tier, ns; 0: it is not put there."""

    dram: int = 0
    nand: int = 0


@dataclass(frozen=True)
class Keep:
    """What stays after a job has ended, and where."""

    artifact: KeepTimes = KeepTimes()
    """The finished clip or image."""
    context: KeepTimes = KeepTimes()
    """The KV of a finished turn."""
    store: str = "local"
    """NAND that takes them: `local` (the domain's own drives) or the name of a shelf."""
    weights_in_dram: bool = False
    """Weights stay in DRAM after they have been loaded."""


@dataclass(frozen=True)
class Job:
    """A class of jobs.

    With `shares` the replicas of another job serve it; its own model, options, layout,
    replicas and scheduler are then absent (None, options empty).
    """

    name: str
    arrivals: Arrivals
    shape: Shape
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout | None = None
    replicas: Replicas | None = None
    scheduler: Scheduler | None = None
    shares: str | None = None
    keep: Keep = Keep()
