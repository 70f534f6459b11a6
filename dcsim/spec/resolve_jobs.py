"""From the written jobs and operations to resolved ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dcsim.spec import jobs as r
from dcsim.spec import written_draws as d
from dcsim.spec import written_jobs as w
from dcsim.spec import written_operations as o
from dcsim.spec.fields import resolution
from dcsim.spec.rates import Rate
from dcsim.spec.resolve_topology import expand_names
from dcsim.spec.scenario import Capacity, CapacityChange, Failures, Operation, Outage, Sampler
from dcsim.spec.written_parts import RackPart

FindFile = Callable[[str, str], Path]
"""From (text as written, dotted path) to the file; what is wrong is collected elsewhere."""


def rate(written: float | d.Curve) -> Rate:
    """A rate over time."""
    if not isinstance(written, d.Curve):
        return Rate.flat(written)
    if written.diurnal is not None:
        day = written.diurnal
        return Rate.diurnal(day.mean, day.peak_to_mean, day.peak_at)
    points = written.piecewise or ()
    return Rate(
        times=tuple(time for time, _ in points),
        values=tuple(value for _, value in points),
        interpolate=written.interpolate,
        period=written.repeat,
    )


def arrivals(written: w.ArrivalsField, find: FindFile, path: str) -> r.Arrivals:
    """An arrival process."""
    match written:
        case w.ConstantArrivals():
            return r.Constant(rate(written.rate))
        case w.PoissonArrivals():
            return r.Poisson(rate(written.rate))
        case w.GammaProcess():
            return r.GammaArrivals(rate(written.rate), written.cv)
        case w.ReplayArrivals():
            log = find(written.log, f"{path}.log")
            return r.Replay(log, written.format, written.speed, written.start, written.until)


def numbers(written: int | str | d.NumberDraw, find: FindFile, path: str) -> r.Numbers:
    """A distribution over whole numbers."""
    if isinstance(written, str):
        return r.FromLog()
    if isinstance(written, int):
        return r.Fixed(written)
    if written.choice is not None:
        values = tuple(int(value) for value in written.choice)
        return r.Choice(values, tuple(written.choice.values()))
    if written.uniform is not None:
        return r.Uniform(written.uniform.min, written.uniform.max)
    if written.lognormal is not None:
        draw = written.lognormal
        return r.LogNormal(draw.median, draw.sigma, draw.min, draw.max)
    given = written.empirical
    assert given is not None  # one of the four is given: NumberDraw checks it
    if given.file is None:
        return r.Empirical(values=given.values)
    return r.Empirical(file=find(given.file, f"{path}.empirical.file"), column=given.column)


def sizes(written: str | d.SizeDraw) -> r.Sizes:
    """A distribution over resolutions."""
    if isinstance(written, str):
        return r.Fixed(resolution(written))
    values = tuple(resolution(value) for value in written.choice)
    return r.Choice(values, tuple(written.choice.values()))


def shape(written: w.ShapeFields | None, find: FindFile, path: str) -> r.Shape:
    """What requests ask for; None is what the log says."""
    if written is None:
        return r.TokenShape(r.FromLog(), r.FromLog())
    if written.resolution is not None and written.steps is not None:
        return r.ClipShape(
            resolution=sizes(written.resolution),
            frames=numbers(written.frames or 1, find, f"{path}.frames"),
            steps=numbers(written.steps, find, f"{path}.steps"),
        )
    assert written.prompt is not None  # ShapeFields checks it, and output
    assert written.output is not None
    return r.TokenShape(
        prompt=numbers(written.prompt, find, f"{path}.prompt"),
        output=numbers(written.output, find, f"{path}.output"),
    )


def scheduler(written: w.SchedulerFields | None, kind: r.Shape) -> r.Scheduler:
    """Batching, with the defaults of the kind of model."""
    given = written or w.SchedulerFields()
    clip = isinstance(kind, r.ClipShape)
    tokens = given.max_batched_tokens
    return r.Scheduler(
        max_jobs=given.max_jobs or (1 if clip else 256),
        max_batched_tokens=tokens if tokens is not None or clip else 8192,
        prefill_chunk=given.prefill_chunk or min(2048, tokens or 2048),
        router=given.router,
        same_shape=given.same_shape,
    )


def replicas(written: int | w.ReplicaFields, racks: Mapping[str, RackPart]) -> r.Replicas:
    """How many and where, `on` as the names of domains."""
    if isinstance(written, int):
        return r.Replicas(written)
    if written.place is not None:
        places = tuple(r.Place(place.domain, place.gpus) for place in written.place)
        return r.Replicas(len(places), place=places)
    members = expand_names(written.on or (), racks)
    on = dict.fromkeys(name for names in members.values() for name in names)
    assert written.count is not None  # count or place: ReplicaFields checks it
    return r.Replicas(written.count, on=tuple(on))


def keep(written: w.KeepFields, of: w.KeepFields) -> r.Keep:
    """What stays; store and weights are those of the job that has the replicas (`of`)."""
    return r.Keep(
        artifact=r.KeepTimes(written.artifact.dram, written.artifact.nand),
        context=r.KeepTimes(written.context.dram, written.context.nand),
        store=written.store or of.store or "local",
        weights_in_dram=bool(of.weights_in_dram),
    )


def jobs(
    written: Mapping[str, w.JobFields], racks: Mapping[str, RackPart], find: FindFile
) -> Mapping[str, r.Job]:
    """All jobs, in order. References must have been checked."""
    resolved = {}
    for name, job in written.items():
        path = f"jobs.{name}"
        what = shape(job.shape, find, f"{path}.shape")
        own = job.shares is None
        server = job if job.shares is None else written[job.shares]
        layout = job.layout or w.LayoutFields()
        resolved[name] = r.Job(
            name=name,
            arrivals=arrivals(job.arrivals, find, f"{path}.arrivals"),
            shape=what,
            model=job.model,
            options=dict(job.options or {}),
            layout=r.Layout(layout.tp, layout.sp, layout.cfg) if own else None,
            replicas=replicas(job.replicas, racks) if job.replicas is not None else None,
            scheduler=scheduler(job.scheduler, what) if own else None,
            shares=job.shares,
            keep=keep(job.keep, server.keep),
        )
    return resolved


def operation(written: o.OperationField, shelves: Mapping[str, object]) -> Operation:
    """One operation. References must have been checked."""
    match written:
        case o.FailuresFields():
            script = written.script
            outages = None if script is None else tuple(Outage(*entry) for entry in script)
            return Failures(written.job, written.replica, written.mtbf, written.mttr, outages)
        case o.SamplerFields():
            return Sampler(written.every)
        case o.CapacityFields():
            changes = []
            for at, pool, size in written.script:
                owner, _, tier = pool.rpartition("/")
                if pool in shelves:
                    changes.append(CapacityChange(at, "nand", pool, size))
                else:
                    changes.append(
                        CapacityChange(at, "dram" if tier == "dram" else "nand", owner, size)
                    )
            return Capacity(tuple(changes))
