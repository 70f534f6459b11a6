"""What users ask of a job: when, and of what shape, drawn from its streams or read from its log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dcsim.models import ModelError
from dcsim.spec import (
    AsTraced,
    ClipShape,
    Closed,
    Constant,
    FromLog,
    GammaArrivals,
    Job,
    Poisson,
    Replay,
    Scenario,
    Session,
    SpecError,
    TokenShape,
)
from dcsim.spec.draws import Draw
from dcsim.traces import recorded
from dcsim.workload.arrivals import renewal_times
from dcsim.workload.blocks import Blocks, read_blocks
from dcsim.workload.curve import Curve
from dcsim.workload.logs import LogError, RequestLog, read_log
from dcsim.workload.sessions import closed_turns, draw_turns
from dcsim.workload.shapes import Clip, Sampler, clip_sampler, sampler
from dcsim.workload.stages import Drawn
from dcsim.workload.streams import stream

__all__ = ["MOST_REQUESTS", "at_path", "came", "draw_job", "has_blocks", "renewal", "shaper"]

MOST_REQUESTS = 10**9

Ints = NDArray[np.int64]


def came(scenario: Scenario, job: Job) -> tuple[RequestLog | None, Ints, Blocks | None]:
    """When requests come, and the log that says so, with its blocks."""
    if isinstance(job.arrivals, Replay):
        return _replayed(scenario, job, job.arrivals)
    if isinstance(job.arrivals, Closed):
        return None, np.zeros(job.arrivals.requests, dtype=np.int64), None
    return None, _arrivals(scenario, job), None


def draw_job(scenario: Scenario, job: Job) -> Drawn:
    """All that users ask of a job. Raises `SpecError` for what a log or a file of values lacks."""
    log, arrival, blocks = came(scenario, job)
    if job.session is not None:
        return _turns(scenario, job, job.session, arrival)
    found = shaper(scenario, job, log)(arrival)
    if isinstance(job.arrivals, Closed) and len(found.arrival):
        turns = closed_turns(job.arrivals, stream(scenario.seed, job.name, "think"))
        found = replace(found, turns=turns)
    return replace(found, blocks=blocks)


def shaper(scenario: Scenario, job: Job, log: RequestLog | None) -> Callable[[Ints], Drawn]:
    """What is asked by requests that come then; called again its streams go on."""

    def random(purpose: str) -> np.random.Generator:
        return stream(scenario.seed, job.name, purpose)

    def nones(arrival: Ints) -> Ints:
        return np.zeros(len(arrival), dtype=np.int64)

    if isinstance(job.shape, AsTraced):
        return _traced(job)
    if isinstance(job.shape, ClipShape):
        clips_of = clip_sampler(job.shape, random)

        def clips(arrival: Ints) -> Drawn:
            found, row = clips_of(len(arrival))
            return Drawn(arrival, row, nones(arrival), nones(arrival), found)

        return clips
    assert isinstance(job.shape, TokenShape)
    columns = [
        (
            _logged(scenario, job, log, name)
            if isinstance(numbers, FromLog)
            else _sampler(job, numbers, name),
            random(name),
        )
        for name, numbers in (("prompt", job.shape.prompt), ("output", job.shape.output))
    ]

    def tokens(arrival: Ints) -> Drawn:
        prompt, output = (draws(len(arrival), its) for draws, its in columns)
        return Drawn(arrival, nones(arrival), prompt, output)

    return tokens


def _traced(job: Job) -> Callable[[Ints], Drawn]:
    """Requests that all are the one of a trace file; none where it cannot be read or is no clip,
    which is told where it is priced."""
    assert job.model is not None
    try:
        shape = recorded(job.model).shape
    except ModelError:
        shape = None

    def same(arrival: Ints) -> Drawn:
        none = np.zeros(len(arrival) if isinstance(shape, Clip) else 0, dtype=np.int64)
        if isinstance(shape, Clip):
            return Drawn(arrival, none, none, none, (shape,))
        return Drawn(none, none, none, none)

    return same


def _turns(scenario: Scenario, job: Job, session: Session, starts: Ints) -> Drawn:
    """The turns of sessions that start then; each is said to arrive when its session does."""
    assert isinstance(job.shape, TokenShape)
    draws = {"turns": session.turns, "prompt": job.shape.prompt, "output": job.shape.output}
    block = 0 if job.keep.reuse is None else job.keep.reuse.block

    def numbers(name: str, count: int) -> Ints:
        found = _sampler(job, draws[name], name)(count, stream(scenario.seed, job.name, name))
        if name == "turns" and int(found.sum()) > MOST_REQUESTS:
            path = f"jobs.{job.name}.session.turns"
            message = f"makes {int(found.sum())} requests; at most {MOST_REQUESTS:.0e} are held"
            raise SpecError([scenario.problem(path, message)])
        return found

    def random(purpose: str) -> np.random.Generator:
        return stream(scenario.seed, job.name, purpose)

    staged = job.name not in scenario.jobs
    turns = draw_turns(session, len(starts), numbers, random, block, answers=not staged)
    none = np.zeros(len(turns.session), dtype=np.int64)
    return Drawn(starts[turns.session], none, turns.prompt, turns.output, turns=turns)


def _arrivals(scenario: Scenario, job: Job) -> Ints:
    return renewal_times(*renewal(scenario, job), scenario.duration)


def renewal(scenario: Scenario, job: Job) -> tuple[Curve, np.random.Generator, float]:
    """The rate, the stream and the coefficient of variation of arrivals."""
    match job.arrivals:
        case Constant(rate):
            cv = 0.0
        case Poisson(rate):
            cv = 1.0
        case GammaArrivals(rate, cv):
            pass
        case _:
            raise TypeError(f"{job.arrivals} has no rate")
    return Curve.of(rate, scenario.duration), stream(scenario.seed, job.name, "arrivals"), cv


def _replayed(
    scenario: Scenario, job: Job, replay: Replay
) -> tuple[RequestLog, Ints, Blocks | None]:
    """The part of the log that is replayed, its arrivals on the clock of the run, and its blocks
    where prompts are its own and their context is used again."""
    blocks = None
    try:
        if job.keep.reuse is not None and has_blocks(job):
            found = read_blocks(replay.log, job.keep.reuse.block)
            order = np.argsort(found.arrival, kind="stable")
            blocks = Blocks.full(found).take(order)
            log = RequestLog(found.arrival[order], found.prompt[order], found.output[order])
        else:
            log = read_log(replay.log, replay.format)
    except LogError as error:
        raise at_path(error, f"jobs.{job.name}.arrivals.log") from None
    start = 0 if replay.start is None else replay.start
    arrival = log.arrival - start
    if replay.speed != 1.0:
        # What lies outside the run is left out below; it need not fit 64 bits.
        scaled = np.floor(arrival / replay.speed)
        arrival = np.clip(scaled, -1, scenario.duration).astype(np.int64)
    kept = (log.arrival >= start) & (arrival < scenario.duration)
    if replay.until is not None:
        kept &= log.arrival < replay.until
    part = RequestLog(
        log.arrival[kept],
        None if log.prompt is None else log.prompt[kept],
        None if log.output is None else log.output[kept],
    )
    return part, arrival[kept], None if blocks is None else blocks.take(np.flatnonzero(kept))


def has_blocks(job: Job) -> bool:
    """Whether prefix blocks of a log are to be used again: of prompts that are its own."""
    mooncake = isinstance(job.arrivals, Replay) and job.arrivals.format == "mooncake"
    logged = isinstance(job.shape, TokenShape) and isinstance(job.shape.prompt, FromLog)
    return job.keep.reuse is not None and mooncake and logged


def _logged(scenario: Scenario, job: Job, log: RequestLog | None, name: str) -> Sampler:
    """The tokens of all requests of a log."""
    path = f"jobs.{job.name}.shape.{name}"
    if log is None:
        raise SpecError([scenario.problem(path, "only a replayed request log has tokens")])
    tokens = log.prompt if name == "prompt" else log.output
    if tokens is None:
        raise SpecError([scenario.problem(path, f"the request log has no column {name!r}")])
    return lambda count, random: tokens


def _sampler(job: Job, numbers: Draw, name: str) -> Sampler:
    try:
        return sampler(numbers)
    except LogError as error:
        raise at_path(error, f"jobs.{job.name}.shape.{name}") from None


def at_path(error: LogError, path: str) -> LogError:
    """The same problems, found at this path of the scenario."""
    return LogError([replace(problem, path=path) for problem in error.problems])
