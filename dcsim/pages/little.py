"""Little's law on shipped scenarios: what is in the system, by its own count, and the rate at which
it comes times the mean time that it stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsim.assembly import Plan
from dcsim.engine import CATEGORIES, COLUMNS
from dcsim.planning import load, simulate

__all__ = ["BATCHES", "KeptRow", "LittleRow", "half_width", "kept_rows", "little_rows"]

SCENARIOS = ("quickstart", "pipelines_nvl72", "agentic_chat_nvl72")
BATCHES = 20
STUDENT = 2.093
"""The 97.5 % quantile of Student's t with 19 degrees of freedom."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def half_width(batches: Floats) -> float:
    """Half of the width of a 95 % confidence interval of the mean of what batches say."""
    return STUDENT * float(batches.std(ddof=1)) / float(BATCHES**0.5)


@dataclass(frozen=True)
class LittleRow:
    """Requests of a job in the system: their mean number, and their rate times their mean time."""

    scenario: str
    job: str
    number: float
    product: float
    half: float
    """Half of the width of the 95 % confidence interval of the difference."""

    @property
    def inside(self) -> bool:
        return abs(self.number - self.product) <= self.half


def little_rows() -> list[LittleRow]:
    """Each job of some scenarios, as built, over windows of which the first and last are left out.

    Requests that come in one window and end in another are counted in both for one side of the
    law and in the first for the other; that is all that the sides can differ by.
    """
    rows = []
    for name in SCENARIOS:
        plan = load(name)
        out = simulate(plan).outputs
        arrived, ended = (
            out["arrived"],
            np.where(out["end"] < 0, plan.scenario.duration, out["end"]),
        )
        edges = np.linspace(0, plan.scenario.duration, BATCHES + 3)[1:-1]
        for klass, job in enumerate(plan.classes):
            mine = (plan.tables["klass"] == klass) & (arrived >= 0)
            number, product = _sides(arrived[mine], ended[mine], edges)
            half = half_width(number - product)
            rows.append(LittleRow(name, job, float(number.mean()), float(product.mean()), half))
    return rows


def _sides(arrived: Ints, ended: Ints, edges: Floats) -> tuple[Floats, Floats]:
    """By window the mean number in the system, and arrivals a ns times their mean time."""
    width = np.diff(edges)
    times = np.sort(np.concatenate([arrived, ended]))
    inside = np.searchsorted(np.sort(arrived), times, side="right") - np.searchsorted(
        np.sort(ended), times, side="right"
    )
    # The integral of the number up to each event, and on to an edge with what is inside then.
    area = np.concatenate([[0.0], np.cumsum(inside[:-1] * np.diff(times))])
    last = np.searchsorted(times, edges, side="right") - 1
    upto = np.where(last < 0, 0.0, area[last] + inside[last] * (edges - times[last]))
    window = np.searchsorted(edges, arrived, side="right") - 1
    fine = (window >= 0) & (window < len(width))
    spent = np.bincount(window[fine], (ended - arrived)[fine], len(width))
    return np.diff(upto) / width, spent / width


@dataclass(frozen=True)
class KeptRow:
    """Bytes kept after a job's requests: their mean over the run, and their rate times the time
    that each is kept."""

    job: str
    held: float
    product: float


def kept_rows() -> list[KeptRow]:
    """The quickstart with capacities lifted, where nothing leaves before its time."""
    plan = load("quickstart")
    rows = []
    out = simulate(plan, lifted=True).outputs
    duration = plan.scenario.duration
    kinds = {CATEGORIES.index("cache"), CATEGORIES.index("artifacts")}
    width = np.diff(np.append(np.arange(0, duration, plan.scenario.bin), duration))
    for klass, job in enumerate(plan.classes):
        accounts = [
            row
            for row, (_, kind, _, owner) in enumerate(out["accounts"].tolist())
            if owner == klass and kind in kinds
        ]
        held = float(out["mean"][accounts].sum(axis=0) @ (width / duration))
        keep = plan.scenario.jobs[job].keep
        mine = (plan.tables["klass"] == klass) & (out["end"] >= 0)
        size = _sizes(plan, mine)
        times = keep.artifact if plan.requests.shapes[klass] else keep.context
        stay = np.minimum(times.dram + times.nand, duration - out["end"][mine])
        product = float(size @ (stay / duration))
        rows.append(KeptRow(job, held, product))
    return rows


def _sizes(plan: Plan, mine: NDArray[np.bool_]) -> Ints:
    """Bytes that requests leave: of a clip its own; of a turn the KV of its prompt and of all of
    its answer but the last token."""
    works = dict(
        zip(COLUMNS["works"], plan.tables["works"][plan.tables["work"][mine]].T, strict=True)
    )
    live = plan.tables["segments"][works["segment"], COLUMNS["segments"].index("live")]
    turns = live * (plan.tables["prompt"][mine] + plan.tables["output"][mine] - 1)
    sizes: Ints = np.where(works["artifact"] > 0, works["artifact"], turns)
    return sizes
