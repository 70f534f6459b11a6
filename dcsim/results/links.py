"""How busy links are: what they moved, as a share of what they could."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from dcsim.assembly.plan import Plan
from dcsim.engine import Outputs
from dcsim.results.series import Bins

__all__ = ["like_links", "link_figures"]

_NUMBER = re.compile(r"\d+(?=/|$)")


def like_links(channels: Sequence[str]) -> dict[str, list[int]]:
    """Channels that differ by numbers alone, together: their rows by name, in order.

    `agent/0/onboard` to `agent/35/onboard` are `agent/*/onboard`; one alone keeps its name.
    """
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(channels):
        groups.setdefault(_NUMBER.sub("*", name), []).append(row)
    return {name if len(rows) > 1 else channels[rows[0]]: rows for name, rows in groups.items()}


def link_figures(plan: Plan, built: Outputs) -> dict[str, Any]:
    """By name of like links: how many, their bandwidth (bytes/s) and bytes moved in all, the share
    of the bandwidth that this is over the run, and in the fullest bin of the busiest of them."""
    seconds = Bins.of(plan.scenario.duration, plan.scenario.bin).length / 1e9
    bandwidth = np.array([each.bandwidth for each in plan.channels], dtype=np.float64)
    fullest = (built["moved"] / seconds).max(axis=1, initial=0) / bandwidth
    total = built["moved"].sum(axis=1)
    return {
        name: {
            "links": len(rows),
            "bandwidth": sum(plan.channels[row].bandwidth for row in rows),
            "bytes": int(total[rows].sum()),
            "load": float(total[rows].sum() / (bandwidth[rows].sum() * seconds.sum())),
            "load_fullest": float(fullest[rows].max()),
        }
        for name, rows in like_links([each.name for each in plan.channels]).items()
    }
