"""How the house is built: imports one way, one version, a quick --help."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import dcsim
from dcsim.engine import COLUMNS, build

PACKAGE = Path(__file__).resolve().parent.parent / "dcsim"

# Each may import those before it.
ORDER = (
    "cores",
    "reading",
    "spec",
    "models",
    "traces",
    "workload",
    "engine",
    "assembly",
    "operations",
    "results",
    "planning",
    "validation",
    "report",
    "pages",
    "bench",
    "testing",
    "cli",
    "__main__",
)
# What runs and what is counted know nothing of the engine; the engine knows nothing of the rest.
APART = {"models": {"engine"}, "traces": {"engine"}, "workload": {"engine"}}
ALONE = {"engine"}


def imported(file: Path) -> set[str]:
    """The parts of dcsim that a file imports."""
    parts: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
            if node.module == "dcsim":
                names = [f"dcsim.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("dcsim.")}
    return parts


def test_imports_run_one_way() -> None:
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        assert part in ORDER, f"{part} has no place in the order of the house"
        allowed = (
            set() if part in ALONE else set(ORDER[: ORDER.index(part)]) - APART.get(part, set())
        )
        for other in sorted(imported(file) - allowed - {part}):
            wrong.append(f"{file.relative_to(PACKAGE)} imports {other}")
    assert not wrong, wrong


def test_pages_are_no_part_of_the_product() -> None:
    """What renders our own pages is imported by nothing, and a wheel does without."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.parent.name != "pages":
            assert "pages" not in imported(file), file
    assert '"dcsim/pages/**"' in (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")


def test_version_is_one() -> None:
    from importlib.metadata import version

    assert dcsim.__version__ == version("dcsim") == build()["version"]
    pyproject = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{dcsim.__version__}"' in pyproject
    assert f"## {dcsim.__version__}" in (PACKAGE.parent / "CHANGELOG.md").read_text(
        encoding="utf-8"
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from dcsim.cli import main\n"
        "sys.argv = ['dcsim', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('numpy', 'pyarrow', 'matplotlib', 'pydantic', 'simpy', 'yaml', 'hypothesis')\n"
        "print(sorted(set(heavy) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "compare" in done.stdout


def test_contract_names_the_columns_of_the_engine() -> None:
    contract = (PACKAGE.parent / "docs" / "engine.md").read_text(encoding="utf-8")
    for table, columns in COLUMNS.items():
        row = next(line for line in contract.splitlines() if line.startswith(f"| `{table}`"))
        missing = [column for column in columns if f"`{column}`" not in row]
        assert not missing, (table, missing)


def test_files_stay_readable() -> None:
    long = {
        str(path.relative_to(PACKAGE)): lines
        for pattern in ("*.py", "*.hpp", "*.cpp")
        for path in PACKAGE.rglob(pattern)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert not long
