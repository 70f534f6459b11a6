"""What a run was made from, so that it can be made again."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dcsim.assembly.plan import Plan
from dcsim.engine import build
from dcsim.models.catalogue import is_file
from dcsim.spec import Scenario, is_trace

__all__ = ["manifest_of"]

_PACKAGES = ("dcsim", "numpy", "pyarrow", "simpy")


def manifest_of(plan: Plan, requests_hash: str) -> dict[str, Any]:
    """Resolved inputs, seed, versions, and hashes of the inputs and of the requests.

    `hash` is the SHA-256 of the inputs, and of the files that models are read from, as sorted
    JSON: equal hashes and equal versions give equal results. `requests_hash` covers every arrival
    and shape; runs that see the same requests (common random numbers) have the same.
    """
    scenario = plan.scenario
    inputs = _plain(scenario.resolved)
    canonical = {"seed": scenario.seed, "inputs": inputs, **_models(scenario)}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return {
        "scenario": scenario.name,
        "seed": scenario.seed,
        "duration_ns": scenario.duration,
        "bin_ns": scenario.bin,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
        "engine": dict(build()),
        "hash": hashlib.sha256(text.encode()).hexdigest(),
        "requests_hash": requests_hash,
        "inputs": inputs,
    }


def _models(scenario: Scenario) -> dict[str, Any]:
    """SHA-256 of the files that models are read from; nothing where there are none."""
    named = [job.model.partition("#")[0] for job in scenario.jobs.values() if job.model]
    files = [Path(name) for name in dict.fromkeys(named) if is_file(name) or is_trace(name)]
    hashes = {file.as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {"model_files": hashes} if hashes else {}


def _plain(value: Any) -> Any:
    """The same as JSON can hold it."""
    match value:
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case Path():
            return value.as_posix()
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
