"""`dcsim trace`: its settings parsed; one request's memory trace printed, saved and drawn."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dcsim.assembly.counting import counted_trace
from dcsim.models import ModelError
from dcsim.models.shapes import Clip
from dcsim.reading.forms import Number
from dcsim.reading.tree import parse_value, plain
from dcsim.reading.units import shown
from dcsim.report.places import place_problems, whole
from dcsim.report.trace import trace_text
from dcsim.spec import TRACE_SUFFIX, Layout, SpecError, did_you_mean, load_parts
from dcsim.spec.draws import Resolution
from dcsim.spec.shapes import Input, frames_given
from dcsim.traces import MemoryTrace, options_of, request_of
from dcsim.traces.files import save
from dcsim.traces.perfetto import write_timeline
from dcsim.traces.plot import plot as draw
from dcsim.traces.report import report

__all__ = ["setting", "trace_command", "traced"]

MOST_SHOWN = 10_000_000
"""Steps and tokens: the report and the plot look at every one."""
FORMATS = (".png", ".svg", ".pdf")
_LAYOUT = tuple(field.name for field in fields(Layout))


def trace_command(
    model: str | None,
    sets: Sequence[str],
    gpu: str,
    *,
    profile: str | None = None,
    as_json: bool = False,
    out: Path | None = None,
    plot: Path | None = None,
    perfetto: Path | None = None,
    torch: str | None = None,
    device: str = "fake",
) -> str:
    """The text of `dcsim trace`; saves to `out`, draws to `plot`, and writes a timeline to
    `perfetto` where given.

    `torch`: the factory of a PyTorch module, in place of `model`. Raises ModelError for an
    unknown model, key, value, GPU, or a place where nothing can be written, all at once.
    """
    gpus = load_parts().gpus
    problems = [*place_problems("--out", out, (TRACE_SUFFIX,))]
    problems += place_problems("--plot", plot, FORMATS)
    problems += place_problems("--perfetto", perfetto, (".json",))
    if (model is None) == (torch is None):
        raise ModelError([("MODEL", "name a model, or a factory with --torch; one of them")])
    if gpu not in gpus:
        problems.append(("--gpu", f"no GPU {gpu!r}; {did_you_mean(gpu, gpus)}"))
    elif profile is not None and profile not in gpus[gpu].profiles:
        known = did_you_mean(profile, gpus[gpu].profiles)
        problems.append(("--profile", f"{gpu} has no profile {profile!r}; {known}"))
    if model is not None and device != "fake":
        raise ModelError([("--device", "is for --torch")])
    try:
        if model is not None:
            memory = traced(model, sets)
        else:
            memory = torch_traced(torch or "", sets, device)
    except ModelError as error:
        raise ModelError([*problems, *error.problems]) from None
    if problems:
        raise ModelError(problems)
    priced = gpus[gpu].under(profile)
    facts = report(memory, priced)
    if out is not None:
        save(memory, out)
    if plot is not None:
        with whole(plot) as part:
            draw(memory, priced, part)
    if perfetto is not None:
        with whole(perfetto) as part:
            write_timeline(memory, priced, part)
    return json.dumps(facts, indent=2) if as_json else trace_text(facts)


def traced(model: str, sets: Sequence[str] = ()) -> MemoryTrace:
    """The trace of a model with `key=value` settings.

    A key is a field of the shape (`width`, `frames`, `prompt`, ...; `resolution=1280x720` for width
    and height), `tp` or `sp` of the layout, or an option of the model; `shape.`, `layout.` or
    `options.` before it settles which.
    Raises ModelError with all that is wrong.
    """
    problems: list[tuple[str, str]] = []
    given = [setting(text, problems) for text in sets]
    try:
        shape, options = request_of(model), options_of(model)
    except ModelError as error:
        raise ModelError([*error.problems, *problems]) from None
    sizes = {field.name for field in fields(shape)}
    groups: dict[str, Collection[str]] = {
        "shape": sizes - {"given"} | ({"resolution", "input"} if "width" in sizes else set()),
        "layout": _LAYOUT,
        "options": options,
    }
    chosen: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for key, value in filter(None, given):
        group, name = _group(key, groups, problems)
        if group is None:
            continue
        try:
            chosen[group] |= _figures(group, name, value)
        except ValueError as error:
            problems.append((f"{group}.{name}", str(error)))
    try:
        layout = Layout(**chosen["layout"])
        brought = chosen["shape"].pop("input", None)
        shape = replace(shape, **chosen["shape"])
        if brought is not None:
            assert isinstance(shape, Clip)
            shape = replace(shape, given=frames_given(brought, shape.frames))
        memory = counted_trace(model, chosen["options"], shape, layout)
    except ModelError as error:
        problems += error.problems
    if problems:
        raise ModelError(problems)
    return memory


def torch_traced(factory: str, sets: Sequence[str] = (), device: str = "fake") -> MemoryTrace:
    """The trace of what a factory returns, with `key=value` settings: options of tracing, and
    arguments of the factory. Raises ModelError, also where PyTorch is not installed."""
    problems: list[tuple[str, str]] = []
    given = dict(pair for text in sets if (pair := setting(text, problems)) is not None)
    if problems:
        raise ModelError(problems)
    try:
        from dcsim.traces.torch import OPTIONS, trace
    except ImportError as error:
        message = f"needs the extra torch, pip install 'dcsim[torch]': {error}"
        raise ModelError([("--torch", message)]) from None
    options = {"device": device} | {key: v for key, v in given.items() if key in OPTIONS}
    return trace(factory, options, {k: v for k, v in given.items() if k not in OPTIONS})


def _figures(group: str, name: str, value: Any) -> dict[str, Any]:
    """What a setting comes to. Raises ValueError for a shape or layout that cannot be."""
    if (group, name) == ("shape", "resolution"):
        width, height = Resolution().parse(value if isinstance(value, str) else shown(value))
        return {"width": width, "height": height}
    if (group, name) == ("shape", "input"):
        return {name: Input().parse(value)}
    if (group, name) == ("shape", "strength"):
        return {name: Number(above=0, high=1).parse(value)}
    wrong = None if group == "options" else not_a_count(value)
    if wrong is not None:
        raise ValueError(wrong)
    return {name: value}


def setting(text: str, problems: list[tuple[str, str]]) -> tuple[str, Any] | None:
    """Key and value of `key=value`; None, with the problem added, where it is not that."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        problems.append((text or "--set", "a setting is written key=value"))
        return None
    try:
        return key.strip(), plain(parse_value(value))
    except SpecError as error:
        problems += [(key.strip(), problem.message) for problem in error.problems]
        return None


def _group(
    key: str, groups: Mapping[str, Collection[str]], problems: list[tuple[str, str]]
) -> tuple[str | None, str]:
    """What a key sets, and its name there; None, with the problem added, where it sets nothing.

    `cfg` alone is the option, as no replica is spread over GPUs by default.
    """
    group, dot, name = key.rpartition(".")
    if dot and group not in groups:
        problems.append((key, f"no group {group!r}; known: {', '.join(groups)}"))
        return None, name
    for each in (group,) if dot else ("shape", "options", "layout"):
        if name in groups[each]:
            return each, name
    known = list(groups[group]) if dot else [n for names in groups.values() for n in names]
    problems.append((key, f"unknown; {did_you_mean(name, dict.fromkeys(sorted(known)))}"))
    return None, name


def not_a_count(value: Any) -> str | None:
    """What is wrong with a degree of a layout or a size of a shape, or None."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return f"{shown(value)} is not a whole number above 0"
    return None if value <= MOST_SHOWN else f"{value} must be {MOST_SHOWN} or less"
