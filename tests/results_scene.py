"""A made-up plan of realistic size: chat on a 70 B model and video on one 8-GPU node."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache

import numpy as np
from workload_scenes import job, scene

from dcsim.assembly.plan import ChannelInfo, Plan, PoolInfo, WorkRows
from dcsim.engine import TIERS, Outputs, table
from dcsim.results import Results, collect
from dcsim.spec import (
    Choice,
    ClipShape,
    Endurance,
    Fixed,
    Job,
    LogNormal,
    Poisson,
    Rate,
    Scenario,
    TokenShape,
)
from dcsim.workload import Requests, generate

SECOND = 10**9
HOUR = 3600 * SECOND
TICK = 65536
CHAT = ("chat/0", "chat/1")
VIDEO = ("video/0", "video/1")
KV = 327_680
GB = 10**9


def jobs(chat: float = 1.2, video: float = 0.012) -> tuple[Job, Job]:
    """Chat with a rate that doubles over the run, and video, per second."""
    rising = Rate((0, 2 * HOUR), (chat * 0.5, chat * 1.5))
    tokens = TokenShape(LogNormal(1000, 1.0, 16, 16_000), LogNormal(220, 0.8, 1, 2_000))
    clips = ClipShape(
        Choice(((832, 480), (1280, 720)), (4.0, 1.0)), Choice((49, 81), (1.0, 2.0)), Fixed(50)
    )
    return job("chat", Poisson(rising), tokens), job("video", Poisson(Rate.flat(video)), clips)


def make_plan(
    scenario: Scenario | None = None,
    *,
    dram: int = 2000 * GB,
    dwpd: float | None = 1.0,
    amplification: float = 1.0,
) -> Plan:
    """Chat on two replicas of two GPUs each, video on two of two; 30 TB of NAND."""
    scenario = scenario or replace(scene(*jobs(), seconds=7200.0), bin=60 * SECOND, name="made up")
    requests = generate(scenario)
    wear = Endurance(dwpd, 5, amplification, 1.0, None)
    pools = [
        *(PoolInfo(f"{name}.hbm", "hbm", 4 * 80 * GB, name) for name in (*CHAT, *VIDEO)),
        PoolInfo("node.dram", "dram", dram, "node"),
        PoolInfo("node.nand", "nand", 30_000 * GB, "node", wear),
    ]
    channels = [
        ChannelInfo("node.nand.read", 56 * GB, 60_000),
        ChannelInfo("node.nand.write", 30 * GB, 15_000, 5),
        *(ChannelInfo(f"{name}.onboard", 256 * GB, 0) for name in (*CHAT, *VIDEO)),
        *(ChannelInfo(f"{name}.offload", 256 * GB, 0) for name in (*CHAT, *VIDEO)),
    ]
    tables = {
        "pools": table(
            "pools", [{"tier": TIERS.index(p.tier), "capacity": p.capacity} for p in pools]
        ),
        "channels": table(
            "channels", [{"bandwidth": c.bandwidth, "latency": c.latency} for c in channels]
        ),
        "path_start": np.arange(len(channels) + 1, dtype=np.int64),
        "path_channels": np.arange(len(channels), dtype=np.int64),
        "phases": table("phases", [{"launch": 300_000 * TICK, "weights": 13_000_000 * TICK}] * 4),
        **_works(requests),
        **_service_tables(),
    }
    works = WorkRows(np.array([0, 1]), np.arange(len(tables["works"]), dtype=np.int64))
    names = ("chat", "video")
    return Plan(
        *(scenario, requests, tables, works, tuple(pools), tuple(channels)),
        *(names, names, (*CHAT, *VIDEO)),
    )


def _works(requests: Requests) -> dict[str, np.ndarray]:
    """Token work of a 70 B model, then one fixed work a clip: encode, denoise, decode."""
    token = {"phase": 0, "dense": 59_000 * TICK, "ctx": 30 * TICK, "pair": 2 * TICK, "live": KV}
    segments = [
        token | {"rule": 1, "tokens": 2048, "peak": 400_000, "mean": 200_000, "first": 1},
        token | {"rule": 2, "tokens": 1, "peak": 400_000, "mean": 200_000},
    ]
    works = [{"segment": 0, "segments": 2}]
    for clip in requests.shapes[1]:
        pixels = clip.width * clip.height * clip.frames
        tokens, second = pixels // 1024, TICK * SECOND
        live = pixels // 8
        works.append({"segment": len(segments), "segments": 3, "artifact": pixels // 4})
        step = tokens * second // 40_000
        segments += [
            {"phase": 1, "steps": 1, "own": second // 20, "live": live, "peak": GB, "mean": GB // 2,
             "tokens": 512},
            {"phase": 2, "steps": clip.steps, "own": step, "live": live, "peak": tokens * 200_000,
             "mean": tokens * 120_000, "first": 1, "tokens": tokens},
            {"phase": 3, "steps": 4, "own": second, "live": live, "peak": 40 * GB,
             "mean": 25 * GB, "tokens": tokens},
        ]  # fmt: skip
    return {"segments": table("segments", segments), "works": table("works", works)}


def _service_tables() -> dict[str, np.ndarray]:
    minute = 60 * SECOND
    common = {"max_tokens": 8192, "reserve": 4 * GB, "keep": 1}
    services = [
        common | {"replica": 0, "replicas": 2, "max_jobs": 256, "weights": 140 * GB,
                  "checkpoint": 140 * GB, "watermark": GB},
        common | {"replica": 2, "replicas": 2, "max_jobs": 2, "same_shape": 1, "weights": 40 * GB,
                  "checkpoint": 40 * GB, "max_tokens": 10**9},
    ]  # fmt: skip
    classes = [
        {"service": 0, "context_dram": 10 * minute, "context_nand": 60 * minute},
        {"service": 1, "artifact_dram": 0, "artifact_nand": 24 * 60 * minute},
    ]
    replicas = [
        {"service": row // 2, "hbm": row, "dram": 4, "home": 5, "store": 5, "load": 0,
         "onboard": 2 + row, "offload": 6 + row, "spill": 1}
        for row in range(4)
    ]  # fmt: skip
    return {
        "services": table("services", services),
        "classes": table("classes", classes),
        "replicas": table("replicas", replicas),
    }


def run_engine(plan: Plan, *, lifted: bool, troubled: bool = False) -> Outputs:
    """The engine's outputs; `troubled`: a replica fails for ten minutes and DRAM halves."""
    engine = plan.engine(lifted=lifted)
    end = plan.scenario.duration
    if troubled:
        engine.run_until(end // 2)
        engine.fail(0)
        engine.set_capacity(4, plan.pools[4].capacity // 2)
        engine.run_until(end // 2 + 600 * SECOND)
        engine.start(0)
    engine.run_until(end)
    return engine.finish()


def make_results(plan: Plan | None = None, *, troubled: bool = False) -> Results:
    """Results of a plan, both ways."""
    plan = plan or make_plan()
    began = time.perf_counter()
    built = run_engine(plan, lifted=False, troubled=troubled)
    between = time.perf_counter()
    lifted = run_engine(plan, lifted=True, troubled=troubled)
    ended = time.perf_counter()
    return collect(plan, built, lifted, seconds=between - began, lifted_seconds=ended - between)


@cache
def made_up() -> Results:
    """Results of the plan with little DRAM, under trouble; shared by tests, which only read."""
    return make_results(make_plan(dram=700 * GB), troubled=True)
