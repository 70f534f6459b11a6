"""What the replicas of a job class run: its works, priced on the GPUs they run on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dcsim.assembly.asking import profile_finding, shape_findings
from dcsim.assembly.counting import check_size, counted_trace, is_countable
from dcsim.assembly.placement import layout_of
from dcsim.assembly.rows import Row, phase_row, segment_row
from dcsim.engine import EVICTIONS, ROUTERS, Tables, table
from dcsim.models import ModelError
from dcsim.models import get as get_model
from dcsim.models.adapters import lora_params
from dcsim.models.llm import LlmConfig
from dcsim.models.shapes import Clip
from dcsim.spec import (
    ORDERS,
    Gpu,
    Job,
    Layout,
    Problem,
    Scenario,
    Scheduler,
    is_trace,
    parts_of,
)
from dcsim.spec.adapters import Adapters
from dcsim.spec.reuse import Eviction, Patience, Watermarks
from dcsim.traces import MemoryTrace, Work, handed_over, part, price, request_of, token_work

NO_LIMIT = 1 << 62
WATERMARK = 100
"""An LLM replica admits up to all but 1/100 of its KV budget, as vLLM's block manager does
(`watermark` 0.01), so that a job just admitted is not preempted by the next token."""


@dataclass
class Catalogue:
    """Rows of `phases`, `segments` and `works`, shared by all services."""

    phases: list[Row] = field(default_factory=list)
    segments: list[Row] = field(default_factory=list)
    works: list[Row] = field(default_factory=list)
    _phase_rows: dict[tuple[str, str, int, int], int] = field(default_factory=dict)

    def add(self, service: str, work: Work) -> int:
        """Row of the work; phases of one service with the same cost are one row."""
        rows = []
        for phase in work.phases:
            row = phase_row(phase)
            key = (service, phase.name, row["launch"], row["weights"])
            if key not in self._phase_rows:
                self._phase_rows[key] = len(self.phases)
                self.phases.append(row)
            rows.append(self._phase_rows[key])
        first = len(self.segments)
        for segment in work.segments:
            self.segments.append({**segment_row(segment), "phase": rows[segment.phase]})
        self.works.append(
            {
                "segment": first,
                "segments": len(work.segments),
                "artifact": work.artifact,
                "context": work.context,
            }
        )
        return len(self.works) - 1

    def kv(self, work: int) -> int:
        """Bytes of KV a token, of the work of a language model."""
        return self.segments[self.works[work]["segment"]]["live"]

    def tables(self) -> Tables:
        """The engine's tables of these rows."""
        return {
            "phases": table("phases", self.phases),
            "segments": table("segments", self.segments),
            "works": table("works", self.works),
        }


@dataclass(frozen=True)
class Served:
    """A service: the job that brings the replicas, and what all its works have in common."""

    job: Job
    token: bool
    weights: int
    reserve: int
    checkpoint: int
    offloaded: bool
    works: Mapping[str, tuple[int, ...]]
    """Rows of the works by job class, one a shape."""
    layers: int = 1
    """Of a language model: its layers; of a trace file, which has no stages to hand over, 1."""
    made: Mapping[int, int] = field(default_factory=dict)
    """Of a diffusion stage: by work the bytes that the next stage needs."""


