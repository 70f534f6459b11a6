"""Questions over runs: run one, compare variants."""

from dcsim.planning.check import check
from dcsim.planning.compare import compare, variants
from dcsim.planning.run import Progress, Run, load, run, simulate

__all__ = [
    "Progress",
    "Run",
    "check",
    "compare",
    "load",
    "run",
    "simulate",
    "variants",
]
