"""Residency of docs/pricing.md, 4: where the weights of a clip's networks lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

from pricing_oracle import PhaseFigures, Row, Tape, Trace, figures


def settled(trace: Trace, o: Mapping[str, Any]) -> Trace:
    """The trace with its weights where the options say."""
    if o["text_encoders"] == "cpu":
        _drop_text(trace)
    if o["fsdp"]:
        _share_out(trace)
    if o["offload"] != "none":
        _offload(trace, o["offload"])
    return trace


def _drop_text(t: Trace) -> None:
    texts = sum(p.name == "text" for p in t.phases)
    t.phases = t.phases[texts:]
    t.rows = [replace(r, phase=r.phase - texts) for r in t.rows if r.phase >= texts]


def _share_out(t: Trace) -> None:
    g = t.gpus
    whole = [p.weights for p in t.phases]
    for row in t.rows:
        phase = t.phases[row.phase]
        if phase.name in ("input", "vae"):
            continue
        share = whole[row.phase] // g
        row.figures = dict(row.figures)
        row.figures["comm_bytes"] += phase.passes * (g - 1) * share
        row.live += 2 * ceil(share / phase.layers) * g
    for phase in t.phases:
        if phase.name not in ("input", "vae"):
            phase.weights = ceil(phase.weights / g)
            phase.collectives += phase.passes * phase.layers


def _offload(t: Trace, how: str) -> None:
    weights = [p.weights for p in t.phases]
    layers = [p.layers for p in t.phases]
    passes = [p.passes for p in t.phases]
    for phase in t.phases:
        phase.weights = 0
    out: list[Row] = []
    own = 0  # what the segment before held beside its weights
    at = -1
    for row in t.rows:
        w = weights[row.phase]
        held = row.live
        if how == "model":
            if row.phase != at:
                name = f"load {t.phases[row.phase].name}"
                none = Tape()
                loads = len(t.phases)
                given = figures(none, t.gpus)
                out.append(Row(name, loads, "fixed", 1, 0, given, own + w, 0, False, none, w))
            row.live += w
        else:
            part = ceil(w / layers[row.phase])
            row.live += part * (2 if how == "group" else 1)
            row.host_bytes += passes[row.phase] * w
            row.overlapped = how == "group"
        at, own = row.phase, held
        out.append(row)
    if how == "model":
        t.phases.append(PhaseFigures("load", 1, 0, 0, 0, 0, "bf16", "bf16"))
    t.rows = out
