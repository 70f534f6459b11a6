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
    Shape,
    SpecError,
    Step,
    TokenShape,
)
from dcsim.spec.draws import Draw
from dcsim.traces import recorded
from dcsim.workload.arrivals import renewal_times
from dcsim.workload.blocks import Blocks, read_blocks
from dcsim.workload.curve import Curve
from dcsim.workload.graph import Graph, joined
from dcsim.workload.logs import LogError, RequestLog, read_log
from dcsim.workload.sessions import closed_turns, draw_turns
from dcsim.workload.shapes import Clip, draw_clips, draw_numbers
from dcsim.workload.stages import Content, Drawn, Rows, in_one, in_stages, with_all_clips
from dcsim.workload.steps import Drawer, in_steps
from dcsim.workload.streams import stream

__all__ = ["Content", "Requests", "generate"]

MOST_REQUESTS = 10**9

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Requests:
    """N requests, sorted by arrival; ties by job, then by the order within the job.

    `arrival` int64[N], ns; `klass` int64[N], row of the job class in the scenario; `shape`
    int64[N], row in `shapes[klass]` (0 for an LLM); `prompt` and `output` int64[N], tokens (0 for
    a diffusion model). `shapes`: by class the distinct clips asked for, sorted; empty for an LLM.

    Where requests wait for others, else None: `graph`. Where jobs are served in several requests,
    else None: `asked` int64[N], row of the job as it is written, `number` int64[N], which of its
    requests this is a part of, and `shown` bool[N], whether its first result is one for the user.
    `content` where contexts are reused; `blocks` by class the prefix blocks of its requests, where
    a replayed log tells them.
    """

    arrival: Ints
    klass: Ints
    shape: Ints
    prompt: Ints
    output: Ints
    shapes: tuple[tuple[Clip, ...], ...]
    graph: Graph | None = None
    asked: Ints | None = None
    number: Ints | None = None
    shown: NDArray[np.bool_] | None = None
    content: Content | None = None
    blocks: Mapping[int, Blocks] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def after(self) -> Ints | None:
        """The last that a request waits for, int64[N], -1 for none; None where nobody waits."""
        return None if self.graph is None else self.graph.last

    @property
    def delay(self) -> Ints | None:
        """From its end on, ns, int64[N]."""
        return None if self.graph is None else self.graph.delay


def generate(scenario: Scenario) -> Requests:
    """All requests that arrive in `[0, duration)`.

    Each job draws from streams of its own, named by the job and the purpose, so another job
    or another policy changes nothing here. Raises `LogError` with the broken rows of all logs.
    """
    drawn: list[Rows] = []
    problems: list[Problem] = []
    for job in scenario.asked.values():
        try:
            if job.steps is not None:
                drawn.append(_steps(scenario, job, job.steps))
                continue
            found, mine = _draw(scenario, job), _classes(scenario, job.name)
            staged = job.name not in scenario.jobs
            drawn.append(in_stages(found, mine) if staged else in_one(found, mine[0]))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise LogError(problems)
    return _merge(scenario, drawn)


def _classes(scenario: Scenario, name: str) -> list[int]:
    """The classes that serve a job as it is written: one, or one a stage."""
    return [row for row, job in enumerate(scenario.jobs.values()) if job.asked == name]


def _steps(scenario: Scenario, job: Job, steps: Mapping[str, Step]) -> Rows:
    arrival = _came(scenario, job)[1]
    made = {name: _drawer(scenario, job, name, step) for name, step in steps.items()}
    rows = in_steps(arrival, made)
    if len(rows.arrival) > MOST_REQUESTS:
        message = f"make {len(rows.arrival)} requests; at most {MOST_REQUESTS:.0e} are held"
        raise SpecError([scenario.problem(f"jobs.{job.name}.steps", message)])
    return rows


def _drawer(scenario: Scenario, job: Job, name: str, step: Step) -> Drawer:
    """How a step is drawn: from streams of its own, whatever other steps ask the same job."""
    classes = _classes(scenario, step.job)
    server = list(scenario.jobs.values())[classes[0]]

    def random(purpose: str) -> np.random.Generator:
        return stream(scenario.seed, job.name, name, purpose)

    def draws(path: str, concept: Step | Shape, purpose: str, count: int) -> Ints:
        try:
            return draw_numbers(getattr(concept, purpose), count, random(purpose))
        except LogError as error:
            raise _at(error, f"jobs.{path}.{purpose}") from None

    def numbers(purpose: str, count: int) -> Ints:
        return draws(f"{job.name}.steps.{name}", step, purpose, count)

    def shapes(count: int) -> Drawn:
        none = np.zeros(count, dtype=np.int64)
        if isinstance(server.shape, ClipShape):
            clips, row = draw_clips(server.shape, count, random)
            return Drawn(none, row, none, none, clips)
        prompt, output = (
            draws(f"{server.asked}.shape", server.shape, what, count)
            for what in ("prompt", "output")
        )
        return Drawn(none, none, prompt, output)

    return Drawer(step, classes, server.name != step.job, random, numbers, shapes)


