"""Jobs in steps: what a user asks makes requests of several jobs, which wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.spec import Step
from dcsim.workload.graph import Graph
from dcsim.workload.sessions import MOST_TOKENS
from dcsim.workload.stages import Drawn, Rows, in_one, in_stages, with_all_clips

__all__ = ["Drawer", "in_steps"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Drawer:
    """A step, and how its requests are drawn.

    `classes`: of the job that serves it, in the order of its stages, if it has any (`staged`);
    `random`: the random stream of a purpose; `numbers`: so many draws of `count` or `turns`;
    `shapes`: what so many requests ask for.
    """

    step: Step
    classes: Sequence[int]
    staged: bool
    random: Callable[[str], np.random.Generator]
    numbers: Callable[[str, int], Ints]
    shapes: Callable[[int], Drawn]


@dataclass(frozen=True)
class _Made:
    """The requests of a step. `user` of each; `begins` and `ends`: rows with which a turn begins
    and ends, and of each turn `whose` it is and whether it is the `opening` or the `closing` one of
    its branch."""

    rows: Rows
    user: Ints
    delay: Ints
    begins: Ints
    ends: Ints
    whose: Ints
    opening: Bools
    closing: Bools


def in_steps(arrival: Ints, steps: Mapping[str, Drawer]) -> Rows:
    """The requests of all steps of what users ask at these times, user by user."""
    made = {name: _make(drawer, arrival) for name, drawer in steps.items()}
    sizes = [len(each.user) for each in made.values()]
    first = dict(zip(made, np.cumsum([0, *sizes])[:-1], strict=True))
    waits = [np.empty((0, 3), dtype=np.int64)]
    for name, each in made.items():
        waits.append(_within(each) + np.array([first[name], first[name], 0]))
        for before in steps[name].step.after:
            pairs = _between(made[before], each)
            waits.append(pairs + np.array([first[name], first[before], steps[name].step.hand_over]))
    awaited = {name for drawer in steps.values() for name in drawer.step.after}
    shown = [_shown(each, name not in awaited) for name, each in made.items()]
    return _together(list(made.values()), np.concatenate(shown), np.concatenate(waits))


def _make(drawer: Drawer, arrival: Ints) -> _Made:
    users = len(arrival)
    step = drawer.step
    branches = np.repeat(np.arange(users, dtype=np.int64), drawer.numbers("count", users))
    turns = drawer.numbers("turns", len(branches))
    count = int(turns.sum())
    branch = np.repeat(np.arange(len(branches)), turns)
    opening, closing = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    opening[np.cumsum(turns) - turns] = True
    closing[np.cumsum(turns) - 1] = True
    drawn = drawer.shapes(count)
    tool = np.rint(drawer.random("tool").exponential(step.tool, count)).astype(np.int64)
    # A turn's prompt is all that was said in the turns before it, and what is new.
    said = np.cumsum(drawn.prompt + drawn.output)
    before = said - (drawn.prompt + drawn.output)
    prompt = drawn.prompt + before - np.repeat(before[opening], turns)
    prompt = np.minimum(prompt, MOST_TOKENS - drawn.output)
    whose = branches[branch]
    drawn = Drawn(arrival[whose], drawn.shape, prompt, drawn.output, drawn.clips)
    rows = in_stages(drawn, drawer.classes) if drawer.staged else in_one(drawn, drawer.classes[0])
    turn = np.arange(count, dtype=np.int64) if rows.number is None else rows.number
    begins = np.searchsorted(turn, np.arange(count))
    ends = np.searchsorted(turn, np.arange(count), side="right") - 1
    delay = np.zeros(len(turn), dtype=np.int64)
    waits = np.ones(count, dtype=np.bool_) if step.after else ~opening
    delay[begins[waits]] = (step.delay + tool)[waits]
    return _Made(rows, whose[turn], delay, begins, ends, whose, opening, closing)


def _within(made: _Made) -> Ints:
    """Who waits for whom within a step: stages of a turn, turns of a branch."""
    later = np.flatnonzero(~made.opening)
    turns = np.stack([made.begins[later], made.ends[later - 1], np.zeros_like(later)], axis=1)
    if made.rows.graph is None:
        return turns
    graph = made.rows.graph
    stages = np.stack([graph.waiting, graph.after, graph.handover], axis=1)
    return np.concatenate([turns, stages])


def _between(before: _Made, made: _Made) -> Ints:
    """Each branch begins when all branches of a step before, of the same user, have ended."""
    users = int(max(before.whose.max(initial=-1), made.whose.max(initial=-1))) + 1
    ends = before.ends[before.closing]
    many = np.bincount(before.whose[before.closing], minlength=users)
    start = np.cumsum(many) - many
    whose = made.whose[made.opening]
    count = many[whose]
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    waited = ends[np.repeat(start[whose], count) + place]
    waiting = np.repeat(made.begins[made.opening], count)
    return np.stack([waiting, waited, np.zeros_like(waited)], axis=1)


def _shown(made: _Made, final: bool) -> Bools:
    """Whether the user sees the first result of a request: of the last steps, their last turns."""
    shown = np.repeat(made.closing & final, made.ends - made.begins + 1)
    return shown if made.rows.shown is None else shown & made.rows.shown


def _together(made: Sequence[_Made], shown: Bools, waits: Ints) -> Rows:
    """The rows of all steps, user by user in the order of the steps."""
    user = np.concatenate([each.user for each in made])
    order = np.argsort(user, kind="stable")
    row = np.empty(len(order), dtype=np.int64)
    row[order] = np.arange(len(order))
    waiting, waited, handover = row[waits[:, 0]], row[waits[:, 1]], waits[:, 2]
    by = np.lexsort((waited, waiting))
    start = np.concatenate([[0], np.cumsum(np.bincount(waiting, minlength=len(order)))])

    def joined(name: str) -> Ints:
        return np.concatenate([getattr(each.rows, name) for each in made])[order]

    clips, shape = with_all_clips([each.rows for each in made])
    fed = [
        np.zeros(len(each.user), dtype=np.int64) if graph is None else graph.fed
        for each in made
        for graph in [each.rows.graph]
    ]
    return Rows(
        joined("arrival"),
        joined("klass"),
        shape[order],
        joined("prompt"),
        joined("output"),
        clips,
        Graph(
            start.astype(np.int64),
            waited[by],
            np.concatenate([each.delay for each in made])[order],
            np.concatenate(fed)[order],
            handover[by],
        ),
        number=user[order],
        shown=shown[order],
    )
