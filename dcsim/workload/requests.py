"""The requests of a scenario: every arrival and shape, drawn before the engine runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dcsim.spec import (
    ClipShape,
    Closed,
    Job,
    Problem,
    Replay,
    Scenario,
    Shape,
    SpecError,
    Step,
)
from dcsim.workload.adapters import draw_adapters
from dcsim.workload.arrivals import renewal_pieces
from dcsim.workload.blocks import Blocks
from dcsim.workload.drawing import (
    MOST_REQUESTS,
    at_path,
    came,
    draw_job,
    has_blocks,
    renewal,
    shaper,
)
from dcsim.workload.graph import Graph, joined
from dcsim.workload.logs import LogError
from dcsim.workload.shapes import Clip, draw_clips, sampler
from dcsim.workload.stages import Content, Drawn, Rows, in_one, in_stages, with_all_clips
from dcsim.workload.steps import Drawer, in_steps
from dcsim.workload.streams import stream

__all__ = ["Content", "Part", "Requests", "generate", "joined_requests", "parts"]

Ints = NDArray[np.int64]
Clips = Mapping[int, tuple[Clip, ...]]
"""Distinct clips, sorted, by job class."""
Part = Callable[[int], Iterator[Rows]]
"""The requests of a job in order of arrival, some so many at a time: the same whenever called."""


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
    a replayed log tells them. `adapter` int64[N] where a job has adapters: which of them a request
    needs, -1 for none.
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
    adapter: Ints | None = None

    def __len__(self) -> int:
        return len(self.arrival)

    def windows(self) -> Iterator[Requests]:
        """All at once."""
        yield self

    def whole(self) -> Requests:
        """Themselves."""
        return self

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
            found, mine = draw_job(scenario, job), _classes(scenario, job.name)
            staged = job.name not in scenario.jobs
            drawn.append(in_stages(found, mine) if staged else in_one(found, mine[0]))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise LogError(problems)
    return _with_adapters(scenario, joined_requests(len(scenario.jobs), drawn))


def parts(scenario: Scenario) -> list[Part] | None:
    """The requests of each job, to be drawn or read piece by piece; None where what they have in
    common, or who waits for whom, is to be known beforehand: sessions, adapters, stages, steps,
    closed arrivals, blocks of a log. Raises `LogError` with the broken rows of all logs."""
    found: list[Part] = []
    problems: list[Problem] = []
    for job in scenario.asked.values():
        told = job.steps is not None or job.session is not None or job.name not in scenario.jobs
        told |= job.adapters is not None
        if told or isinstance(job.arrivals, Closed) or has_blocks(job):
            return None
        try:
            found.append(_part(scenario, job))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise LogError(problems)
    return found


def _part(scenario: Scenario, job: Job) -> Part:
    (klass,) = _classes(scenario, job.name)
    if isinstance(job.arrivals, Replay):  # a log is read whole
        return in_one(draw_job(scenario, job), klass).pieces
    shaper(scenario, job, None)  # what cannot be drawn is told at once

    def pieces(size: int) -> Iterator[Rows]:
        curve, random, cv = renewal(scenario, job)
        shaped = shaper(scenario, job, None)
        for arrival in renewal_pieces(curve, random, cv, scenario.duration, size):
            if len(arrival):
                yield in_one(shaped(arrival), klass)

    return pieces


def _with_adapters(scenario: Scenario, requests: Requests) -> Requests:
    jobs = [(row, job) for row, job in enumerate(scenario.jobs.values()) if job.adapters]
    if not jobs:
        return requests
    adapter = np.full(len(requests), -1, dtype=np.int64)
    for klass, job in jobs:
        rows = np.flatnonzero(requests.klass == klass)

        def random(purpose: str, name: str = job.name) -> np.random.Generator:
            return stream(scenario.seed, name, purpose)

        adapter[rows] = draw_adapters(job, rows, requests.graph, random)
    return replace(requests, adapter=adapter)


def _classes(scenario: Scenario, name: str) -> list[int]:
    """The classes that serve a job as it is written: one, or one a stage."""
    return [row for row, job in enumerate(scenario.jobs.values()) if job.asked == name]


def _steps(scenario: Scenario, job: Job, steps: Mapping[str, Step]) -> Rows:
    arrival = came(scenario, job)[1]
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
            return sampler(getattr(concept, purpose))(count, random(purpose))
        except LogError as error:
            raise at_path(error, f"jobs.{path}.{purpose}") from None

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


def joined_requests(jobs: int, drawn: list[Rows], known: Clips | None = None) -> Requests:
    """The rows of all jobs as one, of `jobs` job classes; `known`: clips that others ask for."""
    arrival = _join([each.arrival for each in drawn])
    order: Ints | slice = slice(None)  # as they are; to sort what is sorted takes a while
    if not (arrival[1:] >= arrival[:-1]).all():
        order = np.argsort(arrival, kind="stable")
    klass = _join([each.klass for each in drawn])
    clips, shape = with_all_clips(drawn, known)
    requests = Requests(
        arrival[order],
        klass[order],
        shape[order],
        _join([each.prompt for each in drawn])[order],
        _join([each.output for each in drawn])[order],
        tuple(clips.get(row, ()) for row in range(jobs)),
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
