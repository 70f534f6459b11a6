"""Property tests of plans: Hypothesis strategies for whole scenarios, and the laws of a result.

Needs the extra `testing` (hypothesis). See `docs/testing.md`.
"""

from __future__ import annotations

try:
    import hypothesis as _hypothesis
except ImportError as error:  # pragma: no cover - the tests run with hypothesis
    raise ImportError(
        "dcsim.testing needs hypothesis; install it with: pip install 'dcsim[testing]'"
    ) from error

from dcsim.testing.accounts import check_lifted, check_outputs
from dcsim.testing.balance import check_contents, check_flows, check_samples, check_transfers
from dcsim.testing.control import operations
from dcsim.testing.laws import (
    LAWS,
    check_all,
    check_capacity,
    check_causality,
    check_demand,
    check_events,
    check_outcomes,
    check_summary,
    check_tiers,
)
from dcsim.testing.memory import memory_traces
from dcsim.testing.mixes import job_mixes
from dcsim.testing.pairs import (
    check_bins,
    check_deterministic,
    check_longer,
    check_more_hbm,
    check_room,
    check_same,
    check_same_requests,
)
from dcsim.testing.racks import topologies
from dcsim.testing.wear import check_wear
from dcsim.testing.whole import scenarios, variations
from dcsim.testing.written import DrawnScenario, Written, from_yaml, scenario_from_yaml

__all__ = [
    "LAWS",
    "DrawnScenario",
    "Written",
    "check_all",
    "check_bins",
    "check_capacity",
    "check_causality",
    "check_contents",
    "check_demand",
    "check_deterministic",
    "check_events",
    "check_flows",
    "check_lifted",
    "check_longer",
    "check_more_hbm",
    "check_outcomes",
    "check_outputs",
    "check_room",
    "check_same",
    "check_same_requests",
    "check_samples",
    "check_summary",
    "check_tiers",
    "check_transfers",
    "check_wear",
    "from_yaml",
    "job_mixes",
    "memory_traces",
    "operations",
    "scenario_from_yaml",
    "scenarios",
    "topologies",
    "variations",
]

del _hypothesis
