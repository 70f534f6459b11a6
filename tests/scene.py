"""A small scenario as plain data, quick to run; each call a fresh copy to change."""

from __future__ import annotations

from typing import Any


def scene(**changes: Any) -> dict[str, Any]:
    """Ten minutes of chat (2 replicas) and images (1 replica) on one HGX H100 server.

    `changes` replace whole top-level values.
    """
    data: dict[str, Any] = {
        "name": "scene",
        "seed": 3,
        "duration": "10 min",
        "bin": "10 s",
        "topology": {
            "name": "small",
            "racks": {"rack0": {"extends": "hgx-h100", "count": 1}},
            "shelves": {"shelf": {"extends": "bluefield-4-context", "pod_gpus": 1152}},
        },
        "jobs": {
            "chat": {
                "model": "llama-3.1-8b",
                "replicas": 2,
                "arrivals": {"process": "poisson", "rate": "2/s"},
                "shape": {
                    "prompt": {"lognormal": {"median": 500, "sigma": 1, "max": 4096}},
                    "output": {"uniform": {"min": 5, "max": 200}},
                },
                "keep": {"context": {"dram": "1 min", "nand": "5 min"}, "weights_in_dram": True},
            },
            "image": {
                "model": "dit-xl-2",
                "replicas": 1,
                "arrivals": {"process": "poisson", "rate": "1/s"},
                "shape": {"resolution": "256x256", "frames": 1, "steps": 50},
                "keep": {"artifact": {"nand": "5 min"}, "store": "shelf"},
            },
        },
    }
    data.update(changes)
    return data


def changed(path: str, value: Any, **changes: Any) -> dict[str, Any]:
    """The scene with one value at a dotted path; None takes the key away."""
    data = scene(**changes)
    *parents, last = path.split(".")
    at = data
    for key in parents:
        at = at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return data
