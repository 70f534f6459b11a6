"""The job mix: what is asked for, when, and what serves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from dcsim.reading.concept import (
    Called,
    Concept,
    Count,
    CountOrZero,
    Duration,
    Entry,
    Fields,
    Instant,
    Least,
    concept_schema,
    defined,
    doc_of,
    form_of,
    keys_of,
)
from dcsim.reading.forms import (
    HOLE,
    LATER,
    Either,
    File,
    Form,
    Key,
    Made,
    Number,
    Quantity,
    Reading,
    Schema,
    Steps,
    Word,
    sure,
    up_to,
)
from dcsim.reading.tree import Node
from dcsim.reading.units import TIME
from dcsim.spec.draws import Draw, Fixed, FromLog, Numbers, Sizes
from dcsim.spec.logs import FORMATS
from dcsim.spec.rates import RateOverTime
from dcsim.spec.reuse import Reuse
from dcsim.spec.sessions import Session

# What requests ask for


class Shape(Concept):
    """What a request asks for: of a diffusion model resolution, frames and steps; of an LLM
    prompt and output tokens."""


ONE: Draw = Fixed(1)


@dataclass(frozen=True)
class ClipShape(Shape):
    """Shapes of the requests to a diffusion model: an image has 1 frame."""

    resolution: Sizes = LATER
    """Of a diffusion model: width x height in pixels, or a choice of such."""
    frames: Numbers = ONE
    """Of a diffusion model: frames of the clip; 1, an image, is the default."""
    steps: Numbers = LATER
    """Of a diffusion model: denoising steps."""

    def check(self) -> None:
        _needs(self, "resolution", "steps")


@dataclass(frozen=True)
class TokenShape(Shape):
    """Shapes of the requests to an LLM, in tokens."""

    prompt: Numbers = LATER
    """Of an LLM: prompt tokens."""
    output: Numbers = LATER
    """Of an LLM: output tokens."""

    def check(self) -> None:
        _needs(self, "prompt", "output")


@dataclass(frozen=True)
class AsTraced(ClipShape):
    """The one request that a trace file was recorded of."""

    def check(self) -> None:
        pass


def is_trace(model: str | None) -> bool:
    """Whether a model is named by the file of a memory trace."""
    return model is not None and model.endswith(TRACE_SUFFIX)


TRACE_SUFFIX = ".npz"


def _needs(concept: Concept, *names: str) -> None:
    missing = [name for name in names if getattr(concept, name) is None]
    if missing:
        raise ValueError(f"needs {' and '.join(missing)}")


@dataclass(frozen=True)
class OneShape(Form):
    """A shape: its keys tell which kind of model is asked."""

    def of(self, node: Node) -> Form:
        """The form of the kind that is asked; of an LLM where nothing tells."""
        clip = node.map is not None and not node.map.keys().isdisjoint(keys_of(ClipShape))
        return Fields(ClipShape if clip else TokenShape)

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        clip, tokens = (
            [key for key in keys_of(kind) if key in (node.map or {})]
            for kind in (ClipShape, TokenShape)
        )
        if clip and tokens:
            message = (
                f"{', '.join(clip)} (a diffusion model's) and {', '.join(tokens)} (an LLM's) "
                "do not go together"
            )
            return reading.wrong(node.place, path, message)
        return self.of(node).read(node, path, reading)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {"$ref": defined("Shape", defs, lambda: self._schema(defs))}

    def _schema(self, defs: dict[str, Schema]) -> Schema:
        clip, tokens = (concept_schema(kind, defs) for kind in (ClipShape, TokenShape))
        both = {"properties": clip["properties"] | tokens["properties"]}
        return clip | both | {"description": doc_of(Shape)}

    def keys(self, node: Node) -> Mapping[str, Key]:
        return self.of(node).keys(node)


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


# What serves them


@dataclass(frozen=True)
class Layout(Concept):
    """How a replica is spread over GPUs."""

    tp: Count = 1
    """Tensor parallel."""
    sp: Count = 1
    """Sequence parallel (Ulysses)."""
    cfg: Count = 1
    """CFG parallel: 2 puts the two guidance branches on GPUs of their own."""

    @property
    def gpus(self) -> int:
        """GPUs of a replica."""
        return self.tp * self.sp * self.cfg


@dataclass(frozen=True)
class Place(Concept):
    """The GPUs of one replica."""

    domain: str
    """Name of the domain: `rack/node0`, or the rack's where the rack is the domain."""
    gpus: Annotated[tuple[CountOrZero, ...], Least(1)]
    """Numbers of its GPUs, from 0."""