class Pricer:
    """Makes the works of all job classes and collects what is wrong with them."""

    def __init__(self, scenario: Scenario, catalogue: Catalogue) -> None:
        self.scenario = scenario
        self.catalogue = catalogue
        self.problems: list[Problem] = []
        self._traces: dict[tuple[str, Layout, Clip], MemoryTrace] = {}

    def serve(self, job: Job, gpu: Gpu, clips: dict[str, Sequence[Clip]]) -> Served | None:
        """Prices the works of `job` and of the classes that share its replicas.

        `clips`: by class the distinct shapes that are asked for. None where there are problems.
        """
        assert job.model is not None
        try:
            gpu = gpu.under(job.profile)
        except KeyError:
            path, message = profile_finding(job, gpu)
            self._problem(f"jobs.{job.name}.{path}", message)
            return None
        if not self._shapes_match(job, clips):
            return None
        try:
            if isinstance(request_of(job.model), Clip):
                return self._dit(job, gpu, clips)
            return self._llm(job, gpu, tuple(clips))
        except ModelError as error:
            for path, message in error.problems:
                self._problem(f"jobs.{job.name}.{path}", message)
            return None

    def _shapes_match(self, job: Job, classes: Iterable[str]) -> bool:
        before = len(self.problems)
        for klass in classes:
            for path, message in shape_findings(self.scenario.jobs[klass], job):
                self._problem(f"jobs.{klass}.{path}", message)
        return len(self.problems) == before

    def _llm(self, job: Job, gpu: Gpu, classes: Sequence[str]) -> Served | None:
        assert job.model is not None
        limits = job.scheduler or Scheduler().of(job.shape)
        budget = limits.max_batched_tokens
        work = token_work(
            job.model,
            job.options,
            layout_of(job),
            gpu,
            limits.prefill_chunk,
            budget if budget is not None else limits.max_jobs * limits.prefill_chunk,
            limits.max_jobs,
        )
        if not self._fits(job, gpu, work, []) or not self._countable(job, gpu, [work]):
            return None
        row = self.catalogue.add(job.name, work)
        works = dict.fromkeys(classes, (row,))
        sizes = (work.weights, work.reserve, work.checkpoint)
        return Served(job, True, *sizes, False, works, _layers(job.model))

    def _dit(self, job: Job, gpu: Gpu, clips: dict[str, Sequence[Clip]]) -> Served | None:
        assert job.model is not None
        priced = {
            clip: self._priced(job, gpu, clip) for shapes in clips.values() for clip in shapes
        }
        works = list(priced.values())
        if works:
            one = works[0]
        else:  # without a single request the weights are needed all the same
            typical = request_of(job.model)
            assert isinstance(typical, Clip)
            one = self._priced(job, gpu, typical)
        if not self._fits(job, gpu, one, works) or not self._countable(job, gpu, works):
            return None
        rows = {clip: self.catalogue.add(job.name, work) for clip, work in priced.items()}
        by_class = {klass: tuple(rows[clip] for clip in shapes) for klass, shapes in clips.items()}
        made = {rows[clip]: self._made(job, clip) for clip in priced}
        kept = (one.weights, one.reserve, one.checkpoint, one.offloaded)
        return Served(job, False, *kept, by_class, made=made)

    def _made(self, job: Job, clip: Clip) -> int:
        """Bytes that the stage after this one needs; 0 where there is none."""
        parts = self._parts(job)
        if job.stage == "" or parts[-1] == job.stage_names[-1]:
            return 0
        return handed_over(self._trace(job, clip, Layout()), parts[-1])

    def _parts(self, job: Job) -> tuple[str, ...]:
        """The parts of its model that a stage runs."""
        stages = [each.stage for each in self.scenario.jobs.values() if each.asked == job.asked]
        return parts_of(job, tuple(stages))

    def _priced(self, job: Job, gpu: Gpu, clip: Clip) -> Work:
        check_size(clip)
        trace = self._trace(job, clip, layout_of(job)).with_steps(clip.steps)
        if not job.stage:
            return price(trace, gpu)
        try:
            return price(part(trace, self._parts(job)), gpu)
        except ValueError as error:
            raise ModelError([("stages", str(error))]) from None

    def _trace(self, job: Job, clip: Clip, layout: Layout) -> MemoryTrace:
        """Clips that differ in their steps alone share one trace, and so do stages."""
        assert job.model is not None
        key = (job.asked, layout, replace(clip, steps=1))
        if key not in self._traces:
            self._traces[key] = counted_trace(job.model, job.options, clip, layout)
        return self._traces[key]

    def _fits(self, job: Job, gpu: Gpu, work: Work, shaped: Sequence[Work]) -> bool:
        layout = layout_of(job)
        capacity = layout.gpus * gpu.hbm
        resident = work.weights + work.reserve
        least = min(
            (max(s.demand.most_live + s.demand.peak for s in w.segments) for w in shaped), default=0
        )
        if resident + least <= capacity:
            return True
        parts = f"{gigabytes(work.weights)} of weights"
        if work.reserve:
            parts += f" + {gigabytes(work.reserve)} reserved for activations"
        if least:
            parts += f" + {gigabytes(least)} for its smallest request"
        self._problem(
            f"jobs.{job.name}.layout",
            f"{job.model} does not fit its replica: {parts}; {layout.gpus} x {gpu.name} hold "
            f"{gigabytes(capacity)}. Use more GPUs a replica, a larger GPU or a smaller model",
        )
        return False

    def _countable(self, job: Job, gpu: Gpu, works: Sequence[Work]) -> bool:
        if all(is_countable(work) for work in works):
            return True
        message = f"a step of {job.model} on {gpu.name} takes over 39 h, more than 64 bits hold"
        self._problem(f"jobs.{job.name}.model", message)
        return False

    def _problem(self, path: str, message: str) -> None:
        self.problems.append(self.scenario.problem(path, message))


