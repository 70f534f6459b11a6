"""The racks: as they are written, and as the simulator sees them.

Bytes are int, times int nanoseconds, bandwidths int bytes/s, compute int FLOP/s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from dcsim.reading.concept import Concept, Fields
from dcsim.reading.errors import Finding, bad_names, did_you_mean
from dcsim.reading.forms import HOLE, Form, Key, Reading, Schema, Steps, Unknown
from dcsim.reading.tree import Node
from dcsim.reading.units import INT64
from dcsim.spec.parts import Enclosures, Gpu, Parts, Rack, Ssd

_MOST_DOMAINS = 1_000_000
_LEAST_BANDWIDTH = 10**6
"""Bytes/s: what crosses a slower link would take longer than 64 bits of ns hold."""
_MOST_LATENCY = 3600 * 10**9
_DAY = 86_400
"""Seconds."""


NONE = Parts()


@dataclass(frozen=True)
class Endurance:
    """What drives stand, and what they are asked to; of one and of all of a kind."""

    dwpd: float | None
    """Rated drive writes a day, None where unknown."""
    years: float
    """For which that is rated."""
    amplification: float
    """Bytes that the flash takes a byte written."""
    rated_amplification: float
    """The same of the writes that the rating is for."""
    budget: float | None
    """Drive writes a day that are let through, None for all."""

    @classmethod
    def of(cls, drive: Ssd) -> Endurance:
        """That of a drive."""
        return cls(
            drive.dwpd,
            drive.warranty_years,
            drive.write_amplification,
            drive.rated_amplification,
            drive.write_budget,
        )

    @property
    def sustained(self) -> float | None:
        """Drive writes a day that use the flash up in just those years; None where unknown."""
        return self.dwpd and self.dwpd * self.rated_amplification / self.amplification

    def write(self, bandwidth: int, capacity: int) -> int:
        """Bytes/s at which drives of so many bytes/s and bytes are written: within the budget."""
        if self.budget is None:
            return bandwidth
        return min(bandwidth, int(capacity * Fraction(str(self.budget)) / _DAY))


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
    wear: Endurance | None = None
    power: float | None = None
    price: float | None = None
    nodes: int = 1
    pooled: bool | None = None
    """Whether the nodes of its rack share their DRAM and drives; None: those of the domain do, and
    what crosses between them is not counted. A rack of one node has nothing to share."""

    @property
    def hbm(self) -> int:
        """HBM of all its GPUs, bytes."""
        return self.gpus * self.gpu.hbm

    @property
    def apart(self) -> bool:
        """Whether each of its nodes has DRAM, drives and ports of its own."""
        return self.pooled is False and self.nodes > 1

    def node_of(self, gpu: int) -> int:
        """The node that has a GPU."""
        return gpu * self.nodes // self.gpus

    def scaled(self, name: str, share: Fraction) -> Domain:
        """A share of its DRAM, drives and ports, or several of the same, under another name."""
        totals = ("gpus", "nodes", "dram", "nand", "nand_read", "nand_write", "nic")
        figures: dict[str, Any] = {total: int(getattr(self, total) * share) for total in totals}
        return replace(self, name=name, **figures, power=None, price=None)


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
    wear: Endurance | None = None
    power: float | None = None
    price: float | None = None


@dataclass(frozen=True)
class Topology:
    """What is simulated: the domains and the shelves, racks and nodes in file order."""

    name: str
    domains: tuple[Domain, ...]
    shelves: tuple[Shelf, ...]
    parts: Parts = NONE
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of domains by what they go by: an entry of `racks`, a rack, the domain itself."""

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

    def memories(self) -> dict[str, Domain]:
        """By name whose DRAM and drives are pools: domains, their nodes where these are apart, and
        racks that pool what their domains have. Nodes that a replica spans become one."""
        found: dict[str, Domain] = {}
        for domain in self.domains:
            if domain.apart:
                found |= {f"{domain.name}/node{node}": domain for node in range(domain.nodes)}
            else:
                found[domain.rack if domain.pooled else domain.name] = domain
        return found

    @property
    def nand(self) -> int:
        """NAND of all domains and shelves, bytes."""
        local = sum(domain.nand for domain in self.domains)
        return local + sum(shelf.capacity for shelf in self.shelves)


