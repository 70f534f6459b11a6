"""Max-min fair rates in exact fractions: raise all together until a link is full."""

from __future__ import annotations

from fractions import Fraction


def exact_rates(bandwidths: list[int], paths: list[list[int]]) -> list[Fraction]:
    """Rate of a transfer over each path (channels, named once or more)."""
    rates = [Fraction(0) for _ in paths]
    rising = set(range(len(paths)))
    used = [Fraction(0) for _ in bandwidths]
    while rising:
        climbs = [sum(paths[i].count(channel) for i in rising) for channel in range(len(used))]
        rise = min(
            (Fraction(bandwidth) - taken) / climb
            for bandwidth, taken, climb in zip(bandwidths, used, climbs, strict=True)
            if climb
        )
        for i in rising:
            rates[i] += rise
        used = [taken + climb * rise for taken, climb in zip(used, climbs, strict=True)]
        full = {channel for channel, taken in enumerate(used) if taken == bandwidths[channel]}
        rising = {i for i in rising if not full.intersection(paths[i])}
    return rates
