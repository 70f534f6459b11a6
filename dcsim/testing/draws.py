"""Strategies for the parts of a job: arrivals, shapes, what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from dcsim.reading.units import RATE, parse
from dcsim.spec.reuse import EVICTIONS, WRITES
from dcsim.testing.ladders import Count, Span, count, rates, time_text, times

__all__ = ["clip_shapes", "keeps", "moments", "numbers", "processes", "sessions", "token_shapes"]

Draw = Any


@st.composite
def processes(draw: Draw, rate: Span, most: float, duration: int) -> dict[str, Any]:
    """Arrival processes with rates within bounds and not above `most`, over `duration` ns."""
    process = draw(st.sampled_from(["constant", "poisson", "gamma"]))
    arrivals: dict[str, Any] = {"process": process}
    form = draw(st.sampled_from(["flat", "flat", "piecewise", "diurnal"]))
    if form == "flat":
        arrivals["rate"] = draw(rates(rate, most))
    elif form == "piecewise":
        arrivals["rate"] = draw(_piecewise(rate, most, duration))
    else:
        top = draw(rates(rate, most))
        ratio = draw(st.sampled_from([1.0, 1.5, 2.0, 3.0]))
        arrivals["rate"] = {
            "diurnal": {
                "mean": f"{float(parse(top, RATE)) / ratio:.12g}/s",
                "peak_to_mean": ratio,
                "peak_at": draw(st.sampled_from(["0 s", "1 min", "12 h"])),
            }
        }
    if process == "gamma":
        arrivals["cv"] = draw(st.sampled_from([0.5, 1.5, 4.0]))
    return arrivals


@st.composite
def _piecewise(draw: Draw, rate: Span, most: float, duration: int) -> dict[str, Any]:
    marks = sorted(draw(st.sets(st.integers(1, 9), max_size=3)))
    points = [[time_text(duration * mark // 10), draw(rates(rate, most))] for mark in (0, *marks)]
    curve: dict[str, Any] = {"piecewise": points}
    if draw(st.booleans()):
        curve["interpolate"] = "step"
    if draw(st.integers(0, 3)) == 3:
        curve["repeat"] = time_text(duration * (marks[-1] + 1 if marks else 1) // 10)
    return curve


def moments(duration: int) -> st.SearchStrategy[str]:
    """Instants of a run of `duration` ns, on a grid of hundredths, both ends included."""
    return st.integers(0, 100).map(lambda k: time_text(duration * k // 100))


def numbers(bounds: Count) -> st.SearchStrategy[Any]:
    """A number within bounds, or a distribution over such."""
    one = count(bounds)
    if isinstance(bounds, int) or bounds[0] == bounds[1]:
        return one
    return st.one_of(
        one,
        st.dictionaries(one, st.integers(1, 4), min_size=1, max_size=3).map(
            lambda weights: {"choice": weights}
        ),
        st.tuples(one, one).map(lambda ends: {"uniform": {"min": min(ends), "max": max(ends)}}),
        st.tuples(one, one, one, st.sampled_from([0.5, 1.0, 2.0])).map(_lognormal),
        st.lists(one, min_size=1, max_size=4).map(lambda values: {"empirical": {"values": values}}),
    )


def _lognormal(drawn: tuple[int, int, int, float]) -> dict[str, Any]:
    low, median, high = sorted(drawn[:3])
    return {"lognormal": {"median": median, "sigma": drawn[3], "min": low, "max": high}}


@st.composite
def clip_shapes(
    draw: Draw, resolutions: Sequence[str], frames: Sequence[int], steps: Count
) -> dict[str, Any]:
    """Shapes of clips, each figure one of those given."""
    shape: dict[str, Any] = {"resolution": draw(_one_or_choice(resolutions))}
    if tuple(frames) != (1,):
        shape["frames"] = draw(_one_or_choice(frames))
    return shape | {"steps": draw(numbers(steps))}


def _one_or_choice(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    one = st.sampled_from(list(values))
    several = st.dictionaries(one, st.integers(1, 4), min_size=1, max_size=3)
    return st.one_of(one, several.map(lambda weights: {"choice": weights}))


def token_shapes(prompt: Count, output: Count) -> st.SearchStrategy[dict[str, Any]]:
    """Shapes of turns."""
    return st.fixed_dictionaries({"prompt": numbers(prompt), "output": numbers(output)})


@st.composite
def sessions(draw: Draw) -> dict[str, Any]:
    """Conversations of a few turns, with or without a shared beginning."""
    session: dict[str, Any] = {"turns": draw(numbers((1, 4)))}
    if draw(st.booleans()):
        session["think"] = draw(st.sampled_from(["1 ms", "2 s", "1 min"]))
    if draw(st.booleans()):
        session["context"] = draw(st.sampled_from([1, 500, 4000]))
    if draw(st.booleans()):
        tokens, many = draw(st.sampled_from([1, 100, 1000])), draw(st.integers(1, 3))
        session["system"] = {"tokens": tokens, "count": many, "zipf": draw(st.integers(0, 2))}
    return session


@st.composite
def reuses(draw: Draw) -> dict[str, Any]:
    """How kept context is used again, as written."""
    plain: list[dict[str, Any]] = [{}, {}, {"block": 1}, {"block": 100, "least": 300}]
    reuse: dict[str, Any] = draw(st.sampled_from(plain))
    if draw(st.booleans()):
        reuse = reuse | {"hbm": draw(st.booleans())}
    for key, one in (("eviction", st.sampled_from(EVICTIONS)), ("admission", st.integers(1, 3))):
        if draw(st.booleans()):
            tiers = st.fixed_dictionaries({}, optional={"dram": one, "nand": one})
            reuse = reuse | {key: draw(st.one_of(one, tiers))}
    if draw(st.booleans()):
        reuse = reuse | {
            "watermarks": {"dram": {"high": 0.9, "low": draw(st.sampled_from([0.1, 0.9]))}}
        }
    if draw(st.booleans()):
        reuse = reuse | {"faster": draw(st.booleans())}
    if draw(st.booleans()):
        reuse = reuse | {"write": draw(st.sampled_from(WRITES))}
        if reuse["write"] == "write_back":
            reuse["exclusive"] = draw(st.booleans())
    return reuse


@st.composite
def adapters(draw: Draw) -> dict[str, Any]:
    """Adapters of a job, as written: small ones."""
    size = draw(st.sampled_from([{"rank": 1}, {"rank": 2, "targets": "all"}, {"bytes": "1 MB"}]))
    return {"count": draw(st.integers(1, 5)), "zipf": draw(st.sampled_from([0, 1.1])), **size}


@st.composite
def kept_adapters(draw: Draw, keep: Span) -> dict[str, Any]:
    """How adapters stay, as written."""
    kept: dict[str, Any] = {tier: draw(times(keep)) for tier in ("dram", "nand")}
    if draw(st.booleans()):
        kept.pop("nand")
    if draw(st.booleans()):
        kept |= {"eviction": draw(st.sampled_from(EVICTIONS)), "admission": draw(st.integers(1, 2))}
    return kept


@st.composite
def keeps(draw: Draw, keep: Span, kind: str, stores: Sequence[str]) -> dict[str, Any]:
    """What stays of a finished job and where: `stores` are the NAND it may go to, if any."""
    times_kept = {}
    for tier in ("dram", "nand"):
        if draw(st.booleans()) and (tier == "dram" or stores):
            times_kept[tier] = draw(times(keep))
    kept: dict[str, Any] = {}
    if times_kept:
        kept["artifact" if kind == "dit" else "context"] = times_kept
    if "nand" in times_kept and tuple(stores) != ("local",):
        kept["store"] = draw(st.sampled_from(list(stores)))
    if draw(st.booleans()):
        kept["weights_in_dram"] = True
    if "context" in kept and draw(st.booleans()):
        kept["reuse"] = draw(reuses())
    return kept
