"""Hypothesis strategies for the engine's border tables, drawn to reach its corners.

Two scales are drawn first, of time (ticks an iteration costs) and of bytes, and all
else is small whole numbers of them, so that ties, full pools and budgets that just
hold one request are common at every magnitude. Budgets and pools are drawn last, from
what the drawn requests need. A focus bends the choices towards one kind of trouble:
`storm` (preemption), `tiers` (full DRAM and NAND), `shelf` (they shrink while slow
links carry objects), `loading` (cold starts, failures),
`links` (many transfers at once over slow links that they share),
`long` (few requests of hundreds of steps, arrivals anywhere), `reuse` (prefixes that come again),
`handover` (stages on several services), `slack` (prefixes stay in an HBM that is nearly full),
`adapters` (what is brought to several replicas, and has to leave their HBM).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from oracle_work import COLUMNS

from engine.case import Case, Control, Row, content, graph, hand_overs, table
from engine.relations import (
    bringing_services,
    brought_bytes,
    draw_content,
    draw_graph,
    draw_policies,
    shares_of_nodes,
)

TICKS = 65536
PATHS = (
    *("load", "onboard", "offload", "spill", "fetch"),
    *("near_out", "near_in", "far_out", "far_in", "bring"),
)
FOCI = (
    *("any", "storm", "tiers", "shelf", "loading", "links", "long", "reuse", "handover", "slack"),
    "adapters",
)
Draw = Any
LONG = [30, 1000, 10**5, 10**5]


@dataclass
class Scale:
    """`tick`: ticks a unit of work costs; `ns`: about the time it takes; `byte`: a unit."""

    tick: int
    byte: int

    @property
    def ns(self) -> int:
        return max(1, self.tick // TICKS)


def scales() -> st.SearchStrategy[Scale]:
    """Below a nanosecond, whole nanoseconds, odd, and very long; bytes likewise."""
    ticks = st.sampled_from([1, 999, TICKS, 7 * TICKS, 1_000_003, 10**9 + 7, 10**12 + 39])
    return st.builds(Scale, ticks, st.sampled_from([1, 10, 1_000_003, 10**9, 2**40 + 1]))


def small(most: int) -> st.SearchStrategy[int]:
    """0 to `most`, the ends often."""
    return st.one_of(st.sampled_from([0, 1, most]), st.integers(0, most))


def fixed_rows(draw: Draw, scale: Scale, phases: int) -> list[Row]:
    """The segments of a fixed work."""
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        steps = draw(st.sampled_from([1, 1, 2, 5, 20]))
        slope = draw(st.sampled_from([0, 0, 1, 2, -1]))
        peak = draw(small(3))
        rows.append({
            "rule": 0, "phase": draw(st.integers(0, phases - 1)), "steps": steps,
            "tokens": draw(small(6)),
            "dense": draw(small(4)) * scale.tick,
            "own": draw(small(3)) * scale.tick,
            "own_slope": draw(st.sampled_from([0, 0, 1, scale.tick])),
            "ctx": 0, "pair": 0,
            "live": (draw(small(4)) + (steps if slope < 0 else 0)) * scale.byte,
            "live_slope": slope * scale.byte,
            "peak": peak * scale.byte,
            "mean": draw(st.integers(0, peak)) * scale.byte,
            "first": draw(st.sampled_from([0, 1])),
        })  # fmt: skip
    return rows


def token_rows(draw: Draw, scale: Scale, phases: int) -> list[Row]:
    """A prefill and a decode row. `ctx` often lies where its max with `pair` crosses."""
    chunk = draw(st.sampled_from([1, 2, 3, 4, 8, 16, 64]))
    unit = -(-scale.tick // 8)
    pair = draw(small(3)) * unit
    crossing = [pair * (chunk + 1) // 2 + unit, 3 * pair * chunk // 4]
    ctx = draw(st.sampled_from([0, 1, unit, pair, *crossing]))
    live = draw(st.sampled_from([0, 1, 1, 2])) * scale.byte
    phase = draw(st.integers(0, phases - 1))
    peaks = draw(small(2)), draw(small(2))
    common = {"steps": 0, "own_slope": 0, "live": live, "live_slope": 0}
    return [
        common | {
            "rule": 1, "phase": phase, "tokens": chunk, "dense": draw(small(2)) * unit,
            "own": draw(small(2)) * unit, "ctx": ctx, "pair": pair,
            "peak": peaks[0] * scale.byte, "mean": draw(st.integers(0, peaks[0])) * scale.byte,
            "first": draw(st.sampled_from([1, 1, 0])),
        },
        common | {
            "rule": 2, "phase": draw(st.sampled_from([phase, phases - 1])), "tokens": 1,
            "live": draw(st.sampled_from([live, live, live, live // 2])),
            "dense": draw(small(2)) * unit, "own": draw(small(2)) * unit,
            "ctx": draw(st.sampled_from([0, 1, unit])), "pair": draw(st.sampled_from([0, 1, unit])),
            "peak": peaks[1] * scale.byte, "mean": draw(st.integers(0, peaks[1])) * scale.byte,
            "first": draw(st.sampled_from([0, 0, 1])),
        },
    ]  # fmt: skip


@dataclass
class Mix:
    """Rows drawn so far. `work_of` lists the works of each service."""

    scale: Scale
    focus: str = "any"
    phases: list[Row] = field(default_factory=list)
    segments: list[Row] = field(default_factory=list)
    works: list[Row] = field(default_factory=list)
    services: list[Row] = field(default_factory=list)
    classes: list[Row] = field(default_factory=list)
    replicas: list[Row] = field(default_factory=list)
    requests: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    nodes: list[Row] = field(default_factory=list)
    brought: list[int] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    after: list[list[int]] = field(default_factory=list)
    delay: list[int] = field(default_factory=list)
    handover: list[list[int]] = field(default_factory=list)
    ahead: list[list[int]] = field(default_factory=list)
    fed: list[int] = field(default_factory=list)
    work_of: list[list[int]] = field(default_factory=list)

    def bend(self, usual: list[Any], **focused: list[Any]) -> st.SearchStrategy[Any]:
        """One of `usual`, or of the choices given for the focus.

        `shelf` and `reuse` are as `tiers` but for their own, `slack` and `adapters` as `reuse`.
        """
        if self.focus in ("slack", "adapters"):
            focused = {self.focus: focused.get("reuse", focused.get("tiers", usual))} | focused
        if self.focus in ("shelf", "reuse"):
            focused = {self.focus: focused.get("tiers", usual)} | focused
        return st.sampled_from(focused.get(self.focus, usual))

    def is_token(self, work: int) -> bool:
        """Prefill and decode, not fixed segments."""
        return self.segments[self.works[work]["segment"]]["rule"] == 1

    def need(self, request: tuple[int, int, int, int, int]) -> int:
        """The most bytes the request will hold."""
        _, _, work, prompt, output = request
        row = self.works[work]
        rows = self.segments[row["segment"] : row["segment"] + row["segments"]]
        if self.is_token(work):
            return rows[0]["live"] * (prompt + output - 1)
        ends = [(r, k) for r in rows for k in (0, r["steps"] - 1)]
        return max(r["live"] + r["live_slope"] * k + r["peak"] for r, k in ends)

    def held_at_end(self, request: tuple[int, int, int, int, int]) -> int:
        """The bytes that the request counts as holding in its last step."""
        _, _, work, prompt, output = request
        rows = self.segments[self.works[work]["segment"] :]
        if not self.is_token(work):
            return self.need(request)
        return rows[1]["live"] * (prompt + output - 1) if output > 1 else rows[0]["live"] * prompt

    def service(self, row: int) -> int:
        """The service that a request asks."""
        return self.classes[self.requests[row][1]]["service"]

    def objects(self) -> list[int]:
        """Sizes of what the requests may leave behind."""
        contexts = [self.need(r) for r in self.requests if self.is_token(r[2])]
        clips = [row["artifact"] for row in self.works if row["artifact"]]
        return clips + contexts + [row["bytes"] for row in self.nodes if row["bytes"]]


def draw_work(draw: Draw, mix: Mix) -> None:
    """Phases, services with their works, and classes."""
    scale = mix.scale
    for _ in range(draw(st.integers(1, 3))):
        launch = draw(st.sampled_from([1, scale.tick, 3 * scale.tick]))
        mix.phases.append({"launch": launch, "weights": draw(small(3)) * scale.tick})
    for service in range(draw(st.integers(2, 3) if mix.focus == "handover" else st.integers(1, 2))):
        works = []
        for _ in range(draw(st.integers(1, 3))):
            rule = draw(
                mix.bend(
                    [fixed_rows, token_rows],
                    storm=[token_rows],
                    long=[token_rows],
                    tiers=[token_rows, token_rows, fixed_rows],
                    reuse=[token_rows],
                    adapters=[token_rows, fixed_rows],
                )
            )
            rows = rule(draw, scale, len(mix.phases))
            works.append(len(mix.works))
            mix.works.append({
                "segment": len(mix.segments), "segments": len(rows),
                "artifact": scale.byte
                * draw(mix.bend([0, 1, 3], tiers=[1, 2, 5], links=[1, 3, 50])),
                "context": scale.byte * draw(mix.bend([0, 0, 1, 4], tiers=[0, 2, 5]))
                if rule is fixed_rows
                else 0,
            })  # fmt: skip
            mix.segments += rows
        mix.work_of.append(works)
        few = {"storm": [1, 1, 2], "loading": [2, 3], "links": [2, 3, 4], "reuse": [1, 1, 2]}
        few["adapters"] = [2, 3]
        replicas = draw(mix.bend([1, 1, 2, 3], **few))
        in_dram = {"tiers": [6, 30, 1000, 5000], "reuse": LONG, "adapters": [0, *LONG]}
        in_nand = {"tiers": [0, 30, 1000, 5000], "reuse": [0, *LONG], "adapters": LONG}
        weights = draw(mix.bend([0, 1, 5], loading=[1, 5, 40])) * scale.byte
        mix.services.append({
            "router": draw(st.sampled_from([0, 1, 2, 3, 3])),
            "replica": len(mix.replicas), "replicas": replicas,
            "max_jobs": draw(mix.bend([1, 2, 3, 8, 256], storm=[3, 8, 256], reuse=[2, 3, 8])),
            "max_tokens": draw(mix.bend([1, 4, 16, 64, 10**6], storm=[16, 64, 10**6])),
            "same_shape": draw(st.sampled_from([0, 0, 1])), "weights": weights,
            "reserve": draw(st.sampled_from([0, 1])) * scale.byte, "watermark": 0,
            "checkpoint": draw(st.sampled_from([weights, weights, weights // 2 + 1])),
            "library": draw(small(3)) * scale.byte,
            "keep": draw(st.integers(0, 1)),
            "cache_hbm": draw(mix.bend([0, 1], slack=[1])),
            "cache_dram": scale.ns * draw(mix.bend([0, 1, 6, 30, 1000], **in_dram)),
            "cache_nand": scale.ns * draw(mix.bend([0, 6, 30, 1000], **in_nand)),
            "cache_least": draw(st.sampled_from([0, 0, 1, 4, 20])),
            "swap": draw(st.integers(0, 1)),
            "order": draw(st.integers(0, 1)),
        })  # fmt: skip
        mix.replicas += [{"service": service} for _ in range(replicas)]
        for _ in range(draw(st.integers(1, 2))):
            brief = mix.bend(
                [0, 0, 1, 1, 2, 6, 30, 1000], tiers=[0, 1, 2, 3, 30, 1000], links=[0, 1, 6, 30]
            )
            long = mix.bend(
                [0, 0, 1, 6, 30, 1000], tiers=[30, 300, 1000, 5000], links=[1, 30, 1000]
            )
            times = {
                f"{what}_{tier}": scale.ns * draw(time)
                for what in ("artifact", "context")
                for tier, time in (("dram", brief), ("nand", long))
            }
            mix.classes.append({"service": service} | times)


def draw_requests(draw: Draw, mix: Mix, most: int) -> int:
    """Arrivals with ties, bursts and idle gaps. Returns the time of the last."""
    ns = mix.scale.ns
    gaps = st.sampled_from([0, 0, 0, 1, max(1, ns // 2), ns, 3 * ns, 10 * ns, 60 * ns])
    if mix.focus == "long":
        most = min(most, 5)
        gaps = st.integers(0, 400 * ns)
    if mix.focus in ("reuse", "slack", "adapters"):
        gaps = st.sampled_from([0, ns, 10 * ns, 60 * ns, 60 * ns, 200 * ns])
    t = draw(st.sampled_from([0, 0, ns]))
    crowd = mix.focus == "storm" and draw(st.booleans())
    least = 0 if mix.focus == "any" else most // 2
    for _ in range(draw(st.integers(least, most))):
        klass = draw(st.integers(0, len(mix.classes) - 1))
        work = draw(st.sampled_from(mix.work_of[mix.classes[klass]["service"]]))
        prompt = output = 0
        if mix.is_token(work):
            chunk = mix.segments[mix.works[work]["segment"]]["tokens"]
            short = st.sampled_from([1, chunk, 2 * chunk, chunk + 1, max(1, chunk - 1)])
            prompt = draw(short if mix.focus == "storm" else st.one_of(short, st.integers(1, 40)))
            if mix.focus in ("reuse", "slack", "adapters"):
                prompt = draw(st.integers(8, 40))
            outputs = {"storm": [1, 5, 9, 20, 30], "long": [100, 400], "reuse": [1, 2, 5, 20]}
            outputs["slack"] = [1, 5, 20, 60]
            output = draw(mix.bend([1, 1, 2, 3, 9, 30], **outputs))
        mix.requests.append((t, klass, work, prompt, output))
        t += draw(st.just(0) if crowd else gaps)
    draw_graph(draw, mix)
    draw_content(draw, mix)
    return int(t)


def draw_sizes(draw: Draw, mix: Mix) -> list[Row]:
    """Pools: budgets from what requests need, DRAM and NAND from weights and objects."""
    pools: list[Row] = []
    byte = mix.scale.byte
    drams = draw(st.integers(1, 3))
    nands = draw(st.integers(1, 2))
    for number, service in enumerate(mix.services):
        needs = [
            mix.need(r) + brought_bytes(mix, reads)
            for r, reads in zip(mix.requests, mix.reads, strict=True)
            if mix.classes[r[1]]["service"] == number
        ]
        most = max(needs, default=byte)
        tight = [most, most + 1, most + byte, most + most // 2, 2 * most]
        average = sum(needs) // max(1, len(needs))
        usual = [*tight, 4 * most, 100 * most, most - 1, average]
        budget = draw(mix.bend(usual, storm=tight, slack=[*tight, 3 * most], adapters=tight))
        watermark = draw(mix.bend([0, 0, 1, budget // 20, budget // 3], storm=[0, 0, 1]))
        service["watermark"] = max(0, watermark)
        capacity = budget + service["weights"] + service["reserve"]
        for row in mix.replicas[service["replica"] :][: service["replicas"]]:
            more = draw(st.sampled_from([0, 0, 0, byte, -1]))
            row["hbm"] = len(pools)
            pools.append({"tier": 0, "capacity": max(0, capacity + more)})
    for row in mix.replicas:
        row["dram"] = len(pools) + draw(st.integers(0, drams - 1))
        row["home"] = len(pools) + drams + draw(st.integers(0, nands - 1))
        row["store"] = len(pools) + drams + draw(st.integers(0, nands - 1))
        row["library"] = len(pools) + drams + draw(st.integers(0, nands - 1))
        row["start"] = draw(mix.bend([0, 1, 1, 2], storm=[1], tiers=[1], loading=[0, 0, 1, 2]))
    sizes = mix.objects() or [byte]
    top = max(sizes)
    few = [0, min(sizes), top, top + min(sizes), 2 * top, 3 * top]
    plenty = 3 * sum(sizes) + 1
    room = mix.bend(
        [*few, plenty],
        tiers=few[2:],
        shelf=[plenty, sum(sizes)],
        links=[plenty],
        reuse=[plenty, plenty, *shares_of_nodes(mix)],
    )
    for row_number in range(len(pools), len(pools) + drams):
        mine = {r["service"] for r in mix.replicas if r["dram"] == row_number}
        sets = sum(mix.services[s]["checkpoint"] for s in mine)
        fits = draw(st.sampled_from([sets, sets, sets, sets // 2, 0]))
        pools.append({"tier": 1, "capacity": max(0, fits + draw(room))})
    for row_number in range(len(pools), len(pools) + nands):
        mine = {r["service"] for r in mix.replicas if r["home"] == row_number}
        sets = sum(mix.services[s]["checkpoint"] for s in mine)
        libraries = {r["service"] for r in mix.replicas if r["library"] == row_number}
        sets += sum(mix.services[s]["library"] for s in libraries & bringing_services(mix))
        pools.append({"tier": 2, "capacity": max(0, sets + draw(room))})
    return pools


def draw_links(draw: Draw, mix: Mix) -> tuple[list[Row], list[list[int]]]:
    """Channels from instant to slow against the work, and short paths over them."""
    ns, byte = mix.scale.ns, mix.scale.byte
    per_unit = mix.bend(
        [1, ns, 4 * ns, 30 * ns],
        tiers=[1, ns, 30 * ns],
        shelf=[30 * ns, 100 * ns],
        links=[30 * ns, 40 * ns, 60 * ns, 90 * ns],
        reuse=[1, 1, ns, 4 * ns],
    )
    channels = []
    for _ in range(draw(mix.bend([1, 2, 3, 4], links=[2, 4, 6]))):
        bandwidth = min(10**15, byte * 10**9 // draw(per_unit)) + draw(st.integers(1, 2))
        channels.append({"bandwidth": bandwidth, "latency": draw(st.sampled_from([0, 0, 1, ns]))})
    one = st.integers(0, len(channels) - 1)
    crowd = mix.focus == "links"
    path = st.lists(one, min_size=1, max_size=4 if crowd else 2)
    paths = draw(st.lists(path, min_size=4 if crowd else 1, max_size=8 if crowd else 4))
    for row in mix.replicas:
        row["domain"] = draw(st.integers(0, 1))
        for name in PATHS:
            row[name] = draw(st.integers(0, len(paths) - 1))
    return channels, paths


def weights_in(tables: dict[str, np.ndarray]) -> list[int]:
    """The most that weights take in each pool below HBM."""
    most = [0] * len(tables["pools"])
    names = COLUMNS["replicas"].split()
    checkpoint = COLUMNS["services"].split().index("checkpoint")
    for tier in ("dram", "home"):
        columns = tables["replicas"][:, [names.index("service"), names.index(tier)]]
        for service, pool in {tuple(pair) for pair in columns.tolist()}:
            most[pool] += int(tables["services"][service, checkpoint])
    return most


def draw_script(draw: Draw, case: Case, mix: Mix) -> list[Control]:
    """Failures, starts and capacities, often at the time of an arrival, and plain stops."""
    marks = [t for t in case.tables["arrival"].tolist() if t <= case.horizon] + [0, case.horizon]
    early = case.horizon // draw(st.sampled_from([1, 3, 20]))
    times = st.one_of(st.sampled_from(marks), st.integers(0, early))
    weights = weights_in(case.tables)
    kinds = mix.bend(
        ["fail", "fail", "start", "start", "set_capacity", "stop"],
        tiers=["set_capacity", "set_capacity", "fail", "start"],
        shelf=["set_capacity"],
        reuse=["set_capacity", "fail", "start", "stop"],
    )
    sizes = sorted(mix.objects()) or [1]
    script: list[Control] = []
    for t in sorted(draw(st.lists(times, max_size=8))):
        kind = draw(kinds)
        if kind == "set_capacity":
            slow = [i for i, (tier, _) in enumerate(case.tables["pools"].tolist()) if tier > 0]
            pool = draw(st.sampled_from(slow))
            few = sum(sizes[: draw(st.integers(0, 4))])
            room = draw(st.sampled_from([few, few, few, few + 1, 0, -1, 3 * sum(sizes)]))
            script.append((t, kind, pool, max(0, weights[pool] + room)))
        elif kind == "stop":
            script.append((t, kind))
        else:
            script.append((t, kind, draw(st.integers(0, len(mix.replicas) - 1))))
    return script


@st.composite
def cases(draw: Draw, most: int = 14, control: bool = True, focus: tuple[str, ...] = FOCI) -> Case:
    """A whole run, with up to `most` requests and, with `control`, a script."""
    mix = Mix(draw(scales()), draw(st.sampled_from(focus)))
    draw_work(draw, mix)
    last = draw_requests(draw, mix, most)
    pools = draw_sizes(draw, mix)
    channels, paths = draw_links(draw, mix)
    columns = list(zip(*mix.requests, strict=True)) or [()] * 5
    tables = {
        "pools": table("pools", pools),
        "channels": table("channels", channels),
        "path_start": np.cumsum([0, *map(len, paths)]).astype(np.int64),
        "path_channels": np.array([c for path in paths for c in path], dtype=np.int64),
        "phases": table("phases", mix.phases),
        "segments": table("segments", mix.segments),
        "works": table("works", mix.works),
        "services": table("services", mix.services),
        "classes": table("classes", mix.classes),
        "replicas": table("replicas", mix.replicas),
    }
    for name, column in zip(("arrival", "klass", "work", "prompt", "output"), columns, strict=True):
        tables[name] = np.array(column, dtype=np.int64)
    tables |= content(mix.nodes, mix.reads, mix.leaves, mix.gaps, mix.brought)
    tables |= graph(mix.after, mix.delay) | hand_overs(mix.handover, mix.ahead, mix.fed)
    if policies := draw_policies(draw, mix):
        tables["policies"] = table("policies", policies)
    ns = mix.scale.ns
    long = 2 * last + 3000 * ns
    horizon = draw(mix.bend(
        [last, last + 3 * ns, last + 100 * ns, long, long],
        storm=[long, long // 10], tiers=[long], loading=[last + 100 * ns, long],
        long=[long, 30 * long],
    ))  # fmt: skip
    horizon = max(1, horizon + draw(st.sampled_from([0, 0, 1, -1])))
    bins = draw(st.sampled_from([0.5, 1, 2, 7, 40]))
    case = Case(tables, horizon, max(1, int(horizon / bins) + draw(st.integers(0, 1))))
    if control:
        case.script = draw_script(draw, case, mix)
    return case
