"""Drawing a memory trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcsim.models.tape import CATEGORIES
from dcsim.spec import Gpu
from dcsim.traces.record import Holding
from dcsim.traces.report import step_seconds
from dcsim.traces.trace import MemoryTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GIB = 2**30

# Okabe-Ito, told apart by colour-blind readers.
COLOURS = {
    "weights": "#999999",
    "embeddings": "#CC79A7",
    "inputs": "#CC79A7",
    "latents": "#009E73",
    "kv": "#009E73",
    "output": "#F0E442",
    "workspace": "#D55E00",
    "activations": "#56B4E9",
    "live": "#009E73",
    "transient": "#56B4E9",
}
ORDER = ("inputs", "embeddings", "latents", "kv", "output", "activations", "workspace")


def plot(trace: MemoryTrace, gpu: Gpu, path: Path | str) -> None:
    """Three panels: memory of one GPU against op index within a step of every phase, and of the
    replica against time over the request, both by category; and which tensors hold the fullest
    moment of every step, by module and op. The suffix of `path` is the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    held = len(trace.records)
    figure = Figure(figsize=(9, 7.5 + 0.9 * held), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower, peaks = figure.subplots(3, 1, height_ratios=(3.4, 3.4, 0.8 + 0.9 * held))
    figure.suptitle(f"{trace.model}: memory of one request on {trace.gpus} x {gpu.name}")
    _draw_ops(upper, trace)
    _draw_time(lower, trace, gpu)
    _draw_peaks(peaks, trace)
    figure.savefig(path, dpi=130)


def _draw_ops(axes: Axes, trace: MemoryTrace) -> None:
    columns = {c: i for i, c in enumerate(CATEGORIES)}
    held = np.concatenate([r.held for r in trace.records.values()])
    shown = [c for c in ORDER if held[:, columns[c]].any()]
    stack = [held[:, columns[c]] / GIB for c in shown]
    axes.stackplot(
        np.arange(len(held)),
        stack,
        labels=shown,
        colors=[COLOURS[c] for c in shown],
        step="post",
        linewidth=0,
    )
    top = float(np.sum(stack, axis=0).max())
    begin, marks = 0, []
    for name, record in trace.records.items():
        marks.append((float(begin), f"one {name} step"))
        begin += len(record.names)
    _mark(axes, marks, begin - 1, top)
    weights = trace.weights_bytes // trace.gpus / GIB
    axes.set(
        xlabel="op, in order", ylabel=f"held on one GPU beside\n{weights:.2f} GiB weights (GiB)"
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _mark(axes: Axes, marks: list[tuple[float, str]], end: float, top: float) -> None:
    """Lines where stages begin, their names above the data at staggered heights."""
    for i, (at, name) in enumerate(marks):
        if at:
            axes.axvline(at, color="black", linewidth=0.6)
        late = at > 0.8 * end
        axes.annotate(
            f"{name} \N{RIGHTWARDS ARROW} " if late else f" {name}",
            (at, top * (1.03 + 0.07 * (len(marks) - 1 - i))),
            ha="right" if late else "left",
            fontsize="small",
        )
    axes.set(xlim=(0, max(end, 1e-9)), ylim=(0, top * (1.06 + 0.07 * len(marks))))


MOST_HOLDINGS = 8
"""Tensors of a peak that are drawn one by one; the rest is one bar."""


def _draw_peaks(axes: Axes, trace: MemoryTrace) -> None:
    """A bar a record: what is held when it is fullest, named below the bar."""
    names = list(trace.records)
    for row, record in enumerate(trace.records.values()):
        at, said = 0.0, []
        parts = [(h.bytes, COLOURS[h.category], _origin(h)) for h in record.holdings]
        rest = sum(size for size, _, _ in parts[MOST_HOLDINGS:])
        more = [(rest, "#dddddd", "the rest")] if rest else []
        for size, colour, text in parts[:MOST_HOLDINGS] + more:
            axes.barh(row, size / GIB, 0.45, at / GIB, color=colour, edgecolor="white")
            at += size
            if size > 0.05 * sum(h.bytes for h in record.holdings):
                said.append(f"{text} {size / GIB:.3g}")
        words = axes.text(
            0, row + 0.42, _cut(" | ".join(said), 120), fontsize="x-small", va="center"
        )
        words.set_in_layout(False)
    axes.set(
        yticks=range(len(names)),
        yticklabels=names,
        ylim=(len(names) - 0.3, -0.6),
        xlabel="held on one GPU at the fullest moment of a step, beside weights (GiB)",
    )


def _origin(holding: Holding) -> str:
    if not holding.op:
        return holding.category
    module = ".".join(holding.module.split(".")[-3:])
    return f"{holding.op} of {module}" if module else holding.op


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _draw_time(axes: Axes, trace: MemoryTrace, gpu: Gpu) -> None:
    phases = {p.name: p for p in trace.phases}
    time, live, top, now = [0.0], [0], [0], 0.0
    marks: list[tuple[float, str]] = []
    for s in trace.segments:
        seconds = step_seconds(s, phases[s.phase], gpu, trace.gpus)
        first, last = s.live, s.live + s.live_slope * (s.steps - 1)
        if s.phase not in {p for _, p in marks}:
            marks.append((now, s.phase))
        end = now + float(seconds.sum())
        time += [now, end]
        live += [first, last]
        top += [first + s.peak, last + s.peak]
        now = end
    weights = np.full(len(time), trace.weights_bytes) / GIB
    held, peak = np.array(live) / GIB, np.array(top) / GIB
    axes.stackplot(
        time,
        [weights, held, peak - held],
        labels=["weights", "live", "transient (peak of a step)"],
        colors=[COLOURS[c] for c in ("weights", "live", "transient")],
        linewidth=0,
    )
    capacity = trace.gpus * gpu.hbm / GIB
    highest = float((weights + peak).max())
    if capacity < 2.5 * highest:
        axes.axhline(capacity, color="black", linestyle="--", linewidth=1, label="HBM")
        highest = max(highest, capacity)
    _mark(axes, marks, now, highest)
    axes.set(
        xlabel="time, the replica running this request alone (s)",
        ylabel="held by the replica (GiB)",
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
