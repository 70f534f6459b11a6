"""Fits a serving profile to the rows that are marked `fit` and name it.

`python -m dcsim.pages.fit trt-llm h100 h200` prints the profile as YAML, and how far it is off on
the rows it was fitted to and on the others. A random search from a fixed seed makes the mean of
|log(ours / published)| small; what is found is rounded, and not one figure is set by hand.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from dcsim.pages import splitwise
from dcsim.spec import load_parts
from dcsim.spec.parts import Efficiency, Profile
from dcsim.validation import CHECKS, held
from dcsim.validation.gpus import TRIED
from dcsim.validation.rows import UNITS, Row, Settings, shipped

SHARES = ("dense", "attention", "conv", "memory", "comm", "weights", "kv", "host_link")
TIMES = ("launch", "host", "step", "collective")
LEAST = (*(0.03,) * len(SHARES), 1_000, 0, 0, 0)
MOST = (*(0.95,) * len(SHARES), 300_000, 900_000, 3_000_000, 100_000)
ROUNDS = 450
FAR = 0.001
"""Of the mean error, for each figure that has changed by a factor of e."""


def rows_of(profile: str, gpus: Sequence[str], folder: Path) -> list[Row]:
    """All rows that name the profile, of some GPUs."""
    found = [*shipped(), *(splitwise.rows(folder) if (folder / splitwise.FILE).exists() else ())]
    each = [(row, Settings(row.settings)) for row in found]
    return [row for row, s in each if s.get("profile") == profile and s.get("gpu") in gpus]


def made(x: Sequence[float]) -> Profile:
    """The profile of a point, rounded to two digits, times in us."""
    shares = {name: float(f"{value:.2g}") for name, value in zip(SHARES, x, strict=False)}
    found = [round(float(f"{value:.2g}") / 1000) * 1000 for value in x[len(SHARES) :]]
    launch, host, step, collective = found
    efficiency = Efficiency(**shares)
    return Profile(
        efficiency=efficiency,
        launch=max(1000, launch),
        host=host,
        step=step,
        collective=collective,
    )


def errors(profile: str, x: Sequence[float], rows: Sequence[Row]) -> list[float]:
    """log(ours / published) of each row."""
    TRIED[profile] = made(x)
    out = []
    for row in rows:
        ours = CHECKS[row.check][1](Settings(row.settings)) / UNITS[row.unit]
        out.append(math.log(ours / row.published))
    return out


def _told(rows: Sequence[Row]) -> list[str]:
    """The figures that such rows can tell: of a denoiser, which mostly computes, a few."""
    settings = [Settings(row.settings) for row in rows]
    if not any(row.check in ("clip_seconds", "step_seconds") for row in rows):
        return [name for name in (*SHARES, *TIMES) if name not in ("conv", "host_link")]
    found = ["dense", "attention", "memory", "launch"]
    if any(s.whole("sp", 1) * s.whole("tp", 1) > 1 for s in settings):
        found.append("comm")
    return [*found, "host_link"] if any("offload" in s for s in settings) else found


def fit(profile: str, rows: Sequence[Row], begin: Sequence[float]) -> list[float]:
    """The point that a search from `begin` ends in; no figure goes far for little."""
    random = np.random.default_rng(1)

    def cost(x: Sequence[float]) -> float:
        far = sum(
            abs(math.log(max(a, 1e-9) / max(b, 1e-9))) for a, b in zip(x, begin, strict=True) if b
        )
        return float(np.mean(np.abs(errors(profile, x, rows)))) + FAR * far

    best = list(begin)
    names = (*SHARES, *TIMES)
    free = [names.index(name) for name in _told(rows)]
    least = cost(best)
    for turn in range(ROUNDS):
        size = 0.4 * 0.5 ** (turn * 5 // ROUNDS)
        trial = list(best)
        for j in random.choice(free, 2, replace=False):
            base = trial[j] or MOST[j] / 50
            trial[j] = min(MOST[j], max(LEAST[j], base * math.exp(random.normal(0, size))))
            if j >= len(SHARES) and random.random() < 0.1:
                trial[j] = LEAST[j]
        now = cost(trial)
        if now < least:
            best, least = trial, now
    return best


def main() -> int:
    """Fits, and prints what came out."""
    if len(sys.argv) < 3:
        print("python -m dcsim.pages.fit PROFILE GPU...", file=sys.stderr)
        return 2
    profile, *gpus = sys.argv[1:]
    rows = rows_of(profile, gpus, Path(os.environ.get("DCSIM_TRACES", ".")))
    fitted = [row for row in rows if row.use == "fit"]
    if not fitted:
        print(f"no row is marked fit for {profile!r}", file=sys.stderr)
        return 2

    def mean(x: Sequence[float]) -> float:
        return float(np.mean(np.abs(errors(profile, x, fitted))))

    own = load_parts().gpus[Settings(fitted[0].settings)["gpu"]]
    absent = {
        "weights": own.efficiency["memory"],
        "kv": own.efficiency["memory"],
        "host_link": 0.95,
    }
    shares = [own.efficiency.get(name, absent.get(name)) for name in SHARES]
    # From kernels launched by graphs, and from a host that launches them one by one.
    hosts = (0.0, 400_000.0) if "host" in _told(fitted) else (0.0,)
    begins = [[*shares, own.launch, host, 0.0, 10_000.0] for host in hosts]
    TRIED[profile] = made(begins[0])
    rows = [row for row in rows if held(row).error is not None]
    found = min((fit(profile, fitted, begin) for begin in begins), key=mean)
    best = made(found)
    shown = ", ".join(f"{name}: {best.efficiency[name]:g}" for name in SHARES)
    print(f"{profile}:\n  efficiency: {{{shown}}}")
    for name in TIMES:
        print(f"  {name}: {getattr(best, name) // 1000} us")
    for use in ("fit", ""):
        mine = [row for row in rows if row.use == use]
        if mine:
            off = np.array(errors(profile, found, mine))
            print(f"# {use or 'test'}: {len(mine)} rows, median |error| {np.median(abs(off)):.1%}")
    return 0


assert {field.name for field in fields(Efficiency)} == set(SHARES)

if __name__ == "__main__":
    raise SystemExit(main())
