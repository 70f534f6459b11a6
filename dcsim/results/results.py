"""The results of a run: tables, summary and manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dcsim.assembly.plan import Plan
from dcsim.engine import Outputs
from dcsim.results.asked import asked_table
from dcsim.results.events import events_table
from dcsim.results.files import MANIFEST, replacing, write_json
from dcsim.results.manifest import manifest_of
from dcsim.results.record import Record
from dcsim.results.series import pool_series
from dcsim.results.spool import Tables
from dcsim.results.summary import summarise
from dcsim.results.timeline import channels_table, contents_table, tiers_table, timeline_table
from dcsim.results.useful import useful_table
from dcsim.results.wear import wear_table

__all__ = ["Pass", "Results", "collect", "results_of"]

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Results:
    """What one run yields. `tables` are Arrow tables by name; the named ones always exist. A long
    table of requests lies in a file, and is read each time that it is asked for."""

    summary: dict[str, Any]
    manifest: dict[str, Any]
    tables: Tables = field(repr=False)

    def requests(self) -> Any:
        """One row a request: arrival, start, first result, end, outcome, shape."""
        return self.tables["requests"]

    def timeline(self) -> Any:
        """One row a pool and bin: capacity, contents by category, peak, demand, flows."""
        return self.tables["timeline"]

    def tiers(self) -> Any:
        """One row a tier and bin: the peaks of occupancy and demand, all pools together."""
        return self.tables["tiers"]

    def contents(self) -> Any:
        """One row a tier, category, job and bin: bytes held and demanded."""
        return self.tables["contents"]

    def channels(self) -> Any:
        """One row a channel and bin: bytes moved."""
        return self.tables["channels"]

    def wear(self) -> Any:
        """One row a NAND pool and bin: bytes written, what for, and what the drives stand."""
        return self.tables["wear"]

    def events(self) -> Any:
        """One row an event: control, evictions and losses by bin, stretches of shortfall."""
        return self.tables["events"]

    def arrays(self, table: str) -> dict[str, NDArray[Any]]:
        """A table as numpy arrays by column; words as str, nulls as None or NaN.

        Raises `KeyError` for a table that is not there.
        """
        columns = self.tables[table]
        return {
            name: np.asarray(columns[name].to_numpy(zero_copy_only=False))
            for name in columns.column_names
        }

    def write(self, directory: str | PathLike[str]) -> None:
        """Write everything to a directory, whole or not at all.

        Earlier results are replaced; raises `FileExistsError` where other files are in the way.
        """
        with replacing(Path(directory)) as fresh:
            self.save(fresh)

    def save(self, directory: str | PathLike[str]) -> None:
        """Write the files into a directory that exists."""
        directory = Path(directory)
        self.tables.save(directory)
        write_json(directory / SUMMARY, self.summary)
        write_json(directory / MANIFEST, self.manifest)

    @classmethod
    def read(cls, directory: str | PathLike[str]) -> Results:
        """Results that `write` wrote. Raises `FileNotFoundError` where there are none."""
        directory = Path(directory)
        tables = {path.stem: pq.read_table(path) for path in sorted(directory.glob("*.parquet"))}
        return cls(
            json.loads((directory / SUMMARY).read_text(encoding="utf-8")),
            json.loads((directory / MANIFEST).read_text(encoding="utf-8")),
            Tables(tables),
        )


@dataclass(frozen=True)
class Pass:
    """What a pass over a plan gave."""

    outputs: Outputs
    """Of these what is not of requests."""
    record: Record
    """What it wrote down of its requests."""
    seconds: float
    """Wall time."""


def collect(
    plan: Plan,
    built: Outputs,
    lifted: Outputs,
    *,
    seconds: float,
    lifted_seconds: float,
    extra: Mapping[str, Any] | None = None,
) -> Results:
    """The results of a plan from the engine's outputs of all requests, as built and with
    capacities lifted; see `results_of`.

    `seconds` and `lifted_seconds`: wall time of the two runs of the engine.
    """
    records = Record(plan), Record(plan, lifted=True)
    for record, outputs in zip(records, (built, lifted), strict=True):
        record.add(plan.requests, outputs)
    passes = Pass(built, records[0], seconds), Pass(lifted, records[1], lifted_seconds)
    return results_of(plan, *passes, extra=extra)


def results_of(
    plan: Plan, built: Pass, lifted: Pass, *, extra: Mapping[str, Any] | None = None
) -> Results:
    """The results of a plan from its two passes. `extra`: Arrow tables of the caller's (a
    sampler's), by name, kept and written with the others."""
    one, other, record = built.outputs, lifted.outputs, built.record
    with ThreadPoolExecutor(2, thread_name_prefix="dcsim-tables") as pool:  # numpy lets others run
        requests = pool.submit(record.table)
        manifest = pool.submit(manifest_of, plan, record.digest())
        series = pool_series(plan, one, other)
        records, seconds = (record, lifted.record), (built.seconds, lifted.seconds)
        summary = summarise(plan, one, records, other, series, seconds)
        tables = {
            "requests": requests.result(),
            "timeline": timeline_table(plan, series),
            "tiers": tiers_table(series),
            "contents": contents_table(plan, one, other),
            "channels": channels_table(plan, one),
            "wear": wear_table(plan, one, series),
            "events": events_table(plan, one, series),
        }
        if (asked := asked_table(plan, record.rows)) is not None:
            tables["asked"] = asked
        if "useful" in one:
            tables["useful"] = useful_table(plan, one, other)
        return Results(summary, manifest.result(), Tables({**tables, **(extra or {})}))
