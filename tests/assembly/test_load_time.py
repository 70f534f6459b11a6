"""How long a replica of several GPUs takes to load, in seconds, worked by hand and then run."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest
from scene import scene

from dcsim.assembly import Plan, make_plan
from dcsim.engine import EVENTS
from dcsim.spec import scenario_from_data

PARAMETERS = 70_553_706_496  # Llama 3.1 70B, as published
NORMS = (2 * 80 + 1) * 8192  # held by every GPU; all else is divided
DRIVES = 8 * 14 * 10**9  # bytes/s that eight NVMe drives of an HGX H100 give
LATENCY = 60_000  # ns
LINK = 63 * 10**9  # bytes/s from DRAM to an H100


def plan_of(**changes: Any) -> Plan:
    """A cold replica of Llama 70B on four H100s; it answers one request."""
    chat = {
        "model": "llama-3.1-70b",
        "layout": {"tp": 4},
        "replicas": 1,
        "arrivals": {"process": "constant", "rate": "0.1/s"},
        "shape": {"prompt": 100, "output": 2},
    }
    return make_plan(
        scenario_from_data(
            scene(jobs={"chat": chat | changes}, start_cold=True, duration="10 s", bin="1 s")
        )
    )


def up_at(plan: Plan) -> list[int]:
    """When each replica came up, ns."""
    outputs = plan.engine().finish()
    rows = [row for row in outputs["events"].tolist() if row[1] == EVENTS.index("up")]
    return [time for time, _, subject, _ in sorted(rows, key=lambda row: int(row[2]))]


def test_drives_then_links() -> None:
    """141.1 GB from the drives at 112 GB/s, then at 4 x 63 GB/s into the GPUs: 1.82 s."""
    checkpoint = 2 * PARAMETERS
    read = ceil(checkpoint * 10**9 / DRIVES) + LATENCY
    onboard = ceil((checkpoint + 3 * 2 * NORMS) * 10**9 / (4 * LINK))
    assert (read + onboard) / 1e9 == pytest.approx(1.82, abs=0.001)
    (up,) = up_at(plan_of())
    assert up == read + onboard


def test_two_replicas_share_the_drives_but_not_the_links() -> None:
    """The weights come to DRAM once; each replica then has four links of its own."""
    checkpoint = 2 * PARAMETERS
    read = ceil(checkpoint * 10**9 / DRIVES) + LATENCY
    onboard = ceil((checkpoint + 3 * 2 * NORMS) * 10**9 / (4 * LINK))
    assert up_at(plan_of(replicas=2)) == [read + onboard] * 2


def test_half_the_bytes_in_fp8_take_less() -> None:
    """The matrices of the 80 layers take a byte a parameter; embedding and head stay at two."""
    wide = 2 * 128_256 * 8192 + NORMS
    checkpoint = PARAMETERS + wide
    read = ceil(checkpoint * 10**9 / DRIVES) + LATENCY
    onboard = ceil((checkpoint + 3 * 2 * NORMS) * 10**9 / (4 * LINK))
    (up,) = up_at(plan_of(options={"weights_dtype": "fp8"}))
    assert up == read + onboard
