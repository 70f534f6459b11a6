"""Questions over runs and logs: run one, compare variants, hit rates of a prefix cache."""

from dcsim.planning.check import check
from dcsim.planning.compare import compare, variants
from dcsim.planning.hitrate import HitCurve, HitRates, hit_rate_curve, hit_rates
from dcsim.planning.run import Progress, Run, load, run, simulate
from dcsim.planning.split import Prices, Split, split

__all__ = [
    "HitCurve",
    "HitRates",
    "Prices",
    "Progress",
    "Run",
    "Split",
    "check",
    "compare",
    "hit_rate_curve",
    "hit_rates",
    "load",
    "run",
    "simulate",
    "split",
    "variants",
]
