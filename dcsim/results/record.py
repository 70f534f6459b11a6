"""What a pass writes down of its requests: figures and the table, window by window."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np

from dcsim.assembly.plan import Plan
from dcsim.engine import OUTCOMES, Rows
from dcsim.results.jobs import JobRecord, members
from dcsim.results.requests import requests_table
from dcsim.results.spool import Spool
from dcsim.workload import Requests

__all__ = ["Record"]

_HASHED = ("arrival", "klass", "shape", "prompt", "output")


class Record:
    """Takes the requests of a pass in order, with what came of them. Of the pass with capacities
    lifted only the outcomes are told."""

    def __init__(self, plan: Plan, *, lifted: bool = False) -> None:
        self._plan = plan
        self._lifted = lifted
        self.outcomes = np.zeros((len(plan.classes), len(OUTCOMES)), dtype=np.int64)
        """How many requests of each class ended in each outcome."""
        self.jobs = [JobRecord(plan, klass) for klass in range(len(plan.classes))]
        self.rows: Rows | None = None
        """All rows, where requests are but parts of what users asked for."""
        self.seconds = 0.0
        """Wall time that it took."""
        self._spool = Spool()
        self._digests = [hashlib.sha256() for _ in _HASHED]

    def add(self, requests: Requests, rows: Rows) -> None:
        """A window of requests."""
        begun = time.perf_counter()
        self._add(requests, rows)
        self.seconds += time.perf_counter() - begun

    def _add(self, requests: Requests, rows: Rows) -> None:
        classes, outcomes = self.outcomes.shape
        at = requests.klass * outcomes + rows["outcome"]
        self.outcomes += np.bincount(at, minlength=self.outcomes.size).reshape(classes, outcomes)
        if requests.asked is not None:  # these come all at once
            self.rows = rows
        if self._lifted:
            return
        for job, mine in zip(self.jobs, members(requests, classes), strict=True):
            job.add(requests, rows, mine)
        self._spool.add(requests_table(self._plan, requests, rows))
        for digest, column in zip(self._digests, _HASHED, strict=True):
            digest.update(np.ascontiguousarray(getattr(requests, column), dtype="<i8").data)

    def table(self) -> Any:
        """The table of requests, or where it is stored; asked for once, at the end."""
        return self._spool.close()

    def digest(self) -> str:
        """SHA-256 of every arrival and shape."""
        whole = hashlib.sha256(repr(self._plan.source.shapes).encode())
        for digest in self._digests:
            whole.update(digest.digest())
        return whole.hexdigest()
