"""Pools, channels and paths of a topology: the plant that the replicas work in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dcsim.assembly.placement import Placed, Placement
from dcsim.assembly.plan import ChannelInfo, PoolInfo
from dcsim.assembly.sites import Site, Sites
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
    library: int
    bring: int
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

    What is pooled lies spread evenly over the nodes, so each gives and takes in the mean as much as
    its own replicas take and give. So a transfer names the links of the node that asks alone, both
    directions of its network: one for itself, one for what the node does for others meanwhile.
    """

    def __init__(self, topology: Topology, placement: Placement) -> None:
        self.pools: list[PoolInfo] = []
        self.channels: list[ChannelInfo] = []
        self._paths: dict[tuple[int, ...], int] = {}
        self._rows: dict[str, int] = {}
        self._channel_rows: dict[str, int] = {}
        self._domains = [domain.name for domain in topology.domains]
        self.sites = Sites(topology, placement.replicas())
        for domain in topology.domains:
            free = placement.free(domain)
            if free:
                hbm = free * domain.gpu.hbm
                self._pool(PoolInfo(f"{domain.name}/hbm", "hbm", hbm, domain.name))
            for site in self.sites.at(domain):
                self._add_site(site)
        for shelf in topology.shelves:
            self._add_shelf(shelf)

    def wire(
        self, placed: Placed, store: Nand, home: Nand, library: Nand, *, hands_over: bool
    ) -> Wiring:
        """Gives a replica its HBM pool and its paths to the NAND it uses (`library`: for adapters),
        and, where requests hand something over, to other replicas: over the scale-up links of its
        GPUs within a domain, over the ports of the domains between them."""
        domain, size, site = placed.domain, len(placed.gpus), self.sites.of(placed)
        hbm = self._pool(PoolInfo(f"{placed.name}/hbm", "hbm", size * domain.gpu.hbm, placed.name))
        link = size * domain.gpu.host_link
        onboard = self._channel(ChannelInfo(f"{placed.name}/onboard", link, 0))
        offload = self._channel(ChannelInfo(f"{placed.name}/offload", link, 0))
        between = self._between(placed, site)
        return Wiring(
            hbm=hbm,
            dram=self._rows[f"{site.memory.name}/dram"],
            home=self.nand(placed, home),
            store=self.nand(placed, store),
            load=self._path(self._reading(site, home)),
            onboard=self._path((*between, onboard)),
            offload=self._path((offload, *between)),
            spill=self._path(self._writing(site, store)),
            fetch=self._path(self._reading(site, store)),
            library=self.nand(placed, library),
            bring=self._path((*self._reading(site, library), *between, onboard)),
            **(self._to_others(placed) if hands_over else {}),
        )

    def _between(self, placed: Placed, site: Site) -> tuple[int, ...]:
        """The channels that what is pooled crosses on its way from node to node."""
        if site.crossing == "nic":
            return self._named(f"{site.ports.name}/nic/out", f"{site.ports.name}/nic/in")
        if site.crossing == "scale_up":
            return (self._scale_up(placed, "out"), self._scale_up(placed, "in"))
        return ()

    def _scale_up(self, placed: Placed, way: str) -> int:
        """The links of a replica's GPUs to the others of their domain."""
        name = f"{placed.name}/scale_up/{way}"
        if name not in self._channel_rows:
            width = len(placed.gpus) * placed.domain.gpu.scale_up
            self._channel(ChannelInfo(name, width, 0))
        return self._channel_rows[name]

    def _to_others(self, placed: Placed) -> dict[str, int]:
        ports = self.sites.of(placed).ports
        ends: dict[str, int] = {"domain": self._domains.index(placed.domain.name)}
        for way in ("out", "in"):
            ends[f"near_{way}"] = self._path((self._scale_up(placed, way),))
            if ports.nic:
                ends[f"far_{way}"] = self._path(self._named(f"{ports.name}/nic/{way}"))
        return ends

    def nand(self, placed: Placed, nand: Nand) -> int:
        """Row of the NAND pool of a shelf, or of the drives that a replica reaches as its own."""
        owner = self.sites.of(placed).memory.name if nand == LOCAL else nand.name
        return self._rows[f"{owner}/nand"]

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

    def _add_site(self, site: Site) -> None:
        memory, ports = site.memory, site.ports
        if f"{memory.name}/dram" not in self._rows:
            self._add_memory(memory, site.nodes)
        if ports.nic:
            self._channel(ChannelInfo(f"{ports.name}/nic/in", ports.nic, ports.nic_latency))
            self._channel(ChannelInfo(f"{ports.name}/nic/out", ports.nic, ports.nic_latency))

    def _add_memory(self, memory: Domain, nodes: Sequence[str]) -> None:
        name = memory.name
        dram, drives = ((*(f"{node}/{tier}" for node in nodes),) for tier in ("dram", "nand"))
        self._pool(PoolInfo(f"{name}/dram", "dram", memory.dram, name, also=dram))
        pool = PoolInfo(f"{name}/nand", "nand", memory.nand, name, memory.wear, drives)
        nand = self._pool(pool)
        if memory.nand:
            read, write = memory.nand_latency_read, memory.nand_latency_write
            self._channel(ChannelInfo(f"{name}/nand/read", memory.nand_read, read))
            self._channel(ChannelInfo(f"{name}/nand/write", memory.nand_write, write, nand))

    def _add_shelf(self, shelf: Shelf) -> None:
        name = shelf.name
        nand = self._pool(PoolInfo(f"{name}/nand", "nand", shelf.capacity, name, shelf.wear))
        self._channel(ChannelInfo(f"{name}/network/in", shelf.network, shelf.latency))
        self._channel(ChannelInfo(f"{name}/network/out", shelf.network, shelf.latency))
        self._channel(ChannelInfo(f"{name}/nand/read", shelf.read, 0))
        self._channel(ChannelInfo(f"{name}/nand/write", shelf.write, 0, nand))

    def _reading(self, site: Site, nand: Nand) -> tuple[int, ...]:
        if nand == LOCAL:
            return self._named(f"{site.memory.name}/nand/read")
        return self._named(
            f"{nand.name}/nand/read", f"{nand.name}/network/out", f"{site.ports.name}/nic/in"
        )

    def _writing(self, site: Site, nand: Nand) -> tuple[int, ...]:
        if nand == LOCAL:
            return self._named(f"{site.memory.name}/nand/write")
        return self._named(
            f"{site.ports.name}/nic/out", f"{nand.name}/network/in", f"{nand.name}/nand/write"
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
