"""The requests of a scenario: every arrival and shape, drawn before the engine runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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
    Problem,
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
from dcsim.workload.sessions import Turns, closed_turns, draw_turns
from dcsim.workload.shapes import Clip, draw_clips, draw_numbers
from dcsim.workload.streams import stream

__all__ = ["Content", "Requests", "generate"]

MOST_REQUESTS = 10**9

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Content:
    """A prefix forest: what requests have in common.

    `parent`, `tokens` and `klass` int64[M]: the node above (of a lower row, -1 for none), its own
    tokens, the job class. `reads` and `leaves` int64[N]: the node in which what a request may find
    of its prompt ends, and that in which its context ends; -1 for none.
    """

    parent: Ints
    tokens: Ints
    klass: Ints
    reads: Ints
    leaves: Ints


@dataclass(frozen=True)
class Requests:
    """N requests, sorted by arrival; ties by class, then by the order within the class.

    `arrival` int64[N], ns; `klass` int64[N], row of the job class in the scenario; `shape`
    int64[N], row in `shapes[klass]` (0 for an LLM); `prompt` and `output` int64[N], tokens (0 for
    a diffusion model). `shapes`: by class the distinct clips asked for, sorted; empty for an LLM.

    Where jobs have sessions, else None: `after` int64[N], the request that one waits for, of a
    lower row, -1 for none; `delay` int64[N], ns, from its end. `content` where contexts are reused;
    `blocks` by class the prefix blocks of its requests, where a replayed log tells them.
    """

    arrival: Ints
    klass: Ints
    shape: Ints
    prompt: Ints
    output: Ints
    shapes: tuple[tuple[Clip, ...], ...]
    after: Ints | None = None
    delay: Ints | None = None
    content: Content | None = None
    blocks: Mapping[int, Blocks] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.arrival)


@dataclass(frozen=True)
class _Drawn:
    """The requests of one class, in order of arrival."""

    arrival: Ints
    shape: Ints
    prompt: Ints
    output: Ints
    clips: tuple[Clip, ...] = ()
    turns: Turns | None = None
    blocks: Blocks | None = None


def generate(scenario: Scenario) -> Requests:
    """All requests that arrive in `[0, duration)`.

    Each class draws from streams of its own, named by the job and the purpose, so another class
    or another policy changes nothing here. Raises `LogError` with the broken rows of all logs.
    """
    drawn: list[_Drawn] = []
    problems: list[Problem] = []
    for job in scenario.jobs.values():
        try:
            drawn.append(_draw(scenario, job))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise LogError(problems)
    return _merge(drawn)


def _merge(drawn: list[_Drawn]) -> Requests:
    arrival = _join([each.arrival for each in drawn])
    klass = np.repeat(np.arange(len(drawn)), [len(each.arrival) for each in drawn])
    order: Ints | slice = slice(None)  # as they are; to sort what is sorted takes a while
    if not (arrival[1:] >= arrival[:-1]).all():
        order = np.argsort(arrival, kind="stable")
    requests = Requests(
        arrival[order],
        klass[order],
        _join([each.shape for each in drawn])[order],
        _join([each.prompt for each in drawn])[order],
        _join([each.output for each in drawn])[order],
        tuple(each.clips for each in drawn),
        blocks={row: each.blocks for row, each in enumerate(drawn) if each.blocks is not None},
    )
    return (
        requests if all(each.turns is None for each in drawn) else _related(requests, drawn, order)
    )


def _related(requests: Requests, drawn: list[_Drawn], order: Ints | slice) -> Requests:
    """With the turns of all classes, whose rows are those of their class yet."""
    count = len(requests)
    row = np.empty(count, dtype=np.int64)
    row[order] = np.arange(count)
    after, delay, reads, leaves = (np.full(count, fill) for fill in (-1, 0, -1, -1))
    parts: list[Ints] = []
    first = nodes = 0
    for klass, each in enumerate(drawn):
        mine = slice(first, first + len(each.arrival))
        first = mine.stop
        if each.turns is None:
            continue
        turns = each.turns
        after[mine] = np.where(turns.after < 0, -1, row[mine][turns.after])
        delay[mine] = turns.delay
        for column, given in ((reads, turns.reads), (leaves, turns.leaves)):
            column[mine] = np.where(given < 0, -1, given + nodes)
        parent, tokens = turns.nodes.T
        parent = np.where(parent < 0, -1, parent + nodes)
        parts.append(np.stack([parent, tokens, np.full(len(parent), klass)]))
        nodes += len(parent)
    parent, tokens, owner = np.concatenate(parts, axis=1)
    content = Content(parent, tokens, owner, reads[order], leaves[order])
    return replace(
        requests,
        after=after[order],
        delay=delay[order],
        content=content if nodes else None,
    )


def _join(parts: list[Ints]) -> Ints:
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype=np.int64), *parts])


def _draw(scenario: Scenario, job: Job) -> _Drawn:
    log = blocks = None
    turns = None
    if isinstance(job.arrivals, Replay):
        log, arrival, blocks = _replayed(scenario, job, job.arrivals)
    elif isinstance(job.arrivals, Closed):
        arrival = np.zeros(job.arrivals.requests, dtype=np.int64)
        turns = closed_turns(job.arrivals, stream(scenario.seed, job.name, "think"))
    else:
        arrival = _arrivals(scenario, job)
    count = len(arrival)
    none = np.zeros(count, dtype=np.int64)

    def random(purpose: str) -> np.random.Generator:
        return stream(scenario.seed, job.name, purpose)

    if isinstance(job.shape, AsTraced):
        return _traced(job, arrival)
    if isinstance(job.shape, ClipShape):
        clips, row = draw_clips(job.shape, count, random)
        return _Drawn(arrival, row, none, none, clips, turns)
    assert isinstance(job.shape, TokenShape)
    if job.session is not None:
        return _turns(scenario, job, job.session, arrival)
    tokens = []
    for name, numbers in (("prompt", job.shape.prompt), ("output", job.shape.output)):
        if isinstance(numbers, FromLog):
            tokens.append(_logged(scenario, job, log, name))
        else:
            tokens.append(_numbers(scenario, job, numbers, name, count))
    return _Drawn(arrival, none, tokens[0], tokens[1], turns=turns, blocks=blocks)


def _traced(job: Job, arrival: Ints) -> _Drawn:
    """Requests that all are the one of a trace file; none where it cannot be read or is no clip,
    which is told where it is priced."""
    assert job.model is not None
    try:
        shape = recorded(job.model).shape
    except ModelError:
        shape = None
    if not isinstance(shape, Clip):
        arrival = arrival[:0]
    none = np.zeros(len(arrival), dtype=np.int64)
    return _Drawn(arrival, none, none, none, (shape,) if isinstance(shape, Clip) else ())


def _turns(scenario: Scenario, job: Job, session: Session, starts: Ints) -> _Drawn:
    """The turns of sessions that start then; each is said to arrive when its session does."""
    assert isinstance(job.shape, TokenShape)
    draws = {"turns": session.turns, "prompt": job.shape.prompt, "output": job.shape.output}
    block = 0 if job.keep.reuse is None else job.keep.reuse.block

    def numbers(name: str, count: int) -> Ints:
        found = _numbers(scenario, job, draws[name], name, count)
        if name == "turns" and int(found.sum()) > MOST_REQUESTS:
            path = f"jobs.{job.name}.session.turns"
            message = f"makes {int(found.sum())} requests; at most {MOST_REQUESTS:.0e} are held"
            raise SpecError([scenario.problem(path, message)])
        return found

    def random(purpose: str) -> np.random.Generator:
        return stream(scenario.seed, job.name, purpose)

    turns = draw_turns(session, len(starts), numbers, random, block)
    none = np.zeros(len(turns.session), dtype=np.int64)
    return _Drawn(starts[turns.session], none, turns.prompt, turns.output, turns=turns)


def _arrivals(scenario: Scenario, job: Job) -> Ints:
    match job.arrivals:
        case Constant(rate):
            cv = 0.0
        case Poisson(rate):
            cv = 1.0
        case GammaArrivals(rate, cv):
            pass
        case _:
            raise TypeError(f"{job.arrivals} has no rate")
    curve = Curve.of(rate, scenario.duration)
    random = stream(scenario.seed, job.name, "arrivals")
    return renewal_times(curve, random, cv, scenario.duration)


def _replayed(
    scenario: Scenario, job: Job, replay: Replay
) -> tuple[RequestLog, Ints, Blocks | None]:
    """The part of the log that is replayed, its arrivals on the clock of the run, and its blocks
    where prompts are its own and their context is used again."""
    blocks = None
    try:
        if job.keep.reuse is not None and replay.format == "mooncake" and _as_logged(job):
            found = read_blocks(replay.log, job.keep.reuse.block)
            order = np.argsort(found.arrival, kind="stable")
            blocks = Blocks.full(found).take(order)
            log = RequestLog(found.arrival[order], found.prompt[order], found.output[order])
        else:
            log = read_log(replay.log, replay.format)
    except LogError as error:
        raise _at(error, f"jobs.{job.name}.arrivals.log") from None
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


def _as_logged(job: Job) -> bool:
    return isinstance(job.shape, TokenShape) and isinstance(job.shape.prompt, FromLog)


def _logged(scenario: Scenario, job: Job, log: RequestLog | None, name: str) -> Ints:
    path = f"jobs.{job.name}.shape.{name}"
    if log is None:
        raise SpecError([scenario.problem(path, "only a replayed request log has tokens")])
    tokens = log.prompt if name == "prompt" else log.output
    if tokens is None:
        raise SpecError([scenario.problem(path, f"the request log has no column {name!r}")])
    return tokens


def _numbers(scenario: Scenario, job: Job, numbers: Draw, name: str, count: int) -> Ints:
    try:
        return draw_numbers(numbers, count, stream(scenario.seed, job.name, name))
    except LogError as error:
        raise _at(error, f"jobs.{job.name}.shape.{name}") from None


def _at(error: LogError, path: str) -> LogError:
    return LogError([replace(problem, path=path) for problem in error.problems])
