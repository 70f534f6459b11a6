"""Feature caching of docs/pricing.md, 4: steps that are skipped and what is stored for them.

Of DiT, where no text tokens run beside the image's: X is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any

from pricing_dit import or_dtype
from pricing_oracle import Array, Op, PhaseFigures, Row, Tape, Trace, figures

OWN = {"teacache": "3/5", "fbcache": "3/5", "pab": "1/2", "taylorseer": "1/5"}


def skip(
    trace: Trace, o: Mapping[str, Any], n: int, passes: int, elements: int, depth: int
) -> None:
    """Change the trace of n sampler steps of so many passes; `elements` are I."""
    method, dtype = o["feature_cache"], o["dtype"]
    d, r = Array(elements, dtype), Array(elements, or_dtype(o["residual_dtype"], dtype))
    share = Fraction(o["cache_computed"]).limit_denominator(10**6) or Fraction(OWN[method])
    computed = max(1, ceil(share * n))

    at = next(i for i, row in enumerate(trace.rows) if row.first)
    first = trace.rows[at]
    tape = Tape()
    live = first.tape.live
    tape.held = dict(first.tape.held)
    attentions = _runs(first.tape.ops, "attention")
    modules = attentions + _runs(first.tape.ops, "feed-forward")
    seen = False
    for op in first.tape.ops:
        seen = op.block == 0 and (seen or op.half != "")
        kept = {
            "teacache": op.block is None or (op.block == 0 and not seen),
            "fbcache": op.block is None or op.block == 0,
            "pab": op.half != "attention",
            "taylorseer": op.half == "",
        }[method]
        if kept:
            tape.ops.append(op)

    def add(moved: int, written: Array | None) -> None:
        held = live + (_whole(written) if written else 0)
        tape.ops.append(Op("memory", 0, 0, moved, 0, held))

    if method == "teacache":
        for _ in range(passes):
            add(2 * d.bytes, None)
            add(3 * r.bytes, r)
        stored = passes * (_whole(d) + _whole(r))
    elif method == "fbcache":
        for _ in range(passes):
            add(2 * r.bytes, None)
            add(3 * r.bytes, r)
        stored = passes * 3 * _whole(r)
    elif method == "pab":
        stored = attentions * _whole(d)
    else:
        for _ in range(modules):
            add(3 * d.bytes, d)
        stored = 2 * modules * _whole(d)

    for row in trace.rows[at:]:
        row.live += trace.gpus * stored
    rest = trace.rows[at + 1 :]
    if n > 1:
        rest[0].steps = passes * (computed - 1)
        rest = rest if computed > 1 else rest[1:]
    if n > computed:
        given = figures(tape, trace.gpus, passes)
        peak = trace.gpus * max(tape.extras())
        steps = passes * (n - computed)
        row = Row(
            "cached",
            len(trace.phases),
            "fixed",
            steps,
            first.tokens,
            given,
            first.live,
            peak,
            False,
            tape,
        )
        rest.insert(1 if computed > 1 else 0, row)
    network = trace.phases[first.phase]
    trace.phases.append(
        PhaseFigures(
            "denoise cached",
            depth if method in ("pab", "taylorseer") else 1,
            0,
            0,
            0,
            trace.gpus * ceil(Fraction(tape.total("dense", "weights"), passes)),
            network.dtype,
            network.dense_dtype,
            ceil(Fraction(tape.count("comm"), passes)),
        )
    )
    trace.rows = trace.rows[: at + 1] + rest


def _whole(array: Array) -> int:
    return ceil(array.bytes / 512) * 512


def _runs(ops: list[Op], half: str) -> int:
    """How often a step comes to such a half of a block."""
    before = [("", None)] + [(op.half, op.block) for op in ops[:-1]]
    return sum(
        op.half == half and (op.half, op.block) != b for op, b in zip(ops, before, strict=True)
    )
