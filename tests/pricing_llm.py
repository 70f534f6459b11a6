"""The language model of docs/pricing.md: a pass on one GPU of a layout."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from types import SimpleNamespace
from typing import Any

from pricing_networks import Shapes, counted
from pricing_oracle import Array, Layer, Tape, of_dtype, size


def or_dtype(value: str, dtype: str) -> str:
    return dtype if value == "as dtype" else value


def llm_shapes(c: Any, t: int, e: int = 1) -> Shapes:
    """Parameters of a stage on one GPU."""
    heads, kv = c.heads // t * c.head, max(1, c.kv_heads // t) * c.head
    vocabulary = -(-c.vocabulary // t)
    out: Shapes = []
    if c.first:
        out += [("x", (vocabulary, c.hidden))]
    if c.last:
        out += [("x", (vocabulary, c.hidden)), ("x", (c.hidden,))]
    for half in c.halves:
        layer: list[tuple[int, ...]] = [(c.hidden,), (c.hidden,), (heads + 2 * kv, c.hidden)]
        layer += [(c.hidden, heads)]
        layer += [(c.head,), (c.head,)] if c.head_norm else []
        if half.experts:
            mine, f = -(-half.experts // e), half.width if e > 1 else -(-half.width // t)
            out += [("router", (half.experts, c.hidden))]
            out += [("x", (half.experts,))] if half.sigmoid else []
            layer += [(mine, 2 * f, c.hidden), (mine, c.hidden, f)]
            if half.shared:
                s = -(-half.shared // t)
                layer += [(2 * s, c.hidden), (c.hidden, s)]
            layer += [(1, c.hidden)] if half.gated else []
        else:
            f = -(-half.width // t)
            layer += [(2 * f, c.hidden), (c.hidden, f)]
        out += [("0.", shape) for shape in layer]
    return out


def stages(c: Any, pp: int) -> list[Any]:
    """Runs of layers."""
    each, more = divmod(len(c.halves), pp)
    sizes = [each + (pp - 1 - more <= i < pp - 1) for i in range(pp)]
    out, at = [], 0
    for i, count in enumerate(sizes):
        ends = {"first": i == 0, "last": i == pp - 1}
        out.append(SimpleNamespace(**{**vars(c), **ends, "halves": c.halves[at : at + count]}))
        at += count
    return out


def fullest(c: Any, pp: int) -> Any:
    """The stage of most parameters, of alike ones the last."""
    every = stages(c, pp)
    most = max(counted(llm_shapes(each, 1)) for each in every)
    return [each for each in every if counted(llm_shapes(each, 1)) == most][-1]


@dataclass
class Llm:
    """A pass with nothing before it of a stage, of n tokens of one GPU."""

    c: Any
    options: Any
    layout: Any
    n: int

    def __post_init__(self) -> None:
        o, c = self.options, self.c
        self.t = Tape()
        self.d = o["dtype"]
        self.matrix = or_dtype(o["weights_dtype"], self.d)
        self.plain = of_dtype(self.matrix)
        self.kv = or_dtype(o["kv_dtype"], self.d)
        self.tp, self.g = self.layout.tp, self.layout.cp
        self.h = c.heads // self.tp
        self.heads = self.h * c.head
        self.keys = max(1, c.kv_heads // self.tp) * c.head
        self.norm = size(c.hidden, self.plain)

    def array(self, width: int, kind: str = "") -> Array:
        return Array(self.n * width, kind or self.d)

    def run(self, *, logits: bool) -> Tape:
        t, c = self.t, self.c
        ids = t.hold("ids", self.array(1, "int64"))
        x = self.array(c.hidden)
        if c.first:
            t.make("x", "memory", [ids], x)
            t.reduce(x, self.tp)
        else:
            t.make("x", "comm", [], x, sent=x.bytes)
        for layer, half in enumerate(c.halves):
            self.attention(layer, x)
            t.op("memory", [x, x], written=x.bytes)
            t.make("y", "memory", [x], x, weights=self.norm)
            t.free("z")
            if half.experts:
                self.experts(half, x)
            else:
                f = -(-half.width // self.tp)
                u = t.linear(x, Layer(c.hidden, 2 * f, self.matrix), "u")
                t.make("a", "memory", [u], self.array(f))
                t.free("y", "u")
                t.linear(self.array(f), Layer(f, c.hidden, self.matrix), "z")
                t.free("a")
                t.reduce(x, self.tp)
            t.op("memory", [x, x], written=x.bytes)
            t.free("z")
        if c.first and not c.last:
            t.op("comm", [], sent=x.bytes, written=x.bytes)
        if logits and c.last:
            v = -(-c.vocabulary // self.tp)
            one = Array(c.hidden, self.d)
            last = t.make("l", "memory", [one], one, weights=self.norm)
            scores = t.linear(last, Layer(c.hidden, v, self.plain), "s")
            t.gather("s", scores, self.tp)
            t.make("out", "memory", [Array(c.vocabulary, self.d)], Array(c.vocabulary, "fp32"))
            t.free("l", "s", "out")
        t.free("ids", "x")
        return t

    def attention(self, layer: int, x: Array) -> None:
        t, c = self.t, self.c
        t.make("y", "memory", [x], x, weights=self.norm)
        t.linear(x, Layer(c.hidden, self.heads + 2 * self.keys, self.matrix), "qkv")
        q, k = self.array(self.heads), self.array(self.keys)
        for part in (q, k) if c.head_norm else ():
            t.op("memory", [part], written=part.bytes, weights=size(c.head, self.plain))
        for part in (q, k):
            t.op("memory", [part], written=part.bytes)
        kept = self.array(self.keys, self.kv)
        for name in ("K", "V"):
            t.make(f"{name}{layer}", "memory", [k], kept, grain=1)
        self.among(q, kept)
        t.linear(q, Layer(self.heads, c.hidden, self.matrix), "z")
        t.free("o")
        t.reduce(x, self.tp)
        t.free("qkv", "y")

    def attend(self, name: str, q: Array, kept: Array, pairs: int) -> None:
        scratch = 4 * self.n * self.h
        flops = 4 * self.heads * pairs
        self.t.make(name, "attention", [q, kept, kept], q, flops=flops, scratch=scratch)

    def among(self, q: Array, kept: Array) -> None:
        t, n, g = self.t, self.n, self.g
        if g == 1:
            self.attend("o", q, kept, n * (n + 1) // 2)
        elif n == 1:
            t.make("every", "comm", [q], Array(g * q.elements, q.dtype), sent=(g - 1) * q.bytes)
            self.attend("o", q, kept, 1)
            t.free("every")
            t.swap("o", "comm", [q], q, sent=(g - 1) * (q.bytes + 4 * self.h))
        else:
            pairs = ceil(Fraction(g * n * (g * n + 1) // 2, g * g))
            ring(t, g, [kept, kept], q, lambda: self.attend("p", q, kept, pairs))

    def experts(self, half: Any, y: Array) -> None:
        t, c, n, tp = self.t, self.c, self.n, self.tp
        e, dp = self.layout.ep, self.layout.dp
        h, chosen = c.hidden, half.chosen
        own = Fraction(n * chosen, tp if e > 1 else 1)
        uneven = Fraction(self.options["expert_imbalance"]).limit_denominator(10**6)
        m = own * uneven if e > 1 else own
        f = half.width if e > 1 else -(-half.width // tp)
        away = m - m / e
        mine = -(-half.experts // e)
        read = ceil(self.options["experts_read"] * mine)
        t.linear(y, Layer(h, half.experts, self.plain), "s")
        p = Array(2 * n * chosen, "fp32")
        bias = size(half.experts, self.plain) if half.sigmoid else 0
        t.make("p", "memory", [self.array(half.experts)], p, weights=bias)
        t.free("s")
        rows, v = ceil(m), y
        if dp > 1:
            wide, dtype = h, self.d
            if self.matrix == "fp8":
                wide, dtype = h + 4 * -(-h // 128), "fp8"
            v = Array(rows * wide, dtype)
            t.make("v", "comm", [y], v, sent=ceil(away * size(wide, dtype)))
        u, a, z = (Array(rows * wide, self.d) for wide in (2 * f, f, h))
        weights = size(read * 2 * f * h, self.matrix)
        t.make("u", "dense", [v, p], u, flops=ceil(2 * m * 2 * f * h), weights=weights)
        if dp > 1:
            t.free("v")
        t.make("a", "memory", [u], a)
        t.free("u")
        weights = size(read * f * h, self.matrix)
        t.make("z", "dense", [a, p], z, flops=ceil(2 * m * f * h), weights=weights)
        t.free("a")
        if dp > 1:
            back = Array(ceil(own) * h, self.d)
            z = t.swap("z", "comm", [z], back, sent=ceil(away * size(h, self.d)))
        t.swap("z", "memory", [z, p], y)
        if dp > 1 and tp > 1:
            t.op("comm", [], written=y.bytes, sent=ceil(Fraction((tp - 1) * y.bytes, tp)))
        t.free("p")
        if half.shared:
            s = -(-half.shared // tp)
            b = t.linear(y, Layer(h, 2 * s, self.matrix), "b")
            t.swap("b", "memory", [b], self.array(s))
            t.linear(self.array(s), Layer(s, h, self.matrix), "b")
            if half.gated:
                i = t.linear(y, Layer(h, 1, self.matrix), "i")
                t.op("memory", [y, i], written=y.bytes)
                t.free("i")
            if dp > 1:
                t.reduce(y, tp)
            t.op("memory", [y, y], written=y.bytes)
            t.free("b")
        if dp == 1:
            t.reduce(y, tp)
        t.free("y")


def ring(t: Tape, g: int, parts: list[Array], q: Array, attend: Any) -> None:
    """`o = ring(q, parts, g)`; `attend` makes p. The first parts are kept by others."""
    wide = Array(q.elements, "fp32")
    for turn in range(g):
        if turn < g - 1:
            for i, part in enumerate(parts):
                t.make(f"next {i}", "attention", [part], part, sent=part.bytes)
        attend()
        if turn:
            t.free(*(f"now {i}" for i in range(len(parts))))
        if turn < g - 1:
            for i in range(len(parts)):
                t.rename(f"next {i}", f"now {i}")
        if turn == 0 and q.dtype == "fp32":
            t.rename("p", "o")
            continue
        if turn:
            t.swap("o", "memory", [wide, q], wide)
        elif q.dtype != "fp32":
            t.make("o", "memory", [q], wide)
        else:
            t.rename("p", "o")
        if "p" in t.held:
            t.free("p")
    if q.dtype != "fp32":
        t.swap("o", "memory", [wide], q)
