"""Random relations between requests: who waits for whom, who shares whose prefix."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Draw = Any
MARKS = dict.fromkeys(("high_dram", "low_dram", "high_nand", "low_nand"), 0)
NO_WAIT = {"wait": 0, "wait_base": 0, "wait_ki": 0}
EARLY = {"high_dram": 900_000, "low_dram": 500_000}
BACK = {"back": 1, "exclusive": 0}


def draw_graph(draw: Draw, mix: Any) -> None:
    """In half of the cases requests wait for others: chains, forks and joins, by short delays."""
    linked = mix.focus == "handover" or draw(st.booleans())
    delays = mix.bend(
        [0, 0, 1, mix.scale.ns, 10 * mix.scale.ns, 2**63 - 1],
        handover=[0, 0, 1, mix.scale.ns, 10 * mix.scale.ns],
    )
    for row in range(len(mix.requests)):
        recent = range(max(0, row - 3), row)
        lower = [each for each in recent if mix.service(each) < mix.service(row)]
        some = st.sampled_from(lower if lower and mix.focus == "handover" else recent or [0])
        most = draw(st.sampled_from([0, 1, 1, 2])) if linked and row else 0
        mix.after.append(sorted(draw(st.sets(some, max_size=most))))
        mix.delay.append(draw(delays) if mix.after[-1] else 0)
        draw_hand_over(draw, mix, row)


def draw_hand_over(draw: Draw, mix: Any, row: int) -> None:
    """What of those that it waits for is handed over to a request."""
    services = [klass["service"] for klass in mix.classes]
    bytes_, ahead = [], []
    for giver in mix.after[row]:
        ordered = services[mix.requests[giver][1]] < services[mix.requests[row][1]]
        most = mix.held_at_end(mix.requests[giver]) if ordered else 0
        bytes_.append(draw(st.sampled_from([0, most // 2, most, most, min(most, mix.scale.byte)])))
        alone = len(mix.after[row]) == 1
        ahead.append(draw(st.sampled_from([0, bytes_[-1] // 2, bytes_[-1]])) if alone else 0)
    mix.handover.append(bytes_)
    mix.ahead.append(ahead)
    _, _, work, prompt, _ = mix.requests[row]
    takes = any(bytes_) and mix.is_token(work)
    mix.fed.append(draw(st.sampled_from([0, 1, prompt - 1, prompt, prompt])) if takes else 0)


def lives(mix: Any, service: int) -> list[int]:
    """Bytes a token that decodes of a service hold."""
    works = [work for work in mix.work_of[service] if mix.is_token(work)]
    return [mix.segments[mix.works[work]["segment"] + 1]["live"] for work in works]


def path(mix: Any, node: int) -> list[int]:
    """The nodes from this one to its root."""
    out = []
    while node >= 0:
        out.append(node)
        node = mix.nodes[node]["parent"]
    return out


def held(mix: Any, node: int) -> int:
    """Bytes of the path of a node, but for what is brought."""
    return sum(int(mix.nodes[each]["bytes"]) for each in path(mix, node) if not mix.brought[each])


def brought_of(mix: Any, node: int) -> list[int]:
    """The brought nodes of a path."""
    return [each for each in path(mix, node) if mix.brought[each]]


def brought_bytes(mix: Any, node: int) -> int:
    """Their bytes."""
    return sum(int(mix.nodes[each]["bytes"]) for each in brought_of(mix, node))


def bringing_services(mix: Any) -> set[int]:
    """Services that have brought nodes."""
    rows = zip(mix.nodes, mix.brought, strict=True)
    return {mix.classes[row["klass"]]["service"] for row, brought in rows if brought}


def draw_content(draw: Draw, mix: Any) -> None:
    """In half of the cases (in `reuse` and `slack`: in all) token works share prefixes.

    A service has a forest. One that keeps it in HBM has nodes no larger than a prompt's own bytes.
    In half of these cases (in `adapters`: in all) some of the uppermost are brought: fixed works
    need them too.
    """
    klasses = [row["service"] for row in mix.classes]
    depth: list[int] = []
    focused = mix.focus in ("reuse", "slack", "adapters")
    most = 4 if mix.focus == "adapters" else 9
    few = draw(st.integers(1, most)) if focused or draw(st.booleans()) else 0
    bring = mix.focus == "adapters" or draw(st.booleans())
    for _ in range(few):
        klass = draw(st.integers(0, len(klasses) - 1))
        kin = [i for i, n in enumerate(mix.nodes) if klasses[n["klass"]] == klasses[klass]]
        parent = draw(st.sampled_from([-1, *kin, *kin[-2:], *kin[-2:]]))
        tokens = draw(st.sampled_from([0, 1, 2, 4, 8]))
        brought = bring and (parent < 0 or mix.brought[parent]) and draw(st.booleans())
        size = draw(st.sampled_from([0, tokens, tokens, 2 * tokens, 5])) * mix.scale.byte
        if mix.services[klasses[klass]]["cache_hbm"]:
            size = tokens * draw(st.sampled_from([*lives(mix, klasses[klass]), 0, 1]))
        if brought:
            tokens, size = 0, draw(st.sampled_from([0, 1, 2, 5, 5])) * mix.scale.byte
        mix.brought.append(int(brought))
        mix.nodes.append({"parent": parent, "tokens": tokens, "bytes": size, "klass": klass})
        depth.append(tokens + (depth[parent] if parent >= 0 else 0))
    edges = st.sampled_from([1, 5, 20, 100]).map(lambda n: n * mix.scale.ns)
    mix.gaps = sorted(draw(st.sets(edges, max_size=3)))
    left: set[int] = set()
    for row, (_, klass, work, prompt, _) in enumerate(mix.requests):
        kin = [i for i, n in enumerate(mix.nodes) if klasses[n["klass"]] == klasses[klass]]
        if any(mix.handover[row]):
            kin = [i for i in kin if not brought_of(mix, i)]
        known = [i for i in kin if mix.brought[i] or mix.is_token(work)]
        short = [i for i in known if depth[i] <= prompt]
        again = [i for i in short if i in left]
        if mix.services[klasses[klass]]["cache_hbm"] and mix.is_token(work):
            live = mix.segments[mix.works[work]["segment"] + mix.works[work]["segments"] - 1][
                "live"
            ]
            short = [i for i in short if held(mix, i) <= live * prompt]
            again = [i for i in short if i in left]
        mix.reads.append(draw(st.sampled_from([-1, *short, *again, *again])))
        needs = brought_of(mix, mix.reads[-1])
        known = [i for i in known if brought_of(mix, i) == needs]
        grown = [i for i in known if mix.nodes[i]["parent"] == mix.reads[-1]]
        mix.leaves.append(draw(st.sampled_from([-1, *known, *grown, *grown])))
        node = mix.leaves[-1]
        while node >= 0:
            left.add(node)
            node = mix.nodes[node]["parent"]


def draw_policies(draw: Draw, mix: Any) -> list[dict[str, int]]:
    """With content in half of the cases (in `reuse`: in all), one row a service."""
    if not mix.nodes or (mix.focus != "reuse" and draw(st.booleans())):
        return []
    orders, often = st.integers(0, 2), st.sampled_from([0, 0, 0, 1, 2, 3])
    waits = {
        "wait": 1,
        "wait_base": draw(st.sampled_from([0, 1, mix.scale.ns, 10 * mix.scale.ns])),
        "wait_ki": 0,
    }
    return [
        {
            "evict_dram": draw(orders),
            "evict_nand": draw(orders),
            "admit_dram": draw(often),
            "admit_nand": draw(often),
            **draw(st.sampled_from([MARKS, MARKS, MARKS | EARLY])),
            **draw(st.sampled_from([{}, {"high_nand": 10**6, "low_nand": 0}])),
            **draw(
                st.sampled_from([NO_WAIT, NO_WAIT, waits, waits | {"wait_ki": 100 * mix.scale.ns}])
            ),
            "faster": draw(st.sampled_from([0, 0, 1])),
            **draw(st.sampled_from([{"back": 0, "exclusive": 0}, BACK, BACK | {"exclusive": 1}])),
        }
        for _ in mix.services
    ]


def shares_of_nodes(mix: Any) -> list[int]:
    """Room for a part of the forest, so that some of it makes room for the rest."""
    sizes = sorted(row["bytes"] for row in mix.nodes) or [0]
    all_but_one = max(0, sum(sizes) - 1)
    return [sum(sizes) // 3, sum(sizes) // 2, sum(sizes) - sizes[-1], all_but_one, sizes[-1]]
