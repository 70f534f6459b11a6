"""Factories by name, and what goes wrong in code that is not ours."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcsim.models.options import ModelError
from dcsim.reading.errors import did_you_mean

OPTION = "--torch"


def find(name: str) -> Callable[..., Any]:
    """The factory `module:function`, or `file.py:function`. ModelError where there is none."""
    module, colon, function = name.rpartition(":")
    if not colon or not module or not function:
        raise ModelError([(OPTION, f"{name!r} is not MODULE:FACTORY, such as mine:make")])
    with explained(f"importing {module}"):
        found = _imported(module)
    made = getattr(found, function, None)
    if made is None:
        names = [n for n, value in vars(found).items() if callable(value) and n[0] != "_"]
        raise ModelError(
            [(OPTION, f"{module} has no {function!r}; {did_you_mean(function, names)}")]
        )
    if not callable(made):
        raise ModelError([(OPTION, f"{name} is a {type(made).__name__}, which cannot be called")])
    return made  # type: ignore[no-any-return]


def _imported(module: str) -> Any:
    if not module.endswith(".py"):
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        importlib.invalidate_caches()
        return importlib.import_module(module)
    path = Path(module)
    if not path.is_file():
        raise ModelError([(OPTION, f"there is no file {module}")])
    name = f"_factory_{path.stem}"  # a module of that name stays what it is
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


def check_arguments(
    factory: Callable[..., Any], given: Mapping[str, Any], known: Collection[str]
) -> None:
    """ModelError for arguments that a factory does not take and those that it lacks; `known`:
    options of tracing."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    problems = [
        (name, f"unknown; {did_you_mean(name, [*names, *known])}")
        for name in given
        if name not in names and not any_name
    ]
    problems += [
        (OPTION, f"the factory needs {p.name}: --set {p.name}=VALUE")
        for p in parameters
        if p.name not in given
        and p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if problems:
        raise ModelError(problems)


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turns what is raised in a user's code into a ModelError that says where."""
    try:
        yield
    except (ModelError, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # a module that is a script may exit
        raise ModelError([(OPTION, f"{doing}: {said(error)}{place(error)}")]) from None


def said(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place(error: BaseException) -> str:
    """The last line outside of torch and of dcsim."""
    own = Path(__file__).resolve().parents[2]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        inside = own in path.resolve().parents or not path.is_file()
        if not inside and "torch" not in path.parts and "importlib" not in path.parts:
            return f" ({path.name} line {frame.lineno})"
    return ""
