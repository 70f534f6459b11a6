"""What models cannot do for jobs, as far as it shows before requests are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from dcsim.models import ModelError
from dcsim.models.shapes import Clip, RequestShape, Turn
from dcsim.reading.errors import Finding, did_you_mean
from dcsim.reading.forms import sure
from dcsim.spec import Choice, ClipShape, Fixed, Gpu, Job, Scenario, served
from dcsim.spec.shapes import frames_given
from dcsim.traces import request_of, streams, wrong


def model_findings(scenario: Scenario) -> Iterator[Iterable[Finding]]:
    """Names, options, profiles, shapes and layouts that cannot be, of a scenario as it is written,
    which may have holes: told beside what is wrong with its fields."""
    jobs = served(scenario.jobs)
    for job in jobs.values():
        server = jobs.get(job.shares or "", job)
        if job is server:
            yield _placed(job, _serving(job))
            yield _placed(job, _profile(job, scenario))
        yield _placed(job, _shapes(job, server))


def _placed(job: Job, findings: Iterable[Finding]) -> Iterator[Finding]:
    """What has its layout for itself is a stage; the rest is written with its job."""
    for path, message in findings:
        own = job.stage and path.startswith("layout")
        below = f"{job.asked}.stages.{job.stage}" if own else job.asked
        yield f"jobs.{below}.{path}", message


def _serving(job: Job) -> Iterator[Finding]:
    """Of the job that has the replicas."""
    if sure(job.model) is not None:
        yield from wrong(str(job.model), sure(job.options), layout=sure(job.layout))


def _kept(job: Job, server: Job) -> Iterator[Finding]:
    """Only a clip that is streamed leaves something to go on from."""
    times = sure(job.keep).context
    if job.is_clip and (times.dram or times.nand) and not streams(str(sure(server.model))):
        yield "keep.context", "a diffusion job leaves no context"


def _shapes(job: Job, server: Job) -> Iterator[Finding]:
    if job is server or job.is_clip == server.is_clip:  # else `shares` is wrong
        yield from shape_findings(job, server)


def shape_findings(job: Job, server: Job) -> Iterator[Finding]:
    """What the model of a job's server cannot make of the shapes that it asks for, nor leave."""
    if sure(server.model) is None:
        return
    yield from _kept(job, server)
    if job.as_traced:
        return
    said: set[Finding] = set()
    for asked in _asked(job, str(server.model)):
        for each in wrong(str(server.model), server.options, asked):
            if each[0].startswith("shape") and each not in said:
                said.add(each)
                yield each


def _asked(job: Job, model: str) -> Iterator[RequestShape]:
    """The model's typical request with each value that the job's shape names, one at a time: what
    can be made of one depends on no other."""
    try:
        typical = request_of(model)
    except ModelError:
        return  # that has been said
    shape = job.shape
    if not isinstance(shape, ClipShape):
        yield typical if isinstance(typical, Turn) else Turn(1, 1)
    elif not isinstance(typical, Clip):
        yield Clip(1, 1, 1, 1)
    else:
        typical, sizes = replace(typical, given=0), _named(shape.resolution)
        yield from (replace(typical, width=w, height=h) for w, h in sizes)
        yield from (_bringing(replace(typical, frames=n), shape) for n in _named(shape.frames))
        yield from (replace(typical, steps=count) for count in _named(shape.steps))


def _bringing(clip: Clip, shape: ClipShape) -> Clip:
    given = frames_given(shape.input, clip.frames)
    return replace(clip, given=given, strength=shape.strength)


def _named(draw: Any) -> tuple[Any, ...]:
    """The values of a draw that names them."""
    if isinstance(sure(draw), Fixed):
        return (sure(draw.value),)
    return tuple(map(sure, draw.values)) if isinstance(draw, Choice) else ()


def _profile(job: Job, scenario: Scenario) -> Iterator[Finding]:
    """Where none of the GPUs that may serve the job has its profile."""
    profile, replicas, groups = sure(job.profile), sure(job.replicas), scenario.topology.groups
    if profile is None or replicas is None:
        return
    places = [place.domain for place in replicas.place or ()]
    names = places or [d for name in replicas.on or groups for d in groups.get(name, ())]
    gpus = [domain.gpu for domain in scenario.topology.domains if domain.name in set(names)]
    if gpus and not any(profile in gpu.profiles for gpu in gpus):
        yield profile_finding(job, gpus[0])


def profile_finding(job: Job, gpu: Gpu) -> Finding:
    """That a GPU does not have the profile of a job."""
    known = did_you_mean(str(job.profile), gpu.profiles)
    return "profile", f"{gpu.name} has no profile {job.profile!r}; {known}"
