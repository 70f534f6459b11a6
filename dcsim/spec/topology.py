"""The racks as the simulator sees them: resolved, in base units, immutable.

Bytes are int, times int nanoseconds, bandwidths int bytes/s, compute int FLOP/s. What is
not known is None, never a made-up number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OP_CLASSES = ("dense", "attention", "conv", "memory", "comm")
"""The op classes of the roofline, each with an efficiency per GPU."""


@dataclass(frozen=True)
class Gpu:
    """One accelerator."""

    name: str
    hbm: int
    """Usable HBM, bytes."""
    hbm_bandwidth: int
    """Peak HBM bandwidth, bytes/s."""
    flops: Mapping[str, int]
    """Peak dense FLOP/s by precision (`bf16`, `fp8`, `fp4`), without sparsity."""
    scale_up: int
    """Bandwidth to the other GPUs of its domain, bytes/s, one direction."""
    host_link: int
    """Bandwidth to its host's DRAM, bytes/s, one direction."""
    efficiency: Mapping[str, float]
    """Share of the peak reached, by op class (`OP_CLASSES`)."""
    launch: int
    """Fixed cost of a layer's kernels in a forward pass, ns."""
    power: float | None = None
    """Watts."""
    price: float | None = None
    """USD."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each figure comes from, by field (`flops.bf16` for one within a field)."""


@dataclass(frozen=True)
class Host:
    """The CPU side of a node: its DRAM."""

    name: str
    dram: int
    dram_bandwidth: int | None = None
    dram_price: float | None = None
    """USD per byte."""
    power: float | None = None
    price: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Nic:
    """One network port."""

    name: str
    bandwidth: int
    """bytes/s, one direction."""
    latency: int
    """ns."""
    power: float | None = None
    price: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dpu:
    """A data processing unit: a network port with cores and memory of its own."""

    name: str
    bandwidth: int
    latency: int
    dram: int | None = None
    power: float | None = None
    price: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ssd:
    """One flash drive."""

    name: str
    capacity: int
    read: int
    """Sequential read, bytes/s."""
    write: int
    """Sequential write, bytes/s."""
    latency_read: int
    """ns."""
    latency_write: int
    """ns."""
    dwpd: float | None = None
    """Rated drive writes a day."""
    power: float | None = None
    price: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """The catalogue, by part name."""

    gpus: Mapping[str, Gpu]
    hosts: Mapping[str, Host]
    nics: Mapping[str, Nic]
    dpus: Mapping[str, Dpu]
    ssds: Mapping[str, Ssd]


@dataclass(frozen=True)
class Domain:
    """A scale-up domain: GPUs that reach each other over NVLink or xGMI, and what they share.

    An HGX node is one; so is a whole NVL72 rack. Figures are totals of the domain.
    """

    name: str
    """`rack/node0`, or the rack's name where the rack is the domain."""
    rack: str
    gpu: Gpu
    gpus: int
    dram: int
    nand: int
    """Local NVMe, bytes; 0 without drives."""
    nand_read: int
    nand_write: int
    nand_latency_read: int
    nand_latency_write: int
    nic: int
    """Bandwidth out of the domain (NICs and DPUs), bytes/s, one direction; 0 without any."""
    nic_latency: int
    dwpd: float | None = None
    power: float | None = None
    price: float | None = None

    @property
    def hbm(self) -> int:
        """HBM of all its GPUs, bytes."""
        return self.gpus * self.gpu.hbm


@dataclass(frozen=True)
class Shelf:
    """NAND behind DPUs on the network, shared by racks."""

    name: str
    racks: tuple[str, ...]
    """The racks that may use it."""
    capacity: int
    read: int
    """Sum of its drives, bytes/s."""
    write: int
    network: int
    """Sum of its DPUs' ports, bytes/s, one direction."""
    latency: int
    """ns, an access over the network."""
    dwpd: float | None = None
    power: float | None = None
    price: float | None = None


@dataclass(frozen=True)
class Topology:
    """What is simulated: the domains and the shelves, racks and nodes in file order."""

    name: str
    domains: tuple[Domain, ...]
    shelves: tuple[Shelf, ...]
    parts: Parts

    @property
    def racks(self) -> tuple[str, ...]:
        """Names of the racks, in order."""
        return tuple(dict.fromkeys(domain.rack for domain in self.domains))

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return sum(domain.gpus for domain in self.domains)

    @property
    def hbm(self) -> int:
        """HBM of all domains, bytes."""
        return sum(domain.hbm for domain in self.domains)

    @property
    def dram(self) -> int:
        """Host DRAM of all domains, bytes."""
        return sum(domain.dram for domain in self.domains)

    @property
    def nand(self) -> int:
        """NAND of all domains and shelves, bytes."""
        local = sum(domain.nand for domain in self.domains)
        return local + sum(shelf.capacity for shelf in self.shelves)
