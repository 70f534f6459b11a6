"""A long table that comes bit by bit: in memory while it is short, then in a file."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcsim.results.files import ROW_GROUP, groups_writer, write_group, write_table

__all__ = ["Spool", "Stored", "Tables"]


class Stored:
    """A table in a file of its own, which is gone when nobody holds this any more."""

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="dcsim-")
        self._gone = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = Path(folder, "table.parquet")

    def read(self) -> Any:
        """The whole table, in memory."""
        return pq.read_table(self.path)

    def copy(self, path: Path) -> None:
        """The same table as another file."""
        shutil.copyfile(self.path, path)


class Spool:
    """Takes a table in pieces of any size; what it becomes does not depend on them.

    Of a long table no more than a row group is held in memory.
    """

    def __init__(self) -> None:
        self._pieces: list[Any] = []
        self._held = 0
        self._stored: Stored | None = None
        self._writer: Any = None

    def add(self, table: Any) -> None:
        """Some more rows, as an Arrow table."""
        self._pieces.append(table)
        self._held += len(table)
        if self._held > ROW_GROUP:
            self._write(self._held // ROW_GROUP * ROW_GROUP)

    def close(self) -> Any:
        """What has come: an Arrow table, or where it is `Stored`. Nothing more comes."""
        if self._stored is None:
            return pa.concat_tables(self._pieces).combine_chunks()
        self._write(self._held)
        self._writer.close()
        return self._stored

    def _write(self, count: int) -> None:
        """Row groups of the first so many rows at hand."""
        table = pa.concat_tables(self._pieces)
        if self._stored is None:
            self._stored = Stored()
            self._writer = groups_writer(self._stored.path, table.schema)
        for first in range(0, count, ROW_GROUP):
            write_group(self._writer, table.slice(first, min(ROW_GROUP, count - first)))
        self._held -= count
        self._pieces = [table.slice(count)]


class Tables(Mapping[str, Any]):
    """Arrow tables by name; one that is stored is read whenever it is asked for."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self._tables = dict(tables)

    def __getitem__(self, name: str) -> Any:
        table = self._tables[name]
        return table.read() if isinstance(table, Stored) else table

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def save(self, directory: Path) -> None:
        """Write each as Parquet."""
        for name, table in self._tables.items():
            path = directory / f"{name}.parquet"
            if isinstance(table, Stored):
                table.copy(path)
            else:
                write_table(path, table)
