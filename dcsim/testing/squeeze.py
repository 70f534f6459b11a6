"""Capacities drawn last, from what the jobs hold: so that pools are often just full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import strategies as st

from dcsim.assembly.placement import Placement
from dcsim.spec import Layout, Scenario, Scheduler, TokenShape
from dcsim.testing.fit import (
    Extent,
    Options,
    clip_sizes,
    context_bytes,
    frozen,
    kind_of,
    lying_bytes,
    smallest_hbm,
)
from dcsim.testing.ladders import size_text
from dcsim.testing.written import Written

__all__ = ["squeezed"]

Draw = Any
_GRAIN = 1000
"""Sizes are whole kB, for the eye."""


@st.composite
def squeezed(draw: Draw, scenario: Scenario, topology: Written, jobs: Mapping[str, Any]) -> Written:
    """The topology of a scenario with tight HBM, DRAM and drives, each or some: room for the
    weights that lie there and for a few requests or objects. `topologies` drew it, `job_mixes`
    the `jobs`."""
    placed = _by_rack(scenario)
    tiers = [tier for tier in ("hbm", "dram", "nand") if draw(st.integers(0, 3))]
    few = st.sampled_from([5, 2, 1])
    # One figure for all GPUs: the replicas of a job may be spread over racks.
    hbm = max(_hbm(draw, jobs, name) for name in jobs if "shares" not in jobs[name])
    racks = {}
    for name, rack in topology["racks"].items():
        sizes = {"hbm": hbm} if "hbm" in tiers else {}
        mine = placed.get(name, {})
        names = list(dict.fromkeys(job for served in mine.values() for job in served))
        if names:
            weights = max(sum(lying_bytes(jobs, job) for job in served) for served in mine.values())
            thing = max(_object_bytes(jobs, job) for job in names)
            whole = rack.get("domain") == "rack" and rack.get("pooled") is not False
            nodes = rack.get("nodes", 1) if whole else 1
            dram = draw(st.sampled_from([weights, 0])) + thing * draw(few)
            nand = weights + thing * draw(few)
            below = {"dram": -(-dram // nodes), "nand": -(-nand // nodes)}
            sizes |= {tier: size for tier, size in below.items() if tier in tiers}
        racks[name] = _tight(rack, sizes)
    return Written({**topology, "racks": racks})


def _by_rack(scenario: Scenario) -> dict[str, dict[str, list[str]]]:
    """By rack and domain the jobs that have replicas there."""
    placement = Placement(scenario)
    found: dict[str, dict[str, list[str]]] = {}
    for job in scenario.jobs:
        for placed in placement.of(job):
            served = found.setdefault(placed.domain.rack, {}).setdefault(placed.domain.name, [])
            if job not in served:
                served.append(job)
    return found


def _tight(rack: dict[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    texts = {key: size_text(-(-size // _GRAIN) * _GRAIN) for key, size in sizes.items()}
    node = dict(rack["node"])
    if "hbm" in texts:
        gpu = node["gpu"]["extends"] if isinstance(node["gpu"], dict) else node["gpu"]
        node["gpu"] = {"extends": gpu, "hbm": texts["hbm"]}
    if "dram" in texts:
        node["host"] = {**node["host"], "dram": texts["dram"]}
    if "nand" in texts:
        # Without a budget: of so small a drive it would be no link.
        drive = {key: value for key, value in node["ssd"].items() if key != "write_budget"}
        node["ssd"] = {**drive, "capacity": texts["nand"]}
    return {**rack, "node": node}


def _hbm(draw: Draw, jobs: Mapping[str, Any], name: str) -> int:
    """Bytes of a GPU on which the replicas of a job fit, with a few of its requests."""
    job = jobs[name]
    model, options = job["model"], frozen(job.get("options", {}))
    layout = Layout(**job.get("layout", {}))
    mine = _classes(jobs, name)
    if kind_of(model) == "llm":
        tokens = max(_tokens(each["shape"]) for each in mine)
        room = draw(st.sampled_from([400, 150, 100, 50])) * tokens // 100
        limits = vars(Scheduler().of(TokenShape())) | job.get("scheduler", {})
        return smallest_hbm(
            model,
            options,
            layout,
            limits["prefill_chunk"],
            limits["max_batched_tokens"],
            limits["max_jobs"],
            room,
        )
    need, _ = _largest(model, options, layout, [each["shape"] for each in mine])
    tenths: int = draw(st.sampled_from([20, 13, 10]))
    return -(-need // layout.gpus) * tenths // 10 + 1


def _clips(shape: Mapping[str, Any]) -> list[Extent]:
    """All clips of a shape."""
    found = []
    for size in _values(shape["resolution"]):
        width, _, height = str(size).partition("x")
        found += [(int(width), int(height), int(n)) for n in _values(shape.get("frames", 1))]
    return found


def _largest(
    model: str, options: Options, layout: Layout, shapes: Iterable[Mapping[str, Any]]
) -> tuple[int, int]:
    """The most HBM that a clip of these shapes needs, and the most bytes that one has."""
    clips = {clip for shape in shapes for clip in _clips(shape)}
    found = [clip_sizes(model, options, layout, clip) or (0, 0) for clip in sorted(clips)]
    return max(need for need, _ in found), max(size for _, size in found)


def _object_bytes(jobs: Mapping[str, Any], name: str) -> int:
    """Bytes of the largest object that the replicas of a job leave."""
    job = jobs[name]
    model, options = job["model"], frozen(job.get("options", {}))
    layout = Layout(**job.get("layout", {}))
    shapes = [each["shape"] for each in _classes(jobs, name)]
    if kind_of(model) == "dit":
        return _largest(model, options, layout, shapes)[1]
    return context_bytes(model, options, layout) * max(_tokens(shape) for shape in shapes)


def _classes(jobs: Mapping[str, Any], server: str) -> list[Mapping[str, Any]]:
    return [each for name, each in jobs.items() if server in (name, each.get("shares"))]


def _tokens(shape: Mapping[str, Any]) -> int:
    return _most(shape["prompt"]) + _most(shape["output"])


def _values(drawn: Any) -> list[Any]:
    return list(drawn["choice"]) if isinstance(drawn, dict) else [drawn]


def _most(numbers: Any) -> int:
    """The greatest value of a distribution."""
    match numbers:
        case int():
            return numbers
        case {"choice": weights}:
            return int(max(weights))
        case {"empirical": {"values": values}}:
            return int(max(values))
        case {"uniform": ends} | {"lognormal": ends}:
            return int(ends["max"])
    raise ValueError(f"no distribution that job_mixes draws: {numbers!r}")
