"""The oracle's useful bytes: what is left or asked for until it is asked for again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from oracle_content import Content


@dataclass
class Wait:
    """A node of a class that was wanted over `[start, end)` ns, and then asked for."""

    klass: int
    bytes: int
    start: int
    end: int


class Useful:
    """Waits of one run. Nothing is told where the tables have no `gaps`."""

    def __init__(self, tables: dict[str, np.ndarray], content: Content) -> None:
        self.gaps: list[int] = tables["gaps"].tolist() if "gaps" in tables else []
        self.content = content
        self.last: dict[int, int] = {}
        self.waits: list[Wait] = []

    def left(self, node: int, now: int) -> None:
        for each in self.content.path(node):
            self.last[each] = now

    def asked(self, node: int, now: int) -> None:
        for each in self.content.path(node):
            if each in self.last:
                row = self.content.nodes[each]
                self.waits.append(Wait(row.klass, row.bytes, self.last[each], now))
                self.last[each] = now

    def arrays(self, classes: int, horizon: int, bin: int) -> dict[str, np.ndarray]:
        """`useful` and `reused` as the engine's page defines them."""
        if not self.gaps:
            return {}
        bins = -(-horizon // bin)
        useful = np.zeros((classes, len(self.gaps) + 1, bins), dtype=object)
        reused = np.zeros(useful.shape, dtype=np.int64)
        for wait in self.waits:
            gap = sum(edge <= wait.end - wait.start for edge in self.gaps)
            reused[wait.klass, gap, min(wait.end // bin, bins - 1)] += wait.bytes
            for i in range(bins):
                begin, end = i * bin, min((i + 1) * bin, horizon)
                length = min(wait.end, end) - max(wait.start, begin)
                useful[wait.klass, gap, i] += wait.bytes * max(0, length)
        for i in range(bins):
            useful[:, :, i] //= min((i + 1) * bin, horizon) - i * bin
        return {"useful": useful.astype(np.int64), "reused": reused}
