"""Jobs in stages: what users ask for, and what serves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from dcsim.reading.errors import Finding, did_you_mean
from dcsim.reading.forms import Unknown, sure
from dcsim.spec.draws import FromLog
from dcsim.spec.jobs import Closed, Job
from dcsim.spec.sessions import Step
from dcsim.spec.shapes import is_trace

__all__ = ["parts_of", "place_of", "served", "stage_findings", "step_findings"]


def served(jobs: Mapping[str, Job]) -> dict[str, Job]:
    """The jobs that replicas know of: a job in stages is one a stage, by the name `job/stage`.

    A job that could not be read in full is left out.
    """
    found: dict[str, Job] = {}
    for name, job in jobs.items():
        with suppress(Unknown):
            if sure(job.steps) is not None:
                continue
            server = jobs.get(sure(job.shares), job)
            stages = [stage for stage in job.stage_names if stage in (sure(server.stages) or ())]
            found |= {f"{name}/{stage}": job.at(stage, server) for stage in stages} or {name: job}
    return found


def place_of(path: str) -> str:
    """Where in a file a dotted path is written: that of a stage is below its job's stages."""
    keys = path.split(".")
    if keys[0] == "jobs" and len(keys) > 1 and "/" in keys[1]:
        job, _, stage = keys[1].partition("/")
        keys[1:2] = [job, "stages", stage]
    return ".".join(keys)


def parts_of(job: Job, names: tuple[str, ...]) -> tuple[str, ...]:
    """The parts of a diffusion model that a stage of the job runs; `names`: of all its stages."""
    order = job.stage_names
    first = 0
    for name in names:
        last = len(order) if name == names[-1] else order.index(name) + 1
        if name == job.stage:
            return order[first:last]
        first = last
    return order


def stage_findings(job: Job) -> Iterator[Finding]:
    """What is wrong with the stages of a job."""
    stages = sure(job.stages)
    if stages is None:
        return
    if is_trace(sure(job.model)):
        yield "stages", "a trace file has no stages; name a model of the catalogue"
    known = job.stage_names
    kind = "a diffusion model" if job.is_clip else "an LLM"
    for name in stages:
        if name not in known:
            yield f"stages.{name}", f"is no stage of {kind}; {did_you_mean(name, known)}"
    least = 2
    if sum(name in known for name in stages) < least:
        yield "stages", f"of {kind} at least {least} of {', '.join(known)}"
    for name, stage in stages.items():
        if sure(stage).overlap and (job.is_clip or name != known[0]):
            yield f"stages.{name}.overlap", "is for prefill alone: its KV goes layer by layer"


def step_findings(job: Job, jobs: Mapping[str, Job]) -> Iterator[Finding]:
    """What is wrong with the steps of a job."""
    steps = sure(job.steps)
    if steps is None:
        return
    if not steps:
        yield "steps", "needs at least 1"
    if isinstance(sure(job.arrivals), Closed):
        yield "arrivals", "clients that wait for an end do not ask jobs in steps; let turns do it"
    before: list[str] = []
    for name, step in steps.items():
        with suppress(Unknown):
            for below, message in _step(sure(step), before, steps, jobs):
                yield f"steps.{name}.{below}", message
        before.append(name)


def _step(
    step: Step, before: list[str], steps: Mapping[str, Step], jobs: Mapping[str, Job]
) -> Iterator[Finding]:
    for name in ("count", "turns"):
        if isinstance(sure(getattr(step, name)), FromLog):
            yield name, "no request log has it"
    for i, name in enumerate(step.after):
        if name not in before:
            yield f"after.{i}", f"no step {name!r} above it; {did_you_mean(name, before)}"
        elif name in step.after[:i]:
            yield f"after.{i}", f"{name!r} is named twice"
    if not step.after and (step.delay or step.hand_over):
        yield "delay" if step.delay else "hand_over", "needs after: what it waits for"
    asked = [name for name, job in jobs.items() if job.steps is None]
    server = jobs.get(step.job)
    if server is None or server.steps is not None:
        what = "no job" if server is None else "has steps of its own:"
        yield "job", f"{what} {step.job!r}; {did_you_mean(step.job, asked)}"
        return
    if sure(server.arrivals) is not None:
        yield "job", f"{step.job!r} has arrivals of its own; let a job that shares it serve steps"
    if sure(server.session) is not None:
        yield "job", f"{step.job!r} has sessions; of a step say turns"
    if server.as_traced:
        yield "job", f"{step.job!r} is a trace file; steps ask models of the catalogue"
    if server.keep.reuse is not None:
        yield "job", f"{step.job!r} has keep.reuse, which steps do not use"
    if step.hand_over:
        order = list(jobs)
        for name in step.after:
            giver = steps[name].job
            if giver in jobs and _place(giver, jobs, order) >= _place(step.job, jobs, order):
                message = f"from {giver!r}: list jobs in the order in which they hand over"
                yield "hand_over", message


def _place(name: str, jobs: Mapping[str, Job], order: list[str]) -> int:
    """The place among the jobs of the one whose replicas serve this one."""
    return order.index(jobs[name].shares or name)
