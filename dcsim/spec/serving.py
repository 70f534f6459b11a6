"""What serves requests: replicas, how they are spread over GPUs, and how they batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from dcsim.reading.concept import Concept, Count, CountOrZero, Least, form_of
from dcsim.reading.forms import HOLE, LATER, Either, Made, Number, Word, up_to
from dcsim.spec.shapes import ClipShape, Shape


@dataclass(frozen=True)
class Layout(Concept):
    """How a replica is spread over GPUs."""

    tp: Count = 1
    """Tensor parallel."""
    sp: Count = 1
    """Sequence parallel: GPUs that share the tokens of a clip."""
    cfg: Count = 1
    """CFG parallel: 2 puts the two guidance branches on GPUs of their own."""
    ring: Count = 1
    """Of `sp`, how many pass K and V round in a ring; so many groups swap heads (Ulysses)."""
    pp: Count = 1
    """Pipeline stages, each of some of the layers; of a diffusion model PipeFusion."""
    in_flight: Count | None = None
    """What is in the pipeline at a time: micro-batches, or patches of a clip; absent: as many as
    stages. With fewer GPUs wait."""
    dp: Count = 1
    """Data-parallel attention: ranks of `tp` GPUs that attend for requests of their own, and share
    the experts."""
    ep: Count = 1
    """Expert parallel: GPUs that have whole experts, all `tp` x `dp`; 1: each has a part of all."""
    cp: Count = 1
    """Context parallel: GPUs that share the tokens of a prompt, and its KV."""

    @property
    def gpus(self) -> int:
        """GPUs of a replica."""
        return self.tp * self.sp * self.cfg * self.pp * self.dp * self.cp

    @property
    def ulysses(self) -> int:
        """GPUs that swap heads."""
        return self.sp // self.ring

    @property
    def pieces(self) -> int:
        """What is in a pipeline at a time."""
        return self.in_flight or self.pp

    @property
    def turns(self) -> int:
        """Times that a stage's time passes until every piece has gone through all stages: a piece
        waits for its own end before it comes again, so at least as often as there are stages."""
        return max(self.pieces, self.pp)


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


PREEMPTIONS = ("recompute", "swap")
ORDERS = ("decode_first", "prefill_first")
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
    preemption: Annotated[str, Word(PREEMPTIONS)] = "recompute"
    """What a request does that has to leave a full HBM: start over, or go to DRAM as it is and come
    back (where DRAM has no room it starts over)."""
    order: Annotated[str, Word(ORDERS)] = "decode_first"
    """Who comes first in an iteration (LLMs): the decodes, while prompts take the tokens that they
    leave; or the prompts, while the decodes of the replica wait."""
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


Served = Annotated[
    Replicas | None,
    Either(Made(form_of(Count), Replicas), Made(form_of(Replicas), Replicas.counted)),
]
"""Replicas as they are written: a number, or more."""


@dataclass(frozen=True)
class Stage(Concept):
    """A part of a job's model on replicas of its own. What the part before has made is handed
    over: the KV of the prompt, the embeddings, the latents."""

    replicas: Served
    """How many replicas, and where."""
    layout: Layout | None = None
    """How a replica is spread over GPUs; absent: as the job says."""
    scheduler: Scheduler | None = None
    """Batching on a replica; absent: as the job says."""
    overlap: bool = False
    """Of `prefill`: its KV goes to the decode replica layer by layer while it still works."""


LLM_STAGES = ("prefill", "decode")
CLIP_STAGES = ("encode", "denoise", "decode")
"""The parts of a model, in order. Of a diffusion model one that is left out runs with the next, the
last with the one before."""
