"""The reference pages: docs/yaml.md, docs/results.md and docs/models.md.

Each has a head that is written by hand and a body, below the mark, that is rendered from the
code. `python -m dcsim.pages.reference docs` renders the bodies anew; a test holds them equal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from dcsim.models import Model, Option, get, names, vae
from dcsim.models import text as text_encoders
from dcsim.models.llm import LlmConfig
from dcsim.models.shapes import RequestShape
from dcsim.models.text import TextEncoder
from dcsim.models.vae import Vae
from dcsim.models.weights import count
from dcsim.pages.keys import keys_markdown
from dcsim.report.quantities import bytes_text
from dcsim.results import meanings
from dcsim.traces import Clip, trace

__all__ = ["MARK", "PAGES", "models_markdown", "page", "results_markdown"]

MARK = "<!-- Below: rendered from the code by `python -m dcsim.pages.reference docs`. -->"


def page(path: Path) -> str:
    """A page as it should be: its head as it is, its body anew.

    Raises `KeyError` for a page that is not in `PAGES`, `ValueError` for one without the mark.
    """
    head, mark, _ = path.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise ValueError(f"{path} has no line {MARK!r}, below which its tables would go")
    return f"{head}{mark}\n\n{PAGES[path.name]()}"


# Results


def results_markdown() -> str:
    """Every table and every key that a run writes."""
    lines = ["## Tables", ""]
    for name, table in meanings.TABLES.items():
        lines += [
            f"### `{name}.parquet`",
            "",
            table.row,
            "",
            *_columns("column", table.columns),
            "",
        ]
    lines += ["## Keys of `summary.json`", ""]
    lines += ["Parts of a key in capitals stand for:", ""]
    for name, (known, meaning) in meanings.NAMES.items():
        listed = ": " + ", ".join(f"`{each}`" for each in known) if known else ""
        lines.append(f"- {name}, {meaning}{listed}")
    lines += ["", "Where no request has come so far, null stands for all of STATISTIC.", ""]
    lines += [*_columns("key", meanings.SUMMARY), "", "## Keys of `manifest.json`", ""]
    lines += [*_columns("key", meanings.MANIFEST), "", "## What a comparison adds", ""]
    lines += ["Each variant has a directory with all of the above. Beside them:", ""]
    lines += ["`demand.png`, `latency.png`, `outcomes.png`: the variants side by side.", ""]
    lines += [f"{meanings.COMPARED.row} `comparison.json` has the same, by figure.", ""]
    lines += [*_columns("column", meanings.COMPARED.columns), ""]
    lines += ["`manifest.json`:", "", *_columns("key", meanings.COMPARISON)]
    return "\n".join(lines) + "\n"


def _columns(what: str, entries: Iterable[meanings.Entry]) -> list[str]:
    rows = [(f"`{e.name}`", e.type, e.unit, e.meaning) for e in entries]
    return _rows((what, "type", "unit", "meaning"), rows)


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows
    ]


# Models


def models_markdown() -> str:
    """The reference models and their options."""
    models = [get(name) for name in names()]
    clips = [model for model in models if model.kind == "dit"]
    turns = [model for model in models if model.kind == "llm"]
    what, cost = ("model", "what it is", "parameters"), ("request", "peak", "source")
    clip = (*what, "VAE", "text encoder", *cost)
    turn = (*what, "active", "KV of a token", *cost)
    lines = ["## Diffusion transformers", "", *_rows(clip, map(_clip_row, clips)), ""]
    lines += ["## Autoencoders", "", *_rows(_VAE, map(_vae_row, vae.shipped().values())), ""]
    lines += [
        "## Text encoders",
        "",
        *_rows(_TEXT, map(_text_row, text_encoders.shipped().values())),
        "",
    ]
    lines += ["## Language models", "", *_rows(turn, map(_turn_row, turns)), ""]
    lines += ["## Options of diffusion transformers", "", *_options(clips), ""]
    lines += ["## Options of language models", "", *_options(turns)]
    return "\n".join(lines) + "\n"


def _clip_row(model: Model) -> tuple[str, ...]:
    params = model.all_params()
    counted = (_params(params[part]) if part in params else "" for part in ("transformer", "vae"))
    text = _params(params["text"]) if "text" in params else "none, a class label"
    return (f"`{model.name}`", model.description, *counted, text, *_request(model), model.source)


_VAE = (
    "VAE",
    "what it is",
    "parameters",
    "pixels, frames of a cell",
    "channels",
    "dtype",
    "cut",
    "source",
)


_TEXT = ("encoder", "what it is", "parameters", "width", "source")


def _text_row(found: TextEncoder) -> tuple[str, ...]:
    names_ = ", ".join(f"`{name}`" for name in (found.name, *found.aliases))
    counted = _params(count(found.encoder.parameters()))
    return names_, found.title, counted, str(found.encoder.out_width), found.source


def _vae_row(found: Vae) -> tuple[str, ...]:
    names_ = ", ".join(f"`{name}`" for name in (found.name, *found.aliases))
    size = f"{found.space} x {found.space}, {found.time}"
    counted = _params(count(vae.parameters(found)))
    what = (names_, found.title, counted, size, str(found.channels), found.dtype)
    return (*what, found.cut, found.source)


def _turn_row(model: Model) -> tuple[str, ...]:
    config = model.network
    assert isinstance(config, LlmConfig)
    kept = config.kv(1, "bf16")
    token = f"{kept.token:,} B"
    if kept.window:
        token += f", {kept.growth:,} B beyond {kept.window}"
    active = _params(config.active) if config.experts else ""
    what = (f"`{model.name}`", model.description, _params(model.params), active, token)
    return (*what, *_request(model), model.source)


def _request(model: Model) -> tuple[str, str]:
    return _shape(model.request), bytes_text(trace(model.name).peak_bytes)


def _shape(shape: RequestShape) -> str:
    if isinstance(shape, Clip):
        frames = f"{shape.frames} frames, " if shape.frames > 1 else ""
        brought = {0: "", 1: ", from an image"}.get(shape.given, f", from {shape.given} frames")
        return f"{shape.width}x{shape.height}, {frames}{shape.steps} steps{brought}"
    return f"{shape.prompt:,} + {shape.output:,} tokens"


def _params(count: int) -> str:
    if count >= 1e12:
        return f"{count / 1e12:.2f} T"
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def _options(models: Sequence[Model]) -> list[str]:
    """One row an option; what differs between models says of which it is."""
    rows = []
    for name in dict.fromkeys(name for model in models for name in model.options):
        having = [model for model in models if name in model.options]
        found: tuple[dict[str, list[Model]], ...] = ({}, {})
        for model in having:
            option = model.options[name]
            for texts, text in zip(found, (_allowed(option), _value(option.default)), strict=True):
                texts.setdefault(text, []).append(model)
        allowed, default = (_by_kind(texts) for texts in found)
        rows.append((f"`{name}`", allowed, default, having[0].options[name].meaning))
    return _rows(("option", "allowed", "default", "meaning"), rows)


def _by_kind(found: Mapping[str, Sequence[Model]]) -> str:
    if len(found) == 1:
        return next(iter(found))
    if next(iter(found.values()))[0].kind == "dit":
        most = max(found, key=lambda text: len(found[text]))
        others = [f"{text} ({_some(who)})" for text, who in found.items() if text != most]
        return "; ".join([most, *others])
    return "; ".join(f"{text} ({_kind(members)})" for text, members in found.items())


def _some(members: Sequence[Model]) -> str:
    """A few models by name, many by their number."""
    if len(members) > 4:
        return f"{len(members)} models"
    return ", ".join(f"`{model.name}`" for model in members)


def _kind(members: Sequence[Model]) -> str:
    """Which models, in a word, or by name."""
    if len(members) < 5:
        return ", ".join(model.name for model in members)
    mixed = {model.network.experts for model in members if isinstance(model.network, LlmConfig)}
    return "others" if len(mixed) > 1 else "with experts" if True in mixed else "dense"


def _allowed(option: Option) -> str:
    if option.allowed is not None:
        return ", ".join(_value(each) for each in option.allowed)
    kind = "whole number" if option.whole else "number"
    most = "" if option.high == float("inf") else f" ≤ {option.high:g}"
    return f"{kind} ≥ {option.low:g}{most}"


def _value(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


PAGES: Mapping[str, Callable[[], str]] = {
    "yaml.md": keys_markdown,
    "results.md": results_markdown,
    "models.md": models_markdown,
}
"""What renders the body of each page."""


def main(arguments: Sequence[str]) -> None:
    """Renders the pages in a directory anew."""
    (directory,) = map(Path, arguments)
    for name in PAGES:
        fresh = page(directory / name)
        (directory / name).write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
