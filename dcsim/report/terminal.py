"""The short tables that commands print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dcsim.report.quantities import bytes_text, percent, rate_text, time_text
from dcsim.report.words import TIER_NAMES
from dcsim.results import Comparison, Figure, Results, jobs_of

__all__ = ["comparison_table", "remarks", "summary_table"]

_NONE = "-"


def summary_table(results: Results) -> Group:
    """What a run came to: tiers, jobs, wear and links, as something that rich prints.

    Nothing in it depends on the clock.
    """
    parts: list[Any] = [_tier_table(results.summary), _job_table(results.summary)]
    parts += [Text(each) for each in remarks(results.summary)]
    wear = results.summary["tiers"]["nand"]["wear"]
    if wear["bytes_written"]:
        parts.append(_wear_text(wear))
    if any(link["bytes"] for link in results.summary["links"].values()):
        parts.append(_links_text(results.summary["links"]))
    return Group(*parts)


def remarks(summary: dict[str, Any]) -> list[str]:
    """Sentences on what a reader of the tables must know: requests that were not completed, queues
    that grow, tiers that run short."""
    return [*_unfinished(summary), *_loaded(summary), *_shortfalls(summary)]


def _unfinished(summary: dict[str, Any]) -> list[str]:
    """A sentence for each job of which not all requests were completed, or whose queue grows."""
    texts = []
    for job, figures in summary["jobs"].items():
        missing = figures["arrived"] - figures["outcomes"]["completed"]
        others = [
            f"{count:,} {outcome}"
            for outcome, count in figures["outcomes"].items()
            if count and outcome not in ("completed", "awaited", "abandoned")
        ]
        if missing:
            text = f"{job}: {missing:,} of {figures['arrived']:,} requests were not completed by "
            texts.append(f"{text}the end ({', '.join(others)}).")
        abandoned = figures["outcomes"]["abandoned"]
        if abandoned:
            texts.append(f"{job}: {abandoned:,} requests never came, after one that was rejected.")
        queue = figures["queue"]
        if queue["grows"]:
            came, went = (
                rate_text(queue[f"{each}_per_s"], "requests") for each in ("arrivals", "admissions")
            )
            texts.append(
                f"{job}: the queue grows without end: {came} arrive, {went} are admitted, and "
                f"{queue['waiting']:,} wait at the end; latencies say how long the run is."
            )
    return texts


def _loaded(summary: dict[str, Any]) -> list[str]:
    """A sentence for each job whose requests load what was kept."""
    texts = []
    for job, figures in summary["jobs"].items():
        reuse = figures.get("reuse")
        if reuse and reuse["share"] is not None:
            hbm, dram, nand = (100 * reuse[f"{tier}_share"] for tier in ("hbm", "dram", "nand"))
            there = f"found in HBM ({hbm:.1f} %) or " if hbm else ""
            texts.append(
                f"{job}: {100 * reuse['share']:.1f} % of the prompt tokens were {there}loaded "
                f"instead of computed, {dram:.1f} % from DRAM and {nand:.1f} % from NAND."
            )
            kept, useful = (bytes_text(reuse[f"{what}_bytes"]) for what in ("kept", "useful"))
            texts.append(
                f"{job}: DRAM and NAND keep {kept} of context on average; {useful} would be enough "
                "for who knew what is used again."
            )
    return texts


def _shortfalls(summary: dict[str, Any]) -> list[str]:
    """A sentence for each tier that runs short: which pool, when, by how much, for how long."""
    texts = []
    for tier, figures in summary["tiers"].items():
        pool = figures["first_shortfall_pool"]
        if pool is None:
            continue
        text = (
            f"Short of {TIER_NAMES[tier]}: {pool} first, at "
            f"{time_text(figures['first_shortfall_ns'])}, by up to "
            f"{bytes_text(figures['first_shortfall_pool_peak'])}, for "
            f"{time_text(figures['first_shortfall_pool_ns'])} in all"
        )
        if figures["demand"]["peak"] <= figures["capacity_least"]:
            text += "; other pools of the tier have room, which it cannot use"
        texts.append(text + ".")
    return texts


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.padding = (0, 1, 0, 0)
    for row, column in enumerate(columns):
        table.add_column(column, justify="left" if row == 0 else "right", no_wrap=True)
    return table


def _tier_table(summary: dict[str, Any]) -> Table:
    table = _table(
        "Tiers",
        ["", "capacity", "held mean", "peak", "demand mean", "peak", "first short"],
    )
    for tier, figures in summary["tiers"].items():
        short = figures["first_shortfall_ns"]
        occupancy, demand = figures["occupancy"], figures["demand"]
        table.add_row(
            TIER_NAMES[tier],
            bytes_text(figures["capacity"]),
            bytes_text(occupancy["mean"]),
            bytes_text(occupancy["peak"]),
            bytes_text(demand["mean"]),
            bytes_text(demand["peak"]),
            "never" if short is None else f"at {time_text(short)}",
        )
    return table


def _job_table(summary: dict[str, Any]) -> Table:
    table = _table(
        "Jobs",
        ["", "arrived", "completed", "wait p99", "first p99", "end p50", "end p99", "output"],
    )
    for job, figures in jobs_of(summary).items():
        table.add_row(
            job,
            f"{figures['arrived']:,}",
            f"{figures['outcomes']['completed']:,}",
            _latency(figures["wait_ns"], "p99"),
            _latency(figures["first_ns"], "p99"),
            _latency(figures["latency_ns"], "p50"),
            _latency(figures["latency_ns"], "p99"),
            _output(figures["throughput"]),
        )
    return table


def _latency(spread: dict[str, int] | None, p: str) -> str:
    return _NONE if spread is None else time_text(spread[p])


def _output(throughput: dict[str, float]) -> str:
    if "output_tokens_per_s" in throughput:
        return rate_text(throughput["output_tokens_per_s"], "tok")
    what = "clips" if "frames_per_s" in throughput else "requests"
    return rate_text(throughput["requests_per_s"], what)


def _wear_text(wear: dict[str, Any]) -> str:
    parts: dict[str, int] = {}
    for pool in wear["pools"].values():
        for what, size in pool["bytes_taken"].items():
            parts[what] = parts.get(what, 0) + size
    shown = ", ".join(f"{bytes_text(parts[w])} {text}" for w, text in _WRITTEN.items() if parts[w])
    text = (
        f"NAND written: {bytes_text(wear['bytes_written'])}, "
        f"{wear['drive_writes_per_day']:.3g} drive writes per day ({shown})"
    )
    if wear["lifetime_years"] is not None:
        text += f"; {wear['first_worn_out']} lasts {wear['lifetime_years']:.3g} years at this rate"
    return text


_WRITTEN = {
    "artifacts": "of clips",
    "contexts": "of contexts",
    "reused": "of contexts that are used again",
}


def _links_text(links: dict[str, Any]) -> str:
    """The links that come nearest to their limit in a bin."""
    busiest = sorted(links, key=lambda name: (-links[name]["load_fullest"], name))[:3]
    texts = [
        f"{name} {percent(links[name]['load_fullest'])} (mean {percent(links[name]['load'])})"
        for name in busiest
        if links[name]["bytes"]
    ]
    return f"Busiest links, in their fullest bin: {', '.join(texts)}"


def comparison_table(comparison: Comparison) -> Table:
    """Variants side by side, with differences to the base below, as something rich prints."""
    title = f"Variants, and their differences to {comparison.names[0]}"
    table = _table(title, ["", *comparison.names])
    section = ""
    for figure in comparison.figures:
        label = _label(figure)
        if label is None or all(value is None for value in figure.values):
            continue
        subject = TIER_NAMES.get(figure.subject, figure.subject) or "requests"
        if subject != section:
            table.add_row(f"[bold]{subject}[/bold]")
            section = subject
        table.add_row(f"  {label}", *_cells(figure))
    return table


_SHOWN = {
    "requests": {"arrived": "arrived", "preemptions": "preemptions"},
    "tier": {
        "capacity": "capacity",
        "occupancy.mean": "held, mean",
        "occupancy.peak": "held, peak",
        "demand.mean": "demand, mean",
        "demand.peak": "demand, peak",
        "first_shortfall_ns": "first short at",
        "first_shortfall_pool_peak": "its pool, by up to",
        "first_shortfall_pool_ns": "its pool, in all for",
        "bytes_written": "written",
        "drive_writes_per_day": "drive writes per day",
        "lifetime_years": "lasts, years",
    },
    "link": {"load": "load, mean", "load_fullest": "  fullest bin"},
    "job": {
        "wait_ns.p99": "wait, p99",
        "first_ns.p99": "first result, p99",
        "handed_ns.p99": "handed over, p99",
        "latency_ns.p50": "completed, p50",
        "latency_ns.p99": "completed, p99",
        "per_token_ns.p50": "between tokens, p50",
        "reuse.share": "prompts loaded",
        "reuse.hbm_share": "  found in HBM",
        "reuse.dram_share": "  from DRAM",
        "reuse.nand_share": "  from NAND",
    },
}


_IDLE = 0.01
"""Load of a link that is not worth a row."""


def _label(figure: Figure) -> str | None:
    name = figure.name.removeprefix("wear.")
    if figure.name.startswith("outcomes.") and any(figure.values):
        return figure.name.removeprefix("outcomes.")
    if figure.section == "link" and max(value or 0.0 for value in figure.values) < _IDLE:
        return None
    return _SHOWN[figure.section].get(name)


def _cells(figure: Figure) -> list[str]:
    base = [_text(figure.values[0], figure.unit)]
    for value, difference in zip(figure.values[1:], figure.differences()[1:], strict=True):
        text = _text(value, figure.unit)
        if difference:
            sign = "+" if difference > 0 else ""
            text += f"\n[dim]{sign}{_text(difference, figure.unit)}[/dim]"
        base.append(text)
    return base


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return _NONE
    if unit == "bytes":
        return bytes_text(value)
    if unit == "ns":
        return time_text(value)
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if unit == "requests" else f"{value:.3g}"
