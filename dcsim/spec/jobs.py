"""The job mix: what is asked for, when, and what serves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from dcsim.reading.concept import Called, Concept, Count, Duration, Entry, Instant, Unwritten
from dcsim.reading.forms import LATER, File, Number, Word, sure
from dcsim.spec.adapters import NOT_KEPT, Adapters, KeptAdapters
from dcsim.spec.logs import FORMATS
from dcsim.spec.rates import RateOverTime
from dcsim.spec.reuse import Kept, Reuse
from dcsim.spec.serving import (
    CLIP_STAGES,
    LLM_STAGES,
    Layout,
    Scheduler,
    Served,
    Stage,
)
from dcsim.spec.sessions import Session, Step
from dcsim.spec.shapes import AS_LOGGED, AsTraced, ClipShape, OneShape, Shape, is_trace

# When requests come


class Arrivals(Concept):
    """When requests come."""

    by = "process"


@dataclass(frozen=True)
class Constant(Arrivals):
    """Equal gaps."""

    tag = "constant"

    rate: RateOverTime
    """Such as `5/s`, or a curve."""


@dataclass(frozen=True)
class Poisson(Arrivals):
    """Exponential gaps."""

    tag = "poisson"

    rate: RateOverTime
    """Such as `5/s`, or a curve."""


@dataclass(frozen=True)
class GammaArrivals(Arrivals):
    """Gamma gaps."""

    tag = "gamma"

    rate: RateOverTime
    """Such as `5/s`, or a curve."""
    cv: Annotated[float, Number(above=0, within=(0.001, 1000))]
    """Coefficient of variation of the gaps: 1 as Poisson, more is burstier."""


@dataclass(frozen=True)
class Replay(Arrivals):
    """A request log."""

    tag = "replay"

    log: Annotated[Path, File()]
    """The file, relative to the scenario; `${NAME}` stands for an environment variable."""
    format: Annotated[str, Word(tuple(FORMATS))]
    """Its format."""
    speed: Annotated[float, Number(above=0, within=(0.001, 1e6))] = 1.0
    """Twice the speed is half the time between requests."""
    start: Annotated[Instant | None, Called("from")] = None
    """Leave out what is before this time of the log, which becomes time 0."""
    until: Duration | None = None
    """Leave out what is at or after this time of the log."""


@dataclass(frozen=True)
class Closed(Arrivals):
    """Clients that each send a request when the one before has ended, as load generators do."""

    tag = "closed"

    clients: Count
    """How many, and so the most requests under way at once."""
    requests: Count
    """Of all clients together; those that the end of the run overtakes do not come."""
    think: Instant = 0
    """Mean time from the end of a request to the client's next; the times are exponential."""


# What stays


@dataclass(frozen=True)
class KeepTimes(Concept):
    """How long an object stays in each tier; absent: it is not put there."""

    dram: Kept = 0
    """In host DRAM, first."""
    nand: Kept = 0
    """In NAND, after DRAM."""


@dataclass(frozen=True)
class Keep(Concept):
    """What stays after a job has ended."""

    artifact: KeepTimes = KeepTimes()
    """The finished clip or image."""
    context: KeepTimes = KeepTimes()
    """The KV of a finished turn."""
    store: str = LATER
    """NAND that takes them: `local` (the default), or the name of a shelf."""
    weights_in_dram: bool = LATER
    """Weights stay in DRAM after loading. Default false."""
    reuse: Reuse | None = None
    """Later turns load it instead of computing it again; absent: they do not."""
    adapters: KeptAdapters = NOT_KEPT
    """Adapters, below HBM."""

    def of(self, server: Keep) -> Keep:
        """With the store, the weights, the reuse and the adapters of the job that has the
        replicas."""
        store = self.store or server.store or "local"
        weights = bool(server.weights_in_dram)
        reuse, adapters = server.reuse, server.adapters
        return replace(self, store=store, weights_in_dram=weights, reuse=reuse, adapters=adapters)


