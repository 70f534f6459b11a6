"""A scenario as it is written."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, Strict

from dcsim.spec.fields import Composable, Duration
from dcsim.spec.written_jobs import JobFields
from dcsim.spec.written_operations import OperationField
from dcsim.spec.written_parts import TopologyFile


class ScenarioFile(Composable):
    """Topology, job mix, operations and seed."""

    like = "A scenario file, relative to this file,"

    name: str
    """Name of the scenario."""
    description: str = ""
    """What it shows."""
    seed: Annotated[int, Strict(), Field(ge=0, lt=2**63)] = 0
    """Seed of all random streams."""
    duration: Duration
    """Simulated time, such as `24 h`."""
    bin: Duration = 60 * 10**9
    """Width of a bin of the timeline."""
    start_cold: Annotated[bool, Strict()] = False
    """Load all weights from NAND at the start; else they are in HBM at time 0."""
    topology: TopologyFile
    """The racks: a file, the name of a shipped topology, or one that `extends` such."""
    jobs: Annotated[dict[str, JobFields], Field(min_length=1)]
    """Job classes by name."""
    operations: tuple[OperationField, ...] = ()
    """What happens to the data center during the run."""
    what_if: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Variants by name: dotted overrides, such as `topology.racks.rack0.dram: 1 TB`."""
