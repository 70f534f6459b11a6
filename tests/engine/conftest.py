"""Hand-worked cases run on the oracle and on the compiled engine alike."""

from __future__ import annotations

import pytest
from oracle import Oracle

from dcsim.engine import Engine
from engine.world import Play, player


@pytest.fixture(params=[Oracle, Engine], ids=["oracle", "engine"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs tables on one of the two."""
    return player(request.param)
