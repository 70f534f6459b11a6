"""A scenario: topology, job mix, operations and seed; resolved and immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dcsim.spec.errors import Problem
from dcsim.spec.jobs import Job
from dcsim.spec.topology import Topology
from dcsim.spec.tree import Node, locate


@dataclass(frozen=True)
class Outage:
    """A replica of the job goes down at `at` for `down_for` (ns)."""

    at: int
    replica: int
    down_for: int


@dataclass(frozen=True)
class Failures:
    """Replicas of a job fail and are repaired.

    Either exponential times with means `mtbf` and `mttr` (ns) for one replica, or each
    replica on its own (`replica` None), or a script.
    """

    job: str
    replica: int | None = None
    mtbf: int | None = None
    mttr: int | None = None
    script: tuple[Outage, ...] | None = None


@dataclass(frozen=True)
class CapacityChange:
    """At `at` (ns) a pool comes to hold `to` bytes."""

    at: int
    tier: Literal["dram", "nand"]
    owner: str
    """The domain or the shelf whose pool it is."""
    to: int


@dataclass(frozen=True)
class Capacity:
    """Scripted changes of capacity: a shelf arrives, a shelf dies."""

    script: tuple[CapacityChange, ...]


@dataclass(frozen=True)
class Sampler:
    """Writes the state down every `every` ns."""

    every: int


Operation = Failures | Capacity | Sampler


@dataclass(frozen=True)
class Scenario:
    """All that a run depends on."""

    name: str
    description: str
    seed: int
    duration: int
    """ns."""
    bin: int
    """Width of a bin of the timeline, ns."""
    start_cold: bool
    """Load all weights from NAND at the start; else they are in HBM at time 0."""
    topology: Topology
    jobs: Mapping[str, Job]
    """In the order of the file."""
    operations: tuple[Operation, ...] = ()
    what_if: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Dotted overrides by the name of the variant."""
    file: Path = Path()
    resolved: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The whole input as plain data, references and overrides applied."""
    tree: Node | None = field(default=None, repr=False, compare=False)
    """The same with its places in the files."""

    def problem(self, path: str, message: str) -> Problem:
        """A problem found after loading, placed at the dotted `path` or the nearest parent."""
        if self.tree is None:
            return Problem(self.file, None, None, path, message)
        mark = locate(self.tree, path.split("."))
        return Problem(mark.file, mark.line, mark.column, path, message)
