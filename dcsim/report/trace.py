"""What a memory trace comes to, as a table."""

from __future__ import annotations

from typing import Any

from dcsim.report.quantities import bytes_text, time_text

__all__ = ["holding_text", "trace_text"]


def trace_text(facts: dict[str, Any]) -> str:
    """The report of a trace (`dcsim.traces.report`) as text."""
    shape = ", ".join(f"{k} {v}" for k, v in facts["shape"].items() if v)
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
    return "\n".join([head, "", *table, "", *foot, "", *_peaks(facts)])


MOST_HOLDINGS = 6
"""Origins of tensors that are named; the rest is one line."""


def _peaks(facts: dict[str, Any]) -> list[str]:
    """What holds the peak, by module and op, of the phase that makes it."""
    mine = [each for each in facts["peaks"] if each["phase"] == facts["peak_phase"]]
    fullest = max(mine, key=lambda each: each["bytes"])
    total = bytes_text(fullest["bytes"])
    lines = [f"fullest moment of {fullest['step']}: {total} on one GPU, beside weights"]
    shown = fullest["holdings"][:MOST_HOLDINGS]
    lines += [f"  {bytes_text(each['bytes']).rjust(8)}  {holding_text(each)}" for each in shown]
    rest = fullest["holdings"][MOST_HOLDINGS:]
    if rest:
        size = bytes_text(sum(each["bytes"] for each in rest))
        lines.append(f"  {size.rjust(8)}  {len(rest)} more")
    return lines


def holding_text(holding: dict[str, Any]) -> str:
    """`gelu of blocks.3.up`, `2 x add of final`, `latents`."""
    times = f"{holding['count']} x " if holding["count"] > 1 else ""
    if not holding["op"]:
        return f"{times}{holding['category']}"
    place = f" of {holding['module']}" if holding["module"] else ""
    kind = "" if holding["category"] == "activations" else f" ({holding['category']})"
    return f"{times}{holding['op']}{place}{kind}"
