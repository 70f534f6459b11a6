"""Latency and throughput by job class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import OUTCOMES, Outputs, Rows
from dcsim.results.adapters import AdapterRecord
from dcsim.results.outcomes import NEVER_CAME, arrived_of, counted
from dcsim.results.queue import Queue
from dcsim.results.statistics import Spread
from dcsim.results.swap import swap_figures
from dcsim.results.useful import kept_and_useful
from dcsim.workload import Requests

__all__ = ["JobRecord", "Members", "members"]

COMPLETED = OUTCOMES.index("completed")
REJECTED = OUTCOMES.index("rejected")
_HITS = ("hbm", "dram", "nand", "again")
_SUMS = ("preemptions", "swaps", "frames", "prompt", "output", "asked", *_HITS)

Members = NDArray[np.int64] | slice
"""Some requests, as numpy takes them."""


class JobRecord:
    """What is told of the requests of a job class, as they come: all figures are sums, or spreads
    in bounded memory."""

    def __init__(self, plan: Plan, klass: int) -> None:
        self._plan, self._klass = plan, klass
        clips = plan.source.shapes[klass]
        self._frames = np.array([clip.frames for clip in clips], dtype=np.int64)
        self._counts = np.zeros(len(OUTCOMES), dtype=np.int64)
        self._sums = dict.fromkeys(_SUMS, 0)
        self._spreads = {name: Spread() for name in ("wait", "first", "latency", "token", "handed")}
        self._queue = Queue(plan.scenario.duration)
        self._reuses = False
        adapters = plan.scenario.jobs[plan.classes[klass]].adapters
        self._adapters = None if adapters is None else AdapterRecord(adapters.count)

    def add(self, requests: Requests, rows: Rows, mine: Members) -> None:
        """Some more: these of some requests, and what came of them."""
        outcome, sums, spreads = rows["outcome"][mine], self._sums, self._spreads
        arrival, start = rows["arrived"][mine], rows["start"][mine]
        first, end = rows["first"][mine], rows["end"][mine]
        done = _which(outcome == COMPLETED)
        served = _which(~np.isin(outcome, (REJECTED, *NEVER_CAME)))
        started, begun = _which(start >= 0), _which(first >= 0)
        self._counts += np.bincount(outcome, minlength=len(OUTCOMES))
        sums["preemptions"] += int(rows["preemptions"][mine].sum())
        if "swaps" in rows:
            sums["swaps"] += int(rows["swaps"][mine].sum())
        spreads["wait"].add(start[started] - arrival[started])
        spreads["first"].add(first[begun] - arrival[begun])
        spreads["latency"].add(end[done] - arrival[done])
        self._queue.add(arrival[served], start[served])
        if "handed" in rows:
            handed = rows["handed"][mine]
            came = _which(handed >= 0)
            spreads["handed"].add(handed[came] - start[came])
        if self._adapters is not None:
            self._adapters.add(requests, rows, mine)
        if len(self._frames):
            sums["frames"] += int(self._frames[requests.shape[mine][done]].sum())
            return
        prompt, output = requests.prompt[mine], requests.output[mine]
        sums["prompt"] += int(prompt[done].sum())
        sums["output"] += int(output[done].sum())
        more = _which(output[done] > 1)
        spreads["token"].add((end[done] - first[done])[more] // (output[done][more] - 1))
        if "hit_dram" in rows:
            self._reuses = True
            sums["asked"] += int(prompt[started].sum())
            for tier in _HITS:
                sums[tier] += int(rows[f"hit_{tier}"][mine].sum())  # type: ignore[literal-required]

    def figures(self, built: Outputs, lifted: NDArray[np.int64]) -> dict[str, Any]:
        """Arrivals, outcomes, latencies (ns), throughput (per second) and the queue; `lifted`: how
        many end in each outcome there."""
        seconds, sums = self._plan.scenario.duration / 1e9, self._sums
        counts = counted(self._counts)
        spreads = {name: each.figures() for name, each in self._spreads.items()}
        figures: dict[str, Any] = {
            "arrived": arrived_of(counts),
            "outcomes": counts,
            "outcomes_lifted": counted(lifted),
            "preemptions": sums["preemptions"],
            "wait_ns": spreads["wait"],
            "first_ns": spreads["first"],
            "latency_ns": spreads["latency"],
            "queue": self._queue.figures(),
        }
        if spreads["handed"] is not None:
            figures["handed_ns"] = spreads["handed"]
        recomputed = sums["preemptions"] - sums["swaps"]
        figures |= swap_figures(built, self._klass, sums["swaps"], recomputed)
        throughput = {"requests_per_s": counts["completed"] / seconds}
        if len(self._frames):
            throughput["frames_per_s"] = sums["frames"] / seconds
        else:
            throughput["prompt_tokens_per_s"] = sums["prompt"] / seconds
            throughput["output_tokens_per_s"] = sums["output"] / seconds
            # Prefill puts out one token.
            if not self._plan.classes[self._klass].endswith("/prefill"):
                figures["per_token_ns"] = spreads["token"]
            if self._reuses:
                figures["reuse"] = self._reuse() | kept_and_useful(self._plan, built, self._klass)
        if self._adapters is not None:
            figures["adapters"] = self._adapters.figures()
        return figures | {"throughput": throughput}

    def _reuse(self) -> dict[str, Any]:
        """What of the prompts was found in HBM or loaded, instead of computed."""
        tokens = self._sums["asked"]
        hbm, dram, nand, again = (self._sums[tier] for tier in _HITS)
        found = {
            "share": hbm + dram + nand,
            "hbm_share": hbm,
            "dram_share": dram,
            "nand_share": nand,
        }
        return {
            "prompt_tokens": tokens,
            "hbm_tokens": hbm,
            "dram_tokens": dram,
            "nand_tokens": nand,
            "again_tokens": again,
            **{share: part / tokens if tokens else None for share, part in found.items()},
        }


def members(requests: Requests, classes: int) -> list[Members]:
    """The requests of each class, in order of arrival; of a single class all, not one by one."""
    if classes == 1:
        return [slice(None)]
    order = np.argsort(requests.klass.astype(np.int16), kind="stable")  # a radix sort
    ends = np.cumsum(np.bincount(requests.klass, minlength=classes))
    return list(np.split(order, ends[:-1]))


def _which(condition: NDArray[np.bool_]) -> Members:
    """Where it holds; everything costs nothing."""
    return slice(None) if condition.all() else np.flatnonzero(condition)