@dataclass(frozen=True)
class Replicas(Concept):
    """How many replicas, and where."""

    count: Count = LATER
    """How many; needed without `place`."""
    on: Annotated[tuple[str, ...], Least(1)] = ()
    """Racks or domains that may hold them; absent: any."""
    place: Annotated[tuple[Place, ...], Least(1)] | None = None
    """The exact GPUs of each; not together with `on`."""

    def check(self) -> None:
        if not self.count and self.place is None:
            raise ValueError("count or place is required")
        if self.place is not None and self.on:
            raise ValueError("on and place do not go together")
        if self.place is not None and self.count and self.count != len(self.place):
            raise ValueError(f"count is {self.count} but place has {len(self.place)} entries")

    def counted(self) -> Replicas:
        """With the count that places make."""
        if self.count:
            return self
        return replace(self, count=HOLE if self.place is None else len(self.place))


ROUTERS = ("least_loaded", "round_robin", "session_sticky", "prefix_aware")
"""In the order of the engine's numbers for them."""


@dataclass(frozen=True)
class Scheduler(Concept):
    """Iteration-level batching."""

    max_jobs: Annotated[int, Number(1, within=up_to(2**31 - 1), whole=True)] = LATER
    """Jobs in a batch. Default 256 for LLMs, 1 for diffusion models."""
    max_batched_tokens: Annotated[int | None, Number(1, within=up_to(2**31 - 1), whole=True)] = None
    """Tokens of an iteration over all jobs. Default 8192 for LLMs, no limit for diffusion."""
    prefill_chunk: Annotated[int, Number(1, within=up_to(2**20), whole=True)] = LATER
    """Most prompt tokens that a request feeds in one iteration (LLMs). Default 2048."""
    router: Annotated[str, Word(ROUTERS)] = "least_loaded"
    """Which replica gets a new request; `session_sticky`: that of the turn before, where its
    context is, and of a first turn the one with the fewest; `prefix_aware`: where the most of its
    prompt is found, traded against the prompts that are there."""
    same_shape: bool | None = None
    """Batch only jobs of equal shape; absent: as the model needs it."""

    def of(self, shape: Shape) -> Scheduler:
        """With the defaults of the kind of model that the shape asks."""
        if isinstance(shape, ClipShape):
            return replace(self, max_jobs=self.max_jobs or 1)
        tokens = self.max_batched_tokens or 8192
        chunk = self.prefill_chunk or min(2048, tokens)
        jobs = self.max_jobs or 256
        return replace(self, max_jobs=jobs, max_batched_tokens=tokens, prefill_chunk=chunk)


Kept = Annotated[int, Quantity(TIME, years=50)]
"""64 bits hold 292 years of ns."""


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

    def of(self, server: Keep) -> Keep:
        """With the store, the weights and the reuse of the job that has the replicas."""
        store = self.store or server.store or "local"
        weights = bool(server.weights_in_dram)
        return replace(self, store=store, weights_in_dram=weights, reuse=server.reuse)


AS_LOGGED = TokenShape(FromLog(), FromLog())


@dataclass(frozen=True)
class Job(Concept):
    """A class of jobs."""

    like = "Another job of the scenario"

    name: Annotated[str, Entry()]
    arrivals: Arrivals
    """When requests come."""
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
    replicas: Annotated[
        Replicas | None,
        Either(Made(form_of(Count), Replicas), Made(form_of(Replicas), Replicas.counted)),
    ] = None
    """How many replicas, and where; needed without `shares`."""
    scheduler: Scheduler | None = None
    """Batching on a replica."""
    shares: str | None = None
    """Another job, whose replicas serve this one too: no `model`, `options`, `profile`,
    `layout`, `replicas` or `scheduler` then."""
    keep: Keep = Keep()
    """What stays after a job has ended."""

    def check(self) -> None:
        own = ("model", "options", "profile", "layout", "replicas", "scheduler")
        given = [name for name in own if getattr(self, name)]
        if self.shares is not None and given:
            text = f"{', '.join(given)} come from the job {self.shares!r}; leave them out"
            raise ValueError(f"with shares, {text}")
        missing = [name for name in ("model", "replicas") if getattr(self, name) is None]
        if self.shares is None and missing:
            raise ValueError(f"needs {' and '.join(missing)}, or shares")
        as_logged = self.shape is AS_LOGGED and not self.as_traced
        if as_logged and not isinstance(sure(self.arrivals), Replay):
            raise ValueError("needs shape")

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