def _merge(scenario: Scenario, drawn: list[Rows]) -> Requests:
    arrival = _join([each.arrival for each in drawn])
    order: Ints | slice = slice(None)  # as they are; to sort what is sorted takes a while
    if not (arrival[1:] >= arrival[:-1]).all():
        order = np.argsort(arrival, kind="stable")
    klass = _join([each.klass for each in drawn])
    clips, shape = with_all_clips(drawn)
    requests = Requests(
        arrival[order],
        klass[order],
        shape[order],
        _join([each.prompt for each in drawn])[order],
        _join([each.output for each in drawn])[order],
        tuple(clips.get(row, ()) for row in range(len(scenario.jobs))),
        blocks={row: blocks for each in drawn for row, blocks in each.blocks.items()},
    )
    if all(each.graph is None for each in drawn):
        return requests
    graph = joined([len(each.arrival) if each.graph is None else each.graph for each in drawn])
    if not isinstance(order, slice):
        graph = graph.take(order)
    requests = replace(requests, graph=graph, content=_content(drawn, order))
    if all(each.number is None for each in drawn):
        return requests
    counts = [len(each.arrival) for each in drawn]
    numbers = [
        np.arange(count) if each.number is None else each.number
        for each, count in zip(drawn, counts, strict=True)
    ]
    asked = np.repeat(np.arange(len(drawn), dtype=np.int64), counts)
    shown = [
        np.ones(count, dtype=np.bool_) if each.shown is None else each.shown
        for each, count in zip(drawn, counts, strict=True)
    ]
    return replace(
        requests,
        asked=asked[order],
        number=_join(numbers)[order],
        shown=np.concatenate(shown)[order],
    )


def _content(drawn: list[Rows], order: Ints | slice) -> Content | None:
    """The prefix forests of the sessions of all jobs as one."""
    columns: list[list[Ints]] = [[], []]
    parts: list[Ints] = []
    nodes = 0
    for each in drawn:
        turns = each.content
        count = len(each.arrival)
        for column, name in zip(columns, ("reads", "leaves"), strict=True):
            given = np.full(count, -1) if turns is None else getattr(turns, name)
            column.append(np.where(given < 0, -1, given + nodes))
        if turns is None:
            continue
        parent = np.where(turns.parent < 0, -1, turns.parent + nodes)
        parts.append(np.stack([parent, turns.tokens, turns.klass]))
        nodes += len(parent)
    if not nodes:
        return None
    parent, tokens, owner = np.concatenate(parts, axis=1)
    return Content(parent, tokens, owner, _join(columns[0])[order], _join(columns[1])[order])


def _join(parts: list[Ints]) -> Ints:
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype=np.int64), *parts])


def _came(scenario: Scenario, job: Job) -> tuple[RequestLog | None, Ints, Blocks | None]:
    """When requests come, and the log that says so, with its blocks."""
    if isinstance(job.arrivals, Replay):
        return _replayed(scenario, job, job.arrivals)
    if isinstance(job.arrivals, Closed):
        return None, np.zeros(job.arrivals.requests, dtype=np.int64), None
    return None, _arrivals(scenario, job), None


def _draw(scenario: Scenario, job: Job) -> Drawn:
    log, arrival, blocks = _came(scenario, job)
    turns = None
    if isinstance(job.arrivals, Closed):
        turns = closed_turns(job.arrivals, stream(scenario.seed, job.name, "think"))
    count = len(arrival)
    none = np.zeros(count, dtype=np.int64)

    def random(purpose: str) -> np.random.Generator:
        return stream(scenario.seed, job.name, purpose)

    if isinstance(job.shape, AsTraced):
        return _traced(job, Drawn(arrival, none, none, none, turns=turns))
    if isinstance(job.shape, ClipShape):
        clips, row = draw_clips(job.shape, count, random)
        return Drawn(arrival, row, none, none, clips, turns)
    assert isinstance(job.shape, TokenShape)
    if job.session is not None:
        return _turns(scenario, job, job.session, arrival)
    tokens = []
    for name, numbers in (("prompt", job.shape.prompt), ("output", job.shape.output)):
        if isinstance(numbers, FromLog):
            tokens.append(_logged(scenario, job, log, name))
        else:
            tokens.append(_numbers(scenario, job, numbers, name, count))
    return Drawn(arrival, none, tokens[0], tokens[1], turns=turns, blocks=blocks)


def _traced(job: Job, drawn: Drawn) -> Drawn:
    """Requests that all are the one of a trace file; none where it cannot be read or is no clip,
    which is told where it is priced."""
    assert job.model is not None
    try:
        shape = recorded(job.model).shape
    except ModelError:
        shape = None
    if isinstance(shape, Clip):
        return replace(drawn, clips=(shape,))
    none = np.zeros(0, dtype=np.int64)
    return Drawn(none, none, none, none)


def _turns(scenario: Scenario, job: Job, session: Session, starts: Ints) -> Drawn:
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

    staged = job.name not in scenario.jobs
    turns = draw_turns(session, len(starts), numbers, random, block, answers=not staged)
    none = np.zeros(len(turns.session), dtype=np.int64)
    return Drawn(starts[turns.session], none, turns.prompt, turns.output, turns=turns)


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
