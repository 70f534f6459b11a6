"""The mutation leg: one small fault at a time into a copy of the package, and the tests on it.

    python tests/mutate.py --sample 300 --seed 1 --jobs 2 --out mutants.json

Mutants are drawn at random from `traces/`, `assembly/` and `models/`. One that no test notices
has survived: it is printed, to be killed by a better test or to be argued equivalent. The score
of the last run stands in docs/testing.md. `--again FILE` takes the survivors of an earlier run.

Each worker has a copy of the repository, so the working tree is never touched. Tests run in a
child of a process that has imported what is slow to import, with Hypothesis derandomized: the
same seed gives the same score.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("traces", "assembly", "models")
LEFT_OUT = {"plot.py"}  # pictures
LIMIT = 400
"""Seconds after which a mutant counts as killed: it does not end."""

FIGURES = ["tests/traces/test_pricing_oracle.py", "tests/traces/test_phases_by_hand.py"]
TESTS: dict[str, list[list[str]]] = {
    "traces": [
        FIGURES,
        [f"tests/traces/test_{name}.py" for name in ("turns", "pricing", "clips")],
        ["tests/validation/test_published.py"],
    ],
    "models": [["tests/models/test_catalogue.py", *FIGURES], ["tests/models"]],
    "assembly": [["tests/assembly"]],
}
"""Stages by room, each run only if the one before has noticed nothing; before all of them come the
tests of a file's own name. Slow tests are left out."""

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {
    "min": "max",
    "max": "min",
    "DENSE": "ATTENTION",
    "ATTENTION": "CONV",
    "CONV": "DENSE",
    "MEMORY": "DENSE",
    "COMM": "MEMORY",
}
WORDS = {
    "dense": "attention",
    "attention": "conv",
    "conv": "dense",
    "memory": "dense",
    "moved": "weights",
    "weights": "moved",
    "fp32": "bf16",
    "tp": "sp",
}
"""Names and words that can be taken for one another."""

Change = Callable[[], None]


def changes(tree: ast.Module) -> Iterator[tuple[int, str, Change]]:
    """Every fault of a module: line, what is done, and what does it to the tree."""
    skipped = _no_code(tree)
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        line = getattr(node, "lineno", 0)
        yield from ((line, text, change) for text, change in _of(node))


def _of(node: ast.AST) -> Iterator[tuple[str, Change]]:
    match node:
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", lambda: setattr(node, "value", not value)
        case ast.Constant(value=int(value)) | ast.Constant(value=float(value)):
            yield f"{value} -> {value + 1}", lambda: setattr(node, "value", value + 1)
            if value:
                yield f"{value} -> {value - 1}", lambda: setattr(node, "value", value - 1)
        case ast.Constant(value=str(value)) if value in WORDS:
            yield f"{value!r} -> {WORDS[value]!r}", lambda: setattr(node, "value", WORDS[value])
        case ast.Name(id=name, ctx=ast.Load()) if name in NAMES:
            yield f"{name} -> {NAMES[name]}", lambda: setattr(node, "id", NAMES[name])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield _swap(node, "op", op)
            if isinstance(node, ast.BinOp) and isinstance(op, ast.Add | ast.Mult):
                for side, kept in (("left", node.right), ("right", node.left)):
                    yield f"without {ast.unparse(getattr(node, side))}", _becomes(node, kept)
        case ast.Compare(ops=[op]) if type(op) in OPERATORS:
            yield _swap(node, "ops", op)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield f"without the sign of {ast.unparse(operand)}", _becomes(node, operand)
        case ast.If(test=test) | ast.IfExp(test=test):
            inverse = ast.UnaryOp(ast.Not(), test)
            yield f"not ({ast.unparse(test)})", lambda: setattr(node, "test", inverse)
        case ast.Expr(value=ast.Call()) | ast.Delete():
            yield f"without {ast.unparse(node)}", _becomes(node, ast.Constant(None))


def _swap(node: Any, field: str, op: ast.AST) -> tuple[str, Change]:
    other = OPERATORS[type(op)]()
    value = [other] if field == "ops" else other
    text = f"{type(op).__name__} -> {type(other).__name__} in {ast.unparse(node)}"
    return text, lambda: setattr(node, field, value)


def _becomes(node: ast.AST, kept: ast.AST) -> Change:
    """The node's place is taken by another."""

    def change() -> None:
        fields = ast.Expr(kept)._fields if isinstance(node, ast.stmt) else ()
        if fields:
            node.__class__ = ast.Expr  # type: ignore[assignment]
            node.value = kept  # type: ignore[attr-defined]
            return
        node.__class__ = kept.__class__
        node.__dict__.update(kept.__dict__)

    return change


def _no_code(tree: ast.Module) -> set[int]:
    """Docstrings, annotations, imports and texts of messages: faults there change no figure."""
    found: set[int] = set()

    def add(node: ast.AST | None) -> None:
        if node is not None:
            found.update(id(each) for each in ast.walk(node))

    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()) | ast.JoinedStr() | ast.Raise() | ast.Assert():
                add(node)
            case ast.arg(annotation=note) | ast.AnnAssign(annotation=note):
                add(note)
            case ast.FunctionDef(returns=note, decorator_list=decorators):
                add(note)
                for each in decorators:
                    add(each)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                add(node)
    return found


# Running


Mutant = dict[str, Any]


