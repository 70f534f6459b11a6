"""Two runs as one: two data centers that share nothing, beside each other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from oracle_work import COLUMNS

from engine.case import Case

REFERS = {
    "segments": {"phase": "phases"},
    "works": {"segment": "segments"},
    "services": {"replica": "replicas"},
    "classes": {"service": "services"},
    "nodes": {"parent": "nodes", "klass": "classes"},
    "replicas": {
        "service": "services",
        **dict.fromkeys(("hbm", "dram", "home", "store", "library"), "pools"),
        **dict.fromkeys(("load", "onboard", "offload", "spill", "fetch"), "paths"),
        **dict.fromkeys(("near_out", "near_in", "far_out", "far_in", "bring"), "paths"),
    },
}
ROWS = ("pools", "channels", "phases", "segments", "works", "services", "classes", "replicas")
NONE = np.empty(0, dtype=np.int64)


def beside(one: Case, other: Case) -> Case:
    """The rows of the second follow those of the first; horizon and bins are the first's."""
    a, b = one.tables, other.tables
    by = {name: len(a[name]) for name in ROWS}
    by |= {"paths": len(a["path_start"]) - 1, "nodes": len(a.get("nodes", ()))}
    out = {name: np.concatenate([a[name], moved(name, b[name], by)]) for name in ROWS}
    out["path_start"] = np.concatenate([a["path_start"], b["path_start"][1:] + a["path_start"][-1]])
    out["path_channels"] = np.concatenate([a["path_channels"], b["path_channels"] + by["channels"]])
    if "policies" in a or "policies" in b:
        width = len(COLUMNS["policies"].split())
        given = [t.get("policies", np.zeros((len(t["services"]), width), np.int64)) for t in (a, b)]
        out["policies"] = np.concatenate(given)
    arrival = np.concatenate([a["arrival"], b["arrival"]])
    order = np.argsort(arrival, kind="stable")
    place = np.argsort(order)  # where a row has gone
    out["arrival"] = arrival[order]
    for name, add in (
        ("klass", by["classes"]),
        ("work", by["works"]),
        ("prompt", 0),
        ("output", 0),
    ):
        out[name] = np.concatenate([a[name], b[name] + add])[order]
    if "nodes" in a or "nodes" in b:
        none = np.zeros((0, len(COLUMNS["nodes"].split())), np.int64)
        nodes = [a.get("nodes", none), moved("nodes", b.get("nodes", none), by)]
        out["nodes"] = np.concatenate(nodes)
        if "brought" in a or "brought" in b:
            flags = [t.get("brought", np.zeros(len(t.get("nodes", ())), np.int64)) for t in (a, b)]
            out["brought"] = np.concatenate(flags)
        for name in ("reads", "leaves"):
            first = a.get(name, np.full(len(a["arrival"]), -1))
            then = b.get(name, np.full(len(b["arrival"]), -1))
            then = np.where(then < 0, -1, then + by["nodes"])
            out[name] = np.concatenate([first, then])[order]
        gaps = a.get("gaps", b.get("gaps"))
        if gaps is not None:
            out["gaps"] = gaps
    out |= relations(a, b, order, place)
    script = [*one.script]
    for t, kind, *arguments in other.script:
        if kind != "stop":
            arguments[0] += by["pools" if kind == "set_capacity" else "replicas"]
        script.append((t, kind, *arguments))
    script = sorted((each for each in script if each[0] <= one.horizon), key=lambda each: each[0])
    return Case(out, one.horizon, one.bin, script)


def moved(name: str, table: np.ndarray, by: dict[str, int]) -> np.ndarray:
    """A table whose rows refer to rows further down."""
    table = table.copy()
    for column, target in REFERS.get(name, {}).items():
        values = table[:, COLUMNS[name].split().index(column)]
        values[values >= 0] += by[target]
    return table


def relations(
    a: dict[str, np.ndarray], b: dict[str, np.ndarray], order: np.ndarray, place: np.ndarray
) -> dict[str, np.ndarray]:
    """Who waits for whom, and what is handed over, of both."""
    if "after" not in a and "after" not in b:
        return {}
    lists: dict[str, list[list[int]]] = {"after": [], "handover": [], "ahead": []}
    single: dict[str, list[int]] = {"delay": [], "fed": []}
    first = 0
    for tables in (a, b):
        count = len(tables["arrival"])
        start = tables.get("after_start", np.zeros(count + 1, np.int64)).tolist()
        for name, column in lists.items():
            flat = tables.get(name, np.zeros(start[-1], np.int64)).tolist()
            column += [flat[x:y] for x, y in pairwise(start)]
        for name in single:
            single[name] += tables.get(name, np.zeros(count, np.int64)).tolist()
        rows = lists["after"]
        rows[first:] = [[int(place[row + first]) for row in each] for each in rows[first:]]
        first = count
    out = {"delay": np.array(single["delay"], np.int64)[order]}
    sizes = [len(lists["after"][row]) for row in order]
    out["after_start"] = np.cumsum([0, *sizes]).astype(np.int64)
    names = ("after", "handover", "ahead") if "handover" in a or "handover" in b else ("after",)
    for name in names:
        flat = [value for row in order for value in lists[name][row]]
        out[name] = np.array(flat, dtype=np.int64)
    if len(names) > 1:
        out["fed"] = np.array(single["fed"], np.int64)[order]
    return out
