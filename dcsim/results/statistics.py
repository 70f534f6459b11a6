"""Means and percentiles."""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PERCENTILES", "STATISTICS", "Spread", "spread", "weighted_percentile"]

Ints = NDArray[np.int64]

PERCENTILES = (50, 90, 95, 99)
STATISTICS = ("count", "mean", *(f"p{p}" for p in PERCENTILES), "max")
"""Keys of what `spread` gives."""


_HELD = 1 << 20
"""Numbers that are held in memory; more go to a file."""
_MANTISSA = 12
"""Bits by which numbers of a file are told apart at first, after the highest."""


def spread(values: Ints) -> dict[str, int] | None:
    """Count, mean, percentiles and greatest of some numbers; None if there are none.

    A percentile is by nearest rank: the least value that at least p % of them do not exceed.
    """
    all_of_them = Spread()
    all_of_them.add(values)
    return all_of_them.figures()


class Spread:
    """`spread` of numbers of 0 or more that come bit by bit, of any count in bounded memory."""

    def __init__(self) -> None:
        self._held: list[Ints] = []
        self._file: IO[bytes] | None = None
        self._count = self._sum = self._most = 0

    def add(self, values: Ints) -> None:
        """Some more, int64[N]."""
        if len(values) == 0:
            return
        self._count += len(values)
        # In halves, since the sum of many may have more than 64 bits.
        self._sum += (int((values >> 32).sum()) << 32) + int((values & 0xFFFF_FFFF).sum())
        self._most = max(self._most, int(values.max()))
        self._held.append(values)
        if sum(map(len, self._held)) > _HELD:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            for each in self._held:
                self._file.write(np.ascontiguousarray(each).data)
            self._held.clear()

    def figures(self) -> dict[str, int] | None:
        """Count, mean, percentiles and greatest; None where nothing came."""
        if self._count == 0:
            return None
        ranks = {f"p{p}": math.ceil(self._count * p / 100) - 1 for p in PERCENTILES}
        placed = self._placed(sorted(set(ranks.values())))
        figures = {"count": self._count, "mean": round(self._sum / self._count)}
        figures |= {name: placed[rank] for name, rank in ranks.items()}
        return figures | {"max": self._most}

    def _placed(self, ranks: list[int]) -> dict[int, int]:
        """What would stand at these places in order."""
        if self._file is None:
            values = self._held[0] if len(self._held) == 1 else np.concatenate(self._held)
            placed = np.partition(values, ranks)  # only these come to their places
            return {rank: int(placed[rank]) for rank in ranks}
        counts = np.zeros(0, dtype=np.int64)
        for values in self._bits():
            more = np.bincount(_bucket(values), minlength=len(counts))
            more[: len(counts)] += counts
            counts = more
        ends = np.cumsum(counts)
        buckets = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
        wanted = np.zeros(len(counts), dtype=np.bool_)
        wanted[list(buckets.values())] = True
        found = np.sort(np.concatenate([v[wanted[_bucket(v)]] for v in self._bits()]))
        skipped = ends - np.cumsum(np.where(wanted, counts, 0))  # not among these
        return {rank: int(found[rank - skipped[bucket]]) for rank, bucket in buckets.items()}

    def _bits(self) -> Iterator[Ints]:
        assert self._file is not None
        self._file.seek(0)
        while data := self._file.read(8 * _HELD):
            yield np.frombuffer(data, dtype=np.int64)
        yield from self._held


def _bucket(values: Ints) -> Ints:
    """Rising with the value, and finer than a part in 4,000: the head of its floating form."""
    head = (values.astype(np.float64) + 1.0).view(np.int64) >> (52 - _MANTISSA)
    return np.asarray(head - (1023 << _MANTISSA))


def weighted_percentile(values: NDArray[Any], weights: NDArray[Any], p: float) -> int:
    """The least value that is not exceeded for at least p % of the weight (nearest rank)."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    row = int(np.searchsorted(total * 100, total[-1] * p, side="left"))
    return int(values[order][min(row, len(values) - 1)])
