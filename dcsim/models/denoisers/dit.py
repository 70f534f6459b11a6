"""The reference diffusion transformer, after Peebles & Xie, "Scalable Diffusion Models with
Transformers" (2023): patchify, adaLN-Zero blocks, unpatchify.

One network serves images (patches 1 x p x p of one frame, conditioned on a class) and video
(spacetime patches, conditioned on text through cross-attention as in PixArt-alpha).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Annotated, Any, Literal

import numpy as np

from dcsim.models import ops
from dcsim.models.denoiser import Denoiser, Latent, Numerics
from dcsim.models.options import Option
from dcsim.models.parallel import (
    ALONE,
    all_gather,
    all_reduce_,
    all_to_all,
    check_execution,
)
from dcsim.models.passes import attention_among
from dcsim.models.positions import grid_positions, timestep_embedding
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import MEMORY, Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, Least, Positive, Unwritten
from dcsim.spec import Layout

TIME_WIDTH = 256

EMBEDDERS = Option(
    "one",
    "Timestep and label embedders: one, or one a `block` as in diffusers' DiT.",
    ("one", "block"),
)


@dataclass(frozen=True)
class Dit(Denoiser):
    """A diffusion transformer with adaLN, conditioned on a class or by cross-attention on text."""

    tag = "dit"

    depth: Count
    """Blocks."""
    hidden: Count
    heads: Count
    patch: Annotated[tuple[Count, Count, Count], Least(3)]
    """Latent frames, rows and columns of a patch."""
    channels: Count = 4
    """Latent channels in."""
    out_channels: Count = 8
    """Channels out: twice the latent's where the variance is learned."""
    classes: Count | None = None
    """Classes of the label condition (one more row stands for "none"); none without."""
    text_width: Count | None = None
    """Width of the text encoder's output; none without text."""
    modulation: Literal["block", "shared"] = "block"
    """`block`: an adaLN layer in each block (DiT). `shared`: one for all, and a learned offset
    in each block (PixArt-alpha)."""
    video: bool = False
    ratio: Count = 4
    """Width of the MLP over `hidden`."""
    eps: Positive = 1e-6
    guidance: Annotated[bool, Unwritten()] = False
    """A guidance embedding beside the timestep's (guidance-distilled models)."""
    embedders: Annotated[str, Unwritten()] = "one"
    """See `EMBEDDERS` (the same FLOPs but for 11 % more weights)."""
    time_shift: Annotated[int, Unwritten()] = 0
    """See `timestep_embedding`."""

    def check(self) -> None:
        if len(self.patch) != 3:
            raise ValueError(f"patch: {len(self.patch)} numbers; frames, rows and columns")
        if self.hidden % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide {self.hidden}")

    @property
    def grain(self) -> Latent:
        return self.patch

    @property
    def frames(self) -> bool:
        return self.video

    @property
    def blocks(self) -> int:
        return self.depth

    @property
    def cut(self) -> tuple[str, ...]:
        return ("depth",)

    @property
    def width(self) -> int:
        return self.hidden

    @property
    def labelled(self) -> bool:
        return self.classes is not None

    def options(self) -> Mapping[str, Option]:
        return {"embedders": EMBEDDERS}

    def under(self, options: Mapping[str, Any]) -> Dit:
        guided = options["cfg"] == "distilled"
        return replace(self, guidance=guided, embedders=options["embedders"])

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        """See `Denoiser`. Positions are fixed and computed, so not among them."""
        c = self

        def layer(name: str, out: int, width: int) -> Iterator[tuple[str, Shape]]:
            yield f"{name}.weight", (out, width)
            yield f"{name}.bias", (out,)

        h, part = c.hidden, c.hidden // tp
        yield from layer("embed", h, c.channels * prod(c.patch))
        for prefix in [f"{i}." for i in range(c.depth)] if c.embedders == "block" else [""]:
            for name in ("time", "guidance") if c.guidance else ("time",):
                yield from layer(f"{prefix}{name}.0", h, TIME_WIDTH)
                yield from layer(f"{prefix}{name}.1", h, h)
            if c.classes is not None:
                yield f"{prefix}label", (c.classes + 1, h)
        if c.text_width is not None:
            yield from layer("text.0", h, c.text_width)
            yield from layer("text.1", h, h)
        if c.modulation == "shared":
            yield from layer("modulation", 6 * part, h)
        for i in range(c.depth):
            block = f"{i}"
            if c.modulation == "block":
                yield from layer(f"{block}.modulation", 6 * part, h)
            else:
                yield f"{block}.offset", (6 * h,)
            yield from layer(f"{block}.qkv", 3 * part, h)
            yield from layer(f"{block}.out", h, part)
            if c.text_width is not None:
                yield from layer(f"{block}.cross.q", part, h)
                yield from layer(f"{block}.cross.kv", 2 * part, h)
                yield from layer(f"{block}.cross.out", h, part)
            yield from layer(f"{block}.up", c.ratio * part, h)
            yield from layer(f"{block}.down", h, c.ratio * part)
        yield from layer("final.modulation", 2 * h, h)
        yield from layer("final.out", c.out_channels * prod(c.patch), h)

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
    ) -> Tensor:
        c, given = self, condition[0]
        check_execution(latents.tape, layout)
        dtype = numerics.dtype

        def embed(prefix: str) -> Tensor:
            return _condition(c, w, prefix, latents, steps, given, dtype, guidance)

        per_block = c.embedders == "block"
        signal = embed("0." if per_block else "")
        text = None
        if c.text_width is not None:
            text = ops.linear(given, *w.linear("text.0"))
            text = ops.linear(ops.gelu(text), *w.linear("text.1"))
        shared = None
        if c.modulation == "shared":
            shared = all_gather(
                ops.linear(ops.silu(signal), *w.linear("modulation")), layout.tp, axis=-1
            )
        x = _patchify(c, w, latents, dtype, layout.sp)
        x = ops.cast(x, numerics.residual)

        def block(i: int, state: list[Tensor]) -> list[Tensor]:
            x, *before = state
            state.clear()
            if not per_block:
                return [_block(c, w, f"{i}", x, signal, shared, text, numerics, layout)]
            mine = embed(f"{i}.")
            before.clear()
            return [_block(c, w, f"{i}", x, mine, shared, text, numerics, layout), mine]

        state = [x]
        del x
        repeated(latents.tape, c.depth, block, state)
        x = state.pop(0)
        shift, scale = ops.linear(ops.silu(signal), *w.linear("final.modulation")).chunk(2, -1)
        x = _modulated(c, x, shift, scale, numerics)
        x = ops.linear(x, *w.linear("final.out"))
        x = all_gather(x, layout.sp, axis=1)
        return _unpatchify(c, x, latents.shape)


