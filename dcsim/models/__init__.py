"""Reference models that run in numpy or only count, by the same code."""

from __future__ import annotations

from dcsim.models.catalogue import Model, get, names
from dcsim.models.options import ModelError, Option

__all__ = ["Model", "ModelError", "Option", "get", "names"]
