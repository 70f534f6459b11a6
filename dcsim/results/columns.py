"""Arrow columns from numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["names", "optional"]


def names(rows: NDArray[Any], words: Sequence[str]) -> Any:
    """A dictionary column: `words[row]` for each of `rows`; a negative row is null."""
    rows = np.ascontiguousarray(rows, dtype=np.int32)
    missing = rows < 0
    indices = pa.array(rows, mask=missing if missing.any() else None)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(words), pa.string()))


def optional(values: NDArray[np.int64], there: NDArray[np.bool_]) -> Any:
    """An int64 column that is null where a value is not there."""
    return pa.array(values, pa.int64(), mask=None if there.all() else ~there)
