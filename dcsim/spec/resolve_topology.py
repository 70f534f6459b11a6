"""From the written topology to domains and shelves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from dcsim.spec.topology import Domain, Dpu, Gpu, Host, Nic, Parts, Shelf, Ssd, Topology
from dcsim.spec.written_parts import (
    Catalogue,
    DpuPart,
    GpuPart,
    HostPart,
    NicPart,
    Part,
    RackPart,
    ShelfPart,
    SsdPart,
    TopologyFile,
)


def rack_names(key: str, rack: RackPart) -> list[str]:
    """The racks that an entry stands for: its key, or the key and a number each."""
    if rack.count == 1:
        return [key]
    separator = "-" if key[-1:].isdigit() else ""
    return [f"{key}{separator}{i}" for i in range(rack.count)]


def domain_names(rack: str, part: RackPart) -> list[str]:
    """The scale-up domains of a rack."""
    if part.domain == "rack":
        return [rack]
    return [f"{rack}/node{i}" for i in range(part.nodes)]


def expand_names(names: Sequence[str], racks: Mapping[str, RackPart]) -> dict[str, list[str]]:
    """The domains of each rack entry, rack or domain of these names; unknown ones left out."""
    found: dict[str, list[str]] = {}
    for key, part in racks.items():
        every: list[str] = []
        for rack in rack_names(key, part):
            domains = domain_names(rack, part)
            every.extend(domains)
            for name, members in [(rack, domains), *((d, [d]) for d in domains)]:
                if name in names:
                    found[name] = members
        if key in names:
            found[key] = every
    return found


def _sources(part: Part) -> dict[str, str]:
    return {key: source for key, source in part.sources.items() if source is not None}


def gpu(name: str, part: GpuPart) -> Gpu:
    """A GPU of the catalogue."""
    flops = {k: v for k, v in part.flops.model_dump().items() if v is not None}
    return Gpu(
        name=name,
        hbm=part.hbm,
        hbm_bandwidth=part.hbm_bandwidth,
        flops=flops,
        scale_up=part.scale_up,
        host_link=part.host_link,
        efficiency=part.efficiency.model_dump(),
        launch=part.launch,
        power=part.power,
        price=part.price,
        sources=_sources(part),
    )


def host(name: str, part: HostPart) -> Host:
    """A host of the catalogue."""
    return Host(
        name=name,
        dram=part.dram,
        dram_bandwidth=part.dram_bandwidth,
        dram_price=part.dram_price,
        power=part.power,
        price=part.price,
        sources=_sources(part),
    )


def nic(name: str, part: NicPart) -> Nic:
    """A network port of the catalogue."""
    return Nic(name, part.bandwidth, part.latency, part.power, part.price, _sources(part))


def dpu(name: str, part: DpuPart) -> Dpu:
    """A DPU of the catalogue."""
    sources = _sources(part)
    return Dpu(name, part.bandwidth, part.latency, part.dram, part.power, part.price, sources)


def ssd(name: str, part: SsdPart) -> Ssd:
    """A drive of the catalogue."""
    return Ssd(
        name=name,
        capacity=part.capacity,
        read=part.read,
        write=part.write,
        latency_read=part.latency_read,
        latency_write=part.latency_write,
        dwpd=part.dwpd,
        power=part.power,
        price=part.price,
        sources=_sources(part),
    )


def parts(catalogue: Catalogue) -> Parts:
    """The whole catalogue."""
    return Parts(
        gpus={name: gpu(name, part) for name, part in catalogue.gpus.items()},
        hosts={name: host(name, part) for name, part in catalogue.hosts.items()},
        nics={name: nic(name, part) for name, part in catalogue.nics.items()},
        dpus={name: dpu(name, part) for name, part in catalogue.dpus.items()},
        ssds={name: ssd(name, part) for name, part in catalogue.ssds.items()},
    )


def topology(written: TopologyFile, catalogue: Catalogue) -> Topology:
    """Racks and shelves as domains and shelves. References must have been checked."""
    domains = tuple(
        domain
        for key, rack in written.racks.items()
        for name in rack_names(key, rack)
        for domain in _domains(name, rack)
    )
    shelves = tuple(
        _shelf(name, shelf, written.racks, domains) for name, shelf in written.shelves.items()
    )
    return Topology(written.name, domains, shelves, parts(catalogue))


def _domains(rack: str, part: RackPart) -> list[Domain]:
    node = part.node
    names = domain_names(rack, part)
    nodes = part.nodes if part.domain == "rack" else 1
    dram = nodes * node.hosts * node.host.dram if part.dram is None else part.dram // len(names)
    drive = node.ssd if node.ssds else None
    drives = nodes * node.ssds
    ports = [(node.nic, node.nics), (node.dpu, node.dpus)]
    used = [(port, count) for port, count in ports if port is not None and count]
    return [
        Domain(
            name=name,
            rack=rack,
            gpu=gpu(node.gpu.part or node.gpu.title or "gpu", node.gpu),
            gpus=nodes * node.gpus,
            dram=dram,
            nand=drives * drive.capacity if drive else 0,
            nand_read=drives * drive.read if drive else 0,
            nand_write=drives * drive.write if drive else 0,
            nand_latency_read=drive.latency_read if drive else 0,
            nand_latency_write=drive.latency_write if drive else 0,
            nic=nodes * sum(count * port.bandwidth for port, count in used),
            nic_latency=max((port.latency for port, _ in used), default=0),
            dwpd=drive.dwpd if drive else None,
            power=_each(part.power, node.power, len(names), nodes),
            price=_each(part.price, node.price, len(names), nodes),
        )
        for name in names
    ]


def _each(rack: float | None, node: float | None, domains: int, nodes: int) -> float | None:
    """A domain's part of a rack's figure, else the sum of its nodes' figures, where known."""
    if rack is not None:
        return rack / domains
    return None if node is None else node * nodes


def _shelf(
    name: str, part: ShelfPart, racks: Mapping[str, RackPart], domains: Sequence[Domain]
) -> Shelf:
    if part.serves is None:
        served = list(dict.fromkeys(domain.rack for domain in domains))
    else:
        members = expand_names(part.serves, racks)
        holds = {d for names in members.values() for d in names}
        served = list(dict.fromkeys(domain.rack for domain in domains if domain.name in holds))
    gpus = sum(domain.gpus for domain in domains if domain.rack in served)
    share = Fraction(min(gpus, part.pod_gpus), part.pod_gpus) if part.pod_gpus else Fraction(1)
    ports = part.enclosures * part.dpus
    drives = ports * part.ssds
    latency = part.latency
    return Shelf(
        name=name,
        racks=tuple(served),
        capacity=int(drives * part.ssd.capacity * share),
        read=int(drives * part.ssd.read * share),
        write=int(drives * part.ssd.write * share),
        network=int(ports * part.dpu.bandwidth * share),
        latency=part.dpu.latency + part.ssd.latency_read if latency is None else latency,
        dwpd=part.ssd.dwpd,
        power=None if part.power is None else part.power * float(share),
        price=None if part.price is None else part.price * float(share),
    )
