"""`dcsim explain`: the calculation behind a request, as text or as data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby

from dcsim.cli.trace import traced
from dcsim.models import ModelError
from dcsim.models.shapes import figures
from dcsim.report.quantities import bytes_text, time_text
from dcsim.spec import did_you_mean, load_parts
from dcsim.traces.explain import Line, explain

__all__ = ["explain_command"]


def explain_command(
    model: str, sets: Sequence[str], gpu: str, *, profile: str | None = None, as_json: bool
) -> str:
    """The text of `dcsim explain`. Raises ModelError with all that is wrong."""
    gpus = load_parts().gpus
    problems = []
    if gpu not in gpus:
        problems.append(("--gpu", f"no GPU {gpu!r}; {did_you_mean(gpu, gpus)}"))
    elif profile is not None and profile not in gpus[gpu].profiles:
        known = did_you_mean(profile, gpus[gpu].profiles)
        problems.append(("--profile", f"{gpu} has no profile {profile!r}; {known}"))
    try:
        memory = traced(model, sets)
    except ModelError as error:
        raise ModelError([*problems, *error.problems]) from None
    if problems:
        raise ModelError(problems)
    lines = explain(model, memory, gpus[gpu].under(profile))
    if as_json:
        return json.dumps([line.as_dict() for line in lines], indent=2)
    text = [f"{model}: {', '.join(f'{k} {v}' for k, v in figures(memory.shape).items() if v)}"]
    for section, mine in groupby(lines, key=lambda line: line.section):
        text += ["", section, *map(_text, mine)]
    return "\n".join(text)


def _text(line: Line) -> str:
    return f"  {line.what}: " + (f"{line.expression} = " if line.expression else "") + _value(line)


def _value(line: Line) -> str:
    if line.unit == "s":
        return time_text(line.value * 1e9)
    text = f"{line.value:,} {line.unit}"
    many = line.unit.split(" ")[0] == "B" and line.value >= 10_000
    return f"{text} ({bytes_text(line.value)})" if many else text
