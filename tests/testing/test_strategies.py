"""What the strategies draw: fits, keeps to its bounds, shrinks, prints as YAML."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from scene import scene

from dcsim.assembly import make_plan
from dcsim.spec import Capacity, Failures, Sampler, load_parts, load_scenario, scenario_from_data
from dcsim.testing import (
    DrawnScenario,
    Written,
    from_yaml,
    job_mixes,
    memory_traces,
    operations,
    scenario_from_yaml,
    scenarios,
    topologies,
    variations,
)
from dcsim.traces import MemoryTrace, load, price, save

QUICK = settings(max_examples=max(1, settings().max_examples // 2))
SECOND = 10**9


def fails(strategy: st.SearchStrategy[Any]) -> str:
    """What Hypothesis prints of a value that fails a test."""

    @settings(max_examples=1, database=None, phases=[Phase.generate])
    @given(strategy)
    def broken(drawn: Any) -> None:
        raise AssertionError

    with pytest.raises(AssertionError) as caught:
        broken()
    return "\n".join(caught.value.__notes__)


def simplest(strategy: st.SearchStrategy[Any], like: Callable[[Any], bool]) -> Any:
    """The simplest value for which `like` holds: the shortest that any of some searches ends in, as
    a single one may stop at a value that takes two changes at once to get simpler."""
    phases = [Phase.generate, Phase.shrink]
    exact = settings(max_examples=300, database=None, phases=phases)
    found = (find(strategy, like, settings=exact, random=Random(n)) for n in range(6))
    return min(found, key=lambda value: len(repr(value)))


@QUICK
@given(scenarios())
def test_a_scenario_prints_as_its_yaml(scenario: DrawnScenario) -> None:
    assert eval(repr(scenario), {"scenario_from_yaml": scenario_from_yaml}) == scenario


@settings(max_examples=3)
@given(scenario=scenarios())
def test_what_is_printed_is_a_scenario_file(
    scenario: DrawnScenario, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("pasted") / "pasted.yaml"
    file.write_text(scenario.yaml, encoding="utf-8")
    pasted = load_scenario(file)
    assert pasted.jobs == scenario.jobs
    assert pasted.topology == scenario.topology
    assert pasted.operations == scenario.operations


def test_hypothesis_prints_yaml() -> None:
    text = fails(scenarios())
    assert 'drawn=scenario_from_yaml("""' in text
    assert "model: dit-s-8" in text
    assert "DrawnScenario" not in text
    assert "racks:" in fails(topologies())
    assert "model: dit-s-8" in fails(job_mixes(topology="hgx_h100"))


def test_the_simplest_scenario_is_simple() -> None:
    scenario = simplest(scenarios(), lambda s: True)
    assert scenario.operations == ()
    assert scenario.topology.gpus == 1
    assert scenario.topology.shelves == ()
    assert scenario.duration == 10 * SECOND
    assert scenario.written["jobs"] == {
        "job0": {
            "model": "dit-s-8",
            "replicas": 1,
            "arrivals": {"process": "constant", "rate": "0.1/s"},
            "shape": {"resolution": "256x256", "steps": 1},
        }
    }


@pytest.mark.slow
def test_trouble_shrinks_to_its_cause() -> None:
    kept = simplest(
        scenarios(operations=False),
        lambda s: any(job.keep.context.nand > 30 * SECOND for job in s.jobs.values()),
    )
    (job,) = kept.written["jobs"].values()
    assert job["model"] == "llama-3.1-8b"
    assert job["keep"] == {"context": {"nand": "50 s"}}


@QUICK
@given(st.data())
def test_bounds_are_kept(data: st.DataObject) -> None:
    scenario = data.draw(
        scenarios(
            topology=topologies(
                racks=2, nodes=1, gpus=(2, 3), gpu=["h200"], dram=("1 GB", "3 GB"), shelves=0
            ),
            duration=("20 s", "30 s"),
            models=["llama-3.1-8b"],
            classes=2,
            rate=("0.5/s", "2/s"),
            keep="7 s",
            prompt=(10, 20),
            output=3,
            operations=False,
            start_cold=True,
        )
    )
    assert {domain.gpu.name for domain in scenario.topology.domains} == {"h200"}
    assert all(2 <= domain.gpus <= 3 for domain in scenario.topology.domains)
    assert all(10**9 <= domain.dram <= 3 * 10**9 for domain in scenario.topology.domains)
    assert len(scenario.topology.domains) == len(scenario.jobs) == 2
    assert 20 * SECOND <= scenario.duration <= 30 * SECOND
    assert scenario.start_cold
    assert not scenario.operations
    for job in scenario.jobs.values():
        assert 0 < job.arrivals.rate.max() <= 2.0 + 1e-9  # type: ignore[union-attr]
        assert {job.keep.context.dram, job.keep.context.nand} <= {0, 7 * SECOND}
    requests = make_plan(scenario).requests
    alone = [job.session is None for job in scenario.jobs.values()]
    longest = np.where(np.array(alone)[requests.klass], 20, np.inf)  # a turn has all before it
    assert ((requests.prompt >= 10) & (requests.prompt <= longest)).all()
    assert (requests.output == 3).all()


@QUICK
@given(scenarios(max_requests=30, rate=("0.01/s", "100/s")))
def test_requests_are_few(scenario: DrawnScenario) -> None:
    """Bursts may bring more than expected, not many times more."""
    assert len(make_plan(scenario).requests) <= 30 * 8


