"""A directory of results: written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = [
    "MANIFEST",
    "ROW_GROUP",
    "check_target",
    "groups_writer",
    "replacing",
    "write_group",
    "write_json",
    "write_table",
]

MANIFEST = "manifest.json"
ROW_GROUP = 1 << 18
"""Rows of a group of a table."""
_LOCK = "lock"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write meets that names no file: libraries write to open files."""


def check_target(directory: Path) -> None:
    """Refuse a directory whose contents are not results, before anything is run or removed.

    Raises `FileExistsError`.
    """
    if not directory.exists() and not directory.is_symlink():
        return
    if not directory.is_dir():
        raise FileExistsError(f"{directory} is a file; results need a directory")
    if any(directory.iterdir()) and not (directory / MANIFEST).is_file():
        raise FileExistsError(
            f"{directory} has files in it but no {MANIFEST}, so it does not hold results; "
            "name a directory that is new, empty or of an earlier run"
        )


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A fresh directory that becomes `directory` when the block ends without an error.

    Until then `directory` is as it was, and after an error it still is. Earlier results in it are
    replaced; anything else in it raises `FileExistsError`, as `check_target`.
    """
    target = Path(os.path.abspath(directory))
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(target)
    with (
        tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as workshop,
        open(Path(workshop, _LOCK), "wb") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh, stale = Path(workshop, "new"), Path(workshop, "old")
        fresh.mkdir()
        try:
            yield fresh
        except OSError as error:
            if error.filename is None and error.errno in _FULL:
                raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
            raise
        if target.exists():
            target.rename(stale)
        try:
            fresh.rename(target)
        except OSError:
            stale.rename(target)
            raise


def _clear_abandoned(target: Path) -> None:
    """Remove what runs that were killed have left beside the target.

    Each holds a lock on a file of its own while it lives, however it dies. One that died between
    putting the earlier results away and putting its own in place gives the earlier ones back.
    """
    for path in sorted(target.parent.glob(f".{glob.escape(target.name)}.*/{_LOCK}")):
        with suppress(OSError), open(path, "rb") as lock:  # another run may be clearing it too
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stale = path.parent / "old"
            if stale.is_dir() and not target.exists():
                stale.rename(target)
            shutil.rmtree(path.parent, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write plain data as indented JSON. Raises `ValueError` for NaN and infinity."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_table(path: Path, table: Any) -> None:
    """Write an Arrow table as Parquet: dictionaries for words, deltas for numbers, zstd."""
    with groups_writer(path, table.schema) as writer:
        for first in range(0, max(1, len(table)), ROW_GROUP):
            write_group(writer, table.slice(first, ROW_GROUP))


def groups_writer(path: Path, schema: Any) -> Any:
    """A file to which row groups are written, as in `write_table`."""
    words = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    deltas = {
        field.name: "DELTA_BINARY_PACKED" for field in schema if pa.types.is_integer(field.type)
    }
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=words,
        column_encoding=deltas or None,
    )


def write_group(writer: Any, table: Any) -> None:
    """Write a row group. It is of one piece, so how its rows came leaves no trace in the file."""
    writer.write_table(table.combine_chunks(), row_group_size=ROW_GROUP)
