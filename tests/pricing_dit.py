"""The diffusion transformer of docs/pricing.md, a pass and a sampler step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pricing_llm import ring
from pricing_networks import Shapes
from pricing_oracle import Array, Layer, Tape, of_dtype, size, wider

WAVE = 256


def or_dtype(value: str, dtype: str) -> str:
    return dtype if value == "as dtype" else value


def dit_shapes(c: Any, t: int, guided: bool, per_block: bool) -> Shapes:
    """Parameters of one of t GPUs."""
    out: Shapes = []
    h, cells = c.hidden, c.patch[0] * c.patch[1] * c.patch[2]

    def layer(name: str, width: int, to: int) -> None:
        out.extend([(name, (to, width)), (name, (to,))])

    layer("embed", c.channels * cells, h)
    for prefix in [f"{i}." for i in range(c.depth)] if per_block else [""]:
        for _ in range(2 if guided else 1):
            layer(prefix + "time", WAVE, h)
            layer(prefix + "time", h, h)
        if c.classes is not None:
            out.append((prefix + "label", (c.classes + 1, h)))
    if c.text_width is not None:
        layer("text", c.text_width, h)
        layer("text", h, h)
    if c.modulation == "shared":
        layer("modulation", h, 6 * h // t)
    for i in range(c.depth):
        if c.modulation == "shared":
            out.append((f"{i}", (6 * h,)))
        else:
            layer(f"{i}", h, 6 * h // t)
        layer(f"{i}", h, 3 * h // t)
        layer(f"{i}", h // t, h)
        if c.text_width is not None:
            layer(f"{i}", h, h // t)
            layer(f"{i}", h, 2 * h // t)
            layer(f"{i}", h // t, h)
        layer(f"{i}", h, c.ratio * h // t)
        layer(f"{i}", c.ratio * h // t, h)
    layer("final", h, 2 * h)
    layer("final", h, c.out_channels * cells)
    return out


@dataclass
class Dit:
    """A pass of B branches on one GPU of a layout."""

    tape: Tape
    c: Any
    options: Mapping[str, Any]
    layout: Any
    branches: int
    latent: tuple[int, int, int]
    text_tokens: int
    all: int = 0
    """Tokens of all patches on a GPU, where a pass has one of them."""
    where: int = 0
    """Of which condition."""
    at: int = 0

    def __post_init__(self) -> None:
        o = self.options
        self.d = o["dtype"]
        self.r = or_dtype(o["residual_dtype"], self.d)
        self.m = or_dtype(o["modulation_dtype"], self.d)
        self.matrix = or_dtype(o["weights_dtype"], self.d)
        self.plain = of_dtype(self.matrix)
        self.t, self.s = self.layout.tp, self.layout.sp
        self.per_block = o["embedders"] == "block"
        c = self.c
        self.patch = c.patch[0] * c.patch[1] * c.patch[2]
        self.cells = self.latent[0] * self.latent[1] * self.latent[2]
        self.tokens = self.cells // self.patch
        self.mine = -(-self.tokens // self.s)

    def of(self, elements: int, dtype: str = "") -> Array:
        """An array with B times so many elements."""
        return Array(self.branches * elements, dtype or self.d)

    def inside(self, width: int, out: int) -> Layer:
        return Layer(width, out, self.matrix, self.plain)

    def outside(self, width: int, out: int) -> Layer:
        return Layer(width, out, self.plain, self.plain)

    def memory(self, name: str, out: Array, *inputs: Array, **given: Any) -> Array:
        act = self.tape.swap if name in self.tape.held else self.tape.make
        return act(name, "memory", list(inputs), out, **given)

    # Conditions

    def embed(self, name: str, block: int) -> Array:
        t, h = self.tape, self.c.hidden
        layer = self.inside if self.per_block else self.outside
        wave = self.memory("wave", self.of(WAVE, "fp32"))
        if self.d != "fp32":
            c = self.memory("c", self.of(WAVE), wave)
            t.block = block if self.per_block else None
            hidden = t.linear(c, layer(WAVE, h), "hidden")
            t.free("c")
        else:
            t.block = block if self.per_block else None
            hidden = t.linear(wave, layer(WAVE, h), "hidden")
        a = self.memory("a", self.of(h), hidden)
        e = t.linear(a, layer(h, h), name)
        t.free("wave", "hidden", "a")
        return e

    def condition(self, name: str, block: int = 0) -> Array:
        t, guided = self.tape, self.options["cfg"] == "distilled"
        signal = self.embed(name, block)
        if guided:
            extra = self.embed("extra", block)
            self.memory(name, signal, signal, extra)
        if self.c.classes is not None:
            row = self.memory("row", self.of(self.c.hidden), self.of(1, "int64"))
            self.memory(name, signal, signal, row)
            t.free("row")
        if guided:
            t.free("extra")
        return signal

    # Parts of a block

    def modulated(self, x: Array, six: str = "") -> Array:
        """`y` from x and a shift and scale of [B,h] each, in the dtype `six`."""
        six = six or self.d
        t, vector = self.tape, self.of(self.c.hidden, six)
        tokens = self.mine * self.c.hidden
        mixed = self.of(tokens, wider(six, self.m))
        gain = self.memory("gain", vector, vector)
        rows = self.branches * self.mine
        a = self.memory("a", self.of(tokens, self.m), x, scratch=8 * rows)
        b = self.memory("b", mixed, a, gain)
        y = self.memory("a'", mixed, b, vector)
        t.free("a", "b")
        if mixed.dtype == self.d:
            t.rename("a'", "y")
        else:
            y = self.memory("y", self.of(tokens), y)
            t.free("a'")
        t.free("gain")
        return y

    def attend(self, q: Array, k: Array, heads: int, n: int, m: int, name: str = "o") -> Array:
        t, kernel = self.tape, self.options["attention"]
        half = 2 * self.branches * heads * n * m * (self.c.hidden // self.c.heads)
        if kernel == "fused":
            scratch = 4 * self.branches * heads * n
            t.make(name, "attention", [q, k, k], q, flops=2 * half, scratch=scratch)
            return q
        square = self.of(heads * n * m)
        t.make("sc", "attention", [q, k], square, flops=half)
        self.memory("pr", square, square)
        t.make(name, "attention", [square, k], q, flops=half)
        t.free("sc", "pr")
        return q

    def self_attention(self, y: Array) -> Array:
        """`z` from y."""
        self.tape.half = "attention"
        t, h, s = self.tape, self.c.hidden, self.s
        part = self.of(self.mine * h // self.t)
        u = s // self.layout.ring
        heads, n = self.c.heads // self.t // u, self.mine * u
        t.linear(y, self.inside(h, 3 * h // self.t), "qkv")
        sent = -(-(u - 1) * part.bytes // u)
        if u > 1:
            for name in "qkv":
                t.make(name, "comm", [part], part, sent=sent)
            t.free("qkv")
        kept, m = part, n
        if self.all:
            m = self.all * u
            kept = self.of(m * heads * (h // self.c.heads))
            for name in "KV":
                if f"{name} {self.where} {self.at}" not in t.held:
                    t.hold(f"{name} {self.where} {self.at}", kept)
                t.op("memory", [part], written=part.bytes)
        if u > 1 and self.all:
            t.free("k", "v")
        if self.layout.ring > 1:
            ring(
                t,
                self.layout.ring,
                [kept, kept],
                part,
                lambda: self.attend(part, kept, heads, n, m, "p"),
            )
        else:
            self.attend(part, kept, heads, n, m)
        o = part
        if u > 1:
            t.free("q", *([] if self.all else ["k", "v"]))
            t.swap("o", "comm", [part], part, sent=sent)
        z = t.linear(o, self.inside(h // self.t, h), "z")
        t.free("o")
        t.reduce(z, self.t)
        t.half = ""
        if u == 1:
            t.free("qkv")
        t.free("y")
        return z

    def cross_attention(self, x: Array, text: Array) -> None:
        """`y'` from x1 and the text."""
        t, h = self.tape, self.c.hidden
        part = self.of(self.mine * h // self.t)
        c = x
        if self.r != self.d:
            c = self.memory("c", self.of(self.mine * h), x)
        t.half = "attention"
        t.linear(c, self.inside(h, h // self.t), "q")
        kv = t.linear(text, self.inside(h, 2 * h // self.t), "kv")
        half = Array(kv.elements // 2, kv.dtype)
        o = self.attend(part, half, self.c.heads // self.t, self.mine, self.text_tokens)
        t.free("q", "kv")
        z = t.linear(o, self.inside(h // self.t, h), "y'")
        t.free("o")
        t.reduce(z, self.t)
        t.half = ""
        if self.r != self.d:
            t.free("c")

    def block(
        self, i: int, x: Array, signal: Array, mod: Array | None, text: Array | None
    ) -> Array:
        t, h, tokens = self.tape, self.c.hidden, self.mine * self.c.hidden
        # An offset kept in fp32 widens what it is added to.
        e = self.d if mod is None else wider(self.d, self.plain)
        vector, wide, kept = self.of(h, e), self.of(tokens), self.of(tokens, self.r)
        gated = self.of(tokens, wider(self.d, e))
        if mod is None:
            a = self.memory("a", vector, signal)
            t.block = i
            six = t.linear(a, self.inside(h, 6 * h // self.t), "six")
            t.free("a")
            t.gather("six", six, self.t)
        else:
            t.block = i
            self.memory("six", self.of(6 * h, e), mod, weights=size(6 * h, self.plain))
        y = self.modulated(x, e)
        z = self.self_attention(y)
        a = self.memory("a", gated, vector, z)
        self.memory("x1", kept, x, a)
        t.free("a")
        if text is not None:
            self.cross_attention(kept, text)
            t.free("z")
            self.memory("x1", kept, kept, wide)
            t.rename("y'", "z")
        y = self.modulated(kept, e)
        t.free("z")
        t.half = "feed-forward"
        u = t.linear(y, self.inside(h, self.c.ratio * h // self.t), "u")
        t.free("y")
        self.memory("g", u, u)
        z = t.linear(u, self.inside(self.c.ratio * h // self.t, h), "z")
        t.free("g", "u")
        t.reduce(z, self.t)
        t.half = ""
        self.memory("a", gated, vector, z)
        self.memory("out", kept, kept, gated)
        t.free("a", "z", "x1", "six", "x")
        t.rename("out", "x")
        return kept

    # A pass

    def run(self, out: str) -> Array:
        """The prediction of [B,O,...], under the name `out`."""
        t, c = self.tape, self.c
        latents = Array(c.channels * self.cells, "fp32")
        many = latents
        t.block = None
        if self.branches > 1:
            many = self.memory("many", self.of(latents.elements, "fp32"), *[latents] * 2)
        done = self.one(out, many) if self.layout.pp == 1 else self.patches(out)
        if self.branches > 1:
            t.free("many")
        return done

    def patches(self, out: str) -> Array:
        """A stage's pass over patches of rows."""
        t, (frames, rows, columns) = self.tape, self.latent
        high = self.c.patch[1]
        count = self.layout.in_flight or self.layout.pp
        each, more = divmod(rows // high, count)
        sizes = [each + 1] * more + [each] * (count - more)
        stage = replace(self.c, depth=-(-self.c.depth // self.layout.pp))
        parts = []
        for tall in sizes:
            latent = (frames, tall * high, columns)
            args = (self.options, self.layout, self.branches, latent, self.text_tokens)
            parts.append(Dit(t, stage, *args, where=self.where))
        for j, part in enumerate(parts):
            part.all = sum(other.mine for other in parts)
            part.one(f"{out} {j}", self.of(self.c.channels * part.cells, "fp32"))
            hidden = self.of(part.mine * self.c.hidden, self.r)
            t.op("comm", [hidden], sent=hidden.bytes)
        done = self.of(self.c.out_channels * self.cells)
        self.memory(out, done, done)
        t.free(*(f"{out} {j}" for j in range(count)))
        return done

    def one(self, out: str, many: Array) -> Array:
        """The prediction of some rows, all that is held of the pass but it given back."""
        t, c, h = self.tape, self.c, self.c.hidden
        t.block = None
        signal = self.condition("signal")
        text = mod = None
        if c.text_width is not None:
            embeddings = self.of(self.text_tokens * c.text_width)
            t.block = None
            text = t.linear(embeddings, self.outside(c.text_width, h), "tx")
            self.memory("g", text, text)
            t.linear(text, self.outside(h, h), "tx")
            t.free("g")
        if c.modulation == "shared":
            a = self.memory("a", self.of(h), signal)
            t.block = None
            mod = t.linear(a, self.outside(h, 6 * h // self.t), "mod")
            t.free("a")
            mod = t.gather("mod", mod, self.t)
        x = self.patchify(many)
        for i in range(c.depth):
            mine = signal
            if self.per_block:
                self.condition("new", i)
                if i:
                    t.free("mine")
                t.rename("new", "mine")
            self.at = i
            x = self.block(i, x, mine, mod, text)
        a = self.memory("a", self.of(h), signal)
        t.block = None
        t.linear(a, self.outside(h, 2 * h), "fin")
        t.free("a")
        y = self.modulated(x)
        t.free("x")
        x = t.linear(y, self.outside(h, c.out_channels * self.patch), "x")
        t.free("y")
        t.gather("x", x, self.s)
        done = self.of(c.out_channels * self.cells)
        self.memory(out, done, done)
        names = {"x", "fin", "mine", "mod", "tx", "signal"}
        t.free(*(names & set(t.held)))
        return done

    def patchify(self, many: Array) -> Array:
        t, h = self.tape, self.c.hidden
        grid = self.of(self.c.channels * self.cells)
        if self.d != "fp32":
            self.memory("grid", grid, many)
        self.memory("patches", grid, grid)
        width = self.c.channels * self.patch
        t.block = None
        x = t.linear(self.of(self.mine * width), self.outside(width, h), "x")
        t.free("patches", *(["grid"] if self.d != "fp32" else []))
        self.memory("x", x, x)
        if self.r != self.d:
            x = self.memory("x", self.of(self.mine * h, self.r), x)
        return x


def denoise(
    tape: Tape,
    c: Any,
    options: Mapping[str, Any],
    layout: Any,
    batches: list[int],
    latent: Any,
    text_tokens: int,
) -> Dit:
    """A sampler step: a pass a batch of branches, guidance, and the step itself."""
    for i, branches in enumerate(batches):
        dit = Dit(tape, c, options, layout, branches, latent, text_tokens, where=i)
        prediction = dit.run(f"out{i}")
    names = [f"out{i}" for i in range(len(batches))]
    if layout.cfg == 2:
        prediction = tape.gather("out0", prediction, 2)
    one = Array(c.out_channels * dit.cells, dit.d)
    if prediction.elements > one.elements or len(batches) == 2:
        tape.make("both", "memory", [one, one], one)
        tape.free(*names)
        names = ["both"]
    sample(tape, c, options["sampler"], dit)
    tape.free(*names, "latents")
    tape.rename("next", "latents")
    return dit


def sample(t: Tape, c: Any, sampler: str, dit: Dit) -> None:
    """`next` latents."""
    wide = Array(c.channels * dit.cells, "fp32")
    guess = Array(wide.elements, dit.d)
    if sampler == "rectified_flow":
        t.make("mv", "memory", [guess], guess)
        t.make("next", "memory", [wide, guess], wide)
        t.free("mv")
        return
    t.make("a", "memory", [wide], wide)
    t.make("b", "memory", [guess], guess)
    t.make("clean", "memory", [wide, guess], wide)
    t.free("a", "b")
    t.make("a", "memory", [wide], wide)
    if sampler == "ddim":
        t.make("b", "memory", [guess], guess)
        t.make("next", "memory", [wide, guess], wide)
        t.free("a", "b", "clean")
        return
    t.make("b", "memory", [wide], wide)
    t.make("mean", "memory", [wide, wide], wide)
    t.free("a", "b")
    t.make("drawn", "memory", [], wide)
    learned = c.out_channels == 2 * c.channels
    if learned:
        t.make("sp", "memory", [guess], guess)
        t.swap("drawn", "memory", [wide, guess], wide)
    else:
        t.swap("drawn", "memory", [wide], wide)
    t.make("a", "memory", [wide], wide)
    t.make("next", "memory", [wide, wide], wide)
    t.free("a", "mean", "drawn", "clean", *(["sp"] if learned else []))
