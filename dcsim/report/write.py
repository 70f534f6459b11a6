"""Directories of results with their plots; matplotlib is imported only where they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path

from dcsim.cores import cores
from dcsim.report.outline import Outline
from dcsim.report.painter import Painter
from dcsim.results import Comparison, Results, compare, replacing
from dcsim.results.files import MANIFEST, write_json, write_table

__all__ = ["write_comparison", "write_run"]

_FILES = (
    "comparison.json",
    "comparison.parquet",
    "demand.png",
    "latency.png",
    "outcomes.png",
    MANIFEST,
)
"""What a comparison writes beside the directories of the variants."""


def write_run(
    results: Results,
    directory: str | PathLike[str],
    *,
    plots: bool = True,
    painter: Painter | None = None,
) -> None:
    """Write a run and its plots, whole or not at all. Raises `FileExistsError` where other files
    are in the way. The painter draws while the tables are written."""
    painter = painter or Painter()
    with replacing(Path(directory)) as fresh, painter.all_drawn():
        if plots:
            painter.draw("pictures_of_run", Outline.of(results), fresh)
        results.save(fresh)


def write_comparison(
    results: Mapping[str, Results],
    directory: str | PathLike[str],
    *,
    plots: bool = True,
    painter: Painter | None = None,
) -> Comparison:
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
    painter = painter or Painter()
    with replacing(Path(directory)) as fresh, painter.all_drawn():
        for name in results:
            (fresh / name).mkdir()
        if plots:
            outlines = {name: Outline.of(each) for name, each in results.items()}
            for name, outline in outlines.items():
                painter.draw("pictures_of_run", outline, fresh / name)
            painter.draw("pictures_of_comparison", outlines, fresh)
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(lambda name: results[name].save(fresh / name), results))
        write_json(fresh / "comparison.json", comparison.plain())
        write_table(fresh / "comparison.parquet", comparison.table())
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