def _embed_scalar(c: Dit, w: Weights, like: Tensor, name: str, values: Array, dtype: str) -> Tensor:
    wave = like.tape.run(
        "sinusoid",
        MEMORY,
        (),
        (like.shape[0], TIME_WIDTH),
        "fp32",
        lambda: timestep_embedding(values, TIME_WIDTH, c.time_shift),
    )
    hidden = ops.linear(ops.cast(wave, dtype), *w.linear(f"{name}.0"))
    return ops.linear(ops.silu(hidden), *w.linear(f"{name}.1"))


def _condition(
    c: Dit,
    w: Weights,
    prefix: str,
    latents: Tensor,
    steps: Array,
    condition: Tensor,
    dtype: str,
    guidance: float | None,
) -> Tensor:
    """The vector that modulates a block, (batch, hidden)."""
    signal = _embed_scalar(c, w, latents, f"{prefix}time", steps, dtype)
    if c.guidance:
        strength = np.full(latents.shape[0], 1000.0 * (guidance or 1.0), np.float32)
        extra = _embed_scalar(c, w, latents, f"{prefix}guidance", strength, dtype)
        signal = ops.add(signal, extra)
    if c.classes is not None:
        signal = ops.add(signal, ops.embedding(w[f"{prefix}label"], condition, dtype))
    return signal