@QUICK
@given(st.data())
def test_mixes_fit_shipped_topologies(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["hgx_h100", "gb300_nvl72_context"]))
    models = ["dit-s-8", "llama-3.1-8b"]
    mix = data.draw(job_mixes(topology=name, models=models, duration="10 s"))
    data = {"name": "x", "duration": "10 s", "bin": "10 s", "topology": name, "jobs": mix}
    make_plan(scenario_from_data(data))


def test_large_models_go_where_they_fit() -> None:
    """70 B parameters need two H100s or more; a single one takes no replica."""
    mix = simplest(job_mixes(topology="hgx_h100", models=["llama-3.1-70b"]), lambda mix: True)
    assert mix["job0"]["layout"] == {"tp": 2}
    one = simplest(topologies(gpus=1, gpu=["h100"]), lambda topology: True)
    with pytest.raises(InvalidArgument, match=r"none of the models llama-3\.1-70b fits"):
        simplest(job_mixes(topology=one, models=["llama-3.1-70b"]), lambda mix: True)


def test_operations_of_every_kind() -> None:
    data = {**scene(), "duration": "1 min"}
    drawn = operations(topology=data["topology"], jobs=data["jobs"], duration="1 min")
    for kind in ("failures", "capacity", "sampler"):
        found = simplest(drawn, lambda ops, kind=kind: any(op["kind"] == kind for op in ops))
        resolved = scenario_from_data({**data, "operations": found}).operations
        kinds = {"failures": Failures, "capacity": Capacity, "sampler": Sampler}
        assert any(isinstance(operation, kinds[kind]) for operation in resolved)


@pytest.mark.parametrize(
    "bounds",
    [{"rate": ("2/s", "1/s")}, {"rate": ("-1/s", "1/s")}, {"duration": ("2 h", "1 h")},
     {"classes": (3, 1)}, {"prompt": (3, 1)}],
    ids=str,
)  # fmt: skip
def test_bounds_are_bounds(bounds: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="the first is more than the second"):
        simplest(scenarios(**bounds, models=["llama-3.1-8b"]), lambda s: True)


def test_jobs_that_are_given_are_not_bounded() -> None:
    with pytest.raises(InvalidArgument, match="jobs are given, so rate would bound nothing"):
        simplest(scenarios(jobs=scene()["jobs"], rate="1/s"), lambda s: True)


def test_what_is_given_is_taken() -> None:
    data = scene()
    given = scenarios(
        topology=data["topology"],
        jobs=data["jobs"],
        operations=[{"kind": "sampler", "every": "1 s"}],
    )
    scenario = simplest(given, lambda s: True)
    assert scenario.written["topology"] == data["topology"]
    assert scenario.written["jobs"] == data["jobs"]
    assert scenario.operations == (Sampler(SECOND),)


def test_what_from_yaml_reads() -> None:
    mix = Written(chat={"model": "no", "options": {"memory_utilization": 0.95}, "x": ["1 s", 2]})
    assert from_yaml(mix.yaml) == mix
    assert eval(repr(mix), {"from_yaml": from_yaml}) == mix


# Memory traces


@QUICK
@given(memory_traces())
def test_memory_traces_are_whole(memory: MemoryTrace) -> None:
    assert 0 < memory.weights_bytes <= memory.residency_bytes <= memory.peak_bytes
    assert sum(segment.first for segment in memory.segments) == 1
    assert memory.scale() == memory
    work = price(memory, load_parts().gpus["b200"])
    assert all(phase.launch > 0 for phase in work.phases)


def test_memory_traces_are_saved_without_loss(tmp_path: Path) -> None:
    @settings(max_examples=5, database=None)
    @given(memory_traces(gpus=1))
    def saved(memory: MemoryTrace) -> None:
        save(memory, tmp_path / "trace.npz")
        assert load(tmp_path / "trace.npz") == memory

    saved()


def test_a_memory_trace_prints_as_a_call() -> None:
    text = fails(memory_traces(models=["dit-s-8"]))
    assert "drawn=trace('dit-s-8', {" in text
    assert "Clip(width=256" in text


# A file of one's own


def test_variations_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parent.parent.parent
    changes = {
        "jobs.chat.arrivals.rate": st.integers(5, 9).map("{}/s".format),
        "jobs.video.shape.frames": st.just({"choice": {49: 1, 81: 2}}),
    }
    drawn = simplest(variations(root / "scenarios" / "quickstart.yaml", changes), lambda s: True)
    assert drawn.jobs["chat"].arrivals.rate.max() == 5.0  # type: ignore[union-attr]
    assert drawn.jobs["video"].shape.frames.weights == (1.0, 2.0)  # type: ignore[union-attr]
    assert "what_if:\n  drawn:\n" in repr(drawn)
    assert "jobs.chat.arrivals.rate: 5/s" in repr(drawn)
    assert "quickstart.yaml" in repr(drawn)
    assert "jobs.chat.arrivals.rate: 5/s" in fails(
        variations(root / "scenarios" / "quickstart.yaml", changes)
    )


def test_without_hypothesis_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['hypothesis'] = None; import dcsim.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: dcsim.testing needs hypothesis" in done.stderr
    assert "pip install 'dcsim[testing]'" in done.stderr
