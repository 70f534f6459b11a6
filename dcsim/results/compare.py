"""Variants of a scenario beside their base: the same figures of each, and the differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dcsim.results.results import Results

__all__ = ["Comparison", "Figure", "compare", "jobs_of"]


@dataclass(frozen=True)
class Figure:
    """One figure of every variant, the base first; None where a variant has none."""

    section: str
    """`requests`, `tier`, `link` or `job`."""
    subject: str
    """The tier, the links that are alike or the job class; empty for all requests."""
    name: str
    unit: str
    """`bytes`, `ns`, `requests`, `per_s`, `per_day`, `years`, `share`."""
    values: tuple[float | None, ...]

    def differences(self) -> tuple[float | None, ...]:
        """Value less that of the base; None where either is missing."""
        base = self.values[0]
        return tuple(
            None if base is None or value is None else value - base for value in self.values
        )

    def ratios(self) -> tuple[float | None, ...]:
        """Difference over the base; None where it is missing or the base is 0."""
        base = self.values[0]
        return tuple(
            None if each is None or not base else each / base for each in self.differences()
        )


@dataclass(frozen=True)
class Comparison:
    """Figures of some variants; the first of `names` is the base."""

    names: tuple[str, ...]
    figures: tuple[Figure, ...]

    def table(self) -> Any:
        """As an Arrow table, one row a figure and variant."""
        rows = [
            {
                "section": figure.section,
                "subject": figure.subject,
                "figure": figure.name,
                "unit": figure.unit,
                "variant": name,
                "value": None if value is None else float(value),
                "difference": None if difference is None else float(difference),
                "ratio": ratio,
            }
            for figure in self.figures
            for name, value, difference, ratio in zip(
                self.names, figure.values, figure.differences(), figure.ratios(), strict=True
            )
        ]
        words = ("section", "subject", "figure", "unit", "variant")
        numbers = ("value", "difference", "ratio")
        types = [(w, pa.string()) for w in words] + [(n, pa.float64()) for n in numbers]
        return pa.Table.from_pylist(rows, schema=pa.schema(types))

    def plain(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "base": self.names[0],
            "variants": list(self.names),
            "figures": [
                {
                    "section": figure.section,
                    "subject": figure.subject,
                    "figure": figure.name,
                    "unit": figure.unit,
                    "values": dict(zip(self.names, figure.values, strict=True)),
                    "differences": dict(zip(self.names, figure.differences(), strict=True)),
                }
                for figure in self.figures
            ],
        }


def compare(results: Mapping[str, Results]) -> Comparison:
    """The figures of some variants side by side; the first is the base.

    Raises `ValueError` without any.
    """
    if not results:
        raise ValueError("a comparison needs at least one variant")
    summaries = [each.summary for each in results.values()]
    sections = (_request_figures, _tier_figures, _link_figures, _job_figures)
    figures = [figure for section in sections for figure in section(summaries)]
    return Comparison(tuple(results), tuple(figures))


def _figure(
    summaries: list[dict[str, Any]], section: str, subject: str, unit: str, *path: str
) -> Figure:
    root = {
        "requests": ["requests"],
        "tier": ["tiers", subject],
        "link": ["links", subject],
        "job": [subject],
    }
    if section == "job":  # in stages in one variant, in one piece in another: the same job
        summaries = [jobs_of(summary) for summary in summaries]
    values = tuple(_dig(summary, [*root[section], *path]) for summary in summaries)
    return Figure(section, subject, ".".join(path), unit, values)


def _dig(tree: Any, path: list[str]) -> float | None:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree if isinstance(tree, (int, float)) else None


def jobs_of(summary: dict[str, Any]) -> dict[str, Any]:
    """Figures by job: of what users asked, and, below each job in stages, of the stages."""
    asked = summary.get("asked", {})
    found: dict[str, Any] = {}
    for name, figures in summary["jobs"].items():
        whole = name.partition("/")[0]
        if whole in asked:
            found.setdefault(whole, asked[whole])
        found[name] = figures
    return found | {name: asked[name] for name in asked if name not in found}


def _union(names: list[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for each in names for name in each))


def _request_figures(summaries: list[dict[str, Any]]) -> list[Figure]:
    outcomes = [("outcomes", name) for name in summaries[0]["requests"]["outcomes"]]
    paths = [("arrived",), *outcomes, ("preemptions",)]
    return [_figure(summaries, "requests", "", "requests", *path) for path in paths]


_SPANS = ("mean", "p95", "peak", "pools_peak")


def _tier_figures(summaries: list[dict[str, Any]]) -> list[Figure]:
    spans = [(what, how) for what in ("occupancy", "demand") for how in _SPANS]
    figures = []
    for tier in _union([summary["tiers"] for summary in summaries]):
        for path in [("capacity",), *spans, ("shortfall_peak",)]:
            figures.append(_figure(summaries, "tier", tier, "bytes", *path))
        figures.append(_figure(summaries, "tier", tier, "ns", "first_shortfall_ns"))
        figures.append(_figure(summaries, "tier", tier, "bytes", "first_shortfall_pool_peak"))
        figures.append(_figure(summaries, "tier", tier, "ns", "first_shortfall_pool_ns"))
    for name, unit in (
        ("bytes_written", "bytes"),
        ("flash_bytes_written", "bytes"),
        ("drive_writes_per_day", "per_day"),
        ("lifetime_years", "years"),
    ):
        figures.append(_figure(summaries, "tier", "nand", unit, "wear", name))
    return figures


def _link_figures(summaries: list[dict[str, Any]]) -> list[Figure]:
    """Of links that move anything in some variant."""
    figures = []
    for name in _union([summary["links"] for summary in summaries]):
        mine = [
            _figure(summaries, "link", name, unit, key)
            for key, unit in (("bytes", "bytes"), ("load", "share"), ("load_fullest", "share"))
        ]
        if any(mine[0].values):
            figures += mine
    return figures


def _job_figures(summaries: list[dict[str, Any]]) -> list[Figure]:
    figures = []
    for job in _union([jobs_of(summary) for summary in summaries]):
        figures.append(_figure(summaries, "job", job, "requests", "arrived"))
        for outcome in summaries[0]["requests"]["outcomes"]:
            figures.append(_figure(summaries, "job", job, "requests", "outcomes", outcome))
        for measure in ("wait_ns", "handed_ns", "first_ns", "latency_ns", "per_token_ns"):
            for p in ("mean", "p50", "p90", "p99"):
                figure = _figure(summaries, "job", job, "ns", measure, p)
                if any(value is not None for value in figure.values):
                    figures.append(figure)
        for share in ("share", "hbm_share", "dram_share", "nand_share"):
            figure = _figure(summaries, "job", job, "share", "reuse", share)
            if any(value is not None for value in figure.values):
                figures.append(figure)
        rates = {
            rate: None
            for summary in summaries
            for rate in jobs_of(summary).get(job, {}).get("throughput", {})
        }
        for rate in rates:
            figures.append(_figure(summaries, "job", job, "per_s", "throughput", rate))
    return figures
