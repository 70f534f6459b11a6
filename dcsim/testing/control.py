"""Strategy for operations: failures, changes of capacity, samplers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from dcsim.reading.units import TIME, whole
from dcsim.spec import Topology
from dcsim.testing.draws import moments
from dcsim.testing.fit import lying_bytes
from dcsim.testing.ladders import several, size_text, time_text
from dcsim.testing.racks import TopologyLike, resolved

__all__ = ["operations"]

Draw = Any
_GRAINS = (10, 3, 37, 100)
"""Parts of a run."""


@st.composite
def operations(
    draw: Draw,
    *,
    topology: TopologyLike,
    jobs: Mapping[str, Any],
    duration: str,
    start_cold: bool = False,
    most: int = 3,
) -> list[dict[str, Any]]:
    """At most `most` operations, for `operations:` of a scenario with these `jobs` (plain data).

    Failures by chance and by script, changes of the capacity of DRAM, drives and shelves (never
    below the weights that may lie there, which is an error), and samplers.
    """
    length = whole(duration, TIME)
    racks = resolved(topology)
    served = {name: job for name, job in jobs.items() if "shares" not in job}
    kept = any(job.get("keep", {}).get("weights_in_dram") for job in served.values())
    loads = start_cold or kept  # weights may lie in DRAM
    kinds = ["sampler", "failures", "capacity"]
    drawn = []
    for _ in several(draw, (0, most)):
        kind = draw(st.sampled_from(kinds))
        if kind == "sampler":
            drawn.append({"kind": kind, "every": _part(draw, length)})
        elif kind == "failures":
            drawn.append(_failures(draw, served, length))
            loads = True
        else:
            empty = not loads and draw(st.booleans())
            drawn.append({"kind": kind, "script": _changes(draw, racks, jobs, length, empty)})
            kinds = [
                other for other in kinds if other != kind and not (empty and other == "failures")
            ]
    return drawn


def _part(draw: Draw, length: int) -> str:
    """A part of the run: a tenth, a third, ..."""
    return time_text(max(1, length // draw(st.sampled_from(_GRAINS))))


def _failures(draw: Draw, served: Mapping[str, Any], length: int) -> dict[str, Any]:
    name = draw(st.sampled_from(list(served)))
    replicas = served[name]["replicas"]
    count = replicas if isinstance(replicas, int) else replicas["count"]
    failures: dict[str, Any] = {"kind": "failures", "job": name}
    if draw(st.booleans()):
        which = draw(st.one_of(st.none(), st.integers(0, count - 1)))
        failures |= {} if which is None else {"replica": which}
        return failures | {"mtbf": _part(draw, 2 * length), "mttr": _part(draw, length)}
    entry = st.tuples(
        moments(length), st.integers(0, count - 1), st.builds(_part_of, moments(length))
    )
    script = draw(st.lists(entry, min_size=1, max_size=3))
    return failures | {"script": [list(each) for each in script]}


def _part_of(time: str) -> str:
    return "1 ns" if time == "0 s" else time


def _changes(
    draw: Draw, topology: Topology, jobs: Mapping[str, Any], length: int, empty: bool
) -> list[list[str]]:
    """Entries [at, pool, bytes] that leave room for weights, in DRAM unless it holds none."""
    weights = sum(lying_bytes(jobs, name) for name, job in jobs.items() if "shares" not in job)
    pools: dict[str, tuple[int, int]] = {}
    for name, domain in topology.memories().items():
        part = domain.nodes if domain.apart else 1
        pools[f"{name}/dram"] = (0 if empty else weights, domain.dram // part)
        if domain.nand:
            pools[f"{name}/nand"] = (weights, domain.nand // part)
    homeless = any(not domain.nand for domain in topology.domains)
    for shelf in topology.shelves:
        pools[shelf.name] = (weights if homeless else 0, shelf.capacity)
    script = []
    for _ in several(draw, (1, 3)):
        pool = draw(st.sampled_from(list(pools)))
        least, built = pools[pool]
        spare = max(0, built - least) * draw(st.integers(0, 12)) // 10
        script.append([draw(moments(length)), pool, size_text(least + spare)])
    return script
