"""Saving and loading memory traces, without loss, as one `.npz` file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from dcsim.models.shapes import Clip, Turn
from dcsim.traces.trace import MemoryTrace, Phase, Record, Segment

FORMAT = 1

_ARRAYS = ("kind", "flops", "weights", "moved", "comm", "held")
_PLAIN = ("model", "kind", "tp", "sp", "cfg", "artifact", "overhead", "state")


def save(trace: MemoryTrace, path: Path | str) -> None:
    """Write the trace; the file is complete or not there (OSError where it cannot be)."""
    path = Path(path)
    head: dict[str, Any] = {name: getattr(trace, name) for name in _PLAIN}
    head["format"] = FORMAT
    head["options"] = dict(trace.options)
    head["shape"] = asdict(trace.shape)
    head["phases"] = [asdict(p) for p in trace.phases]
    head["rows"] = [asdict(s) for s in trace.rows]
    head["records"] = {name: r.live for name, r in trace.records.items()}
    arrays = {"head": np.array(json.dumps(head))}
    for name, record in trace.records.items():
        arrays[f"{name}.names"] = np.array(record.names)
        arrays |= {f"{name}.{column}": getattr(record, column) for column in _ARRAYS}
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(part, path)


def load(path: Path | str) -> MemoryTrace:
    """Read a trace back; ValueError where the file is not one that `save` wrote."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        head = json.loads(str(arrays["head"]))
        known = head["format"] == FORMAT
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{path} is not a memory trace: {error}") from None
    if not known:
        raise ValueError(f"{path}: format {head['format']}; this dcsim reads {FORMAT}")
    records = {
        name: Record(
            names=tuple(str(n) for n in arrays[f"{name}.names"]),
            live=live,
            **{column: arrays[f"{name}.{column}"] for column in _ARRAYS},
        )
        for name, live in head["records"].items()
    }
    return MemoryTrace(
        **{name: head[name] for name in _PLAIN if name in head},
        options=head["options"],
        shape=_shape(head["shape"]),
        phases=tuple(Phase(**p) for p in head["phases"]),
        rows=tuple(Segment(**s) for s in head["rows"]),
        records=records,
    )


def _shape(plain: dict[str, int]) -> Clip | Turn:
    clip = {f.name for f in fields(Clip)}
    return Clip(**plain) if set(plain) == clip else Turn(**plain)
