"""Strategies for whole scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from dcsim.reading.units import TIME, whole
from dcsim.testing.control import operations as drawn_operations
from dcsim.testing.ladders import Span, time_text, times
from dcsim.testing.mixes import job_mixes
from dcsim.testing.racks import TopologyLike, topologies, topology_data
from dcsim.testing.squeeze import squeezed
from dcsim.testing.written import DrawnScenario, drawn_scenario, varied_scenario

__all__ = ["scenarios", "variations"]

Draw = Any
Topologies = TopologyLike | st.SearchStrategy[Any]
Jobs = Mapping[str, Any] | st.SearchStrategy[Any]


@st.composite
def scenarios(
    draw: Draw,
    /,
    *,
    topology: Topologies | None = None,
    jobs: Jobs | None = None,
    duration: Span = ("10 s", "10 min"),
    operations: bool | Sequence[Mapping[str, Any]] = True,
    start_cold: bool | None = None,
    **bounds: Any,
) -> DrawnScenario:
    """Scenarios that assemble and run in milliseconds; they print as YAML to paste.

    `topology`: one that is given (by name, file or plain data), or a strategy for plain data; by
    default `topologies()`, which are often made tight: just the room for the weights and a few
    requests or objects. `jobs`: plain data or a strategy; by default `job_mixes` on that
    topology, within `bounds` (see there: `models`, `classes`, `rate`, `keep`, ...). `operations`:
    whether to draw any, or those to have. `start_cold`: None draws it.
    """
    if jobs is not None and bounds:
        raise InvalidArgument(f"jobs are given, so {', '.join(bounds)} would bound nothing")
    racks = draw(topologies() if topology is None else _given(topology))
    length = draw(times(duration))
    if jobs is None:
        jobs = job_mixes(topology=racks, duration=length, **bounds)
    mix = draw(_given(jobs))
    data = {
        "name": "drawn",
        "seed": draw(st.integers(0, 1000)),
        "duration": length,
        "bin": _bin(draw, whole(length, TIME)),
        "topology": topology_data(racks),
        "jobs": dict(mix),
    }
    if topology is None and draw(st.integers(0, 2)):
        racks = draw(squeezed(drawn_scenario(data), racks, mix))
        data["topology"] = dict(racks)
    if draw(st.booleans()) if start_cold is None else start_cold:
        data["start_cold"] = True
    found = list(operations) if isinstance(operations, Sequence) else []
    if operations is True:
        cold = "start_cold" in data
        found = draw(drawn_operations(topology=racks, jobs=mix, duration=length, start_cold=cold))
    return drawn_scenario(data | ({"operations": found} if found else {}))


@st.composite
def variations(
    draw: Draw, file: str | Path, changes: Mapping[str, st.SearchStrategy[Any]]
) -> DrawnScenario:
    """A scenario file of your own with some of its values drawn.

    `changes`: by dotted path, as for `--set`, a strategy for the value as YAML has it. A drawn
    scenario prints as a `what_if:` block, to paste into the file.
    """
    drawn = {path: draw(strategy) for path, strategy in changes.items()}
    return varied_scenario(Path(file), drawn)


def _given(value: Any) -> st.SearchStrategy[Any]:
    return value if isinstance(value, st.SearchStrategy) else st.just(value)


def _bin(draw: Draw, length: int) -> str:
    """The width of a bin: a part of the run, whole or not, or all of it."""
    parts = draw(st.sampled_from([1, 10, 7, 60]))
    return time_text(-(-length // parts))
