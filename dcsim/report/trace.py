"""`dcsim trace`: one request's memory trace, printed, saved and drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dcsim.models import ModelError
from dcsim.models import get as get_model
from dcsim.report.quantities import bytes_text, time_text
from dcsim.spec import Layout, did_you_mean, load_parts
from dcsim.spec.tree import parse_value, plain
from dcsim.traces import MemoryTrace, default_shape, trace
from dcsim.traces.files import save
from dcsim.traces.plot import plot as draw
from dcsim.traces.report import report

__all__ = ["trace_command", "traced"]


def trace_command(
    model: str,
    sets: Sequence[str],
    gpu: str,
    *,
    as_json: bool = False,
    out: Path | None = None,
    plot: Path | None = None,
) -> str:
    """The text of `dcsim trace`; saves to `out` and draws to `plot` where given.

    Raises ModelError for an unknown model, key, value or GPU, all at once.
    """
    gpus = load_parts().gpus
    if gpu not in gpus:
        raise ModelError([("--gpu", f"no GPU {gpu!r}; {did_you_mean(gpu, gpus)}")])
    memory = traced(model, sets)
    facts = report(memory, gpus[gpu])
    if out is not None:
        save(memory, out)
    if plot is not None:
        draw(memory, gpus[gpu], plot)
    return json.dumps(facts, indent=2) if as_json else _text(facts)


def traced(model: str, sets: Sequence[str] = ()) -> MemoryTrace:
    """The trace of a model with `key=value` settings.

    A key is a field of the shape (`width`, `frames`, `prompt`, ...), `tp` or `sp` of the layout,
    or an option of the model; `shape.`, `layout.` or `options.` before it settles which.
    """
    found = get_model(model)
    shape = default_shape(found)
    shape_keys = {field.name for field in fields(shape)}
    chosen: dict[str, dict[str, Any]] = {"shape": {}, "layout": {}, "options": {}}
    problems: list[tuple[str, str]] = []
    for text in sets:
        key, equals, value = text.partition("=")
        group, dot, name = key.strip().rpartition(".")
        if not dot:
            group = (
                "shape" if name in shape_keys else "layout" if name in ("tp", "sp") else "options"
            )
        known = {"shape": shape_keys, "layout": {"tp", "sp", "cfg"}}.get(group)
        if not equals:
            problems.append((text, "a setting is written key=value"))
        elif group not in chosen:
            problems.append((key, f"no group {group!r}; known: shape, layout, options"))
        elif known is not None and name not in known:
            problems.append((key, f"unknown; {did_you_mean(name, sorted(known))}"))
        else:
            chosen[group][name] = plain(parse_value(value))
    for group in ("shape", "layout"):
        for name, value in chosen[group].items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                problems.append((f"{group}.{name}", f"{value!r} is not a whole number above 0"))
    if problems:
        raise ModelError(problems)
    layout = Layout(**chosen["layout"])
    return trace(model, chosen["options"], replace(shape, **chosen["shape"]), layout)


def _text(facts: dict[str, Any]) -> str:
    shape = ", ".join(f"{k} {v}" for k, v in facts["shape"].items())
    layout = facts["layout"]
    head = f"{facts['model']} on {layout['gpus']} x {facts['gpu']}: {shape}"
    columns = ("phase", "steps", "tokens", "FLOPs", "weights", "live", "peak", "seconds")
    rows = [
        (
            phase["name"],
            f"{phase['steps']:,}",
            f"{phase['tokens']:,}",
            f"{phase['flops']:.4g}",
            bytes_text(phase["weights_bytes"]),
            bytes_text(phase["live_bytes"]),
            bytes_text(phase["peak_bytes"]),
            f"{phase['seconds']:.4g}",
        )
        for phase in facts["phases"]
    ]
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    table = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (columns, *rows)
    ]
    fits = "fits" if facts["fits"] else "does NOT fit"
    foot = [
        f"parameters {facts['params'] / 1e9:,.3f} B, weights {bytes_text(facts['weights_bytes'])}",
        f"residency {bytes_text(facts['residency_bytes'])}, peak {bytes_text(facts['peak_bytes'])} "
        f"in {facts['peak_phase']}, which {fits}; artifact {bytes_text(facts['artifact_bytes'])}",
        f"alone on the replica: {time_text(facts['seconds'] * 1e9)}",
    ]
    return "\n".join([head, "", *table, "", *foot])
