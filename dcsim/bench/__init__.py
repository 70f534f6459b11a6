"""`dcsim bench`: how fast the engine is, against a floor, a stepper and a whole run; and caches."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from dcsim import report as reports
from dcsim.assembly import Plan, make_plan
from dcsim.bench.hitrate import hitrate_figures, hitrate_rows
from dcsim.bench.tiers import tiers_figures, tiers_rows
from dcsim.engine import build, floor_seconds
from dcsim.models import get as get_model
from dcsim.models import names
from dcsim.models.shapes import Clip, RequestShape
from dcsim.planning import run
from dcsim.report.painter import Painter
from dcsim.spec import scenario_from_data
from dcsim.traces import trace

RATE = 45
"""Requests a second: some two thirds of what the four replicas can do."""
ORACLE_REQUESTS = 400
REPEATS = 3
LOG = "azure2023_llm_conv.csv.gz"
LARGEST = "hunyuanvideo"


def measure(requests: int) -> dict[str, Any]:
    """All figures. Each is the best of a few repeats, and the ratios are of one process."""
    lengths, shape = _lengths()
    out: dict[str, Any] = {"build": build(), "requests": requests, "lengths": lengths}
    begun = time.perf_counter()
    plan = _plan(requests, shape)
    loaded = time.perf_counter() - begun
    out["engine"] = _engine(plan)
    out["oracle"] = _oracle(shape, out["engine"])
    out["trace"] = _trace()
    out["run"] = _whole(plan, loaded)
    out["hitrate"] = hitrate_figures(requests, REPEATS)
    out["tiers"] = tiers_figures(requests, REPEATS)
    return out


def report(requests: int, *, as_json: bool) -> str:
    """The figures as text or JSON."""
    figures = measure(requests)
    return json.dumps(figures, indent=2) if as_json else _text(figures)


def _lengths() -> tuple[str, dict[str, Any]]:
    """Where the prompt and output lengths come from."""
    folder = os.environ.get("DCSIM_TRACES")
    log = Path(folder, LOG) if folder else None
    if log is not None and log.is_file():
        shape = {
            "prompt": {"empirical": {"file": str(log), "column": "ContextTokens"}},
            "output": {"empirical": {"file": str(log), "column": "GeneratedTokens"}},
        }
        return "Azure 2023 conversations", shape
    # Medians and spread of that log, drawn instead.
    drawn: dict[str, Any] = {
        "prompt": {"lognormal": {"median": 928, "sigma": 1.1, "min": 1, "max": 14050}},
        "output": {"lognormal": {"median": 129, "sigma": 1.1, "min": 1, "max": 1000}},
    }
    return "log-normal stand-in (set DCSIM_TRACES for the Azure log)", drawn


def _plan(requests: int, shape: Mapping[str, Any]) -> Plan:
    seconds = max(1, requests // RATE)
    scenario = scenario_from_data(
        {
            "name": "bench",
            "seed": 1,
            "duration": f"{seconds} s",
            "bin": f"{min(60, seconds)} s",
            "topology": "gb300_nvl72",
            "jobs": {
                "chat": {
                    "model": "llama-3.1-70b",
                    "layout": {"tp": 4},
                    "replicas": 4,
                    "scheduler": {"max_batched_tokens": 2048, "prefill_chunk": 512},
                    "arrivals": {"process": "poisson", "rate": f"{RATE}/s"},
                    "shape": dict(shape),
                }
            },
        }
    )
    return make_plan(scenario)


def _engine(plan: Plan) -> dict[str, Any]:
    seconds = []
    for _ in range(REPEATS):
        engine = plan.engine()
        begun = time.perf_counter()
        outputs = engine.finish()
        seconds.append(time.perf_counter() - begun)
    stats = outputs["stats"]
    # The floor touches as much as the engine must: its events, the rows of its requests.
    floor = min(
        floor_seconds(stats["events"], len(plan.replicas), max(1, len(plan.requests)))
        for _ in range(REPEATS)
    )
    best = min(seconds)
    return {
        "requests": len(plan.requests),
        "seconds": best,
        "seconds_of_each_repeat": seconds,
        "requests_per_second": len(plan.requests) / best,
        "steps_per_second": stats["steps"] / best,
        "boundaries_per_request": stats["boundaries"] / max(1, len(plan.requests)),
        "nanoseconds_per_event": best / stats["events"] * 1e9,
        "floor_seconds": floor,
        "times_the_floor": best / floor,
        "stats": stats,
    }


def _oracle(shape: Mapping[str, Any], engine: Mapping[str, Any]) -> dict[str, Any]:
    """The stepper of the tests on the first requests of the same load, where it is at hand."""
    module = _oracle_module()
    if module is None:
        return {"available": False, "why": "tests/oracle.py is in the source tree only"}
    plan = _plan(ORACLE_REQUESTS, shape)
    horizon, width = plan.scenario.duration, plan.scenario.bin
    begun = time.perf_counter()
    module.Oracle(plan.tables, horizon, width, False).finish()
    seconds = time.perf_counter() - begun
    rate = len(plan.requests) / seconds
    return {
        "available": True,
        "requests": len(plan.requests),
        "seconds": seconds,
        "requests_per_second": rate,
        "engine_is_faster_by": engine["requests_per_second"] / rate,
    }


def _oracle_module() -> ModuleType | None:
    tests = Path(__file__).resolve().parents[2] / "tests"
    if not (tests / "oracle.py").is_file():
        return None
    sys.path.insert(0, str(tests))
    try:
        return import_module("oracle")
    finally:
        sys.path.remove(str(tests))


def _trace() -> dict[str, Any]:
    """The largest request at 720p, and one of every model of the catalogue."""
    trace(LARGEST)  # imports and caches once
    seconds = []
    for width in (1248, 1264, 1296):  # shapes not seen yet: no cache helps
        begun = time.perf_counter()
        trace(LARGEST, shape=Clip(width, 720, 129, 50))
        seconds.append(time.perf_counter() - begun)
    models = [get_model(name) for name in names()]
    begun = time.perf_counter()
    for model in models:
        trace(model.name, shape=_other(model.request))
    all_of_them = {"models": len(models), "seconds": time.perf_counter() - begun}
    return {"model": LARGEST, "seconds": min(seconds), "catalogue": all_of_them}


def _other(request: RequestShape) -> RequestShape:
    """One that no cache knows, and that costs as much."""
    if isinstance(request, Clip):
        return replace(request, steps=request.steps - 1)
    return replace(request, prompt=request.prompt + 1)


def _whole(plan: Plan, loaded: float) -> dict[str, Any]:
    """From the plan to Parquet and plots, as the command does it: where the time of it goes."""
    with tempfile.TemporaryDirectory() as folder, Painter(True) as painter:
        begun = time.perf_counter()
        results = run(plan)
        simulated = time.perf_counter()
        reports.write_run(results, Path(folder, "results"), painter=painter)
        written = time.perf_counter()
        results.write(Path(folder, "tables"))
        tables = time.perf_counter()
        reports.plot_run(results, Path(folder))
        drawn = time.perf_counter()
    engine = results.summary["engine"]
    # They run at once, so the longer one is what they took.
    both = max(engine["wall_seconds"], engine["lifted"]["wall_seconds"])
    return {
        "requests": len(plan.requests),
        "seconds": loaded + written - begun,
        "load_and_generate": loaded,
        "engine_two_passes": both,
        "tables_and_summary": simulated - begun - both,
        "write_and_plots": written - simulated,
        "write": tables - written,
        "plots": drawn - tables,
    }


def _text(f: Mapping[str, Any]) -> str:
    engine, oracle, whole = f["engine"], f["oracle"], f["run"]
    rows = [
        ("lengths", f["lengths"]),
        ("engine", f"{engine['requests_per_second']:,.0f} requests/s, timeline on"),
        ("", f"{engine['steps_per_second']:,.0f} steps of requests a second covered"),
        (
            "",
            f"{engine['nanoseconds_per_event']:.0f} ns an event, "
            f"{engine['boundaries_per_request']:.2f} boundaries a request",
        ),
        ("floor", f"{engine['times_the_floor']:.1f} x the time of bare heap and array work"),
        (
            "oracle",
            f"{oracle['engine_is_faster_by']:,.0f} x faster than stepping in Python"
            if oracle["available"]
            else oracle["why"],
        ),
        (
            "trace",
            f"{f['trace']['model']} at 720p in {f['trace']['seconds'] * 1e3:.1f} ms, all "
            f"{f['trace']['catalogue']['models']} models in "
            f"{f['trace']['catalogue']['seconds']:.2f} s",
        ),
        (
            "run",
            f"{whole['requests']:,} requests, YAML to Parquet and plots: {whole['seconds']:.2f} s",
        ),
    ]
    stages = ("load_and_generate", "engine_two_passes", "tables_and_summary", "write_and_plots")
    rows += [("", f"  {key.replace('_', ' ')} {whole[key]:.2f} s") for key in stages]
    rows.append(("", f"    write alone {whole['write']:.2f} s, plots alone {whole['plots']:.2f} s"))
    rows += hitrate_rows(f["hitrate"])
    rows += tiers_rows(f["tiers"])
    return "\n".join(f"{name:<8}{text}" for name, text in rows)
