"""The families of denoisers, one a file, and their members, as YAML beside them."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")

FOLDER = "denoisers"
"""Where the members are."""
