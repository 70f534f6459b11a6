"""Directories of results with their plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dcsim.report.comparison import plot_demands, plot_latencies, plot_outcomes
from dcsim.report.contents import plot_contents
from dcsim.report.demand import plot_demand
from dcsim.report.latency import plot_latency
from dcsim.results import Comparison, Results, compare, replacing
from dcsim.results.files import MANIFEST, write_json, write_table

__all__ = ["plot_run", "write_comparison", "write_run"]

_FILES = (
    "comparison.json",
    "comparison.parquet",
    "demand.png",
    "latency.png",
    "outcomes.png",
    MANIFEST,
)
"""What a comparison writes beside the directories of the variants."""


def plot_run(results: Results, directory: Path) -> None:
    """Draw `demand.png`, `contents.png` and `latency.png` into a directory that exists."""
    plot_demand(results, directory / "demand.png")
    plot_contents(results, directory / "contents.png")
    plot_latency(results, directory / "latency.png")


def write_run(results: Results, directory: Path) -> None:
    """Write a run and its plots, whole or not at all. Raises `FileExistsError` where other files
    are in the way."""
    results.write(directory, extras=lambda fresh: plot_run(results, fresh))


def write_comparison(results: Mapping[str, Results], directory: Path) -> Comparison:
    """Write variants of a scenario, the first the base, each in a directory of its name.

    Beside them: `comparison.json` and `.parquet` (every figure with its difference to the base),
    `demand.png`, `latency.png`, `outcomes.png` and a manifest. Whole or not at all; raises
    `FileExistsError` where other files are in the way, `ValueError` for a name that no directory
    can have. Returns the comparison.
    """
    comparison = compare(results)
    for name in results:
        if name in ("", ".", "..", *_FILES) or "/" in name:
            raise ValueError(f"a variant cannot be called {name!r}: its directory could not be")
    with replacing(directory) as fresh:
        for name, each in results.items():
            (fresh / name).mkdir()
            each.save(fresh / name)
            plot_run(each, fresh / name)
        write_json(fresh / "comparison.json", comparison.plain())
        write_table(fresh / "comparison.parquet", comparison.table())
        plot_demands(results, fresh / "demand.png")
        plot_latencies(results, fresh / "latency.png")
        plot_outcomes(results, fresh / "outcomes.png")
        manifests = {name: each.manifest for name, each in results.items()}
        write_json(
            fresh / MANIFEST,
            {
                "base": comparison.names[0],
                "variants": {
                    name: {key: manifest[key] for key in ("hash", "requests_hash", "seed")}
                    for name, manifest in manifests.items()
                },
                "versions": manifests[comparison.names[0]]["versions"],
            },
        )
    return comparison
