"""What the passes of denoisers are built of: embedders, adaLN, attention, feed-forward halves.

As diffusers runs them in eager mode: every step makes a tensor, and a value lives until the last
name for it is gone. Blocks are written so that names live as long as they do there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np

from dcsim.models import ops
from dcsim.models.conv import conv
from dcsim.models.denoiser import Numerics
from dcsim.models.parallel import all_gather, all_reduce_, all_to_all, ring_attention
from dcsim.models.positions import timestep_embedding
from dcsim.models.repeat import repeated
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import MEMORY, Array, Shape, Tape, Tensor
from dcsim.models.weights import Weights
from dcsim.spec import Layout

TIME_WIDTH = 256


@dataclass(frozen=True)
class Pass:
    """One pass through a network: what all its parts need to know."""

    w: Weights
    numerics: Numerics
    layout: Layout
    eps: float = 1e-6

    def linear(self, name: str, x: Tensor) -> Tensor:
        """A layer by name, with its bias if it has one."""
        return ops.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def conv(self, name: str, x: Tensor, *, stride: int = 1) -> Tensor:
        """A convolution of images by name, with its bias if it has one."""
        weight, bias = self.w[f"{name}.conv"], self.w.get(f"{name}.bias")
        return conv(x, weight, bias, stride=(stride, stride))


def layer(name: str, out: int, width: int, *, bias: bool = True) -> Iterator[tuple[str, Shape]]:
    """The parameters of a linear layer."""
    yield f"{name}.weight", (out, width)
    if bias:
        yield f"{name}.bias", (out,)


def conv_layer(
    name: str, out: int, width: int, kernel: int, *, bias: bool = True
) -> Iterator[tuple[str, Shape]]:
    """The parameters of a convolution of images, which stay wide when weights are quantised."""
    yield f"{name}.conv", (out, width, kernel, kernel)
    if bias:
        yield f"{name}.bias", (out,)


def streams(
    tape: Tape,
    first: int,
    count: int,
    block: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]],
    state: list[Tensor],
) -> None:
    """`count` equal blocks of two streams, from block `first` on; `state` holds the streams."""

    def step(i: int, state: list[Tensor]) -> tuple[Tensor, Tensor]:
        a, b = state
        state.clear()
        return block(first + i, a, b)

    repeated(tape, count, step, state)


def norm_shapes(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    """The parameters of a norm that is learned."""
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


# Conditions


def scalar(
    p: Pass, name: str, values: Array, batch: int, tape: Tape, width: int = TIME_WIDTH
) -> Tensor:
    """A number a sample (a timestep) as a vector: `width` sinusoids through two layers."""
    wave = tape.run(
        "sinusoid",
        MEMORY,
        (),
        (batch, width),
        "fp32",
        lambda: timestep_embedding(values, width),
    )
    hidden = p.linear(f"{name}.0", ops.cast(wave, p.numerics.dtype))
    return p.linear(f"{name}.1", ops.silu(hidden))


def two_layers(p: Pass, name: str, x: Tensor, act: Callable[[Tensor], Tensor] = ops.silu) -> Tensor:
    """A projection of a text encoding: two layers."""
    return p.linear(f"{name}.1", act(p.linear(f"{name}.0", x)))


def modulation(p: Pass, name: str, signal: Tensor, count: int) -> tuple[Tensor, ...]:
    """`count` vectors (batch, width) that shift, scale or gate."""
    every = all_gather(p.linear(name, ops.silu(signal)), p.layout.tp, axis=-1)
    return every.chunk(count, -1)


def modulated(p: Pass, normal: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`normal * (1 + scale) + shift`; in the network's dtype."""
    batch, width = scale.shape
    gain = ops.affine(scale, 1.0, 1.0).reshape(batch, 1, width)
    moved = ops.add(ops.mul(normal, gain), shift.reshape(batch, 1, width))
    return ops.cast(moved, p.numerics.dtype)


