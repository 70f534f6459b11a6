"""What pictures show of a run, as plain arrays: little, however large the run, and without
matplotlib, so that another process can draw it; that one imports no results, so they are imported
where an outline is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dcsim.engine import CATEGORIES, TIERS

if TYPE_CHECKING:
    from dcsim.results import Results

__all__ = ["MOST_STRETCHES", "LinkSeries", "Outline", "TierSeries", "WearSeries"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_STRETCHES = 1000
"""A picture is as many pixels wide; runs of more bins are drawn in stretches of several bins."""

_SHORT = "shortfall"
_TOPS = ("peak", "demand_peak")
_RATES = ("read", "taken")


@dataclass(frozen=True)
class TierSeries:
    """A tier over S stretches: bytes by name, int64[S], summed over the tier's pools.

    `capacity`, the categories and `demand` are means over a stretch; `peak` and `demand_peak` the
    most that all hold together; `shortfall` the most of its bins, of which each is the sum of the
    pools' own; `read` and `taken` are bytes/s.
    """

    pools: int
    columns: dict[str, Ints]
    slack: bool = False
    """Whether its cache makes room for anything at no cost (HBM)."""

    @property
    def categories(self) -> list[str]:
        """Those that it has columns of."""
        return [category for category in CATEGORIES if category in self.columns]

    def occupancy(self) -> Ints:
        """Bytes held, all categories but a cache in the slack, int64[S]."""
        spare = ("cache", "adapters") if self.slack else ()
        held = [self.columns[c] for c in self.categories if c not in spare]
        return np.asarray(sum(held))


@dataclass(frozen=True)
class LinkSeries:
    """Links that are alike over S stretches; loads are shares of the bandwidth, float64[S]."""

    count: int
    bandwidth: int
    """Bytes/s of one; of the widest where they differ."""
    mean: Floats
    """Of all together."""
    busiest: Floats
    """Of the one that is busiest in each stretch."""


@dataclass(frozen=True)
class WearSeries:
    """A NAND pool over S stretches, bytes/s."""

    taken: Mapping[str, Ints]
    """By what is written, int64[S]."""
    written: Ints
    """int64[S]."""
    rated: float | None
    """What the rating of its drives sustains; None where unknown."""
    budget: float | None
    """What its write budget lets through; None without any."""


@dataclass(frozen=True)
class Outline:
    """What pictures show of a run."""

    summary: dict[str, Any]
    edges: Floats
    """float64[S+1], ns: the stretches; each is a bin where they are no more than
    `MOST_STRETCHES`, else some bins on end."""
    tiers: Mapping[str, TierSeries]
    """By name; one without a pool is missing."""
    held: Mapping[tuple[str, str, str], Ints]
    """Mean bytes held by tier, category and job, int64[S]."""
    links: Mapping[str, LinkSeries]
    """By the name of links that are alike."""
    wear: Mapping[str, WearSeries]
    """By NAND pool."""
    useful: Mapping[tuple[int, int | None], Ints]
    """Useful bytes of all jobs with capacities lifted, int64[S], by class of reuse gaps: its limits
    in ns, None: no end."""

    @property
    def categories(self) -> list[str]:
        """Those that the run has."""
        return list(dict.fromkeys(c for tier in self.tiers.values() for c in tier.categories))

    @classmethod
    def of(cls, results: Results) -> Outline:
        """The outline of some results."""
        timeline, contents = results.timeline(), results.contents()
        _, pool = _words(timeline["pool"])
        bins = int(np.count_nonzero(pool == pool[0])) if len(pool) else 1
        stretches = _Stretches.of(timeline, bins)
        return cls(
            summary=results.summary,
            edges=stretches.edges,
            tiers=_tiers(timeline, results.tiers(), stretches),
            held=_held(contents, stretches),
            links=_links(results.channels(), stretches),
            wear=_wear(results.wear(), stretches),
            useful=_useful(results.tables.get("useful"), stretches),
        )


@dataclass(frozen=True)
class _Stretches:
    """How B bins are joined to S stretches: `first` int64[S], the first bin of each."""

    first: Ints
    length: Ints
    """ns, int64[B]."""
    edges: Floats

    @classmethod
    def of(cls, timeline: Any, bins: int) -> _Stretches:
        start = timeline["start_ns"].to_numpy()[:bins]
        end = timeline["end_ns"].to_numpy()[:bins]
        joined = -(-len(start) // MOST_STRETCHES) or 1
        first = np.arange(0, len(start), joined)
        edges = np.append(start[first], end[-1:]).astype(np.float64)
        return cls(first, end - start, edges)

    def means(self, values: Ints) -> Ints:
        """Over time, of values [..., B]."""
        if len(self.first) == len(self.length):
            return values
        sums = np.add.reduceat(values.astype(np.float64) * self.length, self.first, axis=-1)
        return np.asarray(sums / np.add.reduceat(self.length, self.first)).round().astype(np.int64)

    def rates(self, values: Ints) -> Ints:
        """A second, of values within bins [..., B]."""
        length = np.add.reduceat(self.length, self.first)
        return np.asarray(np.add.reduceat(values, self.first, axis=-1) * 1e9 / length).astype(
            np.int64
        )

    def tops(self, values: Ints) -> Ints:
        """The most, of values [..., B]."""
        return np.asarray(np.maximum.reduceat(values, self.first, axis=-1))


def _tiers(timeline: Any, peaks: Any, stretches: _Stretches) -> dict[str, TierSeries]:
    """The pools of each tier added up, bin by bin; the tables go pool by pool and tier by tier."""
    bins = len(stretches.length)
    names, tier = _words(timeline["tier"])
    tier = tier[::bins]
    held = [category for category in CATEGORIES if category in timeline.column_names]
    means = ("capacity", *held, "demand")
    tables = {
        name: timeline[name].to_numpy().reshape(-1, bins) for name in (*means, _SHORT, *_RATES)
    }
    tops = {name: peaks[name].to_numpy().reshape(len(TIERS), bins) for name in _TOPS}
    series = {}
    for code, name in enumerate(names):
        mine = np.flatnonzero(tier == code)
        if len(mine):
            sums = {each: table[mine].sum(axis=0) for each, table in tables.items()}
            columns = {each: stretches.means(sums[each]) for each in means}
            columns[_SHORT] = stretches.tops(sums[_SHORT])
            row = TIERS.index(name)
            columns |= {each: stretches.tops(tops[each][row]) for each in _TOPS}
            columns |= {each: stretches.rates(sums[each]) for each in _RATES}
            series[name] = TierSeries(len(mine), columns, slack=name == "hbm")
    return {name: series[name] for name in TIERS if name in series}


def _held(contents: Any, stretches: _Stretches) -> dict[tuple[str, str, str], Ints]:
    """The table goes by tier, category and job, then bin by bin."""
    bins = len(stretches.length)
    means = stretches.means(contents["mean_bytes"].to_numpy().reshape(-1, bins))
    keys = []
    for column in ("tier", "category", "job"):
        names, code = _words(contents[column])
        keys.append([names[each] for each in code[::bins].tolist()])
    return dict(zip(zip(*keys, strict=True), means, strict=True))


def _links(channels: Any, stretches: _Stretches) -> dict[str, LinkSeries]:
    """The table goes channel by channel."""
    from dcsim.results.links import like_links

    bins = len(stretches.length)
    names, code = _words(channels["channel"])
    bandwidth = channels["bandwidth"].to_numpy()[::bins]
    moved = channels["bytes"].to_numpy().reshape(-1, bins)
    rates = stretches.rates(moved)
    series = {}
    for name, rows in like_links([names[each] for each in code[::bins].tolist()]).items():
        mine = rates[rows] / bandwidth[rows, None]
        mean = rates[rows].sum(axis=0) / bandwidth[rows].sum()
        series[name] = LinkSeries(len(rows), int(bandwidth[rows].max()), mean, mine.max(axis=0))
    return series


def _wear(wear: Any, stretches: _Stretches) -> dict[str, WearSeries]:
    """The table goes pool by pool."""
    from dcsim.results.wear import WRITTEN

    bins, seconds = len(stretches.length), stretches.length.sum() / 1e9
    names, code = _words(wear["pool"])
    tables = {name: wear[name].to_numpy().reshape(-1, bins) for name in (*WRITTEN, "written")}
    rates = {name: stretches.rates(table) for name, table in tables.items()}
    paces = {}
    for name in ("rated", "budget"):  # null in all bins of a pool, or in none
        allowed = wear[name].fill_null(-1).to_numpy().reshape(-1, bins).sum(axis=1)
        paces[name] = [float(each / seconds) if each >= 0 else None for each in allowed.tolist()]
    return {
        names[each]: WearSeries(
            taken={name: rates[name][row] for name in WRITTEN},
            written=rates["written"][row],
            rated=paces["rated"][row],
            budget=paces["budget"][row],
        )
        for row, each in enumerate(code[::bins].tolist())
    }


def _useful(table: Any, stretches: _Stretches) -> dict[tuple[int, int | None], Ints]:
    """The table goes by job and class of gaps, then bin by bin; none: nothing is used again."""
    if table is None:
        return {}
    bins = len(stretches.length)
    means = stretches.means(table["useful_demand_bytes"].to_numpy().reshape(-1, bins))
    limits = (table[name].to_pylist()[::bins] for name in ("gap_from_ns", "gap_to_ns"))
    sums: dict[tuple[int, int | None], Ints] = {}
    for gap, mean in zip(zip(*limits, strict=True), means, strict=True):
        sums[gap] = sums.get(gap, 0) + mean
    return {gap: sums[gap] for gap in sorted(sums, key=lambda each: each[0])}


def _words(column: Any) -> tuple[list[str], NDArray[np.int32]]:
    """The words of a column, and which of them each row has."""
    words = column.combine_chunks()
    if not hasattr(words, "indices"):
        words = words.dictionary_encode()
    return words.dictionary.to_pylist(), words.indices.to_numpy()
