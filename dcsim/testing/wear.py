"""The laws of wear: what is written to NAND is what was taken there, and what the drives allow."""

from __future__ import annotations

import numpy as np

from dcsim.results import Results
from dcsim.results.wear import WRITTEN
from dcsim.testing.grid import Grid
from dcsim.testing.rows import Rows, must_equal

__all__ = ["check_wear"]


def check_wear(results: Results) -> None:
    """Bytes written by cause add up to what was taken, and no more is written than that.

    - In every bin what a NAND pool takes as artifacts, contexts and reused contexts adds up to
      `taken` of the timeline.
    - What has been written to a pool by the end of a bin has been taken by then.
    - A pool with a write budget is written no more than that in any bin.
    - The summary adds these up: by pool, and over all.
    """
    rows, grid = Rows(results, "wear"), Grid(results)
    must_equal("a pool that wears has every bin", "wear",
               rows=len(rows) % grid.shape[1], none=0)  # fmt: skip
    shape = (len(rows) // grid.shape[1], grid.shape[1])
    names = [str(name) for name in rows.words("pool")[:: shape[1]]]
    mine = [grid.pool.index(name) for name in names]
    parts = {name: rows.ints(name) for name in WRITTEN}
    whole, taken = np.asarray(sum(parts.values())), grid["taken"][mine].ravel()
    rows.hold("what is written adds up to what was taken", whole == taken, taken=taken, **parts)
    written = rows.ints("written")
    so_far = [np.cumsum(each.reshape(shape), axis=1).ravel() for each in (written, whole)]
    rows.hold("no more is written than was taken", so_far[0] <= so_far[1],
              written_so_far=so_far[0], taken_so_far=so_far[1])  # fmt: skip
    budget, limited = rows.ints("budget"), rows.there("budget")
    rows.hold("a write budget holds", ~limited | (written <= budget + 2),
              written=written, budget=budget)  # fmt: skip
    wear = results.summary["tiers"]["nand"]["wear"]
    for row, name in enumerate(names):
        figures, here = wear["pools"][name], slice(row * shape[1], (row + 1) * shape[1])
        must_equal("the summary adds up what is written", name,
                   summary=figures["bytes_written"], table=int(written[here].sum()))  # fmt: skip
        for what, column in parts.items():
            must_equal("the summary adds up what is taken", f"{name}, {what}",
                       summary=figures["bytes_taken"][what],
                       table=int(column[here].sum()))  # fmt: skip
    must_equal("the pools' writes add up", "the summary",
               all=wear["bytes_written"], pools=int(written.sum()))  # fmt: skip
