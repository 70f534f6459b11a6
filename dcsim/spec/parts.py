"""Parts: what racks are made of, as data sheets have it. What is not known is None."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from dcsim.reading.concept import (
    Bandwidth,
    Bytes,
    Compute,
    Concept,
    Count,
    CountOrZero,
    Duration,
    Instant,
    Least,
    Positive,
    Share,
    Usd,
    UsdPerByte,
    Watts,
)
from dcsim.reading.forms import Number
from dcsim.spec.part import Part
from dcsim.spec.reuse import Reuse


class Figures(Concept, Mapping[str, Any]):
    """Figures that can be looked up by their key; what is not known is not there."""

    def __getitem__(self, key: str) -> Any:
        value = vars(self).get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return (key for key, value in vars(self).items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class Flops(Figures):
    """Peak dense compute by precision, without sparsity."""

    bf16: Compute
    """bf16 and fp16 with fp32 accumulation."""
    fp8: Compute | None = None
    """fp8; absent where the GPU has none or it is not known."""
    fp4: Compute | None = None
    """fp4 (NVFP4, MXFP4)."""


@dataclass(frozen=True)
class Efficiency(Figures):
    """Share of the peak that each class of operations reaches."""

    dense: Share
    """Matrix products: of peak compute."""
    attention: Share
    """Fused attention: of peak compute, and of the bandwidth for what it reads."""
    conv: Share
    """Convolutions: of peak compute."""
    memory: Share
    """Element-wise and normalization: of the HBM bandwidth; weights read too."""
    comm: Share
    """Collectives: of the scale-up bandwidth."""
    weights: Share | None = None
    """Reading the weights of matrix products: of the HBM bandwidth; absent: as `memory`."""
    kv: Share | None = None
    """What attention reads: of the HBM bandwidth; absent: as `memory`."""
    host_link: Share | None = None
    """Weights that come from host memory: of the host's link; absent: all of it. Copies of memory
    that is not pinned reach little."""


@dataclass(frozen=True, kw_only=True)
class Profile(Concept):
    """How far a serving stack gets on a GPU, in place of the GPU's own figures."""

    efficiency: Efficiency
    """Share of the peak reached, by class of operations."""
    launch: Duration
    """Fixed cost of a layer's kernels in a forward pass: less with CUDA graphs."""
    host: Instant = 0
    """What the host needs to launch a layer's kernels one by one, without CUDA graphs. Weights are
    read and matrix products computed meanwhile, so the longer counts."""
    step: Instant = 0
    """Fixed cost of a forward pass: scheduling, sampling."""
    collective: Instant = 0
    """Latency of a collective between GPUs, whatever its size."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where the figures come from: the rows that they were fitted to."""


@dataclass(frozen=True)
class Device(Part):
    """A part that one can touch."""

    power: Watts | None = field(default=None, kw_only=True)
    """Power drawn, such as `700 W`; of devices."""
    price: Usd | None = field(default=None, kw_only=True)
    """Price, such as `30000 USD`; of devices."""


@dataclass(frozen=True, kw_only=True)
class Gpu(Device):
    """An accelerator."""

    hbm: Bytes
    """HBM as its driver reports it, such as `81559 MiB`; what the runtime takes from that is the
    model option `runtime_overhead`."""
    hbm_bandwidth: Bandwidth
    """Peak HBM bandwidth, such as `3.35 TB/s`."""
    flops: Flops
    """Peak dense compute by precision."""
    scale_up: Bandwidth
    """Bandwidth to the other GPUs of its domain, one direction."""
    host_link: Bandwidth
    """Bandwidth to its host's DRAM, one direction."""
    efficiency: Efficiency
    """Share of the peak reached, by class of operations."""
    launch: Duration
    """Fixed cost of a layer's kernels in a forward pass."""
    host: Instant = 0
    """What the host needs to launch a layer's kernels, while the GPU computes."""
    step: Instant = 0
    """Fixed cost of a forward pass."""
    collective: Instant = 0
    """Latency of a collective between GPUs, whatever its size."""
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    """How far a serving stack gets, by its name, for the key `profile` of a job."""

    def under(self, profile: str | None) -> Gpu:
        """As a serving stack uses it; None: with its own figures.

        Raises:
            KeyError: it has no profile of that name.
        """
        if profile is None:
            return self
        return replace(self, **{key: getattr(self.profiles[profile], key) for key in _TIMES})


_TIMES = ("efficiency", "launch", "host", "step", "collective")


@dataclass(frozen=True, kw_only=True)
class Host(Device):
    """The CPU side of a node."""

    dram: Bytes
    """DRAM of one host."""
    dram_bandwidth: Bandwidth | None = None
    """Peak DRAM bandwidth."""
    dram_price: UsdPerByte | None = None
    """Price of its DRAM, such as `15 USD/GB`."""


@dataclass(frozen=True, kw_only=True)
class Nic(Device):
    """A network port."""

    bandwidth: Bandwidth
    """One direction, such as `400 Gb/s`."""
    latency: Instant
    """Of a transfer."""


@dataclass(frozen=True, kw_only=True)
class Dpu(Device):
    """A data processing unit."""

    bandwidth: Bandwidth
    """Of its network port, one direction."""
    latency: Instant
    """Of a transfer."""
    dram: Bytes | None = None
    """Its own DRAM."""


