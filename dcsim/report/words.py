"""Names as people write them, apart from the plots so that tables need no matplotlib."""

from __future__ import annotations

__all__ = ["TIER_NAMES"]

TIER_NAMES = {"hbm": "HBM", "dram": "DRAM", "nand": "NAND"}