@dataclass(frozen=True, kw_only=True)
class TopologyFile(Concept):
    """Racks and shelves."""

    like = "A shipped topology by name, or a file (`.yaml`, relative to this file),"
    named = True

    name: str
    """Name of the topology."""
    description: str = ""
    """What it is."""
    include: tuple[str, ...] = ()
    """Files with more parts, relative to this file."""
    parts: Parts = NONE
    """More parts, or other figures for known ones."""
    racks: Mapping[str, Rack]
    """Racks by name, each a name of the catalogue, or one that `extends` it."""
    shelves: Mapping[str, Enclosures] = field(default_factory=dict)
    """Shelves by name, each a name of the catalogue, or one that `extends` it."""


@dataclass(frozen=True)
class Built(Form):
    """A topology as it is written, read as the simulator sees it."""

    concept = TopologyFile
    form = Fields(TopologyFile)

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        file = self.form.read(node, path, reading)
        if file is HOLE or node.partial:
            return HOLE
        checks = (_names(file), _size(file), _rack_names_differ(file), _shelves_serve(file))
        found = [reading.found(node, path, check) for check in checks]
        if any(found):
            return HOLE
        try:
            topology = _built(file)
        except Unknown:
            return HOLE
        return HOLE if reading.found(node, path, _limits(topology)) else topology

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return self.form.schema(defs)

    def keys(self, node: Node) -> Mapping[str, Key]:
        return self.form.keys(node)


# What is wrong with it as a whole


def _names(file: TopologyFile) -> Iterator[Finding]:
    yield from bad_names("racks", file.racks)
    yield from bad_names("shelves", file.shelves)
    if not file.racks:
        yield "racks", "needs at least one rack"
    if "local" in file.shelves:
        yield "shelves.local", "'local' means a domain's own drives; give the shelf another name"


def _size(file: TopologyFile) -> Iterator[Finding]:
    for key, rack in file.racks.items():
        if rack.count * rack.nodes > _MOST_DOMAINS:
            yield f"racks.{key}", f"{rack.count} x {rack.nodes} nodes are over {_MOST_DOMAINS}"


def _rack_names_differ(file: TopologyFile) -> Iterator[Finding]:
    owner: dict[str, str] = {}
    for key, rack in file.racks.items() if not any(_size(file)) else ():
        for name in rack.racks():
            if name in owner:
                yield f"racks.{key}", f"the rack {name!r} is also one of racks.{owner[name]}"
            owner[name] = key


def _shelves_serve(file: TopologyFile) -> Iterator[Finding]:
    if any(_size(file)):
        return
    racks = {name: rack for rack in file.racks.values() for name in rack.racks()}
    for key, shelf in file.shelves.items():
        known = dict.fromkeys([*file.racks, *racks])
        for i, name in enumerate(shelf.serves or ()):
            if name not in known:
                yield f"shelves.{key}.serves.{i}", f"no rack {name!r}; {did_you_mean(name, known)}"
        gpus = sum(
            rack.nodes * rack.node.gpus
            for name, rack in racks.items()
            if shelf.serves is None or name in shelf.serves or rack.name in shelf.serves
        )
        if shelf.pod_gpus is not None and gpus > shelf.pod_gpus:
            few = f"{shelf.pod_gpus} is less than the {gpus} GPUs of the racks it serves here"
            yield f"shelves.{key}.pod_gpus", few


def _limits(topology: Topology) -> Iterator[Finding]:
    """Sums over racks and shelves that 64 bits do not hold."""
    for tier, total in (("HBM", topology.hbm), ("DRAM", topology.dram), ("NAND", topology.nand)):
        if total > INT64:
            yield "racks", f"{total:.3g} B of {tier} in all: more than 64 bits hold"
    for domain in topology.domains:
        links = ("nand_read", "nand_write", "nic")
        yield from _links("racks", domain, [name for name in links if getattr(domain, name)])
        yield from _links("racks", domain.gpu, ("host_link", "scale_up", "hbm_bandwidth"))
    for shelf in topology.shelves:
        yield from _links(f"shelves.{shelf.name}", shelf, ("read", "write", "network"))


