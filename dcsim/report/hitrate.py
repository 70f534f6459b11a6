"""`dcsim hitrate`: hit rates of a request log, printed, and drawn as a curve."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsim.engine import EVICTIONS
from dcsim.planning.hitrate import (
    MOST_TOKENS,
    HitCurve,
    hit_rate_curve,
    hit_rates,
    read_prefixes,
    whole_blocks,
)
from dcsim.report.places import place_problems, whole
from dcsim.spec import Problem, SpecError, did_you_mean

__all__ = ["draw_curve", "hitrate_command"]

Floats = NDArray[np.float64]
FORMATS = (".png",)
STEPS = (1, 2, 5)


def hitrate_command(
    log: Path,
    *,
    block_tokens: int,
    policy: str,
    capacity_tokens: str | None,
    curve: bool,
    plot: Path | None,
    as_json: bool,
) -> str:
    """The text or JSON of `dcsim hitrate`; draws to `plot` where given.

    Raises SpecError with all that is wrong with the arguments and the log.
    """
    problems = _argument_problems(policy, capacity_tokens, curve, plot)
    capacities = _capacities(capacity_tokens, problems)
    facts, found = _answer(log, block_tokens, policy, capacities, problems, curve=curve)
    if found is not None:
        points = np.array(capacities or _log_points(found))
        if as_json:
            points = np.union1d(found.capacity_tokens, capacities)
        facts |= _rates(points, found.at(points), block_tokens)
        facts["enough_tokens"] = found.enough_tokens
    if found is not None and plot is not None:
        with whole(plot) as part:
            draw_curve(found, part, name=log.name, marked=capacities)
    return json.dumps(facts, indent=2) if as_json else _text(log, facts)


def _answer(
    log: Path,
    block_tokens: int,
    policy: str,
    capacities: Sequence[float],
    problems: Sequence[Problem],
    *,
    curve: bool,
) -> tuple[dict[str, Any], HitCurve | None]:
    """What is known of the log, with the rates at the capacities or the curve; the forest, which
    may be large, is gone then. Raises SpecError with the problems so far and those of the log."""
    try:
        prefixes = read_prefixes(log, block_tokens)
    except SpecError as error:
        raise SpecError([*problems, *error.problems]) from None
    if problems:
        raise SpecError(problems)
    facts = {
        "log": str(log),
        "policy": policy,
        "block_tokens": block_tokens,
        "requests": len(prefixes),
        "full_blocks": int(prefixes.full.sum()),
        "distinct_blocks": prefixes.forest.blocks,
        "runs": len(prefixes.forest.parent),
        "unlimited_hit_rate": prefixes.unlimited,
    }
    if curve:
        return facts, hit_rate_curve(prefixes)
    found = hit_rates(prefixes, capacities, policy)
    return facts | _rates(found.capacity_tokens, found.hit_rate, block_tokens), None


def _rates(capacity_tokens: Floats, rates: Floats, block_tokens: int) -> dict[str, Any]:
    return {
        "capacity_tokens": capacity_tokens.tolist(),
        "capacity_blocks": whole_blocks(capacity_tokens, block_tokens).tolist(),
        "hit_rate": rates.tolist(),
    }


def _argument_problems(
    policy: str, capacity_tokens: str | None, curve: bool, plot: Path | None
) -> list[Problem]:
    problems = []
    if policy not in EVICTIONS:
        problems.append(("--policy", f"no policy {policy!r}; {did_you_mean(policy, EVICTIONS)}"))
    elif curve and policy != "lru":
        message = f"one pass gives all capacities of lru alone; of {policy} name some, without it"
        problems.append(("--curve", message))
    if not curve and capacity_tokens is None:
        message = "is due, such as 1e5,1e6; or --curve, for the hit rate at all capacities"
        problems.append(("--capacity-tokens", message))
    if plot is not None and not curve:
        problems.append(("--plot", "draws the curve, so --curve is due too"))
    problems += place_problems("--plot", plot, FORMATS)
    return [Problem(None, None, None, option, message) for option, message in problems]


def _capacities(text: str | None, problems: list[Problem]) -> list[float]:
    """The capacities of a list such as `1e5,2000000`; what is wrong goes to `problems`."""
    found = []
    for part in [] if text is None else text.split(","):
        try:
            tokens = float(part)
        except ValueError:
            tokens = math.nan
        if 0 <= tokens <= MOST_TOKENS:
            found.append(tokens)
            continue
        fault = f"{part.strip()!r} is not a number of tokens, such as 1e6"
        if math.isfinite(tokens):
            fault = f"{part.strip()} is not within 0 to 2^62 tokens"
        problems.append(Problem(None, None, None, "--capacity-tokens", fault))
    return found


def _log_points(curve: HitCurve) -> list[float]:
    """1, 2, 5, 10, ... tokens from the first that hold a block to the first that are enough."""
    points: list[float] = []
    power = 10 ** int(math.log10(curve.block_tokens))
    while not points or points[-1] < curve.enough_tokens:
        points += [float(s * power) for s in STEPS if s * power >= curve.block_tokens]
        power *= 10
    return points[: sum(point < curve.enough_tokens for point in points) + 1]


def _text(log: Path, facts: Mapping[str, Any]) -> str:
    rows = [("capacity (tokens)", "blocks", "hit rate")]
    columns = (facts[name] for name in ("capacity_tokens", "capacity_blocks", "hit_rate"))
    rows += [
        (f"{tokens:,.15g}", f"{blocks:,}", f"{rate:.2%}")
        for tokens, blocks, rate in zip(*columns, strict=True)
    ]
    rows.append(("unlimited", "all", f"{facts['unlimited_hit_rate']:.2%}"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [
        f"{log.name}: {facts['requests']:,} requests, {facts['full_blocks']:,} full blocks of "
        f"{facts['block_tokens']:,} tokens",
        f"{facts['distinct_blocks']:,} distinct blocks in {facts['runs']:,} runs; one cache, "
        f"{facts['policy']}",
        "",
        *("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows),
    ]
    if "enough_tokens" in facts:
        lines += ["", f"{facts['enough_tokens']:,.15g} tokens hit as often as room for all."]
    return "\n".join(lines)


def draw_curve(curve: HitCurve, path: Path, *, name: str, marked: Sequence[float] = ()) -> None:
    """Hit rate against capacity in tokens, on a logarithmic axis, as a PNG.

    `name` is the log's; `marked` capacities are points on the curve.
    """
    from dcsim.report.frame import frame, powers, ticks
    from dcsim.report.style import CAPACITY, CYCLE, heading, legend_below, new_figure, save

    figure = new_figure(7.0, 4.2)
    axes = figure.add_subplot()
    least = float(curve.block_tokens)
    inside = [each for each in marked if each >= least]
    most = max([2 * max(curve.enough_tokens, least), *(1.5 * each for each in inside)])
    tokens = np.geomspace(least, most, 1000)
    handles = axes.plot(tokens, 100 * curve.at(tokens), color=CYCLE[1], label="LRU")
    top = 100 * curve.unlimited
    label = f"room for all: {top:.1f} %"
    handles.append(axes.axhline(top, color=CAPACITY, linestyle="--", linewidth=1, label=label))
    if inside:
        at = 100 * curve.at(inside)
        handles += axes.plot(inside, at, "o", color="#000000", label="capacities asked for")
        for capacity, rate in zip(inside, at.tolist(), strict=True):
            axes.annotate(
                f"{rate:.1f} %",
                (capacity, rate),
                xytext=(-6, 5),
                textcoords="offset points",
                ha="right",
                fontsize="small",
            )
    highest = max(1.12 * top, 1.0)
    axes.set(xscale="log", xlim=(least, most), ylim=(0, highest))
    frame(
        axes,
        {power: f"1e{round(math.log10(power))}" for power in powers(least, most, 9)},
        ticks(0, highest, 8),
        title="one LRU prefix cache",
        x_label=f"capacity (tokens; a block is {curve.block_tokens:,})",
        y_label="full prompt blocks found (%)",
    )
    heading(figure, f"Hit rate by capacity: {name}")
    legend_below(figure, handles)
    save(figure, path)
