"""From a scenario to the engine's tables."""

from dcsim.assembly.asking import model_findings
from dcsim.assembly.build import make_plan
from dcsim.assembly.plan import ChannelInfo, Plan, PoolInfo

__all__ = ["ChannelInfo", "Plan", "PoolInfo", "make_plan", "model_findings"]