def _links(path: str, owner: Domain | Shelf | Gpu, names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        rate = getattr(owner, name)
        if not _LEAST_BANDWIDTH <= rate <= INT64:
            bounds = f"must be from 1 MB/s to what 64 bits hold, not {rate:.3g} B/s"
            yield path, f"{name} of {owner.name} {bounds}"
    for name in ("nand_latency_read", "nand_latency_write", "nic_latency", "latency"):
        if getattr(owner, name, 0) > _MOST_LATENCY:
            yield path, f"{name} of {owner.name} must be 1 h or less"


# From what is written to what is simulated


def _built(file: TopologyFile) -> Topology:
    domains: list[Domain] = []
    groups: dict[str, tuple[str, ...]] = {}
    for key, rack in file.racks.items():
        for name in rack.racks():
            groups[name] = tuple(rack.domains(name))
            domains += _domains(name, rack)
        groups[key] = tuple(domain for name in rack.racks() for domain in groups[name])
    groups |= {domain.name: (domain.name,) for domain in domains if domain.name not in groups}
    shelves = tuple(_shelf(shelf, domains, groups) for shelf in file.shelves.values())
    return Topology(file.name, tuple(domains), shelves, groups=groups)


def _domains(rack: str, part: Rack) -> list[Domain]:
    node, names = part.node, part.domains(rack)
    nodes = part.nodes if part.domain == "rack" else 1
    dram = nodes * node.hosts * node.host.dram if part.dram is None else part.dram // len(names)
    drive = node.ssd if node.ssds else None
    drives = nodes * node.ssds
    nand = drives * drive.capacity if drive else 0
    wear = Endurance.of(drive) if drive else None
    ports = [(port, n) for port, n in ((node.nic, node.nics), (node.dpu, node.dpus)) if port and n]
    domain = Domain(
        name="",
        rack=rack,
        gpu=replace(node.gpu, name=node.gpu.name or node.gpu.title or "gpu"),
        gpus=nodes * node.gpus,
        dram=dram,
        nand=nand,
        nand_read=drives * drive.read if drive else 0,
        nand_write=wear.write(drives * drive.write, nand) if drive and wear else 0,
        nand_latency_read=drive.latency_read if drive else 0,
        nand_latency_write=drive.latency_write if drive else 0,
        nic=nodes * sum(count * port.bandwidth for port, count in ports),
        nic_latency=max((port.latency for port, _ in ports), default=0),
        wear=wear,
        power=_each(part.power, node.power, len(names), nodes),
        price=_each(part.price, node.price, len(names), nodes),
        nodes=nodes,
        pooled=part.pooled if part.nodes > 1 else None,
    )
    return [replace(domain, name=name) for name in names]


def _each(rack: float | None, node: float | None, domains: int, nodes: int) -> float | None:
    """A domain's part of a rack's figure, else the sum of its nodes' figures, where known."""
    if rack is not None:
        return rack / domains
    return None if node is None else node * nodes


def _shelf(
    part: Enclosures, domains: Sequence[Domain], groups: Mapping[str, tuple[str, ...]]
) -> Shelf:
    holds = None if part.serves is None else {d for name in part.serves for d in groups[name]}
    serves = [domain for domain in domains if holds is None or domain.name in holds]
    gpus = sum(domain.gpus for domain in serves)
    share = Fraction(min(gpus, part.pod_gpus), part.pod_gpus) if part.pod_gpus else Fraction(1)
    ports = part.enclosures * part.dpus
    drives = ports * part.ssds
    latency = part.latency
    capacity = int(drives * part.ssd.capacity * share)
    wear = Endurance.of(part.ssd)
    return Shelf(
        name=part.name,
        racks=tuple(dict.fromkeys(domain.rack for domain in serves)),
        capacity=capacity,
        read=int(drives * part.ssd.read * share),
        write=wear.write(int(drives * part.ssd.write * share), capacity),
        network=int(ports * part.dpu.bandwidth * share),
        latency=part.dpu.latency + part.ssd.latency_read if latency is None else latency,
        wear=wear,
        power=None if part.power is None else part.power * float(share),
        price=None if part.price is None else part.price * float(share),
    )