@dataclass(frozen=True, kw_only=True)
class Ssd(Device):
    """A flash drive."""

    capacity: Bytes
    """Such as `7.68 TB`."""
    read: Bandwidth
    """Sequential read."""
    write: Bandwidth
    """Sequential write."""
    latency_read: Instant
    """Of a read."""
    latency_write: Instant
    """Of a write."""
    dwpd: Positive | None = None
    """Rated drive writes a day: host bytes over the capacity, through the warranty."""
    warranty_years: Positive = 5
    """Years for which `dwpd` is rated."""
    write_amplification: Annotated[float, Number(1)] = 1
    """Bytes that the flash takes a byte written, as it is written here; 1 for long runs that are
    dropped as they were written, more where small pieces are overwritten."""
    rated_amplification: Annotated[float, Number(1)] = 1
    """The same of the writes that `dwpd` is rated for, so that `dwpd` times this is what the flash
    stands; 1 says that it is rated for long runs."""
    write_budget: Positive | None = None
    """Drive writes a day that it takes at most: its write bandwidth is no more than this pace.
    Absent: only its own bandwidth limits it."""


@dataclass(frozen=True, kw_only=True)
class Node(Device):
    """A node (server or compute tray): GPUs, hosts, network, drives."""

    gpu: Gpu
    """GPU: a name of the catalogue, or one that `extends` it."""
    gpus: Count
    """Number of GPUs."""
    host: Host
    """Host: a name of the catalogue, or one that `extends` it."""
    hosts: Count = 1
    """Number of hosts."""
    nic: Nic | None = None
    """Network port: a name of the catalogue, or one that `extends` it."""
    nics: CountOrZero = 0
    """Number of network ports."""
    dpu: Dpu | None = None
    """DPU: a name of the catalogue, or one that `extends` it."""
    dpus: CountOrZero = 0
    """Number of DPUs."""
    ssd: Ssd | None = None
    """Local drive: a name of the catalogue, or one that `extends` it."""
    ssds: CountOrZero = 0
    """Number of local drives."""

    def check(self) -> None:
        for part, count in (("nic", self.nics), ("dpu", self.dpus), ("ssd", self.ssds)):
            if count > 0 and getattr(self, part) is None:
                raise ValueError(f"{part}s is {count} but no {part} is named")


@dataclass(frozen=True, kw_only=True)
class Rack(Device):
    """A rack: nodes, and how far their scale-up network reaches."""

    node: Node
    """Node: a name of the catalogue, or one that `extends` it."""
    nodes: Count = 1
    """Nodes in the rack."""
    domain: Literal["node", "rack"] = "node"
    """Whether NVLink (xGMI) joins the GPUs of a node or of the whole rack."""
    count: Count = 1
    """Racks like this one; from two on they are numbered."""
    dram: Bytes | None = None
    """Host DRAM of the whole rack, in place of what its hosts add up to."""
    pooled: bool | None = None
    """Whether the DRAM and the drives of its nodes are one pool, spread evenly over them, for all
    its GPUs: what is loaded and kept crosses the network between the nodes. `false`: each node has
    its own, for its own GPUs. Absent: those of a scale-up domain are one pool, and what crosses
    between its nodes is not counted."""

    def check(self) -> None:
        apart = self.domain == "node" and self.nodes > 1
        if self.pooled and apart and not (self.node.nics or self.node.dpus):
            raise ValueError("pooled nodes need a network; give the node nics or dpus")

    def racks(self) -> list[str]:
        """The racks that the entry stands for: its name, or the name and a number each."""
        if self.count == 1:
            return [self.name]
        separator = "-" if self.name[-1:].isdigit() else ""
        return [f"{self.name}{separator}{i}" for i in range(self.count)]

    def domains(self, rack: str) -> list[str]:
        """The scale-up domains of one of them."""
        whole = self.domain == "rack"
        return [rack] if whole else [f"{rack}/node{i}" for i in range(self.nodes)]


@dataclass(frozen=True, kw_only=True)
class Enclosures(Device):
    """Shared flash behind DPUs."""

    dpu: Dpu
    """DPU: a name of the catalogue, or one that `extends` it."""
    dpus: Count = 1
    """DPUs in an enclosure."""
    ssd: Ssd
    """Drive: a name of the catalogue, or one that `extends` it."""
    ssds: Count = 1
    """Drives behind each DPU."""
    enclosures: Count = 1
    """Enclosures."""
    latency: Instant | None = None
    """Of an access over the network; absent: the DPU's and a drive's read together."""
    serves: Annotated[tuple[str, ...], Least(1)] | None = None
    """Racks that may use it; absent: all."""
    pod_gpus: Count | None = None
    """GPUs of the whole pod that shares it; the racks here then get their share of its
    capacity and bandwidth. Absent: the racks here are all."""


@dataclass(frozen=True)
class Parts(Concept):
    """Parts by name."""

    gpus: Mapping[str, Gpu] = field(default_factory=dict)
    """Accelerators."""
    hosts: Mapping[str, Host] = field(default_factory=dict)
    """Hosts."""
    nics: Mapping[str, Nic] = field(default_factory=dict)
    """Network ports."""
    dpus: Mapping[str, Dpu] = field(default_factory=dict)
    """DPUs."""
    ssds: Mapping[str, Ssd] = field(default_factory=dict)
    """Drives."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    """Nodes."""
    racks: Mapping[str, Rack] = field(default_factory=dict)
    """Racks."""
    shelves: Mapping[str, Enclosures] = field(default_factory=dict)
    """Shelves."""
    reuse: Mapping[str, Reuse] = field(default_factory=dict)
    """How kept context is used again."""
