"""A small valid scenario as plain data, for the tests to change."""

from __future__ import annotations

import copy
from typing import Any

_SCENE: dict[str, Any] = {
    "name": "scene",
    "duration": "1 h",
    "topology": {
        "name": "small",
        "racks": {"rack0": {"extends": "hgx-h100", "count": 1}},
        "shelves": {"shelf": {"extends": "bluefield-4-context", "pod_gpus": 1152}},
    },
    "jobs": {
        "video": {
            "model": "video-dit-2b",
            "replicas": 2,
            "arrivals": {"process": "poisson", "rate": "1/min"},
            "shape": {"resolution": "832x480", "frames": 49, "steps": 30},
            "keep": {"artifact": {"dram": "1 min", "nand": "1 h"}},
        },
        "chat": {
            "model": "llama-3.1-8b",
            "replicas": {"count": 2, "on": ["rack0"]},
            "arrivals": {"process": "gamma", "rate": "2/s", "cv": 2},
            "shape": {
                "prompt": {"lognormal": {"median": 500, "sigma": 1, "max": 4096}},
                "output": {"choice": {"10": 3, "200": 1}},
            },
            "keep": {"context": {"nand": "10 min"}, "store": "shelf"},
        },
    },
}


def scene() -> dict[str, Any]:
    """A fresh copy."""
    return copy.deepcopy(_SCENE)
