"""The laws of one pass of the engine, account by account: sharper than those of a result.

An account is what one job class, or one service, holds of one category in one pool.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.assembly import Plan
from dcsim.engine import CATEGORIES, CAUSES, COLUMNS, OUTCOMES, TIERS, Outputs
from dcsim.testing.rows import fail, must_equal

__all__ = ["check_lifted", "check_outputs"]

Ints = NDArray[np.int64]
OBJECTS = {"artifacts": "artifact", "cache": "context"}
"""Categories of objects, and the names of their keep times."""


def check_outputs(plan: Plan, outputs: Outputs) -> None:
    """The laws of flows, of each job class and kind of object by itself.

    - In every account taken = moved + expired + evicted + lost + held, at the end of every bin,
      of what is swapped too;
      in a bin without flows what is held is exactly that.
    - The finished objects of a class are taken in DRAM or spilled there; what is spilled, goes
      past DRAM or moves on is taken in NAND or named dropped. Contexts that are used again are left
      out: of these only what is not there yet is taken.
    """
    flow = _Flow(plan, outputs)
    taken, freed = flow.of("taken"), flow.freed
    held = np.cumsum(taken - freed, axis=1)
    flow.hold("no more is freed than was allocated", held >= 0, held=held)
    mean, before = outputs["mean"], held - taken + freed
    kinds = [CATEGORIES.index(name) for name in (*OBJECTS, "adapters")]
    objects = np.isin(flow.category, kinds)[:, None]
    swapped = (flow.category == CATEGORIES.index("live")) & (flow.tier != TIERS.index("hbm"))
    objects = objects | swapped[:, None]
    slack = np.where((taken == 0) & (freed == 0), 0, 1)
    flow.hold("allocated = freed + held",
              ~objects | ((mean >= before - freed - slack) & (mean <= before + taken)),
              held_before=before, taken=taken, freed=freed, mean_held=mean)  # fmt: skip
    flow.hold("only objects flow", objects | (taken + freed == 0), taken=taken, freed=freed)
    for klass, name in enumerate(plan.classes):
        for category in OBJECTS:
            _check_class(flow, klass, name, category, held[:, -1])


def check_lifted(plan: Plan, outputs: Outputs) -> None:
    """With capacities lifted nothing is refused, sent away or lost.

    No request is rejected or preempted, and no object below HBM spilled, dropped, evicted or lost.
    """
    rows = np.nonzero(outputs["outcome"] == OUTCOMES.index("rejected"))[0]
    must_equal("a lifted run rejects nothing", f"requests {rows[:3].tolist()}",
               rejected=len(rows), limit=0)  # fmt: skip
    rows = np.nonzero(outputs["preemptions"])[0]
    must_equal("a lifted run preempts nothing", f"requests {rows[:3].tolist()}",
               preempted=len(rows), limit=0)  # fmt: skip
    flow = _Flow(plan, outputs)
    hbm = (flow.tier == TIERS.index("hbm"))[:, None]  # its slack is that of the built run
    for cause in ("spilled", "dropped", "evicted", "lost"):
        ok = hbm | (flow.of(cause) == 0)
        flow.hold(f"in a lifted run nothing is {cause}", ok, bytes=flow.of(cause))


class _Flow:
    """The flows of one pass by account and bin."""

    def __init__(self, plan: Plan, outputs: Outputs) -> None:
        self.plan = plan
        self.outputs = outputs
        self.pool, self.category, self.service, self.klass = outputs["accounts"].T
        tier = np.array([TIERS.index(pool.tier) for pool in plan.pools], dtype=np.int64)
        self.tier = tier[self.pool]

    def of(self, cause: str) -> Ints:
        """int64[A, B]."""
        return np.asarray(self.outputs["flow"][:, CAUSES.index(cause)])

    @property
    def freed(self) -> Ints:
        """int64[A, B]."""
        return np.asarray(sum(self.of(c) for c in ("moved", "expired", "evicted", "lost")))

    def total(self, rows: NDArray[np.bool_], tier: str, cause: str) -> int:
        """Bytes of some accounts in a tier over the run."""
        return int(self.of(cause)[rows & (self.tier == TIERS.index(tier))].sum())

    def hold(self, law: str, ok: NDArray[np.bool_], **numbers: Any) -> None:
        """Raises AssertionError for the first account and bin that is not `ok`."""
        wrong = np.argwhere(~ok)
        if not len(wrong):
            return
        account, at = (int(i) for i in wrong[0])
        klass = int(self.klass[account])
        whose = (
            self.plan.classes[klass] if klass >= 0 else self.plan.services[self.service[account]]
        )
        category = CATEGORIES[int(self.category[account])]
        pool = self.plan.pools[self.pool[account]].name
        where = f"account {account}, {category} of {whose} in {pool}"
        fail(law, f"{where}, bin {at}", {k: v[account, at] for k, v in numbers.items()})


def _check_class(flow: _Flow, klass: int, name: str, category: str, held: Ints) -> None:
    """The finished objects of one class and kind: all of them are somewhere."""
    plan = flow.plan
    if category == "cache" and "nodes" in plan.tables and plan.scenario.jobs[name].keep.reuse:
        return  # what is there already is not taken again
    times = dict(zip(COLUMNS["classes"], plan.tables["classes"][klass].tolist(), strict=True))
    kind = OBJECTS[category]
    size = _finished(plan, flow.outputs, klass, kind)
    keeps_dram, keeps_nand = times[f"{kind}_dram"] > 0, times[f"{kind}_nand"] > 0
    mine = (flow.klass == klass) & (flow.category == CATEGORIES.index(category))
    where = f"{category} of {name}"
    wanted = size if keeps_dram else 0
    here = flow.total(mine, "dram", "taken") + flow.total(mine, "dram", "spilled")
    must_equal("an object for DRAM is taken there or spilled", where,
               taken_and_spilled=here, finished=wanted)  # fmt: skip
    passed = flow.total(mine, "dram", "spilled") - flow.total(mine, "dram", "dropped")
    passed += size if keeps_nand and not keeps_dram else 0
    least = passed + flow.total(mine, "dram", "moved")
    moving = int(held[mine & (flow.tier == TIERS.index("dram"))].sum())
    most = least + flow.total(mine, "dram", "lost") + (moving if keeps_nand else 0)
    arrived = flow.total(mine, "nand", "taken") + flow.total(mine, "nand", "dropped")
    if not least <= arrived <= most:
        fail("what leaves DRAM arrives in NAND or is dropped", where,
             {"arrived_or_dropped": arrived, "least": least, "most": most})  # fmt: skip


def _finished(plan: Plan, outputs: Outputs, klass: int, kind: str) -> int:
    """Bytes of the objects that the completed requests of a class leave."""
    done = (outputs["outcome"] == OUTCOMES.index("completed")) & (plan.requests.klass == klass)
    work = plan.tables["work"][done]
    works, segments = plan.tables["works"], plan.tables["segments"]
    if kind == "artifact":
        return int(works[work, COLUMNS["works"].index("artifact")].sum())
    rows = segments[works[work, COLUMNS["works"].index("segment")]]
    live = rows[:, COLUMNS["segments"].index("live")]
    fixed = rows[:, COLUMNS["segments"].index("rule")] == 0
    tokens = plan.requests.prompt[done] + plan.requests.output[done] - 1
    left = works[work, COLUMNS["works"].index("context")]
    return int(np.where(fixed, left, live * tokens).sum())
