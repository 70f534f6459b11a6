"""A resolved topology as a tree, with totals per tier."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from dcsim.report.quantities import bytes_text
from dcsim.spec import Domain, Endurance, Shelf, Topology

__all__ = ["topology_tree"]


_FEW = 4
"""Racks of a shelf that are named."""


def topology_tree(topology: Topology) -> Tree:
    """Totals, racks with their scale-up domains, shelves."""
    tree = Tree(Text(topology.name, style="bold"))
    totals = tree.add(f"totals: {topology.gpus} GPUs in {len(topology.racks)} rack(s)")
    totals.add(f"HBM   {bytes_text(topology.hbm)}")
    totals.add(f"DRAM  {bytes_text(topology.dram)}")
    totals.add(f"NAND  {bytes_text(topology.nand)}")
    known = [d.power for d in topology.domains] + [s.power for s in topology.shelves]
    if known and None not in known:
        totals.add(f"power {sum(p for p in known if p is not None) / 1e3:,.1f} kW")
    for rack in topology.racks:
        branch = tree.add(f"rack {rack}")
        for domain in topology.domains:
            if domain.rack == rack:
                _domain(branch, domain)
    for shelf in topology.shelves:
        _shelf(tree, shelf)
    return tree


def _domain(branch: Tree, d: Domain) -> None:
    nodes = f" in {d.nodes} nodes" if d.nodes > 1 else ""
    node = branch.add(Text(f"domain {d.name}: {d.gpus} x {d.gpu.name}{nodes}"))
    node.add(
        f"HBM   {bytes_text(d.hbm)} ({bytes_text(d.gpu.hbm)} a GPU, {_rate(d.gpu.hbm_bandwidth)})"
    )
    node.add(f"link  {_rate(d.gpu.host_link)} a GPU to DRAM, each way")
    node.add(f"DRAM  {bytes_text(d.dram)}")
    if d.nand:
        speed = f"read {_rate(d.nand_read)}, write {_rate(d.nand_write)}"
        node.add(f"NAND  {bytes_text(d.nand)} ({speed}, {_wear(d.wear)})")
    if d.nic:
        node.add(f"NIC   {_rate(d.nic)} each way")
    if d.apart:
        node.add(f"each of its {d.nodes} nodes has its own DRAM, NAND and NIC")
    elif d.pooled:
        node.add("pooled: one DRAM and NAND for all nodes of the rack, over their network")


def _shelf(tree: Tree, s: Shelf) -> None:
    racks = ", ".join(s.racks) if len(s.racks) <= _FEW else f"{len(s.racks)} racks"
    node = tree.add(f"shelf {s.name}, for {racks}")
    speed = f"read {_rate(s.read)}, write {_rate(s.write)}"
    node.add(f"NAND  {bytes_text(s.capacity)} ({speed}, {_wear(s.wear)})")
    node.add(f"ports {_rate(s.network)} each way, {s.latency / 1e3:g} us")


def _rate(per_second: int) -> str:
    return f"{bytes_text(per_second)}/s"


def _wear(wear: Endurance | None) -> str:
    if wear is None or wear.dwpd is None:
        text = "endurance unknown"
    else:
        text = f"{wear.dwpd:g} drive writes a day"
    return text if wear is None or wear.budget is None else f"{text}, at most {wear.budget:g}"
