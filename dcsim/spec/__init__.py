"""What the user wrote, as frozen and validated objects."""

from __future__ import annotations

from dcsim.reading.errors import Problem, SpecError, did_you_mean
from dcsim.spec.adapters import Adapters, KeptAdapters
from dcsim.spec.compose import find_scenario, shipped_file, shipped_files
from dcsim.spec.draws import (
    Choice,
    Empirical,
    Fixed,
    FromLog,
    LogNormal,
    Numbers,
    Size,
    Sizes,
    Uniform,
)
from dcsim.spec.jobs import (
    Arrivals,
    Closed,
    Constant,
    GammaArrivals,
    Job,
    Keep,
    KeepTimes,
    Poisson,
    Replay,
)
from dcsim.spec.load import (
    check_file,
    file_kind,
    load_parts,
    load_scenario,
    load_topology,
    scenario_from_data,
)
from dcsim.spec.operations import (
    Capacity,
    CapacityChange,
    Failures,
    Operation,
    Outage,
    Sampler,
)
from dcsim.spec.parts import Dpu, Gpu, Host, Nic, Parts, Ssd
from dcsim.spec.paths import Setting, paths
from dcsim.spec.rates import Rate
from dcsim.spec.reuse import Admission, Eviction, Reuse
from dcsim.spec.scenario import Scenario
from dcsim.spec.schema import json_schema
from dcsim.spec.serving import ORDERS, ROUTERS, Layout, Place, Replicas, Scheduler, Stage
from dcsim.spec.sessions import Session, Step, SystemPrompts
from dcsim.spec.shapes import TRACE_SUFFIX, AsTraced, ClipShape, Shape, TokenShape, is_trace
from dcsim.spec.stages import parts_of, served
from dcsim.spec.topology import Domain, Endurance, Shelf, Topology

__all__ = [
    "ORDERS",
    "ROUTERS",
    "TRACE_SUFFIX",
    "Adapters",
    "Admission",
    "Arrivals",
    "AsTraced",
    "Capacity",
    "CapacityChange",
    "Choice",
    "ClipShape",
    "Closed",
    "Constant",
    "Domain",
    "Dpu",
    "Empirical",
    "Endurance",
    "Eviction",
    "Failures",
    "Fixed",
    "FromLog",
    "GammaArrivals",
    "Gpu",
    "Host",
    "Job",
    "Keep",
    "KeepTimes",
    "KeptAdapters",
    "Layout",
    "LogNormal",
    "Nic",
    "Numbers",
    "Operation",
    "Outage",
    "Parts",
    "Place",
    "Poisson",
    "Problem",
    "Rate",
    "Replay",
    "Replicas",
    "Reuse",
    "Sampler",
    "Scenario",
    "Scheduler",
    "Session",
    "Setting",
    "Shape",
    "Shelf",
    "Size",
    "Sizes",
    "SpecError",
    "Ssd",
    "Stage",
    "Step",
    "SystemPrompts",
    "TokenShape",
    "Topology",
    "Uniform",
    "check_file",
    "did_you_mean",
    "file_kind",
    "find_scenario",
    "is_trace",
    "json_schema",
    "load_parts",
    "load_scenario",
    "load_topology",
    "parts_of",
    "paths",
    "scenario_from_data",
    "served",
    "shipped_file",
    "shipped_files",
]
