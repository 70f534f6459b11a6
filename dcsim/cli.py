"""The command line. Heavy imports happen inside the commands, so `--help` is quick."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from dcsim.planning import Progress
    from dcsim.spec import Problem

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT
MOST_SHOWN = 100
"""Problems printed: a log of the wrong kind has one in every row."""
LONGEST = 2000

app = typer.Typer(
    name="dcsim",
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
Plots = Annotated[bool, typer.Option("--plots/--no-plots", help="Draw pictures too.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


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
    with explained(writes=True):
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
            report.write_run(results, target, plots=plots)
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
    with explained(writes=True):
        from dcsim import planning, report

        target = out if out is not None else Path("out") / f"{scenario.stem}-compare"
        with progress_bar(quiet) as progress:
            progress("reading", 1.0)
            plans = checked(
                target, lambda: planning.variants(scenario, what_if=what_if, overrides=sets or ())
            )
            results = planning.compare(plans, progress=progress)
            progress("writing results and plots" if plots else "writing results", 1.0)
            comparison = report.write_comparison(results, target, plots=plots)
        if not quiet:
            from dcsim.report.screen import show_comparison

            show_comparison(comparison)
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
        typer.Argument(metavar="FILE", help="A scenario, a topology or the name of a shipped one."),
    ],
    sets: Sets = None,
) -> None:
    """Print the resolved topology as a tree, with totals per tier."""
    with explained():
        from dcsim import spec
        from dcsim.report.screen import show_topology

        named = not file.suffix and not file.exists()
        if not named and spec.file_kind(file) == "scenario":
            topology = spec.load_scenario(file, overrides=sets or ()).topology
        else:
            topology = spec.load_topology(file, overrides=sets or ())
        show_topology(topology)


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
            shown = "not installed" if entry is None else "none" if entry == "" else entry
            print(f"{key} {name}".strip().ljust(20), shown)


@app.command()
def trace(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A reference model, such as dit-xl-2.")
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Shape, option or layout; may be repeated."
        ),
    ] = None,
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="PART", help="A GPU of the catalogue.")
    ] = "h100",
    as_json: AsJson = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Save the trace to a file (.npz).")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw it (.png, .svg, .pdf).")
    ] = None,
) -> None:
    """Print the memory trace of one request, phase by phase."""
    with explained():
        from dcsim.report.trace import trace_command

        text = trace_command(model, sets or [], gpu, as_json=as_json, out=out, plot=plot)
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


Made = TypeVar("Made")


def checked(target: Path, make: Callable[[], Made]) -> Made:
    """What `make` gives, if results can be written to the target too.

    Raises SpecError with what is wrong with either, before anything is run.
    """
    from dcsim.spec import SpecError

    problems = place_problems(target)
    try:
        made = make()
    except SpecError as error:
        raise SpecError([*problems, *error.problems]) from None
    if problems:
        raise SpecError(problems)
    return made


def place_problems(target: Path) -> list[Problem]:
    """What keeps a directory of results from being written; tried out, nothing is left there."""
    from dcsim.results import check_target
    from dcsim.spec import Problem

    try:
        check_target(target)
        above = Path(os.path.abspath(target)).parent
        while not above.exists():
            above = above.parent
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=above):
            return []
    except OSError as error:
        text = f"cannot write to {target}: {error.strerror}" if error.strerror else str(error)
        return [Problem(None, None, None, "--out", text)]


@contextmanager
def explained(*, writes: bool = False) -> Iterator[None]:
    """Turns what goes wrong into a message and an exit code, never a traceback.

    2: the input or the place for the output is wrong. 1: disk or memory run out. 130: Ctrl-C.
    """
    from dcsim.models import ModelError
    from dcsim.spec import SpecError

    try:
        yield
    except SpecError as error:
        complain(error.problems, writes=writes)
    except ModelError as error:
        complain([f"{path}: {message}" for path, message in error.problems], writes=writes)
    except BrokenPipeError:
        raise
    except OSError as error:
        wrong = FileExistsError | FileNotFoundError | IsADirectoryError | NotADirectoryError
        place = isinstance(error, wrong | PermissionError)
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        complain([text], code=WRONG_INPUT if place else FAILED)
    except MemoryError as error:
        complain([f"not enough memory: {error}"], code=FAILED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def complain(
    problems: Iterable[object], *, writes: bool = False, code: int = WRONG_INPUT
) -> NoReturn:
    """Prints every problem on stderr and exits."""
    texts = [printable(str(problem)) for problem in problems]
    for text in texts[:MOST_SHOWN]:
        print(f"error: {text}", file=sys.stderr)
    if len(texts) > MOST_SHOWN:
        print(f"... and {len(texts) - MOST_SHOWN:,} more", file=sys.stderr)
    if len(texts) > 1:
        end = "; nothing was written" if writes else ""
        print(f"{len(texts):,} problems{end}", file=sys.stderr)
    raise typer.Exit(code)


def printable(text: str) -> str:
    """The text with what would steer a terminal written out: `\\x1b`."""
    text = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """A bar on stderr where that is a terminal; elsewhere nothing is shown.

    Told of progress the engine stops often, so that Ctrl-C is heard soon: hence always.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda what, share: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def update(what: str, share: float) -> None:
            """Of what is wholly begun nobody knows how long it takes: the bar pulses."""
            bar.update(task, description=what, completed=share, total=None if share == 1.0 else 1.0)

        yield update


def main() -> None:
    """Entry point of the `dcsim` command."""
    signal.signal(signal.SIGTERM, terminated)
    run: Callable[[], None] = app
    run()


def terminated(number: int, frame: object) -> NoReturn:
    """Ends as Ctrl-C does, tidily, where a batch system or `kill` asks for it."""
    raise SystemExit(128 + number)
