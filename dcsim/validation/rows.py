"""Published figures beside ours: the rows, and the files that hold them.

A file is CSV with a header. Needed: `kind`, `model`, `config`, `gpu`, `value`, `unit`, `source`, in
words, as a source has them. Read where they are there: `basis` (`measured`, `counted`,
`published` or `identity`), `check` and `settings` (which of our figures it is held against:
`key=value; ...`), `use` (`fit` where a profile was fitted to the row), `note`. A row without a
check is the one of the shipped file with the same kind, model, config and gpu.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from dcsim.models import ModelError
from dcsim.spec import Problem, SpecError, did_you_mean

NEEDED = ("kind", "model", "config", "gpu", "value", "unit", "source")
ALSO = ("basis", "check", "settings", "use", "note")
BASES = ("measured", "counted", "published", "identity")
USES = ("", "fit")

UNITS: Mapping[str, float] = {
    "B": 1,
    "MiB": 2**20,
    "GiB": 2**30,
    "GB": 1e9,
    "parameters": 1,
    "tokens": 1,
    "MAC": 2,
    "GMAC": 2e9,
    "TFLOP": 1e12,
    "s": 1,
    "ms": 1e-3,
    "tokens/s": 1,
}
"""Bytes, FLOPs, seconds, and what is counted, by the unit that a row has."""


MISS = 0.05
"""Relative errors above this have a reason, or are said to have none."""


@dataclass(frozen=True)
class Row:
    """One published figure, and how ours is found."""

    kind: str
    model: str
    config: str
    gpu: str
    published: float
    """In `unit`."""
    unit: str
    source: str
    basis: str = "measured"
    """`measured` on hardware, `counted` by another program from the same architecture,
    `published` by the model's authors, or an `identity`: a count that follows from the inputs
    printed with it."""
    check: str = ""
    settings: str = ""
    use: str = ""
    """`fit` where a serving profile was fitted to it; else it tests."""
    note: str = ""
    quantity: str = ""
    ours: float | None = None
    """In `unit`; None where the row cannot be expressed, and `note` says why."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is known by in another file."""
        return self.kind, self.model, self.config, self.gpu

    @property
    def error(self) -> float | None:
        """Ours over the published figure, less one."""
        if self.ours is None or not self.published:
            return None
        return self.ours / self.published - 1

    @property
    def told(self) -> str:
        """The note; where it says nothing of a miss of over 5 %, that nobody has explained it."""
        missed = self.error is not None and abs(self.error) > MISS
        return self.note or ("unexplained" if missed else "")


def shipped() -> list[Row]:
    """The rows that dcsim has, with all that is needed to find ours."""
    text = files("dcsim.validation").joinpath("published.csv").read_text(encoding="utf-8")
    return parse(text, Path("published.csv"))


def read(path: Path) -> list[Row]:
    """The rows of a user's file, completed from the shipped ones.

    Raises:
        SpecError: with every row that cannot be read, by file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"cannot be read: {reason}"
        raise SpecError([Problem(path, None, None, "", message)]) from None
    known = {row.key: row for row in reversed(shipped())}
    return [_completed(row, known.get(row.key)) for row in parse(text, path)]


def _completed(row: Row, like: Row | None) -> Row:
    if row.check or like is None:
        return row
    unit = row.unit if row.unit in UNITS else like.unit
    told = {name: getattr(like, name) for name in ("basis", "check", "settings", "use", "note")}
    return replace(row, unit=unit, **told)


def parse(text: str, path: Path) -> list[Row]:
    """The rows of a file's text; SpecError with all that is wrong with it."""
    reader = csv.reader(text.splitlines())
    header = next(reader, [])
    problems: list[Problem] = []

    def wrong(line: int, message: str) -> None:
        problems.append(Problem(path, line, 1, "", message))

    for name in NEEDED:
        if name not in header:
            wrong(1, f"the header has no column {name!r}: {did_you_mean(name, header)}")
    if problems:
        raise SpecError(problems)
    rows: list[Row] = []
    for fields in filter(None, reader):
        if len(fields) != len(header):
            wrong(reader.line_num, f"has {len(fields)} fields, the header {len(header)}")
            continue
        row = dict(zip(header, fields, strict=True))
        faults = _faults(row)
        for fault in faults:
            wrong(reader.line_num, fault)
        if not faults:
            value = float(row.pop("value"))
            told = {name: row.get(name, "") for name in (*NEEDED, *ALSO) if name != "value"}
            told["basis"] = told["basis"] or "measured"
            rows.append(replace(Row("", "", "", "", value, "", ""), **told))  # type: ignore[arg-type]
    if problems:
        raise SpecError(problems)
    return rows


def _faults(row: Mapping[str, str]) -> list[str]:
    out = []
    try:
        if not math.isfinite(float(row["value"])):
            out.append(f"value: {row['value']!r} is not a number")
    except ValueError:
        out.append(f"value: {row['value']!r} is not a number")
    out += [f"{name} is empty" for name in ("kind", "model", "config", "unit") if not row[name]]
    for name, allowed in (("basis", BASES), ("use", USES)):
        given = row.get(name, "")
        if given and given not in allowed:
            out.append(f"{name}: {given!r}; {did_you_mean(given, allowed)}")
    return out


class Settings(Mapping[str, str]):
    """`key=value; ...` of a row; what a check does not ask for is an option of the model.

    Raises ModelError from its methods where something needed is missing or no number.
    """

    def __init__(self, text: str) -> None:
        pairs = [pair.partition("=") for pair in text.split(";") if pair.strip()]
        self._values = {key.strip(): value.strip() for key, _, value in pairs}
        self._asked: set[str] = set()

    def __getitem__(self, key: str) -> str:
        self._asked.add(key)
        return self._values[key]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def need(self, key: str) -> str:
        """A setting that must be there."""
        if key not in self._values:
            raise ModelError([("settings", f"needs {key}=")])
        return self[key]

    def number(self, key: str, default: float | None = None) -> float:
        """A number; without a default it must be there."""
        if default is not None and key not in self._values:
            return default
        try:
            return float(self.need(key))
        except ValueError:
            raise ModelError([("settings", f"{key}={self[key]} is not a number")]) from None

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number."""
        return int(self.number(key, default))

    def rest(self) -> dict[str, object]:
        """What no check has asked for: options of the model."""
        left = {key: value for key, value in self._values.items() if key not in self._asked}
        return {key: _value(value) for key, value in left.items()}


def _value(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
