"""The parts catalogue as it is written."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcsim.spec.fields import (
    Bandwidth,
    Bytes,
    Composable,
    Compute,
    Count,
    CountOrZero,
    Duration,
    Instant,
    Positive,
    Share,
    Usd,
    UsdPerByte,
    Watts,
    Written,
)


class Flops(Written):
    """Peak dense compute by precision, without sparsity."""

    bf16: Compute
    """bf16 and fp16 with fp32 accumulation."""
    fp8: Compute | None = None
    """fp8; absent where the GPU has none or it is not known."""
    fp4: Compute | None = None
    """fp4 (NVFP4, MXFP4)."""


class Efficiency(Written):
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


class Part(Composable):
    """What all parts have."""

    like = "A part of the same kind"

    part: str | None = None
    """Name in the catalogue. Filled in where a part is referred to."""
    title: str | None = None
    """Full name."""
    power: Watts | None = None
    """Power drawn, such as `700 W`."""
    price: Usd | None = None
    """Price, such as `30000 USD`."""
    sources: dict[str, str | None] = Field(default_factory=dict)
    """Where each figure comes from, by its key (`flops.bf16` for one within a key)."""


class GpuPart(Part):
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


class HostPart(Part):
    """The CPU side of a node."""

    dram: Bytes
    """DRAM of one host."""
    dram_bandwidth: Bandwidth | None = None
    """Peak DRAM bandwidth."""
    dram_price: UsdPerByte | None = None
    """Price of its DRAM, such as `15 USD/GB`."""


class NicPart(Part):
    """A network port."""

    bandwidth: Bandwidth
    """One direction, such as `400 Gb/s`."""
    latency: Instant
    """Of a transfer."""


class DpuPart(Part):
    """A data processing unit."""

    bandwidth: Bandwidth
    """Of its network port, one direction."""
    latency: Instant
    """Of a transfer."""
    dram: Bytes | None = None
    """Its own DRAM."""


class SsdPart(Part):
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
    """Rated drive writes a day."""


class NodePart(Part):
    """A node (server or compute tray): GPUs, hosts, network, drives."""

    gpu: GpuPart
    """GPU: a name of the catalogue, or one that `extends` it."""
    gpus: Count
    """Number of GPUs."""
    host: HostPart
    """Host: a name of the catalogue, or one that `extends` it."""
    hosts: Count = 1
    """Number of hosts."""
    nic: NicPart | None = None
    """Network port: a name of the catalogue, or one that `extends` it."""
    nics: CountOrZero = 0
    """Number of network ports."""
    dpu: DpuPart | None = None
    """DPU: a name of the catalogue, or one that `extends` it."""
    dpus: CountOrZero = 0
    """Number of DPUs."""
    ssd: SsdPart | None = None
    """Local drive: a name of the catalogue, or one that `extends` it."""
    ssds: CountOrZero = 0
    """Number of local drives."""

    @model_validator(mode="after")
    def _counts(self) -> NodePart:
        for part, count in (("nic", self.nics), ("dpu", self.dpus), ("ssd", self.ssds)):
            if count > 0 and getattr(self, part) is None:
                raise ValueError(f"{part}s is {count} but no {part} is named")
        return self


class RackPart(Part):
    """A rack: nodes, and how far their scale-up network reaches."""

    node: NodePart
    """Node: a name of the catalogue, or one that `extends` it."""
    nodes: Count = 1
    """Nodes in the rack."""
    domain: Literal["node", "rack"] = "node"
    """Whether NVLink (xGMI) joins the GPUs of a node or of the whole rack."""
    count: Count = 1
    """Racks like this one; from two on they are numbered."""
    dram: Bytes | None = None
    """Host DRAM of the whole rack, in place of what its hosts add up to."""


class ShelfPart(Part):
    """Shared flash behind DPUs."""

    dpu: DpuPart
    """DPU: a name of the catalogue, or one that `extends` it."""
    dpus: Count = 1
    """DPUs in an enclosure."""
    ssd: SsdPart
    """Drive: a name of the catalogue, or one that `extends` it."""
    ssds: Count = 1
    """Drives behind each DPU."""
    enclosures: Count = 1
    """Enclosures."""
    latency: Instant | None = None
    """Of an access over the network; absent: the DPU's and a drive's read together."""
    serves: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Racks that may use it; absent: all."""
    pod_gpus: Count | None = None
    """GPUs of the whole pod that shares it; the racks here then get their share of its
    capacity and bandwidth. Absent: the racks here are all."""


class Catalogue(Written):
    """Parts by name."""

    gpus: dict[str, GpuPart] = Field(default_factory=dict)
    """Accelerators."""
    hosts: dict[str, HostPart] = Field(default_factory=dict)
    """Hosts."""
    nics: dict[str, NicPart] = Field(default_factory=dict)
    """Network ports."""
    dpus: dict[str, DpuPart] = Field(default_factory=dict)
    """DPUs."""
    ssds: dict[str, SsdPart] = Field(default_factory=dict)
    """Drives."""
    nodes: dict[str, NodePart] = Field(default_factory=dict)
    """Nodes."""
    racks: dict[str, RackPart] = Field(default_factory=dict)
    """Racks."""
    shelves: dict[str, ShelfPart] = Field(default_factory=dict)
    """Shelves."""


class TopologyFile(Composable):
    """Racks and shelves."""

    like = "A shipped topology by name, or a file (`.yaml`, relative to this file),"

    name: str
    """Name of the topology."""
    description: str = ""
    """What it is."""
    include: tuple[str, ...] = ()
    """Files with more parts, relative to this file."""
    parts: Catalogue = Catalogue()
    """More parts, or other figures for known ones."""
    racks: dict[str, RackPart]
    """Racks by name, each a name of the catalogue, or one that `extends` it."""
    shelves: dict[str, ShelfPart] = Field(default_factory=dict)
    """Shelves by name, each a name of the catalogue, or one that `extends` it."""
