"""`dcsim split`: its prices parsed."""

from __future__ import annotations

import json
from pathlib import Path

from dcsim.planning.split import Prices, split
from dcsim.reading.units import TIME, UNIT_PRICE, Dimension, parse
from dcsim.report.split import split_text
from dcsim.results import Results
from dcsim.spec import Problem, SpecError, did_you_mean, load_parts

__all__ = ["split_command"]


def split_command(
    directory: Path,
    *,
    dram: str,
    nand: str,
    recompute: str,
    drive: str,
    dwpd: float | None,
    life: str,
    as_json: bool,
) -> str:
    """The text or JSON of `dcsim split`. Raises SpecError with all that is wrong."""
    problems: list[Problem] = []

    def wrong(place: str, text: str) -> None:
        problems.append(Problem(None, None, None, place, text))

    def amount(option: str, text: str, dimension: Dimension) -> float:
        try:
            value = float(parse(text, dimension))
            if value <= 0:
                raise ValueError(f"{text!r}: more than 0 is due")
            return value
        except ValueError as error:
            wrong(option, str(error))
            return 1.0

    given = {
        name: amount(f"--{name}", text, UNIT_PRICE)
        for name, text in (("dram", dram), ("nand", nand), ("recompute", recompute))
    }
    years = amount("--life", life, TIME)
    drives = load_parts().ssds
    if drive not in drives:
        wrong("--drive", f"no drive {drive!r}; {did_you_mean(drive, drives)}")
    if dwpd is not None and dwpd <= 0:
        wrong("--dwpd", f"{dwpd} drive writes a day: more than 0 is due")
    results = None
    try:
        results = Results.read(directory)
    except (FileNotFoundError, NotADirectoryError):
        wrong("DIR", f"{directory} holds no results of `dcsim run`")
    if results is not None and "useful" not in results.tables:
        wrong("DIR", f"{directory}: no job has `keep.reuse`, so nothing in it is used again")
    if problems or results is None:
        raise SpecError(problems)
    part = drives[drive]
    prices = Prices(
        **given,
        capacity=part.capacity,
        read=part.read,
        write=part.write,
        dwpd=part.dwpd if dwpd is None else dwpd,
        warranty_years=part.warranty_years,
        life=int(years),
    )
    found = split(results, prices)
    return json.dumps(found.as_dict(), indent=2) if as_json else split_text(found)
