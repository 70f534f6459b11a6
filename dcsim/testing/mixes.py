"""Strategy for job mixes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from dcsim.reading.units import TIME, whole
from dcsim.spec import Domain, Gpu, Layout, Scheduler, TokenShape
from dcsim.testing.draws import (
    adapters,
    clip_shapes,
    keeps,
    kept_adapters,
    processes,
    sessions,
    token_shapes,
)
from dcsim.testing.fit import (
    Options,
    checkpoint_bytes,
    clip_sizes,
    frozen,
    kind_of,
    token_room,
)
from dcsim.testing.ladders import Count, Span, several
from dcsim.testing.racks import TopologyLike, resolved
from dcsim.testing.site import Site
from dcsim.testing.written import Written

__all__ = ["MODELS", "job_mixes"]

Draw = Any

MODELS = ("dit-s-8", "llama-3.1-8b", "video-dit-xl")
"""Reference models that are quickly traced: images, chat, video."""

_LLM_LAYOUTS = (Layout(), Layout(tp=2), Layout(tp=4), Layout(pp=2), Layout(tp=2, cp=2))
_DIT_LAYOUTS = (Layout(), Layout(sp=2), Layout(cfg=2), Layout(sp=2, cfg=2))
_LLM_OPTIONS = {"kv_dtype": ("fp8",), "memory_utilization": (0.8, 0.95)}
_DIT_OPTIONS = {
    "cfg": ("sequential", "distilled"),
    "attention": ("math",),
    "residual_dtype": ("fp32",),
    "vae_tiling": ("spatial",),
    "artifact": ("raw", "latent"),
}


@dataclass(frozen=True)
class _Bounds:
    models: Sequence[str]
    replicas: Count
    rate: Span
    most: float
    keep: Span
    prompt: Count
    output: Count
    resolutions: Sequence[str]
    frames: Sequence[int]
    steps: Count
    options: bool
    duration: int


@st.composite
def job_mixes(
    draw: Draw,
    *,
    topology: TopologyLike,
    models: Sequence[str] = MODELS,
    classes: Count = (1, 3),
    replicas: Count = (1, 4),
    rate: Span = ("0.1/s", "20/s"),
    max_requests: int = 200,
    keep: Span = ("1 s", "10 min"),
    prompt: Count = (1, 3000),
    output: Count = (1, 150),
    resolutions: Sequence[str] = ("256x256", "512x512"),
    frames: Sequence[int] = (1, 9),
    steps: Count = (1, 20),
    options: bool = True,
    duration: str = "5 min",
) -> Written:
    """Job mixes as plain data, for `jobs:` of a scenario on that `topology`.

    All that is drawn fits: models are chosen among `models` that a replica can hold, replicas
    among those that find GPUs; InvalidArgument where no model fits. Bounds are inclusive:
    `classes` is the number of job classes; `rate` is that of a class; `keep` bounds the time that
    a finished clip or context stays in DRAM and in NAND (it may also not be kept); `prompt` and
    `output` are tokens. `options`: draw implementation options and schedulers, not only defaults.

    `duration` is that of the run, or less: rate curves change within it, and rates are kept so
    low that no more than `max_requests` are expected in it, unless the least rate brings more.
    """
    length = whole(duration, TIME)
    most = classes if isinstance(classes, int) else classes[1]
    bounds = _Bounds(
        models=models,
        replicas=replicas,
        rate=rate,
        most=max_requests / most / (length / 1e9),
        keep=keep,
        prompt=prompt,
        output=output,
        resolutions=resolutions,
        frames=frames,
        steps=steps,
        options=options,
        duration=length,
    )
    site = Site(resolved(topology))
    mix = Written()
    for i in several(draw, classes):
        served = [name for name, job in mix.items() if "shares" not in job]
        job = None
        if not served or draw(st.integers(0, 3)) < 3:
            job = _server(draw, site, bounds)
        if job is None and not served:
            raise InvalidArgument(f"none of the models {', '.join(models)} fits the topology")
        if job is None:
            job = _sharer(draw, mix, draw(st.sampled_from(served)), site, bounds)
        mix[f"job{i}"] = job
    return mix


def _server(draw: Draw, site: Site, bounds: _Bounds) -> dict[str, Any] | None:
    """A job with replicas of its own; None where nothing fits any more."""
    places = [
        (model, layout, gpu)
        for model in bounds.models
        for layout in (_LLM_LAYOUTS if kind_of(model) == "llm" else _DIT_LAYOUTS)
        for gpu in site.gpus()
        if site.domains(gpu, layout.gpus, checkpoint_bytes(model, ()))
    ]
    if not places:
        return None
    model = draw(st.sampled_from(list(dict.fromkeys(model for model, _, _ in places))))
    wanted = draw(st.sampled_from([place for place in places if place[0] == model]))
    # What is drawn first, then the rest in order: to try all would trace every model and layout.
    fitting = (p for p in [wanted, *places] if _fits(p[0], (), p[1], p[2], _LIMITS, bounds))
    found = next(fitting, None)
    if found is None:
        return None
    model, layout, gpu = found
    options = draw(_options(model, layout, gpu, bounds)) if bounds.options else {}
    limits = draw(_schedulers(kind_of(model))) if bounds.options else {}
    given = frozen(options)
    if not _fits(model, given, layout, gpu, _LIMITS | limits, bounds):
        options, limits, given = {}, {}, ()
    checkpoint = checkpoint_bytes(model, given)
    domains = site.domains(gpu, layout.gpus, checkpoint)
    low, high = (bounds.replicas,) * 2 if isinstance(bounds.replicas, int) else bounds.replicas
    room = site.replicas(domains, layout.gpus)
    number = draw(st.integers(min(low, room), min(high, room)))
    site.take(domains, layout.gpus, number, checkpoint)
    names = [domain.name for domain in domains]
    everywhere = len(names) == len(site.topology.domains)
    job = {
        "model": model,
        "options": options,
        "layout": {axis: n for axis, n in vars(layout).items() if n not in (1, None)},
        "replicas": number if everywhere else {"count": number, "on": names},
        "scheduler": limits,
        **_asked(draw, {"model": model}, given, layout, gpu, bounds),
        "keep": _kept(draw, model, domains, site, bounds),
    }
    if kind_of(model) == "llm" and draw(st.integers(0, 2)) == 2:
        job["session"] = draw(sessions())
    if draw(st.integers(0, 2)) == 2:
        job["adapters"] = draw(adapters())
        if "reuse" not in job["keep"] and draw(st.booleans()):
            job["keep"] = job["keep"] | {"adapters": draw(kept_adapters(bounds.keep))}
    return {key: value for key, value in job.items() if value}


def _sharer(draw: Draw, mix: Written, server: str, site: Site, bounds: _Bounds) -> dict[str, Any]:
    """A job class on the replicas of another."""
    of = mix[server]
    names = of["replicas"]["on"] if isinstance(of["replicas"], dict) else None
    on = [d for d in site.topology.domains if names is None or d.name in names]
    job: dict[str, Any] = {"shares": server}
    job |= _asked(draw, of, frozen(of.get("options", {})), _layout(of), on[0].gpu, bounds)
    stored = "store" in of.get("keep", {}) or all(domain.nand for domain in on)
    kept = draw(keeps(bounds.keep, kind_of(of["model"]), ["local"] if stored else []))
    for key in ("weights_in_dram", "reuse"):  # for the server to say
        kept.pop(key, None)
    if draw(st.integers(0, 3)) == 3:
        job["adapters"] = draw(adapters())
    return job | ({"keep": kept} if kept else {})


def _layout(job: dict[str, Any]) -> Layout:
    return Layout(**job.get("layout", {}))


_LIMITS = vars(Scheduler().of(TokenShape()))  # the defaults


def _fits(
    model: str, options: Options, layout: Layout, gpu: Gpu, limits: dict[str, Any], bounds: _Bounds
) -> bool:
    capacity = layout.gpus * gpu.hbm
    if kind_of(model) == "llm":
        keys = ("prefill_chunk", "max_batched_tokens", "max_jobs")
        chunk, tokens, jobs = (limits[key] for key in keys)
        need = token_room(model, options, layout, chunk, tokens, jobs, gpu.hbm)
        return need is not None and need <= capacity
    return bool(_clips(model, options, layout, gpu, bounds))


def _clips(
    model: str, options: Options, layout: Layout, gpu: Gpu, bounds: _Bounds
) -> tuple[list[str], list[int]]:
    """Resolutions and frames that a replica can make, all combinations of them; or none."""

    def goes(size: str, frames: int) -> bool:
        width, _, height = size.partition("x")
        found = clip_sizes(model, options, layout, (int(width), int(height), frames))
        return found is not None and found[0] <= layout.gpus * gpu.hbm

    frames = [f for f in bounds.frames if any(goes(size, f) for size in bounds.resolutions)]
    if not frames:
        return [], []
    sizes = [size for size in bounds.resolutions if goes(size, frames[0])]
    frames = [f for f in frames if all(goes(size, f) for size in sizes)]
    return sizes, frames


def _options(
    model: str, layout: Layout, gpu: Gpu, bounds: _Bounds
) -> st.SearchStrategy[dict[str, Any]]:
    """An implementation option that differs from the default, or none."""
    known: dict[str, Sequence[Any]] = dict(
        _LLM_OPTIONS if kind_of(model) == "llm" else _DIT_OPTIONS
    )
    if layout.cfg > 1:
        known["cfg"] = ("sequential",)
    if "fp8" in gpu.flops:
        known["weights_dtype"] = ("fp8",)
    each = [{name: value} for name, values in known.items() for value in values]
    return st.sampled_from([{}, *each])


@st.composite
def _schedulers(draw: Draw, kind: str) -> dict[str, Any]:
    """Batching that differs from the defaults, if any."""
    limits: dict[str, Any] = {}
    if draw(st.booleans()):
        limits["max_jobs"] = draw(st.integers(1, 64))
    if draw(st.booleans()):
        limits["router"] = draw(st.sampled_from(["round_robin", "session_sticky"]))
    if draw(st.integers(0, 3)) == 3:
        limits["same_shape"] = draw(st.booleans())
    if kind == "llm" and draw(st.booleans()):
        chunk, tokens = sorted(draw(st.tuples(*[st.sampled_from([64, 256, 1000, 2048, 8192])] * 2)))
        limits |= {"prefill_chunk": chunk, "max_batched_tokens": tokens}
    if kind == "llm" and draw(st.booleans()):
        limits["preemption"] = "swap"
    if kind == "llm" and draw(st.booleans()):
        limits["order"] = "prefill_first"
    return limits


def _asked(
    draw: Draw, job: dict[str, Any], options: Options, layout: Layout, gpu: Gpu, bounds: _Bounds
) -> dict[str, Any]:
    """Arrivals and shape of a class that the replicas of `job` serve."""
    arrivals = draw(processes(bounds.rate, bounds.most, bounds.duration))
    if kind_of(job["model"]) == "llm":
        return {"arrivals": arrivals, "shape": draw(token_shapes(bounds.prompt, bounds.output))}
    sizes, frames = _clips(job["model"], options, layout, gpu, bounds)
    return {"arrivals": arrivals, "shape": draw(clip_shapes(sizes, frames, bounds.steps))}


def _kept(
    draw: Draw, model: str, domains: list[Domain], site: Site, bounds: _Bounds
) -> dict[str, Any]:
    """What stays of the jobs of replicas on these domains."""
    local = ["local"] if all(domain.nand for domain in domains) else []
    kept: dict[str, Any] = draw(
        keeps(bounds.keep, kind_of(model), [*local, *site.shelves(domains)])
    )
    return kept
