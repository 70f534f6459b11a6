"""Whose DRAM, drives and ports a replica uses: those of its domain, its nodes, or its rack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from dcsim.assembly.placement import Placed
from dcsim.spec import Domain, Topology

__all__ = ["Site", "Sites"]


@dataclass(frozen=True)
class Site:
    """What replicas share: DRAM and drives as one pool, and the way there."""

    memory: Domain
    """Whose DRAM and drives: figures of the nodes that are one pool, under their name."""
    ports: Domain
    """Whose network ports, likewise."""
    crossing: Literal["", "scale_up", "nic"] = ""
    """The network between the nodes of the pool; empty: it is all near, or counts as near."""
    nodes: tuple[str, ...] = ()
    """Nodes that are apart and that replicas join, by their own names."""


class Sites:
    """The sites of a topology, in its order. Nodes that are apart are joined where a replica spans
    them: it spreads its bytes evenly over its GPUs, so their memories fill alike."""

    def __init__(self, topology: Topology, replicas: Iterable[Placed]) -> None:
        self._sites: dict[tuple[str, int], Site] = {}
        spans: dict[str, list[tuple[int, ...]]] = {}
        for placed in replicas:
            spans.setdefault(placed.domain.name, []).append(placed.gpus)
        pooled = Counter(domain.rack for domain in topology.domains if domain.pooled)
        for domain in topology.domains:
            if domain.apart:
                for nodes in _joined(domain, spans.get(domain.name, [])):
                    name = f"{domain.name}/node{_runs(nodes)}"
                    part = domain.scaled(name, Fraction(len(nodes), domain.nodes))
                    names = tuple(f"{domain.name}/node{node}" for node in nodes)
                    site = Site(part, part, nodes=names if len(names) > 1 else ())
                    self._sites |= {(domain.name, node): site for node in nodes}
                continue
            site = Site(domain, domain)
            if domain.pooled and domain.nodes > 1:
                site = Site(domain, domain, "scale_up")
            elif domain.pooled:
                whole = domain.scaled(domain.rack, Fraction(pooled[domain.rack]))
                site = Site(whole, domain, "nic")
            self._sites |= {(domain.name, node): site for node in range(domain.nodes)}

    def of(self, placed: Placed) -> Site:
        """The site of a replica."""
        return self._sites[placed.domain.name, placed.domain.node_of(placed.gpus[0])]

    def at(self, domain: Domain) -> list[Site]:
        """The sites in a domain, each once."""
        found = [self._sites[domain.name, node] for node in range(domain.nodes)]
        return list({site.ports.name: site for site in found}.values())


def _joined(domain: Domain, replicas: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """The nodes of a domain, those together that replicas span; in order of the first of each."""
    group = {node: [node] for node in range(domain.nodes)}
    for gpus in replicas:
        spanned = [group[domain.node_of(gpu)] for gpu in gpus]
        union = sorted({node for nodes in spanned for node in nodes})
        group |= dict.fromkeys(union, union)
    return [nodes for node, nodes in group.items() if nodes[0] == node]


def _runs(nodes: Sequence[int]) -> str:
    """`3`; `0-1`; `0-1+4`."""
    runs: list[list[int]] = []
    for node in nodes:
        if runs and runs[-1][-1] == node - 1:
            runs[-1].append(node)
        else:
            runs.append([node])
    return "+".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
