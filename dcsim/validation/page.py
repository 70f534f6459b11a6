"""The comparison as a page and as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dcsim.validation.rows import Row

PREFACE = """# Validation

What dcsim computes beside what others measured, published or proved. `dcsim validate` gives the
first part for any file of such figures ([below](#a-file-of-your-own)); the page is rendered by
`python -m dcsim.pages.validation > docs/validation.md`, and tests hold it equal. Nothing is tuned
to a row.

## Models, memory and time

The rows of `dcsim/validation/published.csv`.

Basis: `measured` on hardware by others; `counted` by another program from the same
architecture; `published` by the model's authors; `identity`, a count that follows from inputs
printed with it, and so says that bytes a token are right, not that a prediction is.

KV budgets are those of `dcsim kv --sampler sort --cuda-graphs-gib 0`, as vLLM was in these logs,
with a share of 0.9. Latency and throughput under load are runs of the engine: clients that send a
request when the one before has ended, against one replica. Times of a request alone are its
steps one after the other. A row's settings say the GPU's profile; where there is none, the
efficiencies are the assumptions of the parts. Rows that a profile was fitted to are marked `fit`
and summed up apart: they are no test. A miss of over 5 % has its reason in the note, or is
`unexplained`.

### Errors
"""

OWN = """### A file of your own

`dcsim validate --csv FILE` takes a CSV with the columns `kind`, `model`, `config`, `gpu`, `value`,
`unit` and `source`, in words. Beside them `check` and `settings` say what the figure is held
against, `basis` and `use` what it is, `note` anything else; a row that says no check is that of
`published.csv` with the same kind, model, config and gpu, if there is one. The checks, and what
their settings can be, are at the top of `dcsim/validation/memory.py`, `clips.py` and
`serving.py`; settings that a check does not know are options of the model.
"""


ERRORS = ("quantity", "rows", "median error", "half are within", "largest")
TOLD = ("published", "ours", "unit", "error", "basis", "use", "settings", "source", "note")
COLUMNS = ("model", "what", "GPU", *TOLD)
UNTOLD = ("model", "what", "GPU", "published", "unit", "source", "why")


def markdown(rows: Sequence[Row]) -> str:
    """Errors by what the figures are, by model, then every row, then those without ours."""
    told = [row for row in rows if row.error is not None]
    parts = [PREFACE, *_groups(told, "basis")]
    parts += ["", "### Errors by model", ""]
    parts += _groups([row for row in told if row.basis == "measured"], "model")
    parts += ["", "### Rows", "", *_table(COLUMNS, (_row(row) for row in told))]
    parts += ["", "### Rows without a figure of ours", ""]
    parts += _table(UNTOLD, (_untold(row) for row in rows if row.error is None))
    return "\n".join([*parts, "", OWN])


def _groups(rows: Sequence[Row], by: str) -> list[str]:
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        assert row.error is not None
        key = (row.use or "test", str(getattr(row, by)), row.quantity)
        groups.setdefault(key, []).append(row.error)
    lines = []
    for name, errors in sorted(groups.items(), key=lambda g: (g[0][0] == "fit", g[0])):
        middle, half = float(np.median(errors)), float(np.median(np.abs(errors)))
        worst = max(errors, key=abs)
        lines.append((*name, str(len(errors)), f"{middle:+.1%}", f"{half:.1%}", f"{worst:+.1%}"))
    return _table(("use", by, *ERRORS), lines)


def _row(r: Row) -> Sequence[str]:
    figures = (_number(r.published), _number(r.ours), r.unit, f"{r.error:+.2%}")
    settings = f"`{r.check}: {r.settings}`"
    return (r.model, r.config, r.gpu, *figures, r.basis, r.use, settings, r.source, r.told)


def _untold(r: Row) -> Sequence[str]:
    return (r.model, r.config, r.gpu, _number(r.published), r.unit, r.source, r.note)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(c.replace("|", "/") for c in row) + " |" for row in rows]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def as_data(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows as plain data; `error` is relative, null with a `reason` where there is none."""
    return {"rows": [_plain(row) for row in rows]}


def _plain(r: Row) -> dict[str, Any]:
    out: dict[str, Any] = {
        "kind": r.kind,
        "model": r.model,
        "config": r.config,
        "gpu": r.gpu,
        "quantity": r.quantity or r.kind,
        "unit": r.unit,
        "published": r.published,
        "predicted": r.ours,
        "error": r.error,
        "basis": r.basis,
        "use": r.use or "test",
        "check": r.check,
        "settings": r.settings,
        "source": r.source,
    }
    out["note" if r.error is not None else "reason"] = r.told
    return out
