"""dcsim: a discrete-event data-center simulator of memory demand.

Racks of GPUs with HBM, host DRAM and NAND serve DiT and LLM jobs; the simulator says how much of
each tier they demand over time. Names are imported on first use, so `import dcsim` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcsim.assembly import Plan, make_plan
    from dcsim.models import ModelError
    from dcsim.operations import Arriving, Candidate, DataCenter, Environment, Process, Route
    from dcsim.planning import (
        check,
        compare,
        hit_rate_curve,
        hit_rates,
        load,
        run,
        simulate,
        split,
        variants,
    )
    from dcsim.results import Results
    from dcsim.spec import (
        Problem,
        Scenario,
        SpecError,
        load_scenario,
        load_topology,
        paths,
        scenario_from_data,
    )
    from dcsim.traces import kv, trace
    from dcsim.validation import validate
    from dcsim.workload import stream

_HOMES = {
    "Arriving": "operations",
    "Candidate": "operations",
    "DataCenter": "operations",
    "Environment": "operations",
    "ModelError": "models",
    "Plan": "assembly",
    "Problem": "spec",
    "Process": "operations",
    "Results": "results",
    "Route": "operations",
    "Scenario": "spec",
    "SpecError": "spec",
    "check": "planning",
    "compare": "planning",
    "hit_rate_curve": "planning",
    "hit_rates": "planning",
    "kv": "traces",
    "load": "planning",
    "load_scenario": "spec",
    "load_topology": "spec",
    "make_plan": "assembly",
    "paths": "spec",
    "run": "planning",
    "scenario_from_data": "spec",
    "simulate": "planning",
    "split": "planning",
    "stream": "workload",
    "trace": "traces",
    "validate": "validation",
    "variants": "planning",
}

__all__ = [
    "Arriving",
    "Candidate",
    "DataCenter",
    "Environment",
    "ModelError",
    "Plan",
    "Problem",
    "Process",
    "Results",
    "Route",
    "Scenario",
    "SpecError",
    "check",
    "compare",
    "hit_rate_curve",
    "hit_rates",
    "kv",
    "load",
    "load_scenario",
    "load_topology",
    "make_plan",
    "paths",
    "run",
    "scenario_from_data",
    "simulate",
    "split",
    "stream",
    "trace",
    "validate",
    "variants",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"dcsim.{_HOMES[name]}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("dcsim")
    raise AttributeError(f"module 'dcsim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__, "__version__"]
