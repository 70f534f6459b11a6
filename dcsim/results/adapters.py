"""Where the adapters of a job's requests were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.engine import Rows
from dcsim.workload import Requests

__all__ = ["AdapterRecord"]

PLACES = ("hbm", "dram", "nand", "library")
"""Where an adapter may be at the first admission of a request."""


class AdapterRecord:
    """What is told of the adapters of a job class, as its requests come."""

    def __init__(self, count: int) -> None:
        """`count`: different adapters that the class has."""
        self._needed = np.zeros(count, dtype=np.bool_)
        self._bytes = dict.fromkeys((*PLACES, "again"), 0)
        self._times = dict.fromkeys(PLACES, 0)
        self._requests = 0

    def add(self, requests: Requests, rows: Rows, mine: NDArray[np.int64] | slice) -> None:
        """Some more: these of some requests, and what came of them."""
        assert requests.adapter is not None
        came: dict[str, Any] = dict(rows)
        admitted = rows["start"][mine] >= 0
        self._requests += int(admitted.sum())
        self._needed[requests.adapter[mine][admitted]] = True
        for place in self._bytes:
            amount = came[f"brought_{place}"][mine]
            self._bytes[place] += int(amount.sum())
            if place in self._times:
                self._times[place] += int((amount > 0).sum())

    def figures(self) -> dict[str, Any]:
        """Requests, different adapters, bytes and shares of the requests by where they were."""
        count = self._requests
        return {
            "requests": count,
            "used": int(self._needed.sum()),
            **{f"{place}_bytes": amount for place, amount in self._bytes.items()},
            **{
                f"{place}_share": times / count if count else None
                for place, times in self._times.items()
            },
        }
