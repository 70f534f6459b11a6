"""Wan 2.1 and 2.2 (Wan team 2025): self-attention among spacetime patches, then cross-attention to
the text. Norms, modulation and residual sums are computed in float32.

Numbers and lifetimes as diffusers' `WanTransformer3DModel`, or as the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Annotated, Any

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.cache import Cache
from dcsim.models.denoiser import Denoiser, Latent, Numerics, Takes, widths_differ
from dcsim.models.encoder import Encoder
from dcsim.models.options import Option
from dcsim.models.parallel import ALONE, all_gather, check_execution
from dcsim.models.passes import Pass, Wave, layer
from dcsim.models.positions import axis_angles, grid_places
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, CountOrZero, Least, Positive, Unwritten
from dcsim.reading.forms import Number
from dcsim.spec import Layout

WIDE = "fp32"
IMAGE_EPS = 1e-5

CODE = Option(
    "diffusers",
    "Whose code it is: the `authors`' (Wan2.1@9737cba wan/modules/model.py) keeps q, k and the "
    "input of attention in float32 and turns q and k in float64.",
    ("diffusers", "authors"),
)

EXPERTS = Option(
    "resident",
    "Where the two networks are: both `resident`, or one (`switched`): each request has the first "
    "brought from the host's memory and, when it is past the boundary, the other in its place.",
    ("resident", "switched"),
)


SESSION = Option(
    "kept",
    "Of a clip that goes on from given frames: their keys and values lie in the host's memory "
    "(`kept`), or the frames are encoded and run through the network once more (`rebuilt`).",
    ("kept", "rebuilt"),
)


@dataclass
class Before:
    """The frames before those of a pass: how many, and what is kept of those that it sees."""

    frames: int
    cache: Cache


@dataclass(frozen=True)
class Wan(Denoiser):
    """Wan's video transformer."""

    tag = "wan"

    depth: Count
    """Blocks."""
    heads: Count
    ffn: Count
    """Width inside a feed-forward half."""
    head: Count = 128
    """Channels of a head."""
    patch: Annotated[tuple[Count, ...], Least(3)] = (1, 2, 2)
    """Latent frames, rows and columns of a patch."""
    channels: Count = 16
    text_width: Count = 4096
    experts: Count = 1
    """Networks of that size, of which each step needs one (Wan 2.2 A14B)."""
    boundary: Annotated[float, Number(above=0, high=1)] = 1.0
    """Share of the noise down to which the first of two experts goes."""
    shift: Positive = 1.0
    """How far the sampler's steps are shifted to where there is more noise."""
    each_token: bool = False
    """Every token has a timestep, and so a modulation, of its own (Wan 2.2 TI2V): its first frames
    may be brought."""
    masked: CountOrZero = 0
    """Channels of a mask that come with the latents of what is brought, beside those of the clip
    (I2V); 0: it takes none."""
    image_width: CountOrZero = 0
    """Of the encoding of an image, which is attended to as the text is (Wan 2.1 I2V)."""
    chunk: CountOrZero = 0
    """Latent frames that are denoised at once, with keys and values of those before (streaming); 0:
    all at once."""
    window: CountOrZero = 0
    """Latent frames whose keys and values a pass sees, its own among them; 0: all."""
    code: Annotated[str, Unwritten()] = "diffusers"
    """See `CODE`."""

    def check(self) -> None:
        if len(self.patch) != 3:
            raise ValueError("patch: needs 3 numbers")
        if self.window and not self.chunk < self.window:
            raise ValueError(f"window: {self.window} frames leave nothing beside {self.chunk}")
        if self.window % (self.chunk or 1):
            raise ValueError(f"window: {self.window} frames are not chunks of {self.chunk}")

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.heads * self.head

    @property
    def grain(self) -> Latent:
        return self.patch[0], self.patch[1], self.patch[2]

    @property
    def frames(self) -> bool:
        return True

    @property
    def blocks(self) -> int:
        return self.depth

    @property
    def copies(self) -> int:
        return self.experts

    @property
    def early(self) -> Fraction:
        # A step at share s has s x shift / (1 + (shift - 1) s) of the noise; the first is at s = 1,
        # each other 1 / steps below the one before.
        edge, shift = (
            Fraction(each).limit_denominator(10**6) for each in (self.boundary, self.shift)
        )
        return 1 - edge / (shift - (shift - 1) * edge)

    @property
    def axes(self) -> tuple[int, int, int]:
        """Channels of a head that turn with the frame, the row and the column."""
        side = 2 * (self.head // 6)
        return self.head - 2 * side, side, side

    @property
    def takes(self) -> Takes:
        if self.chunk:
            return "chunks"
        if self.masked:
            return "channels"
        return "frames" if self.each_token else "nothing"

    @property
    def shown(self) -> int:
        return self.masked + 2 * self.channels if self.masked else self.channels

    def encodes(self, given: int, frames: int) -> int:
        """With a mask the whole clip, blank after what is brought."""
        return frames if self.masked else given

    def brought(self, encoded: Tensor, latent: Latent) -> Tensor:
        """A mask of what is brought, then the latents."""
        if not self.masked:
            return encoded
        return ops.concat([_mask(encoded, self.masked), encoded], 1)

    def unfit(self, encoders: Sequence[Encoder]) -> str | None:
        wanted = [self.text_width, *([self.image_width] if self.image_width else [])]
        given = [each.out_width for each in encoders]
        if len(wanted) == 1 or len(given) != 2:
            return widths_differ("text_width:", sum(wanted), sum(given))
        return widths_differ("text_width:", wanted[0], given[0]) or widths_differ(
            "image_width:", wanted[1], given[1]
        )

    def options(self) -> Mapping[str, Option]:
        own = {"code": CODE}
        own |= {"experts": EXPERTS} if self.experts > 1 else {}
        return own | ({"session": SESSION} if self.chunk else {})

    def under(self, options: Mapping[str, Any]) -> Wan:
        return replace(self, code=options["code"])

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part, cells = self.width, self.width // tp, passes.elements(self.grain)
        yield from layer("embed", h, self.shown * cells)
        yield from layer("time.0", h, passes.TIME_WIDTH)
        yield from layer("time.1", h, h)
        yield from layer("modulation", 6 * h, h)
        yield from layer("text.0", h, self.text_width)
        yield from layer("text.1", h, h)
        if self.image_width:
            yield from passes.norm_shapes("image.norm1", self.image_width)
            yield from layer("image.0", self.image_width, self.image_width)
            yield from layer("image.1", h, self.image_width)
            yield from passes.norm_shapes("image.norm2", h)
        for i in range(self.depth):
            yield f"{i}.offset", (6, h)
            yield from passes.attention_shapes(f"{i}", h, part, norm=part)
            yield from passes.norm_shapes(f"{i}.norm", h)
            yield from passes.attention_shapes(f"{i}.cross", h, part, norm=part)
            if self.image_width:
                yield from layer(f"{i}.image.k", part, h)
                yield from layer(f"{i}.image.v", part, h)
                yield f"{i}.image.k_norm", (part,)
            yield from passes.mlp_shapes(f"{i}", h, self.ffn // tp)
        yield "final.offset", (2, h)
        yield from layer("final.out", self.channels * cells, h)

    def forward(
        self,
        w: Weights,
        latents: Tensor,
        steps: Array,
        condition: Sequence[Tensor],
        *,
        numerics: Numerics,
        layout: Layout = ALONE,
        guidance: float | None = None,
        before: Before | None = None,
    ) -> Tensor:
        """`before`: latents are of frames that follow others."""
        check_execution(latents.tape, layout)
        p, tape, batch = Pass(w, numerics, layout), latents.tape, latents.shape[0]
        frames, rows, columns = (n // g for n, g in zip(latents.shape[2:], self.grain, strict=True))
        x = passes.patchify(latents, self.grain, numerics.dtype, layout.sp)
        x = ops.cast(p.linear("embed", x), numerics.residual)
        start = np.array([0 if before is None else before.frames, 0, 0])
        wave = passes.rotary(
            tape,
            (1, x.shape[1], 1, self.head),
            lambda: axis_angles(
                grid_places(frames, rows, columns) + start,
                self.axes,
                10000.0,
            ),
        )
        tokens = x.shape[1] if self.each_token else 1
        told = steps.repeat(tokens)
        signal = passes.scalar(p, "time", told, batch * tokens, tape)
        six = p.linear("modulation", ops.silu(signal))
        text = [passes.two_layers(p, "text", condition[0], ops.gelu)]
        if self.image_width:
            text.append(_image(p, condition[1]))
        signal = signal.reshape(batch, tokens, self.width)
        six = six.reshape(batch, tokens, 6, self.width)

        block = partial(_block, self, p, six, text, wave, before)
        state = [x]
        del x
        repeated(tape, self.depth, lambda i, held: [block(i, held.pop())], state)
        ends = ops.add(signal.reshape(batch, tokens, 1, self.width), _offset(p, "final", 2))
        x = state.pop()
        x = _modulated(p, x, ends[:, :, 0], ends[:, :, 1])
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        return passes.unpatchify(x, latents.shape, self.grain, self.channels)


def _offset(p: Pass, name: str, count: int) -> Tensor:
    table = p.w[f"{name}.offset"]
    return table.reshape(1, 1, count, table.shape[1])


def _modulated(p: Pass, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`norm(x) * (1 + scale) + shift` in float32, given in the network's dtype."""
    return ops.cast(_modulated_wide(p, x, shift, scale), p.numerics.dtype)


def _modulated_wide(p: Pass, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    normal = ops.layer_norm(ops.cast(x, WIDE), p.eps, WIDE)
    return ops.add(ops.mul(normal, ops.affine(scale, 1.0, 1.0)), shift)


def _block(
    c: Wan,
    p: Pass,
    six: Tensor,
    text: Sequence[Tensor],
    wave: Wave,
    before: Before | None,
    i: int,
    x: Tensor,
) -> Tensor:
    kept = p.numerics.residual
    every = ops.add(_offset(p, f"{i}", 6), ops.cast(six, WIDE))
    shift, scale, gate, shift2, scale2, gate2 = (every[:, :, j] for j in range(6))
    if c.code == "authors":
        z = _authors_attention(c, p, i, _modulated_wide(p, x, shift, scale), wave)
    else:
        y = _modulated(p, x, shift, scale)
        z = _self_attention(c, p, i, y, wave, before)
    x = ops.cast(ops.add(ops.cast(x, WIDE), ops.mul(z, gate)), kept)

    weight, bias = p.w.linear(f"{i}.norm")
    wide = ops.cast(x, WIDE)
    y = ops.cast(ops.layer_norm_learned(wide, weight, bias, p.eps, WIDE), p.numerics.dtype)
    del wide
    z = _cross_attention(c, p, i, y, text)
    x = ops.add(x, z, dtype=kept)

    y = _modulated(p, x, shift2, scale2)
    f = passes.mlp(p, f"{i}", y)
    return ops.cast(ops.add(ops.cast(x, WIDE), ops.mul(ops.cast(f, WIDE), gate2)), kept)


def _normed(p: Pass, name: str, x: Tensor, heads: int) -> Tensor:
    """A norm across all heads, then the heads apart."""
    return passes.split_heads(ops.rms_norm(x, p.w[f"{name}_norm"], p.eps), heads)


def _self_attention(
    c: Wan, p: Pass, i: int, y: Tensor, wave: Wave, before: Before | None
) -> Tensor:
    heads = c.heads // p.layout.tp
    q, k, v = (p.linear(f"{i}.{part}", y) for part in ("q", "k", "v"))
    q = _normed(p, f"{i}.q", q, heads)
    k = _normed(p, f"{i}.k", k, heads)
    v = passes.split_heads(v, heads)
    q = wave.turned_in_halves(q)
    k = wave.turned_in_halves(k)
    if before is None:
        return passes.out(p, f"{i}.out", passes.attend(p, q, k, v))

    def joined(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = before.cache.after(i, k, v)
        return keys, values

    return passes.out(p, f"{i}.out", passes.attend(p, q, k, v, joined))


def _authors_attention(c: Wan, p: Pass, i: int, y: Tensor, wave: Wave) -> Tensor:
    """Under autocast: each product casts its input, norms with float32 weights widen."""
    heads, dtype = c.heads // p.layout.tp, p.numerics.dtype

    def normed(part: str) -> Tensor:
        x = p.linear(f"{i}.{part}", ops.cast(y, dtype))
        return passes.split_heads(ops.rms_norm(x, p.w[f"{i}.{part}_norm"], p.eps, WIDE), heads)

    q, k = normed("q"), normed("k")
    v = passes.split_heads(p.linear(f"{i}.v", ops.cast(y, dtype)), heads)
    turned_q, turned_k = wave.turned_in_double(q), wave.turned_in_double(k)
    narrow_q = ops.cast(turned_q, dtype)
    del turned_q
    narrow_k = ops.cast(turned_k, dtype)
    del turned_k
    return passes.out(p, f"{i}.out", passes.attend(p, narrow_q, narrow_k, v))


def _cross_attention(c: Wan, p: Pass, i: int, y: Tensor, text: Sequence[Tensor]) -> Tensor:
    """Every GPU has all of the text, so nothing is sent. To an image the same queries attend."""
    heads, name = c.heads // p.layout.tp, f"{i}.cross"
    words, *images = text
    q, k, v = p.linear(f"{name}.q", y), p.linear(f"{name}.k", words), p.linear(f"{name}.v", words)
    q = _normed(p, f"{name}.q", q, heads)
    k = _normed(p, f"{name}.k", k, heads)
    v = passes.split_heads(v, heads)
    seen = [_attended(p, q, *_of_image(p, i, image, heads)) for image in images]
    z = _attended(p, q, k, v)
    for each in seen:
        z = ops.add(z, each)
    return passes.out(p, f"{name}.out", z)


def _attended(p: Pass, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    z = softmax_attention(q, k, v, kernel=p.numerics.kernel)
    return z.reshape(*z.shape[:2], z.shape[2] * z.shape[3])


def _of_image(p: Pass, i: int, image: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Keys and values of the image's encoding."""
    k, v = p.linear(f"{i}.image.k", image), p.linear(f"{i}.image.v", image)
    return _normed(p, f"{i}.image.k", k, heads), passes.split_heads(v, heads)


def _image(p: Pass, encoding: Tensor) -> Tensor:
    """The encoding of an image as wide as the text's."""
    x = _normal(p, "image.norm1", encoding)
    x = passes.two_layers(p, "image", x, ops.erf_gelu)
    return _normal(p, "image.norm2", x)


def _normal(p: Pass, name: str, x: Tensor) -> Tensor:
    """A norm with weights, computed in float32."""
    weight, bias = p.w.linear(name)
    wide = ops.layer_norm_learned(ops.cast(x, WIDE), weight, bias, IMAGE_EPS, WIDE)
    return ops.cast(wide, x.dtype)


def _mask(encoded: Tensor, channels: int) -> Tensor:
    """One in all channels of the first latent frame, which the image is, zero in the others."""
    batch, _, frames, rows, columns = encoded.shape
    shape = (batch, channels, frames, rows, columns)

    def made() -> Array:
        found = np.zeros(shape, np.float32)
        found[:, :, 0] = 1
        return found

    return encoded.tape.run("mask", MEMORY, (), shape, encoded.dtype, made)
