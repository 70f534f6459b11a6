"""Small scenarios for the tests of the workload."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dcsim.spec import (
    Arrivals,
    Fixed,
    Job,
    Parts,
    Poisson,
    Rate,
    Scenario,
    Shape,
    TokenShape,
    Topology,
)

SECOND = 10**9
NOWHERE = Topology("nowhere", (), (), Parts({}, {}, {}, {}, {}))


def job(name: str, arrivals: Arrivals | None = None, shape: Shape | None = None) -> Job:
    """A job class; without arrivals, one a second; without shape, 100 tokens in and 10 out."""
    return Job(
        name,
        arrivals or Poisson(Rate.flat(1.0)),
        shape or TokenShape(prompt=Fixed(100), output=Fixed(10)),
    )


def scene(*jobs: Job, seconds: float = 1000.0, seed: int = 7) -> Scenario:
    """A scenario of these jobs."""
    duration = round(seconds * SECOND)
    return Scenario(
        name="scene",
        description="",
        seed=seed,
        duration=duration,
        bin=duration,
        start_cold=False,
        topology=NOWHERE,
        jobs={each.name: each for each in jobs},
    )


def public_log(name: str) -> Path:
    """A public request log; the test is skipped where it is not at hand."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "traces"
    path = Path(os.environ.get("DCSIM_TRACES", beside)) / name
    if not path.exists():
        pytest.skip(f"{name} is neither in ../shared/traces nor in DCSIM_TRACES")
    return path
