"""Strategy for topologies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from dcsim.reading.units import SIZE, parse
from dcsim.spec import Topology, load_topology, scenario_from_data
from dcsim.testing.ladders import Count, Span, count, several, sizes
from dcsim.testing.written import Written

__all__ = ["TopologyLike", "resolved", "topologies", "topology_data"]

Draw = Any
TopologyLike = str | Path | Mapping[str, Any]
"""A shipped topology by name, a file, or plain data."""


@st.composite
def topologies(
    draw: Draw,
    *,
    racks: Count = (1, 2),
    nodes: Count = (1, 2),
    gpus: Count = (1, 4),
    gpu: Sequence[str] = ("h100", "b200", "mi300x"),
    hbm: Span | None = None,
    dram: Span = ("1 GB", "2 TB"),
    nand: Span = ("100 GB", "30 TB"),
    shelves: Count = (0, 1),
    shelf: Span = ("10 GB", "600 TB"),
) -> Written:
    """Topologies as plain data, for `topology:` of a scenario.

    Racks of some `nodes`, each with some `gpus` of one kind (`gpu`: names of parts), host `dram`
    and local drives of `nand` bytes together, joined by NVLink within a node or within the rack;
    and shelves of `shelf` bytes that serve all racks or some. `hbm`: bytes of a GPU, by default
    the part's own.
    """
    entries = {
        f"rack{i}": _rack(draw, nodes, gpus, gpu, hbm, dram, nand) for i in several(draw, racks)
    }
    written = Written(name="drawn", racks=entries)
    shelved = {f"shelf{i}": _shelf(draw, list(entries), shelf) for i in several(draw, shelves)}
    return Written(**written, shelves=shelved) if shelved else written


def _rack(
    draw: Draw,
    nodes: Count,
    gpus: Count,
    gpu: Sequence[str],
    hbm: Span | None,
    dram: Span,
    nand: Span,
) -> dict[str, Any]:
    kind = draw(st.sampled_from(list(gpu)))
    node = {
        "extends": "hgx-h100",
        "gpu": kind if hbm is None else {"extends": kind, "hbm": draw(sizes(hbm))},
        "gpus": draw(count(gpus)),
        "host": {"extends": "x86-2s-2tb", "dram": draw(sizes(dram))},
        "ssd": _drive(draw, "micron-9550-max-3tb", nand),
        "ssds": 1,
    }
    rack: dict[str, Any] = {"node": node}
    number = draw(count(nodes))
    if number > 1:
        rack |= {"nodes": number, "domain": draw(st.sampled_from(["node", "rack"]))}
        pooled = draw(st.sampled_from([None, None, True, False]))
        rack |= {} if pooled is None else {"pooled": pooled}
    return rack


def _drive(draw: Draw, like: str, capacity: Span) -> dict[str, Any]:
    """A drive, seldom with a write budget: a small one is then slow, and slows all that waits for
    it; one of less than 1 MB/s is no link."""
    size = draw(sizes(capacity))
    budget = draw(st.sampled_from([None, None, None, 10.0, 1000.0]))
    drive: dict[str, Any] = {"extends": like, "capacity": size}
    if budget is not None and parse(size, SIZE) * Fraction(budget) >= 86_400 * 10**6:
        drive["write_budget"] = budget
    return drive


def _shelf(draw: Draw, racks: list[str], capacity: Span) -> dict[str, Any]:
    shelf: dict[str, Any] = {
        "extends": "bluefield-4-context",
        "dpus": 1,
        "ssd": _drive(draw, "micron-9650-pro-31tb", capacity),
        "ssds": 1,
    }
    if len(racks) > 1 and draw(st.booleans()):
        shelf["serves"] = [draw(st.sampled_from(racks))]
    return shelf


def topology_data(topology: TopologyLike) -> Any:
    """What stands under `topology:` of a scenario."""
    return dict(topology) if isinstance(topology, Mapping) else str(topology)


def resolved(topology: TopologyLike) -> Topology:
    """The racks of a topology. Raises SpecError."""
    data = topology if isinstance(topology, Mapping) else str(topology)
    return _resolved(json.dumps(data))


@lru_cache(maxsize=256)
def _resolved(text: str) -> Topology:
    data = json.loads(text)
    if isinstance(data, str):
        return load_topology(data)
    job = {
        "model": "dit-s-8",
        "replicas": 1,
        "arrivals": {"process": "constant", "rate": "1/h"},
        "shape": {"resolution": "256x256", "steps": 1},
    }
    whole = {"name": "drawn", "duration": "1 h", "topology": data, "jobs": {"any": job}}
    return scenario_from_data(whole).topology
