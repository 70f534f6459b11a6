"""The command line. Heavy imports happen inside the commands, so `--help` is quick."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from dcsim.cli.looks import COMMANDS, AsJson
from dcsim.cli.trouble import checked, complain, explained, progress_bar

app = typer.Typer(
    name="dcsim",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ScenarioFile = Annotated[
    Path, typer.Argument(metavar="SCENARIO", help="A scenario in YAML, or a shipped one by name.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override one value; may be repeated."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Plots = Annotated[bool, typer.Option("--plots/--no-plots", help="Draw pictures too.")]


def print_version(wanted: bool) -> None:
    """For `dcsim --version`."""
    if wanted:
        from importlib.metadata import version

        print(version("dcsim"))
        raise typer.Exit


@app.callback()
def dcsim(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True),
    ] = False,
) -> None:
    """Simulate racks of GPUs, DRAM and NAND under DiT and LLM jobs: capacity demand over time."""


@app.command("run")
def run_command(
    scenario: ScenarioFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Directory of the results [out/SCENARIO]."),
    ] = None,
    sets: Sets = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, metavar="N", help="Another seed.")
    ] = None,
    what_if: Annotated[
        str | None,
        typer.Option("--what-if", metavar="NAME", help="A variant of the what_if block."),
    ] = None,
    plots: Plots = True,
    quiet: Quiet = False,
) -> None:
    """Simulate a scenario; write tables, summary, manifest and plots."""
    from dcsim.report.painter import Painter

    with Painter(plots) as painter, explained(writes=True):
        from dcsim import planning, report

        target = out if out is not None else Path("out") / scenario.stem
        overrides = [*(sets or []), *([] if seed is None else [f"seed={seed}"])]
        with progress_bar(quiet) as progress:
            progress("reading", 1.0)
            plan = checked(
                target, lambda: planning.load(scenario, overrides=overrides, what_if=what_if)
            )
            results = planning.run(plan, progress=progress)
            progress("writing results and plots" if plots else "writing results", 1.0)
            report.write_run(results, target, plots=plots, painter=painter)
        if not quiet:
            from dcsim.report.screen import show_summary

            show_summary(results)
            print(f"results: {target}")


@app.command()
def compare(
    scenario: ScenarioFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Directory [out/SCENARIO-compare]."),
    ] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option("--what-if", metavar="NAME", help="A variant; may be repeated [all]."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="One more variant, `changed`: this override; may be repeated.",
        ),
    ] = None,
    plots: Plots = True,
    quiet: Quiet = False,
) -> None:
    """Simulate variants on the same arrivals; show them side by side."""
    from dcsim.report.painter import Painter

    with Painter(plots) as painter, explained(writes=True):
        from dcsim import planning, report

        target = out if out is not None else Path("out") / f"{scenario.stem}-compare"
        with progress_bar(quiet) as progress:
            progress("reading", 1.0)
            plans = checked(
                target, lambda: planning.variants(scenario, what_if=what_if, overrides=sets or ())
            )
            results = planning.compare(plans, progress=progress)
            progress("writing results and plots" if plots else "writing results", 1.0)
            comparison = report.write_comparison(results, target, plots=plots, painter=painter)
        if not quiet:
            from dcsim.report.screen import show_comparison

            show_comparison(comparison, results)
            print(f"results: {target}")


@app.command()
def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="Scenarios, topologies, parts files.")
    ],
) -> None:
    """Validate files without running them."""
    with explained():
        from dcsim.planning import check as problems_of

        problems = []
        for file in dict.fromkeys(files):
            found = problems_of(file)
            problems += found
            if not found:
                print(f"{file}: ok")
        if problems:
            complain(dict.fromkeys(problems))


@app.command()
def show(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A scenario or a topology, or the name of a shipped one."
        ),
    ],
    sets: Sets = None,
) -> None:
    """Print the resolved topology as a tree, with totals per tier."""
    with explained():
        from dcsim import spec
        from dcsim.report.screen import show_topology

        named = not file.suffix and not file.exists()
        if named and file.name in spec.shipped_files("scenarios"):
            file, named = spec.shipped_file("scenarios", file.name), False
        if not named and spec.file_kind(file) == "scenario":
            topology = spec.load_scenario(file, overrides=sets or ()).topology
        else:
            topology = spec.load_topology(file, overrides=sets or ())
        show_topology(topology)


@app.command("paths")
def paths_command(
    scenario: ScenarioFile,
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="A part of the path, or with * and ?.")
    ] = "",
    sets: Sets = None,
) -> None:
    """Print each path that --set takes, with its value now and its meaning."""
    with explained():
        from dcsim import spec

        found = spec.paths(spec.load_scenario(scenario, overrides=sets or ()), pattern)
        if not found:
            complain([f"{pattern}: no path of {scenario} is like it"])
        width = max(len(each.path) for each in found)
        for each in found:
            value = each.value if len(each.value) <= 40 else f"{each.value[:37]}..."
            print(f"{each.path.ljust(width)}  {value.ljust(18)}  {each.meaning}".rstrip())


class FileKind(StrEnum):
    """What a YAML file holds."""

    scenario = "scenario"
    topology = "topology"
    parts = "parts"


@app.command()
def schema(
    kind: Annotated[FileKind, typer.Argument(help="Of which kind of file.")] = FileKind.scenario,
) -> None:
    """Print the JSON Schema of a kind of file, for editors."""
    import json

    from dcsim.spec import json_schema

    print(json.dumps(json_schema(kind.value), indent=2))


@app.command()
def info(as_json: AsJson = False) -> None:
    """Print versions, and how the engine was built."""
    import json
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from dcsim.engine import build

    facts: dict[str, Any] = {"dcsim": version("dcsim"), "python": platform.python_version()}
    facts["platform"] = platform.platform()
    facts["engine"] = build()
    packages: dict[str, str | None] = {}
    for name in ("simpy", "numpy", "pyarrow", "matplotlib", "hypothesis", "torch"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    facts["packages"] = packages
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        lines = value.items() if isinstance(value, dict) else [("", value)]
        for name, entry in lines:
            shown = "not installed" if entry is None else "none" if entry == "" else entry
            print(f"{key} {name}".strip().ljust(20), shown)


@app.command()
def validate(
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Figures of your own, as a CSV file."),
    ] = None,
    as_json: AsJson = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the page there (.md).")
    ] = None,
) -> None:
    """Hold the catalogue against figures that others published."""
    with explained():
        from dcsim.cli.validate import validate_command

        print(validate_command(csv, as_json=as_json, out=out))


@app.command()
def split(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Results of a run whose jobs have keep.reuse.")
    ],
    dram: Annotated[
        str, typer.Option("--dram", metavar="PRICE", help="Of DRAM, such as '10 USD/GB'.")
    ],
    nand: Annotated[
        str, typer.Option("--nand", metavar="PRICE", help="Of NAND, such as '0.2 USD/GB'.")
    ],
    recompute: Annotated[
        str,
        typer.Option("--recompute", metavar="PRICE", help="To compute a GB of context again."),
    ],
    drive: Annotated[
        str, typer.Option("--drive", metavar="PART", help="The NAND: an SSD of the catalogue.")
    ] = "micron-9550-max-26tb",
    dwpd: Annotated[
        float | None,
        typer.Option("--dwpd", metavar="N", help="Its rated drive writes a day [the part's]."),
    ] = None,
    life: Annotated[
        str, typer.Option("--life", metavar="TIME", help="For which memory is bought.")
    ] = "1825 d",
    as_json: AsJson = False,
) -> None:
    """Print which tier context belongs in at your prices, by how long it waits for its next use."""
    with explained():
        from dcsim.cli.split import split_command

        text = split_command(
            directory,
            dram=dram,
            nand=nand,
            recompute=recompute,
            drive=drive,
            dwpd=dwpd,
            life=life,
            as_json=as_json,
        )
        print(text)


@app.command()
def hitrate(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="A Mooncake-style request log with hash_ids.")
    ],
    block_tokens: Annotated[
        int,
        typer.Option(
            "--block-tokens", min=1, max=2**31 - 1, metavar="N", help="Tokens of a block."
        ),
    ] = 512,
    policy: Annotated[
        str, typer.Option("--policy", metavar="NAME", help="What is evicted: lru, lfu or fifo.")
    ] = "lru",
    capacity_tokens: Annotated[
        str | None,
        typer.Option("--capacity-tokens", metavar="N,N,...", help="Sizes of the cache in tokens."),
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve", help="LRU at all capacities, in one pass.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the curve (.png).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print how often a prefix cache holds what a prompt begins with."""
    with explained():
        from dcsim.report.hitrate import hitrate_command

        text = hitrate_command(
            log,
            block_tokens=block_tokens,
            policy=policy,
            capacity_tokens=capacity_tokens,
            curve=curve,
            plot=plot,
            as_json=as_json,
        )
        print(text)


