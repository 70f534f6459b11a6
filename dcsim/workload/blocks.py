"""Request logs that name their prefix blocks: `mooncake` logs with `hash_ids`.

JSON lines, plain or gzip'd, with `timestamp` (ms), `input_length`, `output_length` (tokens) and
`hash_ids`: an id for each block of the prompt, from its head on, the last one perhaps partial. An
id stands for a block and all that comes before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dcsim.spec import Problem
from dcsim.spec.logs import FORMATS
from dcsim.workload.formats import parsers
from dcsim.workload.logs import Ints, LogError
from dcsim.workload.rows import json_rows, open_text

__all__ = ["BlockLog", "Blocks", "read_blocks"]

_LAYOUT = FORMATS["mooncake"]
_IDS = "hash_ids"


@dataclass(frozen=True)
class BlockLog:
    """A log in the order of its file, with the prefix blocks of each request.

    `arrival` int64[N], ns; `prompt` and `output` int64[N], tokens; the blocks of request r are
    `blocks[start[r]:start[r + 1]]`, with `start` int64[N+1] and `blocks` int64[M].
    """

    block_tokens: int
    arrival: Ints
    prompt: Ints
    output: Ints
    start: Ints
    blocks: Ints

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def full(self) -> Ints:
        """Full blocks of each prompt, int64[N]: a partial one at its end does not count."""
        return self.prompt // self.block_tokens


@dataclass(frozen=True)
class Blocks:
    """Prefix blocks of N requests, of `tokens` tokens each: those of request r are
    `ids[start[r]:start[r + 1]]`, with `start` int64[N+1] and `ids` int64[M]; only full ones."""

    tokens: int
    start: Ints
    ids: Ints

    def take(self, rows: Ints) -> Blocks:
        """Those of some requests, in that order."""
        count = np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(count)])
        # Where each id lies: its place among those of its request, after the first of them.
        place = np.arange(start[-1]) - np.repeat(start[:-1], count)
        return Blocks(self.tokens, start, self.ids[np.repeat(self.start[rows], count) + place])

    @classmethod
    def full(cls, log: BlockLog) -> Blocks:
        """The full blocks of a log, in the order of its file."""
        count = log.full
        start = np.concatenate([[0], np.cumsum(count)])
        place = np.arange(start[-1]) - np.repeat(start[:-1], count)
        return cls(log.block_tokens, start, log.blocks[np.repeat(log.start[:-1], count) + place])


def read_blocks(path: Path, block_tokens: int) -> BlockLog:
    """A log whose `hash_ids` stand for blocks of so many tokens.

    Raises `LogError` with every broken row: also one with another number of ids than its prompt
    has blocks, full ones or with the partial one at its end.
    """
    from dcsim.workload.columns import block_columns  # most runs read no such log

    try:
        found = block_columns(path, _LAYOUT, _IDS)
        if found is not None and _sound(found, block_tokens):
            return _log(found, block_tokens)
    except (pa.ArrowException, OSError, EOFError, KeyError, UnicodeDecodeError):
        pass
    problems: list[Problem] = []
    rows: dict[str, list[int]] = {name: [] for name in (*parsers(_LAYOUT), "blocks")}
    start = [0]
    try:
        with open_text(path) as text:
            for line, row in json_rows(text):
                faults = [row] if isinstance(row, str) else list(_take(row, rows, block_tokens))
                problems += [Problem(path, line, 1, "", fault) for fault in faults]
                start.append(len(rows["blocks"]))
    except (OSError, EOFError, zlib.error) as error:
        problems = [Problem(path, None, None, "", f"cannot be read: {error}")]
    if not problems and len(start) == 1:
        problems = [Problem(path, None, None, "", "has no rows")]
    if problems:
        raise LogError(problems)
    arrays = {name: np.array(values, dtype=np.int64) for name, values in rows.items()}
    return _log(arrays | {"start": np.array(start, dtype=np.int64)}, block_tokens)


def _log(found: dict[str, Ints], block_tokens: int) -> BlockLog:
    names = (_LAYOUT.time, _LAYOUT.prompt, _LAYOUT.output, "start", "blocks")
    return BlockLog(block_tokens, *(found[name] for name in names))


def _sound(found: dict[str, Ints], block_tokens: int) -> bool:
    if _LAYOUT.output not in found:
        return False
    extra = np.diff(found["start"]) - found[_LAYOUT.prompt] // block_tokens
    partial = found[_LAYOUT.prompt] % block_tokens > 0
    return bool(((extra == 0) | ((extra == 1) & partial)).all())


def _take(row: dict[str, Any], rows: dict[str, list[int]], block_tokens: int) -> Iterator[str]:
    """Puts a row's fields to those before it; gives what is wrong with them."""
    for name, parse in parsers(_LAYOUT).items():
        try:
            if name in row:
                rows[name].append(parse(row[name]))
            else:
                yield f"{name} is missing"
        except ValueError as error:
            yield f"{name}: {error}"
    if _IDS not in row:
        yield f"{_IDS} is missing"
        return
    ids = row[_IDS]
    if not isinstance(ids, list):
        yield f"{_IDS}: {str(ids)[:40]!r} is not a list of block ids"
        return
    for each in ids:
        if isinstance(each, bool) or not isinstance(each, int) or not -(2**63) <= each < 2**63:
            yield f"{_IDS}: {str(each)[:40]!r} is not a whole number of 64 bits"
            return
    rows["blocks"] += ids
    tokens = row.get(_LAYOUT.prompt)
    if isinstance(tokens, int) and tokens > 0:
        full, most = tokens // block_tokens, -(-tokens // block_tokens)
        if not full <= len(ids) <= most:
            due = f"{full}" if full == most else f"{full} or {most}"
            yield (
                f"{_IDS}: {len(ids)} blocks where {tokens} tokens are {due} of {block_tokens}: "
                f"are its blocks of {block_tokens} tokens?"
            )