def all_mutants() -> list[Mutant]:
    """Every mutant: file, number within it, line and text."""
    found = []
    for room in ROOMS:
        for file in sorted((ROOT / "dcsim" / room).glob("*.py")):
            if file.name in LEFT_OUT:
                continue
            name = str(file.relative_to(ROOT))
            for number, (line, text, _) in enumerate(changes(ast.parse(file.read_text("utf-8")))):
                found.append({"file": name, "number": number, "line": line, "text": text})
    return found


def mutated(mutant: Mutant, source: str) -> str:
    """The source of the mutant's file, with the fault in it."""
    tree = ast.parse(source)
    for number, (_, _, change) in enumerate(changes(tree)):
        if number == mutant["number"]:
            change()
            return ast.unparse(ast.fix_missing_locations(tree))
    raise KeyError(mutant)


def copy_to(folder: Path) -> None:
    """What is tracked or new in the repository, and the compiled core."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    import dcsim.engine._core as core

    shutil.copy(core.__file__, folder / "dcsim" / "engine")


WRITES = count(1)


def write(path: Path, text: str) -> None:
    """A version of a file with a time of its own, so that no stale bytecode is taken for it."""
    path.write_text(text, "utf-8")
    os.utime(path, (0, next(WRITES)))


def judge(mutant: Mutant, folder: Path, server: Server) -> Mutant:
    """The mutant with `killed` and the seconds it took."""
    path = folder / mutant["file"]
    whole = path.read_text("utf-8")
    begun = time.monotonic()
    try:
        write(path, mutated(mutant, whole))
        room, own = Path(mutant["file"]).parts[1], f"tests/*/test_{path.stem}.py"
        named = [str(each.relative_to(folder)) for each in sorted(folder.glob(own))]
        killed = not all(server.passes(stage) for stage in (named, *TESTS[room]) if stage)
    finally:
        write(path, whole)
    return mutant | {"killed": killed, "seconds": round(time.monotonic() - begun, 1)}


class Server:
    """A process that has imported all but dcsim, and tests a copy in children of itself."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def passes(self, tests: Sequence[str]) -> bool:
        """Whether all tests pass."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(list(tests)) + "\n")
        self.process.stdin.flush()
        code = self.process.stdout.readline().strip()
        if not code:
            raise RuntimeError("the process that runs the tests has ended")
        return code == "0"


def serve(folder: Path) -> None:
    """Answers each line of tests with the exit code of pytest; see `Server`."""
    import hypothesis  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import numpy  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import pytest

    try:
        import diffusers  # noqa: F401
        import torch

        torch.set_num_threads(1)
    except ImportError:
        pass
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(folder)
    sys.meta_path[:] = [f for f in sys.meta_path if "ScikitBuild" not in type(f).__name__]
    sys.path.insert(0, str(folder))
    import dcsim.engine
    import dcsim.spec  # noqa: F401 - the rooms that have no mutants

    for line in sys.stdin:
        child = os.fork()
        if not child:
            signal.alarm(LIMIT)
            log = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(1, 2)
            arguments = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
            os._exit(int(pytest.main([*arguments, *json.loads(line)])))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("mutants.json"))
    parser.add_argument("--again", type=Path, help="survivors of an earlier run only")
    parser.add_argument("--trust", action="store_true", help="the tests pass without a fault")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"
    everything = all_mutants()
    if given.again:
        keys = {_key(m) for m in json.loads(given.again.read_text()) if not m["killed"]}
        chosen = [m for m in everything if _key(m) in keys]
    else:
        chosen = random.Random(given.seed).sample(everything, min(given.sample, len(everything)))
    print(f"{len(chosen)} of {len(everything)} mutants", flush=True)
    results = run(chosen, given.jobs, given.out, given.trust)
    killed = sum(m["killed"] for m in results)
    print(f"{killed} of {len(results)} killed: {killed / max(1, len(results)):.1%}")


def _key(mutant: Mutant) -> tuple[str, int, str]:
    return mutant["file"], mutant["number"], mutant["text"]


def check(folder: Path, server: Server, free: SimpleQueue[tuple[Path, Server]]) -> None:
    """SystemExit where the tests fail without any fault."""
    stages = [stage for stages in TESTS.values() for stage in stages]
    if not all(map(server.passes, stages)):
        print((folder / "said.txt").read_text("utf-8"))
        raise SystemExit("the tests fail on the package as it is")
    free.put((folder, server))


def run(chosen: Sequence[Mutant], jobs: int, out: Path, trust: bool) -> list[Mutant]:
    """All verdicts; survivors are printed as they come. `out` is written as it grows, and what it
    has already is not tried again."""
    free: SimpleQueue[tuple[Path, Server]] = SimpleQueue()
    results: list[Mutant] = json.loads(out.read_text("utf-8")) if out.exists() else []
    known = {_key(m) for m in results}
    chosen = [m for m in chosen if _key(m) not in known]
    with tempfile.TemporaryDirectory() as scratch:
        for job in range(jobs):
            folder = Path(scratch, str(job))
            copy_to(folder)
            free.put((folder, Server(folder)))
        if not trust:
            check(*free.get(), free)

        def one(mutant: Mutant) -> Mutant:
            folder, server = free.get()
            try:
                return judge(mutant, folder, server)
            finally:
                free.put((folder, server))

        with ThreadPool(jobs) as pool:
            for mutant in pool.imap_unordered(one, chosen):
                results.append(mutant)
                out.write_text(json.dumps(results, indent=1))
                if not mutant["killed"]:
                    print(f"{mutant['file']}:{mutant['line']}: {mutant['text']}", flush=True)
        for _ in range(jobs):
            free.get()[1].process.terminate()
    return results


if __name__ == "__main__":
    main()
