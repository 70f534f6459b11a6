"""From a scenario to the engine's tables."""

from dcsim.assembly.build import assemble
from dcsim.assembly.plan import ChannelInfo, Plan, PoolInfo

__all__ = ["ChannelInfo", "Plan", "PoolInfo", "assemble"]
