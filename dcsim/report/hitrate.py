"""`dcsim hitrate`: hit rates of a request log, printed, and drawn as a curve."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcsim.engine import EVICTIONS
from dcsim.planning.hitrate import (
    MOST_TOKENS,
    HitCurve,
    PrefixLog,
    hit_rate_curve,
    hit_rates,
    read_prefixes,
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
    try:
        prefixes = read_prefixes(log, block_tokens)
    except SpecError as error:
        raise SpecError([*problems, *error.problems]) from None
    if problems:
        raise SpecError(problems)
    if not curve:
        rates = hit_rates(prefixes, capacities, policy).hit_rate
        return _shown(log, prefixes, policy, np.array(capacities), rates, as_json=as_json)
    found = hit_rate_curve(prefixes)
    if plot is not None:
        with whole(plot) as part:
            draw_curve(found, part, name=log.name, marked=capacities)
    if as_json:
        points = np.union1d(found.capacity_tokens, capacities)
    else:
        points = np.array(capacities or _log_points(prefixes))
    return _shown(log, prefixes, policy, points, found.at(points), as_json=as_json)


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


def _log_points(prefixes: PrefixLog) -> list[float]:
    """1, 2, 5, 10, ... from the first that holds a block to the first that holds all."""
    points: list[float] = []
    power = 10 ** int(math.log10(prefixes.block_tokens))
    most = prefixes.forest.blocks * prefixes.block_tokens
    while not points or points[-1] < most:
        points += [float(s * power) for s in STEPS if s * power >= prefixes.block_tokens]
        power *= 10
    return points[: sum(point < most for point in points) + 1]


def _shown(
    log: Path,
    prefixes: PrefixLog,
    policy: str,
    capacity_tokens: Floats,
    rates: Floats,
    *,
    as_json: bool,
) -> str:
    forest, blocks = prefixes.forest, prefixes.room(capacity_tokens)
    full, runs = int(prefixes.full.sum()), len(forest.parent)
    if as_json:
        facts = {
            "log": str(log),
            "policy": policy,
            "block_tokens": prefixes.block_tokens,
            "requests": len(prefixes),
            "full_blocks": full,
            "distinct_blocks": forest.blocks,
            "runs": runs,
            "unlimited_hit_rate": prefixes.unlimited,
            "capacity_tokens": capacity_tokens.tolist(),
            "capacity_blocks": blocks.tolist(),
            "hit_rate": rates.tolist(),
        }
        return json.dumps(facts, indent=2)
    return "\n".join(
        [
            f"{log.name}: {len(prefixes):,} requests, {full:,} full blocks of "
            f"{prefixes.block_tokens:,} tokens",
            f"{forest.blocks:,} distinct blocks in {runs:,} runs; one cache, {policy}",
            "",
            *_table(prefixes, capacity_tokens, blocks.tolist(), rates),
        ]
    )


def _table(prefixes: PrefixLog, tokens: Floats, blocks: Sequence[int], rates: Floats) -> list[str]:
    rows = [("capacity (tokens)", "blocks", "hit rate")]
    rows += [
        (f"{capacity:,.15g}", f"{room:,}", f"{rate:.2%}")
        for capacity, room, rate in zip(tokens.tolist(), blocks, rates.tolist(), strict=True)
    ]
    rows.append(("unlimited", "all", f"{prefixes.unlimited:.2%}"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def draw_curve(
    curve: HitCurve, path: Path, *, name: str = "", marked: Sequence[float] = ()
) -> None:
    """Hit rate against capacity in tokens, on a logarithmic axis (PNG).

    `marked` capacities are points on the curve.
    """
    from dcsim.report.style import CAPACITY, CYCLE, legend_below, new_figure, save, tidy

    figure = new_figure(7.0, 4.2)
    axes = figure.add_subplot()
    least = float(curve.log.block_tokens)
    inside = [each for each in marked if each >= least]
    most = max([2 * float(curve.capacity_tokens[-1]), *(1.5 * each for each in inside)])
    tokens = np.geomspace(least, most, 1000)
    handles = axes.plot(tokens, 100 * curve.at(tokens), color=CYCLE[1], label="LRU")
    top = 100 * curve.log.unlimited
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
    axes.set(xscale="log", xlim=(least, most), ylim=(0, max(1.12 * top, 1.0)))
    title = f"{name}: hit rate of one LRU prefix cache" if name else ""
    x = f"capacity (tokens; a block is {curve.log.block_tokens:,})"
    tidy(axes, x=x, y="full prompt blocks found (%)", title=title)
    axes.title.set_parse_math(False)
    legend_below(figure, handles)
    save(figure, path)
