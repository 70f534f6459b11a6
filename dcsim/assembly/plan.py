"""A scenario as the engine takes it: tables of rows, and the names of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from dcsim.engine import Engine, Int64, RouteFunction, Tables
from dcsim.spec import Endurance, Scenario
from dcsim.workload import Requests, Stream

Tier = Literal["hbm", "dram", "nand"]


@dataclass(frozen=True)
class PoolInfo:
    """One pool of memory."""

    name: str
    tier: Tier
    capacity: int
    """Bytes."""
    owner: str
    """The replica (HBM), the domain or the shelf that it belongs to."""
    wear: Endurance | None = None
    """Of NAND, what its drives stand; None without any."""
    also: tuple[str, ...] = ()
    """Other names: of each node, where a replica joins several that are apart."""


@dataclass(frozen=True)
class ChannelInfo:
    """One direction of a link."""

    name: str
    bandwidth: int
    """Bytes/s."""
    latency: int
    """ns."""
    nand_pool: int | None = None
    """Row of the NAND pool that this channel's bytes are written to."""


@dataclass(frozen=True)
class WorkRows:
    """Rows of `works`: those of a class are `row[first[class]:]`, by shape."""

    first: Int64
    row: Int64

    def of(self, requests: Requests) -> Int64:
        """The work of each request."""
        if not len(requests):
            return requests.klass
        return np.asarray(self.row[self.first[requests.klass] + requests.shape])


@dataclass(frozen=True)
class Plan:
    """All that the engine needs; rows of `tables` are named by the tuples beside it."""

    scenario: Scenario
    source: Requests | Stream
    """The requests, at once or window by window."""
    fixed: Tables
    """All tables but the columns of the requests."""
    works: WorkRows
    pools: tuple[PoolInfo, ...]
    channels: tuple[ChannelInfo, ...]
    services: tuple[str, ...]
    classes: tuple[str, ...]
    replicas: tuple[str, ...]

    @cached_property
    def requests(self) -> Requests:
        """All requests at once, however many they are."""
        return self.source.whole()

    @cached_property
    def tables(self) -> Tables:
        """All tables of the engine, with all requests."""
        return self.fixed | self.columns(self.requests)

    def columns(self, requests: Requests) -> Tables:
        """Columns of the engine's requests, for all or for a window of them."""
        work = self.works.of(requests)
        columns = {"arrival": requests.arrival, "klass": requests.klass, "work": work}
        columns |= {"prompt": requests.prompt, "output": requests.output}
        return {k: np.ascontiguousarray(v, dtype=np.int64) for k, v in columns.items()}

    def engine(
        self,
        *,
        lifted: bool = False,
        first: Requests | None = None,
        threads: int = 1,
        routers: Mapping[int, RouteFunction] | None = None,
    ) -> Engine:
        """A fresh engine at time 0; `lifted`: without limits of capacity; `first`: the window that
        it has, absent: all requests; `threads`: on which components run, at the most; `routers`:
        functions by row of a service that decide in place of its own."""
        tables = self.tables if first is None else self.fixed | self.columns(first)
        duration, bin_ = self.scenario.duration, self.scenario.bin
        return Engine(tables, duration, bin_, lifted, threads, routers or {})

    def pool(self, name: str) -> int:
        """Row of a pool.

        Raises:
            KeyError: no pool has this name.
        """
        for row, pool in enumerate(self.pools):
            if name in (pool.name, *pool.also):
                return row
        raise KeyError(f"no pool {name!r}; known: {', '.join(p.name for p in self.pools)}")

    def replicas_of(self, service: str) -> range:
        """Rows of the replicas of a service.

        Raises:
            KeyError: no service has this name.
        """
        if service not in self.services:
            raise KeyError(f"no service {service!r}; known: {', '.join(self.services)}")
        rows = [r for r, name in enumerate(self.replicas) if name.rpartition("/")[0] == service]
        return range(rows[0], rows[-1] + 1)
