"""The laws of the flow of bytes: what comes into a pool leaves it or is still there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsim.engine import CATEGORIES, TIERS
from dcsim.reading.units import TIME, whole
from dcsim.results import Results
from dcsim.testing.grid import OUT, Grid
from dcsim.testing.rows import Rows, fail, must_equal

__all__ = ["check_contents", "check_flows", "check_samples", "check_transfers"]

Ints = NDArray[np.int64]


def check_flows(results: Results) -> None:
    """Allocated = freed + held, in every pool at the end of every bin.

    Allocated and freed are the flows (`taken`; `moved`, `expired`, `evicted`, `lost`), held is
    what the timeline says of cached contexts, artifacts and what is swapped to DRAM: in a bin
    without flows it is exactly the bytes taken less those freed before; in the others it lies
    between the least and the most that the flows of the bin allow. It is never negative nor above
    the capacity.
    """
    grid = Grid(results)
    for cause in ("taken", *OUT, "dropped", "spilled"):
        grid.hold("flows are 0 or more", grid[cause] >= 0, cause=cause)
    held = grid.objects
    grid.hold("no more is freed than was allocated", held >= 0, held=held)
    grid.hold("objects never exceed the capacity", held <= grid["capacity_high"],
              held=held, capacity=grid["capacity_high"])  # fmt: skip
    taken, freed = grid["taken"], np.asarray(sum(grid[cause] for cause in OUT))
    swapped = np.where((grid.tier == "hbm")[:, None], 0, grid["live"])
    mean, before = grid.again + grid["artifacts"] + swapped, held - taken + freed
    above = (grid.tier == "hbm")[:, None] & (grid["artifacts"] > 0)
    if not _in_hbm(results):
        above |= (grid.tier == "hbm")[:, None] & ((taken > 0) | (mean > 0))
    grid.hold("objects are in DRAM and NAND only", ~above,
              taken=taken, mean_held=mean)  # fmt: skip
    # Means are rounded down, one account (a job's contexts, artifacts, or swapped) at a time.
    slack = np.where((taken == 0) & (freed == 0), 0, 3 * len(results.summary["jobs"]))
    grid.hold("allocated = freed + held",
              (mean >= before - freed - slack) & (mean <= before + taken),
              held_before=before, taken=taken, freed=freed, mean_held=mean)  # fmt: skip


def _in_hbm(results: Results) -> bool:
    """Whether contexts to be used again, or adapters, stay in HBM."""
    jobs = results.manifest["inputs"]["jobs"].values()
    reuses = ((job.get("keep") or {}).get("reuse") or {} for job in jobs)
    return any(reuse.get("hbm") for reuse in reuses) or any(job.get("adapters") for job in jobs)


def check_transfers(results: Results) -> None:
    """Bytes out of one pool arrive in another or are named dropped; no link is outrun.

    - In every bin the objects finished and to be kept in DRAM are taken there or named spilled.
    - What is spilled and to be kept in NAND, what goes there at once, and what moves on from DRAM
      is taken in NAND or named dropped; moves are counted when they end, so those under way (or
      lost on the way) may be missing.
    - A channel moves no more in a bin than its bandwidth allows.

    Where contexts are used again, and of adapters, only what is not there yet is taken, and what is
    swapped comes and goes too: no word of the first two.
    Exclusive tiers alone move anything on from NAND, to DRAM.
    """
    grid = Grid(results)
    total = {
        (tier, cause): int(grid[cause][grid.tier == tier].sum())
        for tier in TIERS
        for cause in ("taken", *OUT, "dropped", "spilled")
    }
    _check_channels(results)
    jobs = results.manifest["inputs"]["jobs"].values()
    reuses = [(job.get("keep") or {}).get("reuse") for job in jobs]
    for cause in ("moved", "spilled"):
        if cause == "spilled" or not any(reuse and reuse.get("exclusive") for reuse in reuses):
            must_equal("nothing moves on from NAND", cause, bytes=total["nand", cause], limit=0)
    swaps = any("swap" in figures for figures in results.summary["jobs"].values())
    brought = any(job.get("adapters") for job in jobs)
    if swaps or brought or any(reuse is not None for reuse in reuses):
        return
    wanted, direct = _kept_bytes(results, grid)
    here = (grid["taken"] + grid["spilled"])[grid.tier == "dram"].sum(axis=0)
    law = "an object for DRAM is taken there or spilled"
    _same_bins(law, "DRAM", grid, finished=wanted, taken_and_spilled=here)
    arrived = total["nand", "taken"] + total["nand", "dropped"]
    passed = total["dram", "spilled"] - total["dram", "dropped"] + direct
    moved = total["dram", "moved"]
    held = int(grid.objects[grid.tier == "dram", -1].sum())
    least, most = passed + moved, passed + moved + total["dram", "lost"] + held
    if not least <= arrived <= most:
        fail("what leaves DRAM arrives in NAND or is dropped", "the flows of all pools",
             {"arrived_or_dropped": arrived, "least": least, "most": most, "moved": moved,
              "past_dram": passed})  # fmt: skip


def _check_channels(results: Results) -> None:
    rows = Rows(results, "channels")
    span = (rows.ints("end_ns") - rows.ints("start_ns")).astype(object)
    most_moved = rows.ints("bandwidth").astype(object) * span // 10**9 + 1
    moved_bytes = rows.ints("bytes")
    rows.hold("a channel moves at most its bandwidth",
              ((moved_bytes >= 0) & (moved_bytes <= most_moved)).astype(np.bool_),
              moved=moved_bytes, most=most_moved)  # fmt: skip


def _kept_bytes(results: Results, grid: Grid) -> tuple[Ints, int]:
    """Bytes of the objects finished in each bin and to be kept in DRAM, and of all objects to be
    kept in NAND only."""
    rows = Rows(results, "requests")
    done, job = rows.words("outcome") == "completed", rows.words("job")
    wanted, direct = np.zeros(grid.shape[1], dtype=np.int64), 0
    for name, written in results.manifest["inputs"]["jobs"].items():
        keep = written.get("keep") or {}
        # Of a job in stages the last leaves something: the KV of a prompt is handed over.
        leave = [each for each in set(job) if each.split("/") in ([name], *_last_stages(name))]
        mine = done & np.isin(job, leave)
        ended = grid.bin_of(rows.ints("end_ns")[mine])
        for kind in ("artifact", "context"):
            times = keep.get(kind) or {}
            dram, nand = (whole(times.get(tier) or "0 s", TIME) for tier in ("dram", "nand"))
            size = rows.ints(f"{kind}_bytes")[mine]
            if dram:
                np.add.at(wanted, ended, size)
            elif nand:
                direct += int(size.sum())
    return wanted, direct


def _last_stages(name: str) -> list[list[str]]:
    return [[name, stage] for stage in ("denoise", "decode")]


def check_contents(results: Results) -> None:
    """The contents by job add up to the pools, in every tier, category and bin."""
    grid = Grid(results)
    rows: Any = (
        results.tables["contents"]
        .select(["tier", "category", "start_ns", "mean_bytes", "demand_bytes"])
        .cast(_PLAIN)
        .group_by(["tier", "category", "start_ns"])
        .aggregate([("mean_bytes", "sum"), ("demand_bytes", "sum")])
    )
    held = np.zeros((len(TIERS), len(CATEGORIES), grid.shape[1]), dtype=np.int64)
    demand = np.zeros_like(held)
    tier = pc.index_in(rows["tier"], pa.array(TIERS)).to_numpy()
    category = pc.index_in(rows["category"], pa.array(CATEGORIES)).to_numpy()
    place = (tier, category, grid.bin_of(rows["start_ns"].to_numpy()))
    held[place] = rows["mean_bytes_sum"].to_numpy()
    demand[place] = rows["demand_bytes_sum"].to_numpy()
    law = "the contents by job add up to the pools"
    for row, name in enumerate(TIERS):
        mine = grid.tier == name
        for column, word in enumerate(CATEGORIES):
            pools = grid[word][mine].sum(axis=0)
            _same_bins(law, f"{name}, {word}", grid, contents=held[row, column], pools=pools)
        pools = grid["demand"][mine].sum(axis=0)
        told = demand[row].sum(axis=0)
        _same_bins(law, f"{name}, demand", grid, contents=told, pools=pools)


_PLAIN = pa.schema(
    [
        ("tier", pa.string()),
        ("category", pa.string()),
        ("start_ns", pa.int64()),
        ("mean_bytes", pa.int64()),
        ("demand_bytes", pa.int64()),
    ]
)


def _same_bins(law: str, where: str, grid: Grid, **two: Ints) -> None:
    """Raises AssertionError for the first bin in which two int64[B] differ."""
    first, second = two.values()
    wrong = np.nonzero(first != second)[0]
    if len(wrong):
        at = int(wrong[0])
        numbers = {name: int(values[at]) for name, values in two.items()}
        fail(law, f"{where}, the bin from {int(grid.start[at]):,} ns", numbers)


def check_samples(results: Results) -> None:
    """What a sampler read agrees with the tables; nothing to check where there was none.

    Bytes used never exceed the capacity, and in NAND, where checkpoints lie still, they are
    those taken less those freed so far. Jobs running and waiting are those that have arrived and
    neither ended nor been rejected (fewer where no replica is up, for then some wait for one).
    """
    if "samples" not in results.tables:
        return
    rows, grid = Rows(results, "samples"), Grid(results)
    quantity, subject, value = rows.words("quantity"), rows.words("subject"), rows.ints("value")
    time = rows.ints("time_ns")
    rows.hold("readings are 0 or more", value >= 0, value=value)
    used = np.nonzero(quantity == "used")[0]
    place = {name: row for row, name in enumerate(grid.pool)}
    at = (np.array([place[name] for name in subject[used]], dtype=np.int64),
          grid.bin_of(time[used]))  # fmt: skip
    taken, freed = grid["taken"], np.asarray(sum(grid[cause] for cause in OUT))
    before = (grid.objects - taken + freed)[at] + grid["weights"][at]
    nand = grid.tier[at[0]] == "nand"
    low = np.where(nand, before - freed[at], 0)
    high = np.where(nand, before + taken[at], grid["capacity_high"][at])
    ok = np.ones(len(rows), dtype=np.bool_)
    ok[used] = (low <= value[used]) & (value[used] <= high)
    ok[used] &= value[used] <= grid["capacity_high"][at]
    least, most = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    least[used], most[used] = low, np.minimum(high, grid["capacity_high"][at])
    rows.hold("bytes used are those taken less those freed", ok, least=least, most=most)
    _check_queues(results, rows)


def _check_queues(results: Results, rows: Rows) -> None:
    requests = Rows(results, "requests")
    service = {name: job["service"] for name, job in results.summary["jobs"].items()}
    of = np.array([service[str(job)] for job in requests.words("job")], dtype=object)
    never = np.iinfo(np.int64).max
    arrival = np.where(requests.there("arrival_ns"), requests.ints("arrival_ns"), never)
    gone = np.where(requests.there("end_ns"), requests.ints("end_ns"), never)
    gone = np.where(requests.words("outcome") == "rejected", arrival, gone)
    readings: dict[tuple[str, int], dict[str, int]] = {}
    columns = (rows.words("subject"), rows.ints("time_ns"), rows.words("quantity"))
    for subject, time, quantity, value in zip(*columns, rows.ints("value"), strict=True):
        if quantity != "used":
            readings.setdefault((str(subject), int(time)), {})[str(quantity)] = int(value)
    for (name, now), reading in readings.items():
        present = int(((of == name) & (arrival <= now) & (gone > now)).sum())
        seen = reading["running"] + reading["waiting"]
        if seen > present or (seen < present and reading["up"]):
            fail("a job that has arrived runs or waits until it ends", f"samples of {name}",
                 {"time_ns": now, "present": present, **reading})  # fmt: skip
