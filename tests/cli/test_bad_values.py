"""One thing wrong in a scenario that is otherwise right: what the error says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_scenes import RUN, Dcsim, refused, write
from scene import changed, scene

pytestmark = pytest.mark.usefixtures("nothing_runs")


def ops(*operations: dict[str, Any]) -> dict[str, Any]:
    return scene(operations=list(operations))


def clip(**shape: Any) -> dict[str, Any]:
    job = scene()["jobs"]["image"] | {"model": "video-dit-13b", "layout": {"sp": 4}}
    job["shape"] = {"resolution": "832x480", "frames": 81, "steps": 10} | shape
    return scene(jobs={"v": job})


def places(*given: tuple[str, list[int]]) -> dict[str, Any]:
    entries = [{"domain": domain, "gpus": gpus} for domain, gpus in given]
    return changed("jobs.chat.replicas", {"place": entries})


def gpu(**figures: Any) -> dict[str, Any]:
    return changed("topology.racks.rack0.node", {"gpu": figures})


CHAT = "jobs.chat"
RATE = f"{CHAT}.arrivals.rate"
HUGE = 10**18

VALUES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a bare time": (changed("duration", 600), ["duration: 600 is a bare number ... '1.5 h'"]),
    "a unit of another kind": (changed("duration", "10 GB"), ["duration: '10 GB' ... is a size"]),
    "no unit at all": (changed("bin", "10 sec"), ["bin: '10 sec': the unit 'sec' ... ns, us"]),
    "no time": (changed("duration", "0 s"), ["duration: '0 s' must be more than 0"]),
    "less than no time": (changed("duration", "-1 h"), ["duration: '-1 h' must be more than 0"]),
    "no bin": (changed("bin", "0 s"), ["bin: '0 s' must be more than 0"]),
    "small bins": (changed("bin", "1 ns"), ["bin: makes 600000000000 bins ... at most 1000000"]),
    "a wide bin": (changed("bin", "1 h"), ["bin: is longer than the duration: 3600 s of 600 s"]),
    "centuries": (
        changed("duration", "15000 w"),
        ["duration: 288 years must be 50 or less", "bin: makes", RATE, "jobs.image.arrivals.rate"],
    ),
    "aeons": (changed("duration", "1e300 h"), ["duration: '1e300 h' is more than 64 bits hold"]),
    "a negative seed": (changed("seed", -1), ["seed: -1 must be 0 or more"]),
    "a long seed": (changed("seed", 2**63), ["seed: 9223372036854775808 must be less than"]),
    "a seed of many digits": (changed("seed", 10**4000), ["seed: a number of 4001 digits"]),
    "a rate of NaN": (changed(RATE, float("nan")), [f"{RATE}: nan is a bare number ... '30/s'"]),
    "a rate of nan/s": (changed(RATE, "nan/s"), [f"{RATE}: 'nan/s' is no quantity"]),
    "an infinite rate": (changed(RATE, "inf/s"), [f"{RATE}: 'inf/s' is no quantity"]),
    "a negative rate": (changed(RATE, "-5/s"), [f"{RATE}: '-5/s' must be 0 or more"]),
    "a bare rate": (changed(RATE, 5), [f"{RATE}: 5 is a bare number"]),
    "too many requests": (changed(RATE, "1e9/s"), [f"{RATE}: makes 6e+11 requests ... 1e+09"]),
    "a rate past all": (changed(RATE, "1e999/s"), [f"{RATE}: '1e999/s' is more than"]),
    "a tiny cv": (
        changed(f"{CHAT}.arrivals", {"process": "gamma", "rate": "1/s", "cv": 1e-200}),
        [f"{CHAT}.arrivals.cv: 1e-200 must be from 0.001 to 1000"],
    ),
    "jobs without any": (scene(jobs={}), ["jobs: needs at least 1"]),
    "a null job": (scene(jobs={"chat": None}), ["jobs.chat: nothing where a mapping is due"]),
    "a job with a long name": (
        scene(jobs={"c" * 99: scene()["jobs"]["chat"]}),
        [f"jobs.{'c' * 99}: a name has at most 64 characters"],
    ),
    "no topology of that name": (
        scene(topology="hgx_h10"),
        ["topology: no shipped topology 'hgx_h10' ... did you mean 'hgx_h100'?"],
    ),
    "no rack of that name": (
        changed("topology.racks.rack0", "hgx-h10"),
        ["topology.racks.rack0: no 'hgx-h10' among the racks of the catalogue ... 'hgx-h100'"],
    ),
    "no part of that name": (gpu(extends="h10"), ["topology.racks.rack0.node.gpu ... 'h100'?"]),
    "memory past 64 bits": (gpu(hbm="9 EB"), ["topology.racks: 7.2e+19 B of HBM in all"]),
    "a link that never ends": (
        gpu(host_link="1 B/s"),
        ["topology.racks: host_link of h100 must be from 1 MB/s"],
    ),
    "a share of next to nothing": (
        changed("topology.shelves.shelf.pod_gpus", HUGE),
        [
            f"topology.shelves.shelf: {name} of shelf must be"
            for name in ("read", "write", "network")
        ],
    ),
    "a launch of years": (
        gpu(launch="1000 w"),
        ["jobs.chat.model: a step of llama-3.1-8b on h100 takes over 39 h", "jobs.image.model: "],
    ),
    "an unknown model": (
        changed(f"{CHAT}.model", "llama-3.1-8"),
        [f"{CHAT}.model: no model 'llama-3.1-8': did you mean 'llama-3.1-8b'? (known: "],
    ),
    "a model that does not fit": (
        changed(f"{CHAT}.model", "llama-3.1-70b"),
        [f"{CHAT}.layout: llama-3.1-70b does not fit ... 1 x h100 hold 85.5 GB. Use more GPUs"],
    ),
    "options": (
        changed(f"{CHAT}.options", {"dtpye": "bf16", "kv_dtype": "fp7", "runtime_overhead": -1}),
        [
            f"{CHAT}.options.dtpye: unknown option: did you mean 'dtype'?",
            f"{CHAT}.options.kv_dtype: 'fp7' is not allowed: did you mean 'fp8'? (known: as dtype",
            f"{CHAT}.options.runtime_overhead: -1 is outside",
        ],
    ),
    "an infinite option": (
        changed("jobs.image.options", {"guidance": float("inf")}),
        ["jobs.image.options.guidance: inf is not a finite number"],
    ),
    "a layout that does not divide": (
        changed(f"{CHAT}.layout", {"tp": 3}),
        [f"{CHAT}.layout.tp: 3 does not divide 32 attention heads"],
    ),
    "a layout larger than a node": (
        changed(f"{CHAT}.layout", {"tp": 16}),
        ["jobs: all replicas together", f"{CHAT}.layout: takes 16 GPUs a replica; the largest"],
    ),
    "too many replicas": (
        changed(f"{CHAT}.replicas", HUGE),
        [f"jobs: all replicas together take {HUGE + 1} GPUs; the topology has 8"],
    ),
    "places that overlap": (
        places(("rack0/node0", [1]), ("rack0/node0", [1]), ("rack0/node0", [9]), ("rack1", [0])),
        [
            f"{CHAT}.replicas.place.1.gpus: GPU 1 of rack0/node0 is already given to replica 0",
            f"{CHAT}.replicas.place.2.gpus: no GPU 9 of rack0/node0: it has 8, from 0",
            f"{CHAT}.replicas.place.3.domain: no domain 'rack1'",
        ],
    ),
    "a resolution that patches do not fill": (
        changed("jobs.image.shape.resolution", "257x256"),
        ["jobs.image.shape.resolution: width 257 is not a multiple of 16 pixels"],
    ),
    "an image of a terapixel": (
        changed("jobs.image.shape.resolution", "999984x999984"),
        ["jobs.image.shape: width 999984, height 999984 ... more FLOPs or bytes than 64 bits hold"],
    ),
    "a clip of a terapixel": (clip(frames=999_997), ["jobs.v.shape ... FLOPs or bytes than 64"]),
    "a clip of petapixels": (
        clip(resolution="999936x999936"),
        ["jobs.v.shape ... at most 1.1e+12"],
    ),
    "frames without end": (clip(frames=HUGE), [f"jobs.v.shape.frames: {HUGE} must be 2147483647"]),
    "steps without end": (clip(steps=2**30), ["jobs.v.shape.steps: 1073741824 must be 100000"]),
    "tokens without end": (
        changed(f"{CHAT}.shape.output", {"uniform": {"min": 1, "max": HUGE}}),
        [f"{CHAT}.shape.output.uniform.max: {HUGE} must be 2147483647 or less"],
    ),
    "weights past all": (
        changed(f"{CHAT}.shape.output", {"choice": {"10": 1e308, "20": 1e308}}),
        [f"{CHAT}.shape.output.choice.10: 1e+308 must be", f"{CHAT}.shape.output.choice.20"],
    ),
    "a chunk past all": (
        changed(f"{CHAT}.scheduler", {"prefill_chunk": 2**30, "max_batched_tokens": 2**30}),
        [f"{CHAT}.scheduler.prefill_chunk: 1073741824 must be 1048576 or less"],
    ),
    "contexts kept for ever": (
        changed(f"{CHAT}.keep.context.dram", "15000 w"),
        [f"{CHAT}.keep.context.dram: 288 years must be 50 or less"],
    ),
    "no such shelf": (
        changed("jobs.image.keep.store", "shlf"),
        ["jobs.image.keep.store: no shelf 'shlf'; did you mean 'shelf'?"],
    ),
    "samples without end": (
        ops({"kind": "sampler", "every": "1 ns"}),
        ["operations.0.every: makes 600000000000 events in the run; at most 1000000"],
    ),
    "failures without end": (
        ops({"kind": "failures", "job": "chat", "mtbf": "1 ns", "mttr": "1 ns"}),
        ["operations.0.mtbf: makes 300000000000 events in the run; at most 1000000"],
    ),
    "a failure of nobody": (
        ops({"kind": "failures", "job": "chta", "script": [["1 s", 0, "1 s"]]}),
        ["operations.0.job: no job 'chta'; did you mean 'chat'?"],
    ),
    "a capacity of nothing": (
        ops({"kind": "capacity", "script": [["1 s", "rack0/dram", "1 TB"]]}),
        ["operations.0.script.0.1: no pool 'rack0/dram'; did you mean 'rack0/node0/dram'?"],
    ),
    "variants that are wrong": (
        scene(what_if={"a": {"jobs.chta.model": "x"}, "b": {"bin": 5}}),
        [
            "what_if.a: jobs.chta.model: no 'chta' in jobs; did you mean 'chat'?",
            "what_if.b: bin: 5 is a bare number",
        ],
    ),
    "variants with wrong names": (
        scene(what_if={"base": {}, "a/b": {}}),
        ["what_if.base: 'base' is taken", "what_if.a/b: a name has letters"],
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(dcsim: Dcsim, tmp_path: Path, name: str) -> None:
    data, expected = VALUES[name]
    write(tmp_path / "s.yaml", data)
    refused(dcsim, tmp_path, RUN, expected, within="s.yaml")