@dataclass(frozen=True)
class Job(Concept):
    """A class of jobs."""

    like = "Another job of the scenario"

    name: Annotated[str, Entry()]
    arrivals: Arrivals = LATER
    """When requests come; absent: only the steps of other jobs ask it."""
    shape: Annotated[Shape, OneShape()] = AS_LOGGED
    """What they ask for; absent with `replay`: as the log says; absent with a trace file as the
    model: what was traced."""
    session: Session | None = None
    """Requests are turns of conversations; absent: each stands for itself (LLMs)."""
    model: str | None = None
    """The model that serves it, by name or by its file; needed without `shares`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the model's implementation, such as `dtype`."""
    profile: str | None = None
    """How far a serving stack gets on the GPU, one of its `profiles`, such as `vllm`; absent: its
    own figures."""
    layout: Layout | None = None
    """How a replica is spread over GPUs; absent: one GPU."""
    replicas: Served = None
    """How many replicas, and where; needed without `shares` or `stages`."""
    scheduler: Scheduler | None = None
    """Batching on a replica."""
    stages: Mapping[str, Stage] | None = None
    """Parts of the model on replicas of their own, in place of `replicas`: of an LLM `prefill` and
    `decode` (disaggregated), of a diffusion model two or three of `encode`, `denoise`, `decode`;
    one that is left out runs with the next, the last with the one before."""
    steps: Mapping[str, Step] | None = None
    """What each request makes of other jobs: a pipeline of services, an agent with tools and
    sub-agents. Beside it only `arrivals`."""
    shares: str | None = None
    """Another job, whose replicas serve this one too: no `model`, `options`, `profile`,
    `layout`, `replicas` or `scheduler` then."""
    keep: Keep = Keep()
    """What stays after a job has ended."""
    adapters: Adapters | None = None
    """What each request needs beside the model: one of many styles; absent: nothing."""
    stage: Annotated[str, Unwritten()] = ""
    """The stage that this is of a job in stages."""
    overlap: Annotated[bool, Unwritten()] = False
    """Whether its KV goes layer by layer to the next stage."""

    @property
    def asked(self) -> str:
        """The name of the job as it is written."""
        return self.name.partition("/")[0]

    def check(self) -> None:
        if self.steps is not None:
            self._check_steps()
            return
        own = ("model", "options", "profile", "layout", "replicas", "scheduler", "stages")
        given = [name for name in own if getattr(self, name)]
        if self.shares is not None and given:
            text = f"{', '.join(given)} come from the job {self.shares!r}; leave them out"
            raise ValueError(f"with shares, {text}")
        if self.stages and self.replicas is not None:
            raise ValueError("its stages have replicas; leave replicas out")
        missing = [] if self.model is not None else ["model"]
        missing += [] if self.replicas is not None or self.stages else ["replicas"]
        if self.shares is None and missing:
            raise ValueError(f"needs {' and '.join(missing)}, or shares")
        as_logged = self.shape is AS_LOGGED and not self.as_traced
        if as_logged and not isinstance(sure(self.arrivals), Replay):
            raise ValueError("needs shape")

    def _check_steps(self) -> None:
        bare = Job(self.name)
        written = [name for name in vars(self) if name not in ("name", "arrivals", "steps")]
        given = [name for name in written if getattr(self, name) != getattr(bare, name)]
        if given:
            raise ValueError(f"its steps name who serves them; leave {', '.join(given)} out")

    @property
    def gpus(self) -> int:
        """GPUs of a replica."""
        return 1 if self.layout is None else self.layout.gpus

    @property
    def is_clip(self) -> bool:
        """Whether a diffusion model serves it."""
        return self.as_traced or isinstance(sure(self.shape), ClipShape)

    @property
    def as_traced(self) -> bool:
        """Whether it asks for what the trace file that is its model was recorded of."""
        return self.shape is AS_LOGGED and is_trace(sure(self.model))

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages that its model can have, in order."""
        return CLIP_STAGES if self.is_clip else LLM_STAGES

    def at(self, stage: str, server: Job) -> Job:
        """The job of one of its stages; `server` has the stages: itself, or the job it shares."""
        keep = self.keep
        first = stage == LLM_STAGES[0]
        if not self.is_clip and first != (server.keep.reuse is not None):
            # Prefill leaves what is loaded again, decode what is not.
            keep = replace(keep, context=KeepTimes())
        if not first:
            keep = replace(keep, reuse=None)
        assert server.stages is not None
        own = server.stages[stage]
        job = replace(self, name=f"{self.name}/{stage}", stages=None, keep=keep)
        job = replace(job, stage=stage, overlap=own.overlap)
        if self.shares is not None:
            return replace(job, shares=f"{self.shares}/{stage}")
        return replace(
            job,
            replicas=own.replicas,
            layout=own.layout or self.layout,
            scheduler=own.scheduler or self.scheduler,
        )

    def served_by(self, server: Job, groups: Mapping[str, tuple[str, ...]]) -> Job:
        """With all that follows from the job that has the replicas; `groups`: the domains that
        go by a name."""
        shape = AsTraced() if self.as_traced else self.shape
        job = replace(self, shape=shape, keep=self.keep.of(server.keep))
        if self.replicas is None:
            return job
        on = dict.fromkeys(domain for name in self.replicas.on for domain in groups[name])
        return replace(
            job,
            layout=self.layout or Layout(),
            replicas=replace(self.replicas, on=tuple(on)),
            scheduler=(self.scheduler or Scheduler()).of(shape),
        )