def _most_held(work: Work) -> int:
    """Bytes that one request of a work needs beside the weights."""
    return max(s.demand.most_live + s.demand.peak for s in work.segments)


def gigabytes(count: float) -> str:
    """Bytes as text, decimal: `81.2 GB`."""
    return f"{count / 1e9:,.1f} GB"


def service_row(served: Served, first: int, replicas: int, hbm: int) -> dict[str, int]:
    """One row of the engine's `services`; `hbm`: bytes of a replica's pool."""
    limits = served.job.scheduler or Scheduler().of(served.job.shape)
    tokens = limits.max_batched_tokens if served.token else None
    same_shape = limits.same_shape if limits.same_shape is not None else not served.token
    budget = hbm - served.weights - served.reserve
    return {
        "router": ROUTERS.index(limits.router),
        "replica": first,
        "replicas": replicas,
        "max_jobs": limits.max_jobs,
        "max_tokens": tokens if tokens is not None else NO_LIMIT,
        "same_shape": int(same_shape),
        "weights": served.weights,
        "reserve": served.reserve,
        "watermark": budget // WATERMARK if served.token else 0,
        "checkpoint": served.checkpoint,
        "keep": int(served.job.keep.weights_in_dram or served.offloaded),
        "swap": int(limits.preemption == "swap"),
        "order": ORDERS.index(limits.order),
        **_cache(served.job),
    }


def policy_row(job: Job) -> dict[str, int]:
    """One row of the engine's `policies`."""
    reuse = job.keep.reuse
    if reuse is None:
        kept = job.keep.adapters
        return _order(kept.eviction, kept.admission.dram, kept.admission.nand)
    return {
        **_order(reuse.eviction, reuse.admission.dram, reuse.admitted_to_nand),
        "back": int(reuse.write == "write_back"),
        "exclusive": int(reuse.exclusive),
        **_marks("dram", reuse.watermarks.dram),
        **_marks("nand", reuse.watermarks.nand),
        "faster": int(reuse.faster),
        **_patience(reuse.onboarding),
    }


def _order(eviction: Eviction, dram: int, nand: int) -> dict[str, int]:
    return {
        "evict_dram": EVICTIONS.index(eviction.dram),
        "evict_nand": EVICTIONS.index(eviction.nand),
        "admit_dram": dram,
        "admit_nand": nand,
    }


def adapter_sizes(job: Job, adapters: Adapters) -> tuple[int, int]:
    """Bytes of one adapter of the model of a job: as it lies at home, and on all GPUs of a replica.

    GPUs that do not share a matrix hold a copy each.
    """
    layout = layout_of(job)
    copies = layout.gpus // layout.tp
    if adapters.bytes is not None:
        return adapters.bytes, adapters.bytes * copies
    assert job.model is not None
    assert adapters.rank is not None
    model = get_model(job.model)
    network = model.built(model.resolve(job.options))
    whole, part = (
        2 * lora_params(network, adapters.rank, adapters.targets, tp) for tp in (1, layout.tp)
    )
    return whole, part * layout.gpus


def _patience(patience: Patience) -> dict[str, int]:
    if patience.timeout is None:
        return {}
    return {"wait": 1, "wait_base": patience.timeout, "wait_ki": patience.per_1024_tokens}


def _layers(model: str) -> int:
    if is_trace(model):
        return 1
    network = get_model(model).network
    assert isinstance(network, LlmConfig)
    return network.layers


def _marks(tier: str, marks: Watermarks | None) -> dict[str, int]:
    """In millionths, rounded."""
    if marks is None:
        return {}
    return {f"high_{tier}": round(marks.high * 1e6), f"low_{tier}": round(marks.low * 1e6)}


def _cache(job: Job) -> dict[str, int]:
    """How long nodes of the prefix forest stay, and from which length on they are loaded."""
    keep = job.keep
    if keep.reuse is None:
        return {"cache_dram": keep.adapters.dram, "cache_nand": keep.adapters.nand}
    return {
        "cache_hbm": int(keep.reuse.hbm),
        "cache_dram": keep.context.dram,
        "cache_nand": keep.context.nand,
        "cache_least": keep.reuse.least,
    }
