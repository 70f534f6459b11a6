"""Hypothesis profiles, and where the public request logs are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("dev", max_examples=40, deadline=None, suppress_health_check=QUIET)
# In CI the same examples every time, so a red run can be repeated anywhere.
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.register_profile("brief", settings.get_profile("ci"), max_examples=12)
# With one small fault in the package (tests/mutate.py) the first example that fails is enough.
ONCE = [Phase.explicit, Phase.generate]
settings.register_profile("mutants", settings.get_profile("ci"), phases=ONCE, database=None)
settings.register_profile("deep", settings.get_profile("dev"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def logs() -> Path:
    """The folder of the public request logs; skips where they are not at hand."""
    folder = Path(os.environ.get("DCSIM_TRACES", ROOT.parent / "shared" / "traces"))
    if not folder.is_dir():
        pytest.skip("no request logs: set DCSIM_TRACES to a folder that holds them")
    return folder
