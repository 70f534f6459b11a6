"""What a memory trace comes to, as a table."""

from __future__ import annotations

from typing import Any

from dcsim.report.quantities import bytes_text, time_text

__all__ = ["trace_text"]


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
    return "\n".join([head, "", *table, "", *foot])
