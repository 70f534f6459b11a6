"""Pools, channels and paths of a topology: the plant that the replicas work in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dcsim.assembly.placement import Placed, Placement
from dcsim.assembly.plan import ChannelInfo, PoolInfo
from dcsim.engine import TIERS, Int64, Tables, table
from dcsim.spec import Domain, Shelf, Topology

LOCAL: Literal["local"] = "local"
Nand = Shelf | Literal["local"]
"""A shelf, or the domain's own drives."""


@dataclass(frozen=True)
class Wiring:
    """The rows of the pools and paths of one replica."""

    hbm: int
    dram: int
    home: int
    store: int
    load: int
    onboard: int
    offload: int
    spill: int
    fetch: int
    domain: int = 0
    near_out: int = 0
    near_in: int = 0
    far_out: int = 0
    far_in: int = 0
    """The last five count only where requests hand something over."""


class Plant:
    """Collects the rows; the order is that of the topology, then that of the replicas.

    Links are full duplex: a channel is one direction. The links from DRAM to HBM belong to the
    GPUs of a replica; drives, network ports and shelves are shared by all who use them.
    """

    def __init__(self, topology: Topology, placement: Placement) -> None:
        self.pools: list[PoolInfo] = []
        self.channels: list[ChannelInfo] = []
        self._paths: dict[tuple[int, ...], int] = {}
        self._rows: dict[str, int] = {}
        self._channel_rows: dict[str, int] = {}
        self._domains = [domain.name for domain in topology.domains]
        for domain in topology.domains:
            self._add_domain(domain, placement.free(domain))
        for shelf in topology.shelves:
            self._add_shelf(shelf)

    def wire(self, placed: Placed, store: Nand, home: Nand, *, hands_over: bool) -> Wiring:
        """Gives a replica its HBM pool and its paths to the NAND it uses, and, where requests hand
        something over, to other replicas: over the scale-up links of its GPUs within a domain, over
        the ports of the domains between them."""
        domain, size = placed.domain, len(placed.gpus)
        hbm = self._pool(PoolInfo(f"{placed.name}/hbm", "hbm", size * domain.gpu.hbm, placed.name))
        link = size * domain.gpu.host_link
        onboard = self._channel(ChannelInfo(f"{placed.name}/onboard", link, 0))
        offload = self._channel(ChannelInfo(f"{placed.name}/offload", link, 0))
        return Wiring(
            hbm=hbm,
            dram=self._rows[f"{domain.name}/dram"],
            home=self.nand(domain, home),
            store=self.nand(domain, store),
            load=self._path(self._reading(domain, home)),
            onboard=self._path((onboard,)),
            offload=self._path((offload,)),
            spill=self._path(self._writing(domain, store)),
            fetch=self._path(self._reading(domain, store)),
            **(self._to_others(placed) if hands_over else {}),
        )

    def _to_others(self, placed: Placed) -> dict[str, int]:
        domain = placed.domain
        width = len(placed.gpus) * domain.gpu.scale_up
        ends: dict[str, int] = {"domain": self._domains.index(domain.name)}
        for way in ("out", "in"):
            near = self._channel(ChannelInfo(f"{placed.name}/scale_up/{way}", width, 0))
            ends[f"near_{way}"] = self._path((near,))
            if domain.nic:
                ends[f"far_{way}"] = self._path(self._named(f"{domain.name}/nic/{way}"))
        return ends

    def nand(self, domain: Domain, nand: Nand) -> int:
        """Row of the NAND pool of a shelf, or of the domain's own drives."""
        return self._rows[f"{domain.name if nand == LOCAL else nand.name}/nand"]

    def tables(self) -> Tables:
        """The engine's tables of pools, channels and paths."""
        starts: Int64 = np.cumsum([0, *(len(path) for path in self._paths)], dtype=np.int64)
        return {
            "pools": table(
                "pools",
                ({"tier": TIERS.index(p.tier), "capacity": p.capacity} for p in self.pools),
            ),
            "channels": table(
                "channels",
                ({"bandwidth": c.bandwidth, "latency": c.latency} for c in self.channels),
            ),
            "path_start": starts,
            "path_channels": np.array([c for path in self._paths for c in path], dtype=np.int64),
        }

    def _add_domain(self, domain: Domain, free: int) -> None:
        name = domain.name
        if free:
            self._pool(PoolInfo(f"{name}/hbm", "hbm", free * domain.gpu.hbm, name))
        self._pool(PoolInfo(f"{name}/dram", "dram", domain.dram, name))
        nand = self._pool(PoolInfo(f"{name}/nand", "nand", domain.nand, name, domain.wear))
        if domain.nand:
            read, write = domain.nand_latency_read, domain.nand_latency_write
            self._channel(ChannelInfo(f"{name}/nand/read", domain.nand_read, read))
            self._channel(ChannelInfo(f"{name}/nand/write", domain.nand_write, write, nand))
        if domain.nic:
            self._channel(ChannelInfo(f"{name}/nic/in", domain.nic, domain.nic_latency))
            self._channel(ChannelInfo(f"{name}/nic/out", domain.nic, domain.nic_latency))

    def _add_shelf(self, shelf: Shelf) -> None:
        name = shelf.name
        nand = self._pool(PoolInfo(f"{name}/nand", "nand", shelf.capacity, name, shelf.wear))
        self._channel(ChannelInfo(f"{name}/network/in", shelf.network, shelf.latency))
        self._channel(ChannelInfo(f"{name}/network/out", shelf.network, shelf.latency))
        self._channel(ChannelInfo(f"{name}/nand/read", shelf.read, 0))
        self._channel(ChannelInfo(f"{name}/nand/write", shelf.write, 0, nand))

    def _reading(self, domain: Domain, nand: Nand) -> tuple[int, ...]:
        if nand == LOCAL:
            return self._named(f"{domain.name}/nand/read")
        return self._named(
            f"{nand.name}/nand/read", f"{nand.name}/network/out", f"{domain.name}/nic/in"
        )

    def _writing(self, domain: Domain, nand: Nand) -> tuple[int, ...]:
        if nand == LOCAL:
            return self._named(f"{domain.name}/nand/write")
        return self._named(
            f"{domain.name}/nic/out", f"{nand.name}/network/in", f"{nand.name}/nand/write"
        )

    def _named(self, *names: str) -> tuple[int, ...]:
        return tuple(self._channel_rows[name] for name in names)

    def _pool(self, pool: PoolInfo) -> int:
        self._rows[pool.name] = len(self.pools)
        self.pools.append(pool)
        return len(self.pools) - 1

    def _channel(self, channel: ChannelInfo) -> int:
        self._channel_rows[channel.name] = len(self.channels)
        self.channels.append(channel)
        return len(self.channels) - 1

    def _path(self, channels: tuple[int, ...]) -> int:
        return self._paths.setdefault(channels, len(self._paths))
