"""Columns by name: of the engine's tables, and as Arrow has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["by_name", "names", "optional"]

Ints = NDArray[np.int64]


def by_name(table: Ints, columns: Sequence[str]) -> dict[str, Ints]:
    """The columns of a table of the engine, int64[N] each."""
    return dict(zip(columns, table.T, strict=True))


def names(rows: NDArray[Any], words: Sequence[str]) -> Any:
    """A dictionary column: `words[row]` for each of `rows`; a negative row is null."""
    rows = np.ascontiguousarray(rows, dtype=np.int32)
    missing = rows < 0
    indices = pa.array(rows, mask=missing if missing.any() else None)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(words), pa.string()))


def optional(values: Ints, there: NDArray[np.bool_], nothing: Any = None) -> Any:
    """An int64 column that is null where a value is not there; `nothing`, if given, where none is:
    a long column takes a while to make, and they are all alike."""
    if not there.any():
        return pa.nulls(len(values), pa.int64()) if nothing is None else nothing
    return pa.array(values, pa.int64(), mask=None if there.all() else ~there)
