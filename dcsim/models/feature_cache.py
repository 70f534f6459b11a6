"""Which share of a clip's steps a feature cache computes in full."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any

SHARES = {
    "teacache": Fraction(3, 5),
    "fbcache": Fraction(3, 5),
    "pab": Fraction(1, 2),
    "taylorseer": Fraction(1, 5),
}
"""By method, where `cache_computed` does not say. Assumptions: how many steps a threshold skips
depends on the prompt. Published times are 0.44 to 0.67 of those without a cache for TeaCache
(ali-vilab/TeaCache, README) and 0.62 to 0.65 for FBCache (diffusers, para_attn.md); PAB is taken to
skip each second attention, TaylorSeer to forecast four steps of five."""


def computed_steps(options: Mapping[str, Any], steps: int) -> int:
    """How many of `steps` denoising steps are computed in full under resolved options."""
    method = options.get("feature_cache", "none")
    if method == "none":
        return steps
    given = Fraction(options["cache_computed"]).limit_denominator(10**6)
    return max(1, ceil((given or SHARES[method]) * steps))
