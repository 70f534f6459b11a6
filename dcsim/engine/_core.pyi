from collections.abc import Mapping

from dcsim.engine.border import Int64, Outputs, RouteFunction, Rows

def columns() -> dict[str, tuple[str, ...]]: ...
def evictions() -> tuple[str, ...]: ...
def routers() -> tuple[str, ...]: ...
def build() -> dict[str, str | int]: ...
def floor_seconds(events: int, live: int, rows: int) -> float: ...

class Forest:
    """The prefix forest of a log: int64 arrays in and out. ``docs/hitrate.md`` has the rules.

    Request r uses ``blocks[start[r]:start[r + 1]]``, its prefix from the head on. Raises
    ValueError where the arrays do not fit together, TypeError where they are no C-contiguous
    int64 arrays.
    """

    def __init__(self, start: Int64, blocks: Int64) -> None: ...
    @property
    def blocks(self) -> int:
        """Distinct blocks."""

    @property
    def parent(self) -> Int64:
        """By run: the run that it continues, which comes before it; -1 if none."""

    @property
    def length(self) -> Int64:
        """By run: its blocks."""

    @property
    def above(self) -> Int64:
        """By run: the blocks of its ancestors."""

    @property
    def ends(self) -> Int64:
        """By request: the run at whose end its prompt ends; -1 if it has no blocks."""

    def hits(self, policy: str, capacity: int) -> Int64:
        """By request: the leading blocks that a cache of `capacity` blocks holds when it comes.

        `policy`: one of `evictions()`.
        """

    def lru_hits(self, counted: Int64) -> Int64:
        """By capacity 0, 1, ..., ``blocks``: the hits of all requests in an LRU cache, of which
        only the first ``counted[r]`` blocks of request r count."""

class Engine:
    """One run. ``horizon`` and ``bin`` in ns. Raises ValueError for a wrong table or call."""

    def __init__(
        self,
        tables: Mapping[str, Int64],
        horizon: int,
        bin: int,
        lifted: bool = False,
        threads: int = 0,
        routers: Mapping[int, RouteFunction] = ...,
    ) -> None:
        """`threads`: on which components run, at the most; 0: one, and events of one time as they
        happened. `routers`: by row of a service a function that decides in place of its router; an
        error in it ends the run, and is raised by what was called."""

    @property
    def now(self) -> int: ...
    @property
    def arrived(self) -> int: ...
    @property
    def completed(self) -> int: ...
    def run_until(self, t: int) -> None: ...
    def fail(self, replica: int) -> None: ...
    def start(self, replica: int) -> None: ...
    def set_capacity(self, pool: int, bytes: int) -> None: ...
    def used(self, pool: int) -> int: ...
    def capacity(self, pool: int) -> int: ...
    def state(self, replica: int) -> int: ...
    def running(self, replica: int) -> int: ...
    def waiting(self, replica: int) -> int: ...
    def stuck(self) -> tuple[int, int, int, int] | None:
        """A replica that will never go on, the head of its queue, and the giver and the taker of
        what is kept there until that has moved on; None: there is none."""

    def give(self, requests: Mapping[str, Int64]) -> None:
        """More requests: the five arrays of the rows that follow. None of them may arrive at or
        before the time that all has been handled up to."""

    def take(self) -> Rows | None:
        """The oldest slice that was given, once all of its requests are over; they are forgotten
        here then."""

    def finish(self) -> Outputs:
        """Runs to the horizon; the requests are those that have not been taken."""
