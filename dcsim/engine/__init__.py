"""The compiled engine: arrays in, arrays out. See ``docs/engine.md``."""

from dcsim.engine._core import Engine, Forest, build, floor_seconds
from dcsim.engine.border import (
    CATEGORIES,
    CAUSES,
    COLUMNS,
    EVENTS,
    EVICTIONS,
    OUTCOMES,
    REQUESTS,
    ROUTERS,
    TIERS,
    Int64,
    Outputs,
    RouteFunction,
    Rows,
    Tables,
    table,
)

__all__ = [
    "CATEGORIES",
    "CAUSES",
    "COLUMNS",
    "EVENTS",
    "EVICTIONS",
    "OUTCOMES",
    "REQUESTS",
    "ROUTERS",
    "TIERS",
    "Engine",
    "Forest",
    "Int64",
    "Outputs",
    "RouteFunction",
    "Rows",
    "Tables",
    "build",
    "floor_seconds",
    "table",
]
