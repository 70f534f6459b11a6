"""The command line. Heavy imports happen inside the commands, so `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from dcsim.planning import Progress

WRONG_INPUT = 2

app = typer.Typer(
    name="dcsim",
    help="Simulate racks of GPUs, DRAM and NAND under DiT and LLM jobs: capacity demand over time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO", help="A scenario in YAML.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override one value; may be repeated."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


@app.command("run")
def run_command(
    scenario: ScenarioFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of the results [out/SCENARIO].")
    ] = None,
    sets: Sets = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Another seed.")] = None,
    what_if: Annotated[
        str | None, typer.Option("--what-if", help="A variant of the scenario's what_if block.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Simulate a scenario; write tables, summary, manifest and plots."""
    with explained():
        from dcsim import report
        from dcsim.planning import load, run
        from dcsim.results import check_target

        if out is not None:
            check_target(out)
        overrides = [*(sets or []), *([] if seed is None else [f"seed={seed}"])]
        plan = load(scenario, overrides=overrides, what_if=what_if)
        target = out if out is not None else Path("out") / scenario.stem
        check_target(target)
        with progress_bar(quiet) as progress:
            results = run(plan, progress=progress)
            if progress is not None:
                progress("writing results and plots", 1.0)
            report.write_run(results, target)
        if not quiet:
            show_table(report.summary_table(results), target)


@app.command()
def compare(
    scenario: ScenarioFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory [out/SCENARIO-compare].")
    ] = None,
    what_if: Annotated[
        list[str] | None, typer.Option("--what-if", help="A variant; may be repeated [all].")
    ] = None,
    sets: Sets = None,
    quiet: Quiet = False,
) -> None:
    """Simulate variants on the same arrivals; show them side by side."""
    with explained():
        from dcsim import planning, report
        from dcsim.results import check_target

        if out is not None:
            check_target(out)
        plans = planning.variants(scenario, what_if=what_if, overrides=sets or ())
        target = out or Path("out") / f"{scenario.stem}-compare"
        check_target(target)
        with progress_bar(quiet) as progress:
            results = planning.compare(plans, progress=progress)
            if progress is not None:
                progress("writing results and plots", 1.0)
            comparison = report.write_comparison(results, target)
        if not quiet:
            show_table(report.comparison_table(comparison), target)


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Scenarios, topologies.")],
) -> None:
    """Validate files without running them."""
    with explained():
        from dcsim.planning import check as problems_of

        problems = [problem for file in files for problem in problems_of(file)]
        if problems:
            complain(problems)
        for file in files:
            print(f"{file}: ok")


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario or a topology.")],
    sets: Sets = None,
) -> None:
    """Print the resolved topology as a tree, with totals per tier."""
    with explained():
        from dcsim import spec
        from dcsim.report.topology import print_topology

        if spec.file_kind(file) == "scenario":
            topology = spec.load_scenario(file, overrides=sets or ()).topology
        else:
            topology = spec.load_topology(file, overrides=sets or ())
        print_topology(topology)


@app.command()
def schema() -> None:
    """Print the JSON Schema of scenarios and topologies, for editors."""
    import json

    from dcsim.spec import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print the version, how the engine was built, and what is installed."""
    import json
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from dcsim.engine import build

    facts: dict[str, Any] = {"dcsim": version("dcsim"), "python": platform.python_version()}
    facts["platform"] = platform.platform()
    facts["engine"] = build()
    packages: dict[str, str | None] = {}
    for name in ("simpy", "numpy", "pyarrow", "pydantic", "matplotlib", "hypothesis", "torch"):
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
            print(
                f"{key} {name}".strip().ljust(20), entry if entry is not None else "not installed"
            )


@app.command()
def trace(
    model: Annotated[str, typer.Argument(help="A reference model, such as dit-xl-2.")],
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Shape, option or layout; may be repeated."
        ),
    ] = None,
    gpu: Annotated[str, typer.Option("--gpu", help="A part of the catalogue.")] = "h100",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Save the trace to a file.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw it to a PNG or SVG.")] = None,
) -> None:
    """Print the memory trace of one request: phases, FLOPs, bytes, seconds, peak."""
    with explained():
        from dcsim.report.trace import trace_command

        text = trace_command(model, sets or [], gpu, as_json=as_json, out=out, plot=plot)
        print(text)


@app.command()
def bench(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    requests: Annotated[
        int, typer.Option("--requests", min=1000, help="Size of the load.")
    ] = 1_000_000,
) -> None:
    """Measure the engine against a floor and against stepping, and a whole run."""
    with explained():
        from dcsim import bench as benchmarks

        print(benchmarks.report(requests, as_json=as_json))


def show_table(table: Any, target: Path) -> None:
    """Prints a table on stdout, and where the results are."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(table)
    console.print(f"results: {target}", soft_wrap=True)


@contextmanager
def explained() -> Iterator[None]:
    """Turns what is wrong with the input into a message and exit code 2, never a traceback."""
    from dcsim.models import ModelError
    from dcsim.spec import SpecError

    try:
        yield
    except SpecError as error:
        complain(error.problems)
    except ModelError as error:
        complain([f"{path}: {message}" for path, message in error.problems])
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        complain([str(error)])


def complain(problems: Any) -> NoReturn:
    """Prints every problem on stderr and exits with 2."""
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    count = len(problems)
    if count > 1:
        print(f"{count} problems; nothing was written", file=sys.stderr)
    raise typer.Exit(WRONG_INPUT)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress | None]:
    """A bar on stderr where that is a terminal; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def update(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)

        yield update


def main() -> None:
    """Entry point of the `dcsim` command."""
    run: Callable[[], None] = app
    run()
