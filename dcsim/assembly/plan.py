"""A scenario as the engine takes it: tables of rows, and the names of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dcsim.engine import Engine, Tables
from dcsim.spec import Endurance, Scenario
from dcsim.workload import Requests

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
class Plan:
    """All that the engine needs; rows of `tables` are named by the tuples beside it."""

    scenario: Scenario
    requests: Requests
    tables: Tables
    pools: tuple[PoolInfo, ...]
    channels: tuple[ChannelInfo, ...]
    services: tuple[str, ...]
    classes: tuple[str, ...]
    replicas: tuple[str, ...]

    def engine(self, *, lifted: bool = False) -> Engine:
        """A fresh engine at time 0; `lifted`: without limits of capacity."""
        return Engine(self.tables, self.scenario.duration, self.scenario.bin, lifted)

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
