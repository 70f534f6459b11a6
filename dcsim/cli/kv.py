"""`dcsim kv`: its settings parsed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dcsim.cli.trace import not_a_count, setting
from dcsim.models import ModelError
from dcsim.report.kv import kv_text
from dcsim.spec import Layout
from dcsim.traces import kv

__all__ = ["kv_command"]

DEGREES = ("pp", "dp", "ep", "cp")
"""Of a layout, beside tp."""


def kv_command(
    model: str,
    gpu: str,
    tp: int,
    *,
    kv_dtype: str,
    sets: Sequence[str],
    as_json: bool,
    **given: Any,
) -> str:
    """The text of `dcsim kv`. Raises ModelError with all that is wrong."""
    problems: list[tuple[str, str]] = []
    pairs = [pair for text in sets if (pair := setting(text, problems)) is not None]
    spread, options = {"tp": tp}, {}
    for key, value in pairs:
        if (degree := key.removeprefix("layout.")) in DEGREES:
            spread[degree] = value
            if (wrong := not_a_count(value)) is not None:
                raise ModelError([*problems, (key, wrong)])
        else:
            options[key.removeprefix("options.")] = value
    if kv_dtype not in ("auto", options.get("dtype", "bf16")):
        options["kv_dtype"] = kv_dtype
    try:
        layout = None if tp < 1 else Layout(**spread)
        budget = kv(model, gpu, tp, layout=layout, options=options, **given)
    except ModelError as error:
        raise ModelError([*problems, *error.problems]) from None
    if problems:
        raise ModelError(problems)
    return json.dumps(budget.as_dict(), indent=2) if as_json else kv_text(budget)
