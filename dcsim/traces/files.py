"""Saving and loading memory traces, without loss, as one `.npz` file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from dcsim.models.shapes import Clip, Turn
from dcsim.spec import Layout
from dcsim.traces.record import Holding, Record
from dcsim.traces.segments import Phase, Segment
from dcsim.traces.trace import MemoryTrace

FORMAT = 3

_ARRAYS = ("kind", "flops", "weights", "moved", "comm", "held")
_PLAIN = (
    "model",
    "kind",
    "artifact",
    "overhead",
    "state",
    "offloaded",
    "stored",
    "early",
    "context",
)


def save(trace: MemoryTrace, path: Path | str) -> None:
    """Write the trace; the file is complete or not there (OSError where it cannot be)."""
    path = Path(path)
    head: dict[str, Any] = {name: getattr(trace, name) for name in _PLAIN}
    head["format"] = FORMAT
    head["options"] = dict(trace.options)
    head["shape"] = asdict(trace.shape)
    head["layout"] = asdict(trace.layout)
    head["phases"] = [asdict(p) for p in trace.phases]
    head["switch"] = None if trace.switch is None else asdict(trace.switch)
    head["rows"] = [asdict(s) for s in trace.rows]
    head["records"] = {
        name: {"live": r.live, "holdings": [asdict(h) for h in r.holdings]}
        for name, r in trace.records.items()
    }
    arrays = {"head": np.array(json.dumps(head))}
    for name, record in trace.records.items():
        arrays[f"{name}.names"] = np.array(record.names, dtype=np.str_)
        arrays[f"{name}.modules"] = np.array(record.modules, dtype=np.str_)
        arrays |= {f"{name}.{column}": getattr(record, column) for column in _ARRAYS}
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(part, path)


def load(path: Path | str) -> MemoryTrace:
    """Read a trace back; ValueError where the file is not one that `save` wrote, OSError where
    there is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        head = json.loads(str(arrays["head"]))
        made = _trace(head, arrays) if head["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError, EOFError, AttributeError, BadZipFile):
        text = f"{path} is not a memory trace, as `dcsim trace --out` writes one"
        raise ValueError(text) from None
    if made is None:
        text = f"{path}: format {head['format']}; this dcsim reads {FORMAT}: trace it again"
        raise ValueError(text)
    return made


def _trace(head: dict[str, Any], arrays: dict[str, Any]) -> MemoryTrace:
    records = {
        name: Record(
            names=tuple(str(n) for n in arrays[f"{name}.names"]),
            live=said["live"],
            modules=tuple(str(n) for n in arrays[f"{name}.modules"]),
            holdings=tuple(Holding(**each) for each in said["holdings"]),
            **{column: arrays[f"{name}.{column}"] for column in _ARRAYS},
        )
        for name, said in head["records"].items()
    }
    return MemoryTrace(
        **{name: head[name] for name in _PLAIN if name in head} | {"early": tuple(head["early"])},
        switch=None if head["switch"] is None else Segment(**head["switch"]),
        options=head["options"],
        shape=_shape(head["shape"]),
        layout=Layout(**head["layout"]),
        phases=tuple(Phase(**p) for p in head["phases"]),
        rows=tuple(Segment(**s) for s in head["rows"]),
        records=records,
    )


def _shape(plain: dict[str, Any]) -> Clip | Turn:
    return Clip(**plain) if "width" in plain else Turn(**plain)
