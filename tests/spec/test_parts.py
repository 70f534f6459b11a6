"""The shipped catalogue: complete, sourced, and what the facts say."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dcsim.models.tape import KINDS
from dcsim.spec import SpecError, check_file, load_parts, load_topology

ROOT = Path(__file__).resolve().parents[2]
PARTS = load_parts()
ALL = {
    f"{kind}.{name}": part
    for kind in ("gpus", "hosts", "nics", "dpus", "ssds")
    for name, part in getattr(PARTS, kind).items()
}
YAML = sorted((ROOT / "topologies").rglob("*.yaml"))


@pytest.mark.parametrize("file", YAML, ids=[str(f.relative_to(ROOT)) for f in YAML])
def test_shipped_files_have_no_problem(file: Path) -> None:
    assert check_file(file) == []


@pytest.mark.parametrize("name", ALL)
def test_each_figure_has_its_source(name: str) -> None:
    part: Any = ALL[name]
    for field in fields(part):
        value = getattr(part, field.name)
        if field.name in ("name", "title", "sources", "profiles") or not value:
            continue
        if field.name == "flops":
            wanted = [f"flops.{precision}" for precision in value]
        else:
            wanted = [field.name]
        for key in wanted:
            assert part.sources.get(key), f"{key} has no source"


def test_no_source_without_its_figure() -> None:
    for name, part in ALL.items():
        for key in part.sources:
            head, _, tail = key.partition(".")
            value = getattr(part, head)
            assert value is not None, f"{name}: a source for {key}, which is not given"
            assert not tail or tail in value, f"{name}: a source for {key}, which is not given"


def test_the_parts_that_are_asked_for() -> None:
    assert {"h100", "h200", "b200", "b300", "rubin", "mi300x", "mi355x"} <= set(PARTS.gpus)
    assert {"bluefield-3", "bluefield-4"} <= set(PARTS.dpus)
    assert all(set(gpu.efficiency) == set(KINDS) for gpu in PARTS.gpus.values())


def test_figures_of_the_data_sheets() -> None:
    h100 = PARTS.gpus["h100"]
    assert (h100.hbm, h100.hbm_bandwidth, h100.flops["bf16"]) == (
        81_559 * 2**20,
        3_350 * 10**9,
        989_400 * 10**9,
    )
    assert PARTS.gpus["h200"].flops == h100.flops
    assert PARTS.gpus["mi355x"].price is None, "not known"
    assert PARTS.dpus["bluefield-4"].bandwidth == 100 * 10**9


def test_hgx_node() -> None:
    topology = load_topology("hgx_h100")
    (node,) = topology.domains
    assert (node.name, node.rack, node.gpus) == ("rack0/node0", "rack0", 8)
    assert (node.hbm, node.dram, node.nand) == (
        8 * 81_559 * 2**20,
        2048 * 10**9,
        30_720 * 10**9,
    )
    assert node.nic == 500 * 10**9, "MLPerf gives 500 GB/s"
    assert (topology.gpus, topology.hbm) == (8, node.hbm)
    assert (topology.dram, topology.nand) == (node.dram, node.nand)


def test_nvl72_racks() -> None:
    racks = (("gb300_nvl72", 17.28, 284_208 * 2**20), ("vera_rubin_nvl72", 54.0, 288 * 10**9))
    for name, dram, hbm in racks:
        (rack,) = load_topology(name).domains
        assert (rack.name, rack.gpus) == ("rack0", 72)
        assert rack.dram == pytest.approx(dram * 1e12)
        assert rack.hbm == 72 * hbm
        assert rack.price is not None


def test_the_context_shelf_and_its_pod() -> None:
    def shelf(*overrides: str) -> Any:
        return load_topology("gb300_nvl72_context", overrides=overrides).shelves[0]

    whole = shelf("shelves.context.pod_gpus=72")
    assert whole.capacity == 9_600 * 10**12, "16 enclosures x 4 DPUs x 150 TB"
    assert whole.network == 6_400 * 10**9, "64 DPUs x 800 Gb/s"
    assert shelf().capacity == 600 * 10**12, "a sixteenth: 72 of 1,152 GPUs"
    assert shelf("shelves.context.pod_gpus=576").capacity / 72 == pytest.approx(16.7e12, rel=0.01)
    assert shelf("racks.rack0.count=16").capacity == 9_600 * 10**12
    assert shelf().racks == ("rack0",)
    endurance = shelf().capacity / 4 * shelf().wear.dwpd / 86_400
    assert endurance == pytest.approx(0.52e9, rel=0.01), "GB/s that 150 TB sustain at 0.3 a day"
    with pytest.raises(SpecError, match=r"shelves.context.pod_gpus: 24 is less than the 72 GPUs"):
        shelf("shelves.context.pod_gpus=24")
