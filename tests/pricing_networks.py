"""The networks of docs/pricing.md, listing by listing: T5, VAE and LLM; see also pricing_dit.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

from pricing_oracle import Array, Layer, Tape, of_dtype, size

Shapes = list[tuple[str, tuple[int, ...]]]


def stored(shapes: Shapes, dtype: str) -> int:
    """Bytes of parameters: only the matrices of blocks are quantised."""
    total = 0
    for name, shape in shapes:
        count = 1
        for side in shape:
            count *= side
        block = name[0].isdigit() and len(shape) > 1
        total += size(count, dtype if block else of_dtype(dtype))
    return total


def counted(shapes: Shapes) -> int:
    return stored([("x", shape) for _, shape in shapes], "fp16") // 2


# T5


def t5_shapes(c: Any) -> Shapes:
    inner = c.heads * c.head
    layer = [(c.width,), (c.width,)] + [(inner, c.width)] * 4 + [(c.ffn, c.width)] * 3
    outside = [(c.vocabulary, c.width), (c.buckets, c.heads), (c.width,)]
    return [("x", s) for s in outside] + [("0.", s) for s in layer] * c.layers


def encode(
    t: Tape, c: Any, tokens: int, dtype: str, branches: int, joined: bool, kept: str = ""
) -> Array:
    """All branches; holds the embeddings and returns those of a pass."""
    out = Array(tokens * c.width, dtype)
    for branch in range(branches):
        if branch:
            t.free("ids")
        ids = t.hold("ids", Array(tokens, "int64"))
        _t5(t, c, tokens, dtype, ids, f"emb{branch}", kept or dtype)
    if joined and branches == 2:
        out = Array(2 * out.elements, dtype)
        half = Array(tokens * c.width, dtype)
        t.make("embeddings", "memory", [half, half], out)
        t.free("emb0", "emb1")
    t.free("ids")
    return out


def _t5(t: Tape, c: Any, tokens: int, dtype: str, ids: Array, name: str, kept: str) -> None:
    wide, square = Array(tokens * c.width, dtype), Array(c.heads * tokens**2, dtype)
    inner, gated = c.heads * c.head, Array(tokens * c.ffn, dtype)
    norm = size(c.width, of_dtype(kept))
    half = 2 * inner * tokens**2
    t.make("x", "memory", [ids], wide)
    t.make("bias", "memory", [], square, weights=size(c.buckets * c.heads, of_dtype(kept)))
    for layer in range(c.layers):
        t.make("new", "memory", [wide], wide, weights=norm)
        if layer:
            t.free("y")
        t.rename("new", "y")
        q, k, v = (t.linear(wide, Layer(c.width, inner, kept), part) for part in "qkv")
        t.make("b", "memory", [square], square)
        scratch = 4 * c.heads * tokens
        o = t.make("o", "attention", [q, k, v, square], q, flops=2 * half, scratch=scratch)
        t.free("b", "q", "k", "v", "y")
        t.linear(o, Layer(inner, c.width, kept), "y")
        t.free("o")
        if layer:
            t.swap("x", "memory", [wide, wide], wide)
        else:
            t.rename("x", "first")
            t.make("x", "memory", [wide, wide], wide)
        t.swap("y", "memory", [wide], wide, weights=norm)
        for part in "gu":
            t.linear(wide, Layer(c.width, c.ffn, kept), part)
        t.make("f", "memory", [gated, gated], gated)
        t.free("g", "u", "y")
        t.rename("f", "y")
        t.linear(gated, Layer(c.ffn, c.width, kept), "a")
        t.swap("x", "memory", [wide, wide], wide)
        t.free("a")
    t.make(name, "memory", [wide], wide, weights=norm)
    t.free("x", "y", "bias", "first")


# VAE


def vae_shapes(c: Any) -> Shapes:
    out: Shapes = []
    cube, one = ((3, 3, 3), (1, 1, 1)) if c.video else ((3, 3), (1, 1))

    def layer(width: int, to: int, kernel: tuple[int, ...]) -> None:
        out.extend([("x", (to, width, *kernel)), ("x", (to,))])

    def resnet(width: int, to: int) -> None:
        out.extend([("x", (width,))] * 2 + [("x", (to,))] * 2)
        layer(width, to, cube)
        layer(to, to, cube)
        if width != to:
            layer(width, to, one)

    def middle(width: int) -> None:
        resnet(width, width)
        resnet(width, width)
        out.extend([("x", (width,))] * 2)
        for _ in range(4):
            layer(width, width, ())

    top = c.widths[-1]
    before = c.widths[0]
    layer(3, before, cube)
    for stage, width in enumerate(c.widths):
        for _ in range(c.layers):
            resnet(before, width)
            before = width
        if stage + 1 < len(c.widths):
            layer(width, width, cube)
    middle(top)
    out.extend([("x", (top,))] * 2)
    layer(top, 2 * c.channels, cube)
    layer(2 * c.channels, 2 * c.channels, one)
    layer(c.channels, c.channels, one)
    layer(c.channels, top, cube)
    middle(top)
    before = top
    for stage in range(len(c.widths) - 1, -1, -1):
        for _ in range(c.layers + 1):
            resnet(before, c.widths[stage])
            before = c.widths[stage]
        if stage:
            layer(before, before, cube)
    out.extend([("x", (before,))] * 2)
    layer(before, 3, cube)
    return out


class Decoder:
    """A decode: in runs of frames, in tiles, or whole."""

    def __init__(
        self, t: Tape, c: Any, dtype: str, cells: tuple[int, int, int], tiling: str, copies: bool
    ) -> None:
        self.t, self.c, self.dtype, self.cells, self.copies = t, c, dtype, cells, copies
        self.whole, self.passes, self.made = cells, 0, 0
        self.sharing = 1
        self.edge = 2 ** (len(c.widths) - 1)
        frames = cells[0]
        self.temporal = tiling in ("temporal", "spacetime") and c.video and frames > 4
        self.spatial = tiling in ("spatial", "spacetime")

    def array(self, channels: int) -> Array:
        a, b, d = self.cells
        return Array(channels * a * b * d, self.dtype)

    @contextmanager
    def held_once_more(self, x: Array, out: Array) -> Iterator[None]:
        """What a convolution reads and makes, while it runs."""
        if self.copies:
            self.t.hold("workspace", Array(x.elements + out.elements, self.dtype))
        yield
        if self.copies:
            self.t.free("workspace")

    def conv(self, name: str, width: int, to: int, side: int, x: str = "") -> None:
        """`name <- conv(name)`; to a new name from x."""
        x, out = self.array(width), self.array(to)
        taps = side ** (3 if self.c.video else 2)
        weights = size(to * width * taps, self.dtype) + size(to, self.dtype)
        act = self.t.swap if name in self.t.held else self.t.make
        if self.c.video and name != "plain":
            a, b, d = self.cells
            sides = (a + side - 1) * (b + side - 1) * (d + side - 1)
            x = self.t.make("padded", "memory", [x], Array(width * sides, self.dtype))
        flops = 2 * out.elements * width * taps
        if self.sharing > 1 and side > 1:
            a, b, d = self.cells
            more = Array(width * a * (b + side - 1) * d, self.dtype)
            sent = (side - 1) * x.bytes // b
            t = self.t
            t.make("edges", "comm", [x], more, sent=sent)
        with self.held_once_more(x, out):
            act(name, "conv", [x], out, flops=flops, weights=weights)
        if "edges" in self.t.held:
            self.t.free("edges")
        if "padded" in self.t.held:
            self.t.free("padded")

    def norm(self, name: str, width: int) -> None:
        act = self.t.swap if name in self.t.held else self.t.make
        x, weights = self.array(width), 2 * size(width, self.dtype)
        if self.sharing > 1:
            sums = 8 * self.cells[0] * min(32, width)
            sent = ceil(Fraction(2 * (self.sharing - 1) * sums, self.sharing))
            self.t.op("comm", [], written=2 * sums, sent=sent)
        act(name, "memory", [x], x, weights=weights, scratch=8 * min(32, width))

    def silu(self, name: str, width: int) -> None:
        self.t.swap(name, "memory", [self.array(width)], self.array(width))

    def add(self, name: str, width: int) -> None:
        """A sum; an image's is divided by 1 in new memory."""
        x = self.array(width)
        act = self.t.swap if name in self.t.held else self.t.make
        if self.c.video:
            act(name, "memory", [x, x], x)
        else:
            self.t.make("sum", "memory", [x, x], x)
            act(name, "memory", [x], x)
            self.t.free("sum")

    def resnet(self, width: int, to: int) -> None:
        """`y = resnet(x)`."""
        self.norm("a", width)
        self.silu("a", width)
        self.conv("a", width, to, 3)
        self.norm("a", to)
        self.silu("a", to)
        self.conv("a", to, to, 3)
        if width != to:
            self.conv("k", width, to, 1)
        self.add("y", to)
        self.t.free("a", *(["k"] if width != to else []))

    def next(self) -> None:
        """`x = y`, unless x is the input of the stage, which stays."""
        if "x" in self.t.held:
            self.t.free("x")
        self.t.rename("y", "x")

    def middle(self, top: int) -> None:
        t, x = self.t, self.array(top)
        frames, cells = self.cells[0], self.cells[1] * self.cells[2]
        t.rename("x", "in")
        self.resnet(top, top)
        self.next()
        mask, n = [], frames * cells
        if self.c.video:
            t.hold("seen", Array(n * n, "uint8"))
            t.make("mask", "memory", [], Array(n * n, "fp32"))
            t.free("seen")
            if self.dtype != "fp32":
                t.swap("mask", "memory", [Array(n * n, "fp32")], Array(n * n, self.dtype))
            mask = [Array(n * n, self.dtype)]
        layer = Layer(top, top, self.dtype, self.dtype)
        self.norm("n", top)
        t.swap("n", "memory", [x], x)
        for part in "qkv":
            t.linear(x, layer, part)
        pairs = n * n if self.c.video else frames * cells**2 * self.sharing
        every = x
        for part in "kv":
            every = t.gather(part, x, self.sharing)
        given = [x, every, every, *mask]
        t.make("o", "attention", given, x, flops=4 * pairs * top, scratch=4 * n)
        t.free("q", "k", "v", "n")
        t.linear(x, layer, "o")
        self.add("y", top)
        t.free("o", *(["mask"] if mask else []))
        self.next()
        self.resnet(top, top)
        self.next()
        t.free("in")

    def grow(self, width: int, time: int) -> None:
        """`y = ` the cells of x repeated, then a convolution."""
        t, (a, b, d) = self.t, self.cells
        small = width * b * d
        if not self.c.video:
            t.make("u", "memory", [Array(small, self.dtype)], Array(4 * small, self.dtype))
        else:
            first = Array(4 * small, self.dtype)
            t.make("first", "memory", [Array(small, self.dtype)], first)
            if a > 1:
                others = Array((a - 1) * small, self.dtype)
                more = Array(4 * time * others.elements, self.dtype)
                t.make("others", "memory", [others], others)
                t.swap("others", "memory", [others], more)
                both = Array(first.elements + more.elements, self.dtype)
                t.make("u", "memory", [first, more], both)
        self.cells = (1 + (a - 1) * time, 2 * b, 2 * d)
        self.conv("y", width, width, 3)
        for name in ("u", "first", "others"):
            if name in t.held:
                t.free(name)

    def one(self, cells: tuple[int, int, int], name: str) -> Array:
        """A pass: the pixels of so many cells, under a name."""
        t, c, self.cells = self.t, self.c, cells
        self.passes += 1
        before = c.widths[-1]
        self.conv("plain", c.channels, c.channels, 1)
        t.rename("plain", "x")
        self.conv("x", c.channels, before, 3)
        self.middle(before)
        for stage, width in enumerate(reversed(c.widths)):
            t.rename("x", "in")
            for _ in range(c.layers + 1):
                self.resnet(before, width)
                self.next()
                before = width
            if stage + 1 < len(c.widths):
                in_time = c.video and stage >= len(c.widths) - 3
                self.grow(width, 2 if in_time else 1)
                self.next()
            t.free("in")
        self.norm("x", before)
        self.silu("x", before)
        self.conv("p", before, 3, 3)
        t.free("x")
        t.rename("p", name)
        return self.array(3)

    def blend(self, elements: int) -> None:
        """An edge over that of the one before, in place."""
        if elements:
            edge = Array(elements, self.dtype)
            self.t.op("memory", [edge, edge], written=edge.bytes)

    def tiles(self, frames: int, name: str) -> tuple[int, int, int]:
        """So many latent frames, in tiles if so wanted, under a name: their size in pixels."""
        t, e, (_, rows, columns) = self.t, self.edge, self.whole
        size, stride = self.c.tile // e, self.c.stride // e
        out = 1 + 4 * (frames - 1) if self.c.video else frames
        if not self.spatial or (rows <= size and columns <= size):
            self.one((frames, rows, columns), name)
            return out, rows * e, columns * e
        stands = t.stands
        heights = [min(size, rows - at) for at in range(0, rows, stride)]
        widths = [min(size, columns - at) for at in range(0, columns, stride)]
        for i, h in enumerate(heights):
            for j, w in enumerate(widths):
                alike = heights.count(h) * widths.count(w)
                last = h not in heights[i + 1 :] and w not in widths[j + 1 :]
                t.stands = stands * alike if last else 0
                self.one((frames, h, w), f"{name} tile {i} {j}")
        t.stands = stands
        tall, wide = 0, sum(min(stride, w) * e for w in widths)
        for i, h in enumerate(heights):
            for j, w in enumerate(widths):
                if i:
                    above = min(heights[i - 1] * e, h * e, (size - stride) * e)
                    self.blend(3 * out * w * e * above)
                if j:
                    left = min(widths[j - 1] * e, w * e, (size - stride) * e)
                    self.blend(3 * out * h * e * left)
            high = min(stride, h) * e
            tall += high
            row = Array(3 * out * high * wide, self.dtype)
            t.make(f"row {i}", "memory", [row], row)
        whole = Array(3 * out * tall * wide, self.dtype)
        t.make(name, "memory", [whole], whole)
        t.free(*(f"row {i}" for i in range(len(heights))))
        t.free(*(n for n in list(t.held) if n.startswith(f"{name} tile")))
        return out, tall, wide

    def run(self, gpus: int = 1) -> None:
        """From the latents to `pixels`; several GPUs have a share of the rows each."""
        t, c = self.t, self.c
        latents = Array(c.channels * self.cells[0] * self.cells[1] * self.cells[2], "fp32")
        x = self.array(c.channels)
        t.make("z", "memory", [latents], x)
        if self.dtype != "fp32":
            t.swap("z", "memory", [x], x)
        frames, rows, columns = self.whole
        if not self.temporal:
            if gpus > 1:
                self.sharing, self.whole = gpus, (frames, -(-rows // gpus), columns)
                self.tiles(frames, "pixels")
                own = Array(3 * frames * self.whole[1] * columns * self.edge**2, self.dtype)
                t.gather("pixels", own, gpus)
            else:
                self.tiles(frames, "pixels")
            t.free("z")
            return
        runs = [min(5, frames - at) for at in range(0, frames, 3)]
        made = []
        for i, run in enumerate(runs):
            t.stands = 0 if run in runs[i + 1 :] else runs.count(run)
            made.append(self.tiles(run, f"run {i}"))
        t.stands = 1
        area = 3 * self.whole[1] * self.whole[2] * self.edge**2
        left = [frames - (1 if i else 0) for i, (frames, _, _) in enumerate(made)]
        for before, after in pairwise(left):
            self.blend(area * min(before, after, 4))
        total = min(left[0], 13) + sum(min(each, 12) for each in left[1:])
        whole = Array(area * total, self.dtype)
        t.make("pixels", "memory", [whole], whole)
        t.free("z", *(f"run {i}" for i in range(len(runs))))
