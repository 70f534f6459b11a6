"""Scenario -> plan agrees with the slow oracle of docs/pricing.md, table by table."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pricing_models import as_named
from pricing_plan import Planner, Tables
from scene import scene

from dcsim.assembly import Plan, make_plan
from dcsim.engine import COLUMNS
from dcsim.models import get
from dcsim.models.adapters import lora_params
from dcsim.spec import Job, Layout, Scenario, Scheduler, load_scenario, scenario_from_data
from dcsim.testing import scenarios

ROOT = Path(__file__).resolve().parent.parent.parent
NAMED = ("pools", "channels", "phases", "segments", "works", "services", "classes", "replicas")


def oracle(plan: Plan) -> Tables:
    return Planner(plan.scenario, plan.requests, as_named, lora, (Layout(), Scheduler())).plan()


def lora(job: Job, rank: int, targets: str) -> int:
    """Bytes of an adapter, which tests/models/test_lora.py holds against published counts."""
    model = get(job.model or "")
    return 2 * lora_params(model.built(model.resolve(job.options)), rank, targets)


def agree(scenario: Scenario) -> Plan:
    plan = make_plan(scenario)
    slow = oracle(plan)
    for name in NAMED:
        rows = [dict(zip(COLUMNS[name], row, strict=True)) for row in plan.tables[name].tolist()]
        assert rows == getattr(slow, name), name
    start, channels = plan.tables["path_start"].tolist(), plan.tables["path_channels"].tolist()
    paths = [tuple(channels[a:b]) for a, b in pairwise(start)]
    assert paths == slow.paths
    columns = ("arrival", "klass", "work", "prompt", "output")
    found = zip(*(plan.tables[name].tolist() for name in columns), strict=True)
    assert [dict(zip(columns, row, strict=True)) for row in found] == slow.requests
    return plan


@given(scenarios(operations=False))
@settings(max_examples=max(1, settings().max_examples // 4))
def test_drawn_scenarios_agree(scenario: Scenario) -> None:
    # Pools of trays are not the oracle's; tests/planning/test_tiers.py has them by hand.
    assume(all(domain.pooled is None for domain in scenario.topology.domains))
    agree(scenario)


def image(steps: Any = 20, **given: Any) -> dict[str, Any]:
    """A job of images in two sizes."""
    shape = {"resolution": {"choice": {"256x256": 1, "128x256": 2}}, "frames": 1, "steps": steps}
    job = {"model": "dit-s-8", "shape": shape, "arrivals": {"process": "poisson", "rate": "1/s"}}
    return job | {"replicas": 1} | given


def shared(of: str, shape: dict[str, Any]) -> dict[str, Any]:
    arrivals = {"process": "constant", "rate": "0.5/s"}
    return {"shares": of, "arrivals": arrivals, "shape": shape}


CLASSES = {
    "small": image(),
    "chat": {
        "model": "llama-3.1-8b",
        "layout": {"tp": 2},
        "replicas": 2,
        "arrivals": {"process": "poisson", "rate": "1/s"},
        "shape": {"prompt": {"uniform": {"min": 1, "max": 900}}, "output": 9},
        "keep": {"context": {"dram": "1 s", "nand": "2 s"}, "store": "shelf"},
    },
    "agents": shared("chat", {"prompt": 70, "output": 3}),
    "large": shared("small", {"resolution": "256x256", "frames": 1, "steps": 20}),
    "never": image() | {"arrivals": {"process": "constant", "rate": "0.001/s"}},
}


@given(st.data())
@settings(max_examples=max(1, settings().max_examples // 4))
def test_our_scenes_agree(data: st.DataObject) -> None:
    """What drawn scenarios leave out: places, nodes without drives, shelves that serve one rack,
    classes that share a service, a class without a request."""
    draw = data.draw
    jobs = {name: dict(job) for name, job in CLASSES.items()}
    scheduler = {
        "max_jobs": draw(st.integers(1, 300)),
        "router": draw(st.sampled_from(["least_loaded", "round_robin"])),
        "same_shape": draw(st.booleans()),
    }
    chunk = draw(st.sampled_from([64, 512]))
    tokens = draw(st.sampled_from([None, 600, 4096]))
    for name, more in (
        ("small", {}),
        ("chat", {"prefill_chunk": chunk, "max_batched_tokens": tokens}),
    ):
        if draw(st.booleans()):
            jobs[name]["scheduler"] = scheduler | more
    if draw(st.booleans()):
        gpus = draw(st.permutations(range(5)))
        places = [{"domain": "rack1/node0", "gpus": sorted(gpus[i : i + 2])} for i in (0, 2)]
        jobs["chat"]["replicas"] = {"place": places}
    elif draw(st.booleans()):
        jobs["chat"]["replicas"] = {"count": 3, "on": ["rack1", "rack0"]}
    nodes = st.sampled_from(
        ["hgx-h100", {"extends": "hgx-h100", "ssds": None}, {"extends": "hgx-h100", "gpus": 5}]
    )
    shelf = {"extends": "bluefield-4-context", "pod_gpus": 1152}
    topology = {
        "name": "ours",
        "racks": {f"rack{i}": {"extends": "hgx-h100", "node": draw(nodes)} for i in (0, 1)},
        "shelves": {"first": shelf | {"serves": ["rack1"]}, "shelf": shelf},
    }
    seed = draw(st.integers(0, 9))
    cold = draw(st.booleans())
    agree(scenario_from_data(scene(topology=topology, jobs=jobs, seed=seed, start_cold=cold)))


def test_the_quickstart_agrees() -> None:
    agree(load_scenario(ROOT / "scenarios" / "quickstart.yaml"))