def _patchify(c: Dit, w: Weights, latents: Tensor, dtype: str, sp: int) -> Tensor:
    """Tokens (batch, tokens on this GPU, hidden), positions added."""
    batch, channels, frames, rows, columns = latents.shape
    pt, ph, pw = c.patch
    nt, nh, nw = frames // pt, rows // ph, columns // pw
    grid = ops.cast(latents, dtype).reshape(batch, channels, nt, pt, nh, ph, nw, pw)
    patches = ops.copy(
        grid.permute(0, 2, 4, 6, 1, 3, 5, 7), (batch, nt * nh * nw, channels * pt * ph * pw)
    )
    if sp > 1:
        # Ranks hold equal shares; the last is padded where the tokens do not divide.
        share = -(-patches.shape[1] // sp)
        patches = patches[:, :share]
    x = ops.linear(patches, *w.linear("embed"))
    del grid, patches
    return ops.pointwise(
        "positions", lambda d: d + grid_positions(nt, nh, nw, c.hidden, c.video), x
    )


def _unpatchify(c: Dit, x: Tensor, shape: Shape) -> Tensor:
    batch, _, frames, rows, columns = shape
    pt, ph, pw = c.patch
    nt, nh, nw = frames // pt, rows // ph, columns // pw
    grid = x[:, : nt * nh * nw].reshape(batch, nt, nh, nw, pt, ph, pw, c.out_channels)
    return ops.copy(
        grid.permute(0, 7, 1, 4, 2, 5, 3, 6), (batch, c.out_channels, frames, rows, columns)
    )


def _modulated(c: Dit, x: Tensor, shift: Tensor, scale: Tensor, n: Numerics) -> Tensor:
    """`norm(x) * (1 + scale) + shift`, in the modulation's dtype and then the network's."""
    batch, width = scale.shape
    gain = ops.affine(scale, 1.0, 1.0).reshape(batch, 1, width)
    normal = ops.layer_norm(x, c.eps, n.modulation)
    normal = ops.add(ops.mul(normal, gain), shift.reshape(batch, 1, width))
    return ops.cast(normal, n.dtype)


def _block(
    c: Dit,
    w: Weights,
    name: str,
    x: Tensor,
    signal: Tensor,
    shared: Tensor | None,
    text: Tensor | None,
    n: Numerics,
    layout: Layout,
) -> Tensor:
    batch = x.shape[0]
    if shared is None:
        six = ops.linear(ops.silu(signal), *w.linear(f"{name}.modulation"))
        six = all_gather(six, layout.tp, axis=-1)
    else:
        six = ops.add(shared, w[f"{name}.offset"].reshape(1, 6 * c.hidden))
    shift1, scale1, gate1, shift2, scale2, gate2 = six.chunk(6, -1)

    y = _modulated(c, x, shift1, scale1, n)
    y = _self_attention(c, w, name, y, n, layout)
    x = ops.add(x, ops.mul(gate1.reshape(batch, 1, c.hidden), y), dtype=n.residual)
    if text is not None:
        y = _cross_attention(c, w, name, ops.cast(x, n.dtype), text, n, layout)
        x = ops.add(x, y, dtype=n.residual)
    y = _modulated(c, x, shift2, scale2, n)
    y = ops.linear(y, *w.linear(f"{name}.up"))
    y = ops.linear(ops.gelu(y), *w.linear(f"{name}.down"))
    all_reduce_(y, layout.tp)
    return ops.add(x, ops.mul(gate2.reshape(batch, 1, c.hidden), y), dtype=n.residual)


def _self_attention(
    c: Dit, w: Weights, name: str, x: Tensor, n: Numerics, layout: Layout
) -> Tensor:
    batch, tokens, _ = x.shape
    heads, width = c.heads // layout.tp, c.hidden // c.heads
    qkv = ops.linear(x, *w.linear(f"{name}.qkv")).reshape(batch, tokens, 3, heads, width)
    swapped = layout.ulysses
    every = (batch, tokens * swapped, heads // swapped, width)
    q, k, v = (all_to_all(qkv[:, :, i], swapped, every) for i in range(3))
    if swapped > 1:
        del qkv
    parts: tuple[Tensor, ...] = (k, v)
    if n.others is not None:
        parts = n.others.joined(parts)
    del k, v
    y = attention_among(q, parts, layout.ring, n.kernel)
    del q, parts
    y = all_to_all(y, swapped, (batch, tokens, heads, width))
    y = ops.linear(y.reshape(batch, tokens, heads * width), *w.linear(f"{name}.out"))
    all_reduce_(y, layout.tp)
    return y


def _cross_attention(
    c: Dit, w: Weights, name: str, x: Tensor, text: Tensor, n: Numerics, layout: Layout
) -> Tensor:
    batch, tokens, _ = x.shape
    heads, width = c.heads // layout.tp, c.hidden // c.heads
    q = ops.linear(x, *w.linear(f"{name}.cross.q")).reshape(batch, tokens, heads, width)
    kv = ops.linear(text, *w.linear(f"{name}.cross.kv"))
    kv = kv.reshape(batch, text.shape[1], 2, heads, width)
    y = softmax_attention(q, kv[:, :, 0], kv[:, :, 1], kernel=n.kernel)
    del q, kv
    y = ops.linear(y.reshape(batch, tokens, heads * width), *w.linear(f"{name}.cross.out"))
    all_reduce_(y, layout.tp)
    return y