def shifted(p: Pass, normal: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`modulated`, by what is broadcast already."""
    gain = ops.affine(scale, 1.0, 1.0)
    return ops.cast(ops.add(ops.mul(normal, gain), shift), p.numerics.dtype)


def normal(p: Pass, x: Tensor) -> Tensor:
    """Layer norm without parameters, in the dtype of modulation."""
    return ops.layer_norm(x, p.eps, p.numerics.modulation)


def gated(gate: Tensor, y: Tensor) -> Tensor:
    """`gate * y`, a gate (batch, width) for all tokens."""
    batch, width = gate.shape
    return ops.mul(gate.reshape(batch, 1, width), y)


def added(p: Pass, x: Tensor, y: Tensor) -> Tensor:
    """`x + y`, in the dtype of hidden states."""
    return ops.add(x, y, dtype=p.numerics.residual)


# Tokens


def patchify(latents: Tensor, patch: tuple[int, int, int], dtype: str, sp: int) -> Tensor:
    """Patches (batch, tokens of this GPU, channels x cells), the channel outermost."""
    batch, channels, frames, rows, columns = latents.shape
    pt, ph, pw = patch
    nt, nh, nw = frames // pt, rows // ph, columns // pw
    grid = ops.cast(latents, dtype).reshape(batch, channels, nt, pt, nh, ph, nw, pw)
    flat = (batch, nt * nh * nw, channels * pt * ph * pw)
    return share(ops.copy(grid.permute(0, 2, 4, 6, 1, 3, 5, 7), flat), sp)


def swapped(x: Tensor, batch: int) -> Tensor:
    """(batch x a, b, width) as (batch x b, a, width)."""
    many, inner, width = x.shape
    outer = many // batch
    grid = x.reshape(batch, outer, inner, width).permute(0, 2, 1, 3)
    return ops.copy(grid, (batch * inner, outer, width))


def share(x: Tensor, sp: int) -> Tensor:
    """The tokens of one of `sp` GPUs; the last share is padded where they do not divide."""
    return x if sp == 1 else x[:, : -(-x.shape[1] // sp)]


def unpatchify(
    x: Tensor, shape: Shape, patch: tuple[int, int, int], channels: int, *, last: bool = True
) -> Tensor:
    """(batch, channels, frames, rows, columns) of tokens; the channel innermost (or outermost) in
    a token. `shape` is that of the latents."""
    batch, _, frames, rows, columns = shape
    pt, ph, pw = patch
    nt, nh, nw = frames // pt, rows // ph, columns // pw
    x = x[:, : nt * nh * nw]
    if last:
        axes = (0, 7, 1, 4, 2, 5, 3, 6)
        grid = x.reshape(batch, nt, nh, nw, pt, ph, pw, channels)
    else:
        axes = (0, 4, 1, 5, 2, 6, 3, 7)
        grid = x.reshape(batch, nt, nh, nw, channels, pt, ph, pw)
    return ops.copy(grid.permute(*axes), (batch, channels, frames, rows, columns))


# Attention

Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values (batch, tokens, heads, width)."""


def projected(p: Pass, name: str, x: Tensor, heads: int, *, norm: bool = False) -> Heads:
    """q, k and v of a stream, on `heads` over the degree of tensor parallelism."""
    q, k, v = (
        split_heads(p.linear(f"{name}.{part}", x), heads // p.layout.tp) for part in ("q", "k", "v")
    )
    if norm:
        q, k = normed_heads(p, name, q, k)
    return q, k, v


def normed_heads(p: Pass, name: str, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Norms of the queries and keys of a head."""
    q = ops.rms_norm(q, p.w[f"{name}.q_norm"], p.eps)
    return q, ops.rms_norm(k, p.w[f"{name}.k_norm"], p.eps)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, heads, width)."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads)


def attend(
    p: Pass,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    joined: Callable[[Tensor, Tensor], tuple[Tensor, ...]] = lambda k, v: (k, v),
) -> Tensor:
    """Attention among the tokens of all GPUs: (batch, tokens, heads x width).

    q, k and v may have tokens of their own number, on each GPU its share of them. GPUs swap heads
    for tokens (Ulysses), and K and V go round (a ring); a stage of a pipeline that has a patch of
    the clip attends to what it had of the others in the last step too. `joined` adds keys and
    values of tokens before them (streaming).
    """
    n = p.layout.ulysses
    batch, tokens, heads, width = q.shape

    def every(x: Tensor) -> Tensor:
        return all_to_all(x, n, (batch, x.shape[1] * n, heads // n, x.shape[3]))

    mine = every(q)
    parts = joined(every(k), every(v))
    if (others := p.numerics.others) is not None:
        parts = others.joined(parts)
    y = attention_among(mine, parts, p.layout.ring, p.numerics.kernel)
    del mine, parts
    y = all_to_all(y, n, (batch, tokens, heads, width))
    return y.reshape(batch, tokens, heads * width)


def attention_among(q: Tensor, parts: tuple[Tensor, ...], ring: int, kernel: str) -> Tensor:
    """Attention of q to K and V of all GPUs of a ring."""
    return ring_attention(parts, ring, lambda part: softmax_attention(q, *part, kernel=kernel))


def dense(x: Tensor) -> Tensor:
    """A part of the tokens as a matrix product needs it: copied where a batch makes it other than
    contiguous."""
    return x if x.shape[0] == 1 else ops.copy(x)


@dataclass(frozen=True)
class Wave:
    """Rotations of pairs of neighbouring channels, for each token."""

    parts: tuple[Tensor, ...]
    """Cosines and sines, or complex numbers, (1, tokens, 1, channels) of float32."""

    def turned(self, x: Tensor) -> Tensor:
        """x (batch, tokens, heads, width) rotated, in float32 and back."""
        if len(self.parts) == 1:
            return _turned_complex(x, self.parts[0])
        cos, sin = self.parts
        other = ops.pointwise("turn", _other, x)
        wide = ops.mul(ops.cast(x, "fp32"), cos)
        return ops.cast(ops.add(wide, ops.mul(ops.cast(other, "fp32"), sin)), x.dtype)

    def turned_in_halves(self, x: Tensor) -> Tensor:
        """The same, each half of the pairs by itself, in the dtype of x as Wan does."""
        cos, sin = self.parts
        pairs = (*x.shape[:-1], x.shape[-1] // 2, 2)
        a, b = (x.reshape(*pairs)[..., j] for j in range(2))
        cos, sin = cos[..., 0::2], sin[..., 0::2]
        blank = np.empty(x.shape, np.float32) if x.tape.execute else None
        out = x.tape.tensor(x.shape, x.dtype, blank)
        halves = out.reshape(*pairs)
        first = ops.sub(ops.mul(a, cos), ops.mul(b, sin))
        ops.write_(halves[..., 0], first, lambda _, new: new)
        del first
        second = ops.add(ops.mul(a, sin), ops.mul(b, cos))
        ops.write_(halves[..., 1], second, lambda _, new: new)
        return out

    def turned_in_double(self, x: Tensor) -> Tensor:
        """The same as complex numbers of float64, token by token of a list, as Wan's authors do:
        the numbers, their product, joined with the padding, stacked, and back to float32."""
        cos, sin = self.parts

        def turn(a: Array, cos: Array, sin: Array) -> Array:
            out: Array = a * cos + _other(a) * sin
            return out

        wide = ops.cast(x, "fp64")
        wide = ops.pointwise("turn", turn, wide, cos, sin, dtype="fp64")
        joined = ops.copy(wide)
        del wide
        stacked = ops.copy(joined)  # the list is there until the end
        return ops.cast(stacked, "fp32")


def _other(x: Array) -> Array:
    """Each pair turned by a right angle."""
    out = np.empty_like(x)
    out[..., 0::2], out[..., 1::2] = -x[..., 1::2], x[..., 0::2]
    return out


def _turned_complex(x: Tensor, wave: Tensor) -> Tensor:
    def turn(a: Array, turns: Array) -> Array:
        cos, sin = turns[..., 0::2], turns[..., 1::2]
        out = np.empty_like(a)
        out[..., 0::2] = a[..., 0::2] * cos - a[..., 1::2] * sin
        out[..., 1::2] = a[..., 0::2] * sin + a[..., 1::2] * cos
        return out

    return ops.cast(ops.pointwise("turn", turn, ops.cast(x, "fp32"), wave), x.dtype)


def rotary(tape: Tape, shape: Shape, angles: Callable[[], Array]) -> Wave:
    """Rotations by `angles` (tokens, channels), alike for pairs of neighbours."""
    return Wave(
        tuple(
            tape.run("rotary", MEMORY, (), shape, "fp32", partial(_places, angles, of))
            for of in (np.cos, np.sin)
        )
    )


def rotary_complex(tape: Tape, shape: Shape, angles: Callable[[], Array]) -> Wave:
    """The same as complex numbers."""

    def both() -> Array:
        turns = angles()
        turns[:, 0::2], turns[:, 1::2] = np.cos(turns[:, 0::2]), np.sin(turns[:, 1::2])
        return _places(lambda: turns, np.asarray)

    return Wave((tape.run("rotary", MEMORY, (), shape, "fp32", both),))


def _places(angles: Callable[[], Array], of: Callable[[Array], Array]) -> Array:
    return of(angles()).astype(np.float32)[None, :, None]


def out(p: Pass, name: str, x: Tensor) -> Tensor:
    """The layer that mixes the heads; each GPU of a tensor-parallel group has a part of the sum."""
    return summed(p, p.linear(name, x))


def summed(p: Pass, y: Tensor) -> Tensor:
    """The sum of what the GPUs of a tensor-parallel group have of it."""
    all_reduce_(y, p.layout.tp)
    return y


def mlp(p: Pass, name: str, x: Tensor, act: Callable[[Tensor], Tensor] = ops.gelu) -> Tensor:
    """The feed-forward half: up, activation, down."""
    hidden = p.linear(f"{name}.up", x)
    hidden = act(hidden)
    return out(p, f"{name}.down", hidden)


def mlp_shapes(name: str, hidden: int, inner: int) -> Iterator[tuple[str, Shape]]:
    """Parameters of `mlp`; `inner` is of this GPU."""
    yield from layer(f"{name}.up", inner, hidden)
    yield from layer(f"{name}.down", hidden, inner)


def attention_shapes(
    name: str, width: int, part: int, *, norm: int = 0, back: bool = True, bias: bool = True
) -> Iterator[tuple[str, Shape]]:
    """Parameters of `projected` and `out`: `part` channels on this GPU, norms of `norm`."""
    for each in ("q", "k", "v"):
        yield from layer(f"{name}.{each}", part, width, bias=bias)
    if norm:
        yield f"{name}.q_norm", (norm,)
        yield f"{name}.k_norm", (norm,)
    if back:
        yield from layer(f"{name}.out", width, part, bias=bias)


def elements(patch: tuple[int, int, int]) -> int:
    """Cells of a patch."""
    return prod(patch)
