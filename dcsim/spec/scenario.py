"""A scenario: all that a run depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from dcsim.reading.concept import Concept, Duration, Least, Unwritten
from dcsim.reading.errors import Problem
from dcsim.reading.forms import Number, Quantity
from dcsim.reading.tree import Node, locate
from dcsim.reading.units import TIME
from dcsim.spec.jobs import Job
from dcsim.spec.operations import Operation
from dcsim.spec.stages import place_of
from dcsim.spec.topology import Built, Topology


@dataclass(frozen=True, kw_only=True)
class Scenario(Concept):
    """Topology, job mix, operations and seed."""

    like = "A scenario file, relative to this file,"

    name: str
    """Name of the scenario."""
    description: str = ""
    """What it shows."""
    seed: Annotated[int, Number(0, under=2**63, whole=True)] = 0
    """Seed of all random streams."""
    duration: Annotated[int, Quantity(TIME, positive=True, years=50)]
    """Simulated time, such as `24 h`."""
    bin: Duration = 60 * 10**9
    """Width of a bin of the timeline."""
    start_cold: bool = False
    """Load all weights from NAND at the start; else they are in HBM at time 0."""
    topology: Annotated[Topology, Built()]
    """The racks: a file, the name of a shipped topology, or one that `extends` such."""
    jobs: Annotated[Mapping[str, Job], Least(1)]
    """Job classes by name. Once read, those that replicas serve: of a job in stages one a stage."""
    operations: tuple[Operation, ...] = ()
    """What happens to the data center during the run."""
    what_if: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Variants by name: dotted overrides, such as `topology.racks.rack0.dram: 1 TB`."""
    as_written: Annotated[Mapping[str, Job], Unwritten()] = field(default_factory=dict, repr=False)
    """The jobs as they are written; none where each is served in one piece."""
    file: Annotated[Path, Unwritten()] = Path()
    """Where it was read."""
    resolved: Annotated[Mapping[str, Any], Unwritten()] = field(
        default_factory=dict, repr=False, compare=False
    )
    """The whole input as plain data, references and overrides applied."""
    tree: Annotated[Node | None, Unwritten()] = field(default=None, repr=False, compare=False)
    """The same with its places in the files."""

    @property
    def asked(self) -> Mapping[str, Job]:
        """The jobs that users ask, as they are written."""
        return self.as_written or self.jobs

    def problem(self, path: str, message: str) -> Problem:
        """A problem found after loading, placed at the dotted `path` or the nearest parent."""
        path = place_of(path)
        if self.tree is None:
            return Problem(self.file, None, None, path, message)
        return locate(self.tree, path.split(".")).problem(path, message)
