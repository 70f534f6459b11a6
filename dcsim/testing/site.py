"""What is still free of a topology while a mix is drawn: the rules of placement, in small."""

from __future__ import annotations

from dataclasses import dataclass, field

from dcsim.spec import Domain, Gpu, Topology

__all__ = ["Site"]


@dataclass
class Site:
    """GPUs and NAND not yet taken. Placement is in order, on the first domains with room."""

    topology: Topology
    free: dict[str, int] = field(default_factory=dict)
    """GPUs by domain."""
    room: dict[str, int] = field(default_factory=dict)
    """Bytes for checkpoints by the owner of the NAND."""

    def __post_init__(self) -> None:
        self.free = {domain.name: domain.gpus for domain in self.topology.domains}
        # Of nodes that are apart each may have to hold a checkpoint.
        self.room = {d.name: d.nand // (d.nodes if d.apart else 1) for d in self.topology.domains}
        self.room |= {shelf.name: shelf.capacity for shelf in self.topology.shelves}

    def gpus(self) -> list[Gpu]:
        """The kinds of GPU, one of each."""
        found: list[Gpu] = []
        for domain in self.topology.domains:
            if domain.gpu not in found:
                found.append(domain.gpu)
        return found

    def home(self, domain: Domain) -> str | None:
        """Who holds the checkpoints of a domain: its drives, or the first shelf it reaches."""
        if domain.nand:
            return domain.name
        return next(iter(self.shelves([domain])), None)

    def shelves(self, domains: list[Domain]) -> list[str]:
        """The shelves that all of these domains reach."""
        return [
            shelf.name
            for shelf in self.topology.shelves
            if all(domain.rack in shelf.racks and domain.nic for domain in domains)
        ]

    def domains(self, gpu: Gpu, need: int, checkpoint: int) -> list[Domain]:
        """Domains of that GPU with `need` free GPUs and a home for a checkpoint.

        Domains that share a home (a shelf) hold the checkpoint once.
        """
        found = []
        for domain in self.topology.domains:
            home = self.home(domain)
            fits = home is not None and self.room[home] >= checkpoint
            if fits and domain.gpu == gpu and self.free[domain.name] >= need:
                found.append(domain)
        return found

    def replicas(self, domains: list[Domain], need: int) -> int:
        """How many replicas of `need` GPUs these domains have room for."""
        return sum(self.free[domain.name] // need for domain in domains)

    def take(self, domains: list[Domain], need: int, count: int, checkpoint: int) -> None:
        """Places `count` replicas on these domains."""
        homes = []
        for domain in domains:
            taken = min(count, self.free[domain.name] // need)
            self.free[domain.name] -= taken * need
            count -= taken
            if taken:
                homes.append(self.home(domain))
        for home in dict.fromkeys(homes):
            if home is not None:
                self.room[home] -= checkpoint