@app.command()
def bench(
    as_json: AsJson = False,
    requests: Annotated[
        int, typer.Option("--requests", min=1000, metavar="N", help="Size of the load.")
    ] = 1_000_000,
) -> None:
    """Measure the engine against a floor and against stepping."""
    with explained():
        from dcsim import bench as benchmarks

        print(benchmarks.report(requests, as_json=as_json))


def _line(*words: str) -> str:
    return "  ".join(word.ljust(26) for word in words[:-1]) + words[-1]


@app.command("list")
def list_command() -> None:
    """Print what there is by name: scenarios, topologies, parts, models."""
    with explained():
        from dcsim import models, spec

        for folder in ("scenarios", "topologies"):
            print(f"{folder}:")
            for name, description in spec.shipped_files(folder).items():
                print(_line(f"  {name}", description))
        parts = spec.load_parts()
        print("parts:")
        for kind in fields(parts):
            print(_line(f"  {kind.name}", ", ".join(getattr(parts, kind.name))))
        print("models:")
        for name in models.names():
            print(_line(f"  {name}", models.get(name).description))


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The scenario to write (.yaml).")],
    base: Annotated[
        str, typer.Option("--from", metavar="SCENARIO", help="A shipped scenario to begin with.")
    ] = "quickstart",
) -> None:
    """Write a commented scenario to change."""
    with explained():
        from dcsim import spec

        text = spec.shipped_file("scenarios", base).read_text(encoding="utf-8")
        if file.suffix not in (".yaml", ".yml"):
            complain([f"{file}: the name of a scenario ends in .yaml"])
        with open(file, "x", encoding="utf-8") as out:
            out.write(text)
        print(f"{file}: a copy of {base}; next: dcsim run {file}")


for look in COMMANDS:
    app.command()(look)


def main() -> None:
    """Entry point of the `dcsim` command."""
    signal.signal(signal.SIGTERM, terminated)
    run: Callable[[], None] = app
    run()


def terminated(number: int, frame: object) -> NoReturn:
    """Ends as Ctrl-C does, tidily, where a batch system or `kill` asks for it."""
    raise SystemExit(128 + number)
