"""Tables as columns of integers, and the assertion that names the row that breaks a law."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsim.results import Results

__all__ = ["Rows", "fail", "must_equal"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Rows:
    """One table of a result."""

    def __init__(self, results: Results, name: str) -> None:
        self.name = name
        self.table = results.tables[name]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def ints(self, column: str) -> Ints:
        """A column of whole numbers; 0 where there is none (see `there`)."""
        values = pc.fill_null(self.table[column].cast(pa.int64()), 0)
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.int64)

    def there(self, column: str) -> Bools:
        """Where a column has a value."""
        values = pc.is_valid(self.table[column])
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.bool_)

    def words(self, column: str) -> NDArray[Any]:
        """A column of words; None where there is none."""
        values = self.table[column].cast(pa.string())
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)

    def hold(self, law: str, ok: Bools, **numbers: Any) -> None:
        """Raises AssertionError for the first row that is not `ok`, with the row in full.

        `numbers`: what the law compares, a value or one a row.
        """
        if bool(np.all(ok)):
            return
        row = int(np.argmin(ok))
        compared = {k: v if np.ndim(v) == 0 else np.asarray(v)[row] for k, v in numbers.items()}
        whole = self.table.slice(row, 1).to_pylist()[0]
        fail(law, f"{self.name} row {row} {_listed(whole)}", compared)


def must_equal(law: str, where: str, **two: Any) -> None:
    """Raises AssertionError unless the two named values are equal."""
    first, second = two.values()
    if first != second:
        fail(law, where, two)


def fail(law: str, where: str, numbers: dict[str, Any]) -> None:
    """Raises AssertionError: the law, the numbers that break it, and where they stand."""
    raise AssertionError(f"{law}: {_listed(numbers)}; in {where}")


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
