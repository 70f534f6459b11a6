"""The laws of one result: outcomes, causality, capacity, demand, events, summary.

Each check takes a `Results` and returns nothing; where a law is broken it raises AssertionError
with the row that breaks it and the numbers. Laws of the flow of bytes are in `balance`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import groupby, permutations
from typing import Any

import numpy as np

from dcsim.engine import CATEGORIES, CAUSES, OUTCOMES, TIERS
from dcsim.results import Results
from dcsim.testing.balance import check_contents, check_flows, check_samples, check_transfers
from dcsim.testing.grid import Grid
from dcsim.testing.rows import Rows, fail, must_equal
from dcsim.testing.wear import check_wear

__all__ = [
    "LAWS",
    "check_all",
    "check_capacity",
    "check_causality",
    "check_demand",
    "check_events",
    "check_outcomes",
    "check_summary",
    "check_tiers",
]

Law = Callable[[Results], None]


def check_outcomes(results: Results) -> None:
    """Every request is in exactly one outcome, and the counts add up.

    The counts of the summary, of all requests and by job, are those of the table and add up to
    its rows. A completed request has all its times; a running one has started and not ended;
    a queued one has not ended; a rejected one has no times but its arrival; one that is awaited or
    was abandoned has not even that. With capacities lifted there are as many requests, and none is
    rejected or abandoned.
    """
    rows = Rows(results, "requests")
    outcome, job = rows.words("outcome"), rows.words("job")
    law = "every request is in exactly one outcome"
    rows.hold(law, np.isin(outcome, OUTCOMES), outcome=outcome)
    summary = results.summary
    _counts("all", outcome, summary["requests"])
    for name, figures in summary["jobs"].items():
        _counts(f"job {name}", outcome[job == name], figures)
    must_equal(
        "the jobs' arrivals add up to all",
        "the summary",
        jobs=sum(figures["arrived"] for figures in summary["jobs"].values()),
        all=summary["requests"]["arrived"],
    )
    start, first, end = (rows.there(f"{name}_ns") for name in ("start", "first", "end"))
    law = "the times of a request are those of its outcome"
    rows.hold(law, (outcome != "completed") | (start & first & end), outcome=outcome)
    rows.hold(law, (outcome == "completed") | ~end, outcome=outcome)
    rows.hold(law, (outcome != "running") | start, outcome=outcome)
    came = rows.there("arrival_ns")
    rows.hold(law, came == ~np.isin(outcome, ("awaited", "abandoned")), outcome=outcome)
    rows.hold(law, came | ~(start | first | end), outcome=outcome)
    preempted = rows.ints("preemptions")
    rows.hold(law, (outcome != "rejected") | (~start & ~first & (preempted == 0)), outcome=outcome)
    rows.hold("preemptions are 0 or more, and only of what has started",
              (preempted == 0) | ((preempted > 0) & start), preemptions=preempted)  # fmt: skip


def _counts(whose: str, outcome: Any, figures: dict[str, Any]) -> None:
    counted = Counter(outcome.tolist())
    where = f"the summary, {whose}"
    expected = {name: counted[name] for name in OUTCOMES}
    must_equal("outcomes are counted as in the table", where,
               summary=figures["outcomes"], table=expected)  # fmt: skip
    for key in ("outcomes", "outcomes_lifted"):
        total = sum(figures[key].values())
        must_equal("outcomes add up to the requests", f"{where}, {key}",
                   outcomes=total, rows=len(outcome))  # fmt: skip
    came = len(outcome) - counted["awaited"] - counted["abandoned"]
    must_equal("who neither is awaited nor was abandoned has arrived", where,
               arrived=figures["arrived"], rows=came)  # fmt: skip
    for name in ("rejected", "abandoned"):
        must_equal(f"with capacities lifted nothing is {name}", where,
                   requests=figures["outcomes_lifted"][name], limit=0)  # fmt: skip


def check_causality(results: Results) -> None:
    """Nothing happens before its cause or after the end of the run.

    Requests that follow none are in order of arrival, within the run; one that follows another
    arrives at its end or later. Arrival <= start <= first result <= end <= the end of the run.
    Events are in order, within the run.
    """
    duration = int(results.summary["duration_ns"])
    rows = Rows(results, "requests")
    arrival, came = rows.ints("arrival_ns"), rows.there("arrival_ns")
    follows, after = rows.there("after"), rows.ints("after")
    within = (arrival >= 0) & np.where(follows, arrival <= duration, arrival < duration)
    rows.hold("arrivals are within the run", ~came | within, run=duration)
    alone = np.flatnonzero(~follows)
    in_order = np.ones(len(arrival), dtype=np.bool_)
    in_order[alone[1:]] = arrival[alone[1:]] >= arrival[alone[:-1]]
    rows.hold("requests are in order of arrival", in_order, arrival=arrival)
    last = np.zeros(len(arrival), dtype=np.int64)
    last[follows] = rows.ints("end_ns")[after[follows]]
    law = "a request follows what it waits for"
    rows.hold(law, ~came | (arrival >= last), arrival=arrival, last=last)
    earlier, name = arrival, "arrival"
    for later in ("start", "first", "end"):
        time, there = rows.ints(f"{later}_ns"), rows.there(f"{later}_ns")
        rows.hold(f"{name} <= {later} <= end of the run",
                  ~there | ((time >= earlier) & (time <= duration)),
                  **{name: earlier, later: time, "run": duration})  # fmt: skip
        earlier, name = np.where(there, time, earlier), later
    if "handed_ns" in results.requests().column_names:
        handed, came = rows.ints("handed_ns"), rows.there("handed_ns")
        start, end = (
            rows.ints("start_ns"),
            np.where(rows.there("end_ns"), rows.ints("end_ns"), duration),
        )
        rows.hold("start <= handed over <= end", ~came | ((handed >= start) & (handed <= end)),
                  start=start, handed=handed, end=end)  # fmt: skip
    rows = Rows(results, "events")
    time, end = rows.ints("time_ns"), rows.ints("end_ns")
    rows.hold("events are within the run", (time >= 0) & (time <= duration), run=duration)
    ended = rows.there("end_ns")
    rows.hold("a stretch has a length and ends within the run",
              ~ended | ((end > time) & (end <= duration)), run=duration)  # fmt: skip
    before = np.concatenate([time[:1], time[:-1]])
    rows.hold("events are in order of time", time >= before, before=before)


def check_capacity(results: Results) -> None:
    """Occupancy is never above capacity, and the parts of a pool add up.

    In every pool and bin each category is 0 or more, the categories and `free` add up to the mean
    capacity, `free` is 0 or more, and the peak lies between the mean of what is held (but for
    what is cached in HBM, which makes room for anything) and the greatest capacity of the bin.
    """
    grid = Grid(results)
    for category in CATEGORIES:
        grid.hold("every part is 0 or more", grid[category] >= 0, part=category)
    capacity, free = grid["capacity"], grid["free"]
    grid.hold("parts + free = capacity", grid.held + free == capacity,
              parts=grid.held, free=free, capacity=capacity)  # fmt: skip
    grid.hold("occupancy is never above capacity (mean)", free >= 0,
              held=grid.held, capacity=capacity)  # fmt: skip
    peak, high, low = grid["peak"], grid["capacity_high"], grid["capacity_low"]
    grid.hold("occupancy is never above capacity (peak)", peak <= high, peak=peak, capacity=high)
    grid.hold("the mean is not above the peak", grid.firm <= peak, mean=grid.firm, peak=peak)
    grid.hold("the mean capacity is between its extremes",
              (low >= 0) & (low <= capacity) & (capacity <= high),
              low=low, mean=capacity, high=high)  # fmt: skip
    fixed = (grid.tier == "hbm")[:, None] & (low != high)
    grid.hold("the capacity of HBM does not change", ~fixed, low=low, high=high)


def check_demand(results: Results) -> None:
    """Shortfall and headroom follow from demand and capacity.

    Demand is 0 or more and its mean not above its peak; shortfall is the peak of demand less the
    least capacity of the bin, headroom the reverse, each 0 where the other is not.

    Demand >= occupancy is no law: with capacities lifted, jobs run earlier and are gone earlier.
    """
    grid = Grid(results)
    demand, peak, low = grid["demand"], grid["demand_peak"], grid["capacity_low"]
    grid.hold("demand is 0 or more, its mean not above its peak",
              (demand >= 0) & (demand <= peak), demand=demand, demand_peak=peak)  # fmt: skip
    shortfall, headroom = np.maximum(peak - low, 0), np.maximum(low - peak, 0)
    grid.hold("shortfall = demand - capacity", grid["shortfall"] == shortfall,
              shortfall=grid["shortfall"], demand_peak=peak, capacity_low=low)  # fmt: skip
    grid.hold("headroom = capacity - demand", grid["headroom"] == headroom,
              headroom=grid["headroom"], demand_peak=peak, capacity_low=low)  # fmt: skip


def check_tiers(results: Results) -> None:
    """What the pools of a tier hold together follows from what each does.

    At some moment of a bin a tier holds its mean at least, and at some moment what its fullest pool
    holds then; at no moment more than all of its pools' peaks. The same of demand.
    """
    grid, rows = Grid(results), Rows(results, "tiers")
    rows.hold("one row a tier and bin", rows.words("tier") == np.repeat(TIERS, grid.shape[1]))
    for name, mean in (("peak", grid.firm), ("demand_peak", grid["demand"])):
        mine = [grid.tier == tier for tier in TIERS]
        most = np.concatenate([grid[name][pools].sum(axis=0) for pools in mine])
        fullest = np.concatenate([grid[name][pools].max(axis=0, initial=0) for pools in mine])
        least = np.maximum(fullest, np.concatenate([mean[pools].sum(axis=0) for pools in mine]))
        told = rows.ints(name)
        rows.hold(f"{name} of a tier is between its bounds", (least <= told) & (told <= most),
                  at_least=least, told=told, at_most=most)  # fmt: skip


_NEXT: dict[str | None, tuple[str, ...]] = {None: ("loading", "up"),
         "loading": ("up", "down"), "up": ("down",), "down": ("loading",)}  # fmt: skip


def check_events(results: Results) -> None:
    """The events tell what the timeline tells.

    A replica loads, comes up, goes down and loads again, in this order (one that starts warm is
    up at 0). The bytes evicted, lost, dropped and spilled at each pool in each bin are those of
    the timeline, and each stretch of shortfall covers the bins that have one.
    """
    rows, grid = Rows(results, "events"), Grid(results)
    kind, subject, time = rows.words("kind"), rows.words("subject"), rows.ints("time_ns")
    _check_states([
        (str(s), int(t), str(k)) for s, t, k in zip(subject, time, kind, strict=True)
        if k in ("loading", "up", "down")
    ])  # fmt: skip
    place = {name: row for row, name in enumerate(grid.pool)}
    size, end = rows.ints("bytes"), rows.ints("end_ns")
    for cause in ("evicted", "lost", "dropped", "spilled"):
        told = np.zeros(grid.shape, dtype=np.int64)
        mine = kind == cause
        pools = np.array([place[name] for name in subject[mine]], dtype=np.int64)
        np.add.at(told, (pools, grid.bin_of(time[mine])), size[mine])
        grid.hold(f"events tell what was {cause}", told == grid[cause],
                  events=told, timeline=grid[cause])  # fmt: skip
    told = np.zeros(grid.shape, dtype=np.int64)
    for row in np.nonzero(kind == "shortfall")[0]:
        first, last = grid.bin_of(np.array([time[row], end[row] - 1]))
        part = grid["shortfall"][place[subject[row]], first : last + 1]
        must_equal("a stretch of shortfall tells its worst", f"events row {row}",
                   bytes=int(size[row]), worst=int(part.max()))  # fmt: skip
        told[place[subject[row]], first : last + 1] += 1
    grid.hold("events cover the bins with a shortfall, once", told == (grid["shortfall"] > 0),
              events=told, shortfall=grid["shortfall"])  # fmt: skip


def _check_states(events: list[tuple[str, int, str]]) -> None:
    law = "a replica loads, comes up, goes down, in this order"
    events.sort(key=lambda event: event[:2])
    for subject, mine in groupby(events, key=lambda event: event[0]):
        states: set[str | None] = {None}
        for time, group in groupby(mine, key=lambda event: event[1]):
            kinds = [kind for _, _, kind in group]  # of one instant, in any order
            where = f"events of {subject}"
            if None in states and "loading" not in kinds and time != 0:
                fail("a replica loads before it is up", where, {"time_ns": time, "kinds": kinds})
            after = {_walk(state, order) for state in states for order in permutations(kinds)}
            if after == {None}:
                fail(law, where, {"time_ns": time, "before": states, "kinds": kinds})
            states = after - {None}


def _walk(state: str | None, order: tuple[str, ...]) -> str | None:
    """The state after these events, or None where one cannot follow the other."""
    for kind in order:
        if kind not in _NEXT[state]:
            return None
        state = kind
    return state


def check_summary(results: Results) -> None:
    """The figures of the summary follow from the tables.

    By tier: capacity, peak and mean of occupancy and demand, greatest and first shortfall, flows.
    Means are compared to one part in 10^9, all else exactly.
    """
    grid, tiers = Grid(results), Rows(results, "tiers")
    width = (grid.end - grid.start).astype(np.float64)
    for tier in TIERS:
        mine, figures = grid.tier == tier, results.summary["tiers"][tier]
        where = f"the summary, tier {tier}"
        for name, mean, peak in (
            ("occupancy", grid.firm, "peak"),
            ("demand", grid["demand"], "demand_peak"),
        ):
            most = int(tiers.ints(peak)[tiers.words("tier") == tier].max())
            must_equal(f"peak {name}", where, summary=figures[name]["peak"], tiers=most)
            average = float(np.average(mean[mine].sum(axis=0), weights=width))
            if abs(figures[name]["mean"] - average) > 1 + 1e-9 * average:
                fail(f"mean {name}", where, {"summary": figures[name]["mean"], "timeline": average})
        for cause in CAUSES:
            total = int(grid[cause][mine].sum())
            must_equal(f"bytes {cause}", where, summary=figures["flows"][cause], timeline=total)
        short = grid["shortfall"][mine].sum(axis=0)
        first = int(grid.start[np.argmax(short > 0)]) if short.any() else None
        must_equal("greatest shortfall", where, summary=figures["shortfall_peak"],
                   timeline=int(short.max()))  # fmt: skip
        must_equal("first shortfall", where, summary=figures["first_shortfall_ns"], timeline=first)


LAWS: tuple[Law, ...] = (
    check_outcomes,
    check_causality,
    check_capacity,
    check_demand,
    check_tiers,
    check_flows,
    check_transfers,
    check_contents,
    check_wear,
    check_samples,
    check_events,
    check_summary,
)
"""The laws that need one result, in the order in which `check_all` checks them."""


def check_all(results: Results) -> None:
    """Checks all laws that need one result. Raises AssertionError with the first that is broken."""
    for law in LAWS:
        law(results)
