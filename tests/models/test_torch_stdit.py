"""Open-Sora 1.2's transformer against a plain PyTorch network of its description: same weights,
counts and lifetimes. Its own code needs einops, timm, xformers and flash-attn."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from public import Counts, copied, counts, drawn, predicted, randomised, relative

from dcsim.models.catalogue import get
from dcsim.models.denoiser import Numerics
from dcsim.models.denoisers.stdit import Stdit
from dcsim.models.pipeline import Networks
from dcsim.models.tape import CATEGORIES, Tape
from dcsim.models.weights import Weights
from dcsim.spec import Layout

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)

from dcsim.traces.torch import trace  # noqa: E402

pytestmark = pytest.mark.torch
nn, F = torch.nn, torch.nn.functional
Module: Any = nn.Module


class HeadNorm(Module):  # type: ignore[misc]
    """Llama's RMS norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Any) -> Any:
        kind = x.dtype
        x = x.float()
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * x.to(kind)


def turned(x: Any) -> Any:
    """Rotary positions of the second to last axis, neighbours in pairs."""
    n, width = x.shape[-2:]
    rates = 10000.0 ** (-torch.arange(0, width, 2).float() / width)
    angles = torch.outer(torch.arange(n).float(), rates).repeat_interleave(2, 1)
    pairs = x.unflatten(-1, (-1, 2))
    other = torch.stack((-pairs[..., 1], pairs[..., 0]), -1).flatten(-2)
    return (x.float() * angles.cos() + other.float() * angles.sin()).to(x.dtype)


class SelfAttention(Module):  # type: ignore[misc]
    def __init__(self, width: int, heads: int, along: bool) -> None:
        super().__init__()
        self.heads, self.along = heads, along
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm, self.k_norm = HeadNorm(width // heads), HeadNorm(width // heads)

    def forward(self, x: Any) -> Any:
        many, n, width = x.shape
        qkv = self.qkv(x).view(many, n, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q = self.q_norm(q)
        k = self.k_norm(k)
        if self.along:
            q = turned(q)
            k = turned(k)
        if n > many:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            q = q * (width // self.heads) ** -0.5
            scores = q @ k.transpose(-2, -1)
            scores = scores.float()
            scores = scores.softmax(-1)
            scores = scores.to(q.dtype)
            x = scores @ v
        return self.out(x.transpose(1, 2).reshape(many, n, width))


class CrossAttention(Module):  # type: ignore[misc]
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Any, text: Any) -> Any:
        batch, n, width = x.shape
        q = self.q(x).view(batch, n, self.heads, -1).transpose(1, 2)
        kv = self.kv(text).view(batch, -1, 2, self.heads, width // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).reshape(batch, n, width))


class Mlp(Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        x = self.up(x)
        x = F.gelu(x, approximate="tanh")
        return self.down(x)


class Block(Module):  # type: ignore[misc]
    def __init__(self, width: int, heads: int, along: bool) -> None:
        super().__init__()
        self.along = along
        self.norm = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.attn, self.cross = SelfAttention(width, heads, along), CrossAttention(width, heads)
        self.mlp = Mlp(width)
        self.table = nn.Parameter(torch.randn(6, width))

    def forward(self, x: Any, text: Any, six: Any, frames: int) -> Any:
        batch, tokens, width = x.shape
        shift, scale, gate, shift2, scale2, gate2 = (self.table[None] + six).chunk(6, 1)
        y = self.norm(x) * (1 + scale) + shift
        if self.along:
            y = y.view(batch, frames, -1, width).transpose(1, 2).reshape(-1, frames, width)
            y = self.attn(y)
            y = y.view(batch, -1, frames, width).transpose(1, 2).reshape(batch, tokens, width)
        else:
            y = y.view(batch * frames, -1, width)
            y = self.attn(y).view(batch, tokens, width)
        z = gate * y
        x = x + z
        x = x + self.cross(x, text)
        y = self.norm(x) * (1 + scale2) + shift2
        y = self.mlp(y)
        z = gate2 * y
        return x + z


def embedder() -> Any:
    def make(width: int) -> Any:
        return nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    return make


class Open(Module):  # type: ignore[misc]
    def __init__(self, depth: int, width: int, heads: int, text: int) -> None:
        super().__init__()
        self.embed = nn.Conv3d(4, width, (1, 2, 2), (1, 2, 2))
        self.time, self.fps = embedder()(width), embedder()(width)
        self.modulation = nn.Linear(width, 6 * width)
        self.text = nn.Sequential(nn.Linear(text, width), nn.GELU("tanh"), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads, bool(i % 2)) for i in range(2 * depth))
        self.norm = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.table, self.out = nn.Parameter(torch.randn(2, width)), nn.Linear(width, 32)

    def _wave(self, x: Any) -> Any:
        rates = torch.exp(-np.log(10000.0) * torch.arange(128).float() / 128)
        angles = x[:, None].float() * rates
        return torch.cat([angles.cos(), angles.sin()], 1).to(self.out.weight.dtype)

    def _places(self, rows: int, columns: int, height: int, width: int) -> Any:
        scale = (64.0 * height * width) ** 0.5 / 512
        base, half = round((rows * columns) ** 0.5), self.out.in_features // 2
        rates = 10000.0 ** (-torch.arange(0, half, 2).float() / half)

        def lines(n: int) -> Any:
            angles = torch.outer(torch.arange(n) / scale * (base / n), rates)
            return torch.cat([angles.sin(), angles.cos()], 1)

        across = lines(columns)[None].expand(rows, -1, -1)
        down = lines(rows)[:, None].expand(-1, columns, -1)
        return torch.cat([across, down], -1).reshape(rows * columns, -1).to(self.out.weight.dtype)

    def forward(self, x: Any, step: Any, text: Any, fps: Any) -> Any:
        batch, _, frames, height, width = x.shape
        rows, columns = height // 2, width // 2
        places = self._places(rows, columns, height, width)
        t = self.time(self._wave(step))
        t = t + self.fps(self._wave(fps))
        six = self.modulation(F.silu(t)).view(batch, 6, -1)
        text = self.text(text)
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = (x.unflatten(1, (frames, -1)) + places).flatten(1, 2)
        for block in self.blocks:
            x = block(x, text, six, frames)
        shift, scale = (self.table[None] + t[:, None]).chunk(2, 1)
        x = self.out(self.norm(x) * (1 + scale) + shift)
        x = x.view(batch, frames, rows, columns, 2, 2, 8).permute(0, 6, 1, 2, 4, 3, 5)
        return x.reshape(batch, 8, frames, height, width).float()


NAMES = (
    (r"^(\d+)\.", r"blocks.\1."),
    (r"^text\.1", "text.2"),
    (r"^(time|fps)\.1", r"\1.2"),
    (r"\.offset$", ".table"),
    (r"^final\.table", "table"),
    (r"^final\.out", "out"),
    (r"(blocks\.\d+)\.(qkv|out)\.", r"\1.attn.\2."),
    (r"\.(q|k)_norm$", r".attn.\1_norm.weight"),
    (r"\.(up|down)\.", r".mlp.\1."),
)
SMALL = Stdit(depth=2, heads=3, head=8, text_width=20)


@pytest.mark.parametrize("frames", [2, 7])
def test_stdit_equals_its_description(frames: int) -> None:
    """Two branches; within frames 12 places, along time seven frames, so in steps, and flash where
    a row is longer than there are rows."""
    model = randomised(Open(2, 24, 3, 20))
    latents, text = drawn(2, 4, frames, 6, 8), drawn(2, 5, 20, seed=4)
    steps = np.array([17.0, 903.0])
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(latents),
            torch.from_numpy(steps),
            torch.from_numpy(text),
            torch.full((2,), 24.0),
        )
    arrays = copied(SMALL, model, NAMES)
    arrays["negative"] = np.zeros((300, 20), np.float32)
    ours = predicted(SMALL, arrays, latents, steps, (text,))
    assert relative(ours, theirs) < 1e-4


def counted() -> Counts:
    """720p, 102 frames."""
    found = trace(
        lambda: (
            Open(28, 1152, 16, 4096).eval(),
            [
                torch.zeros(1, 4, 30, 90, 160),
                torch.zeros(1),
                torch.zeros(1, 300, 4096),
                torch.zeros(1),
            ],
        )
    )
    record = found.records["forward"]
    given = int(record.held[0, CATEGORIES.index("inputs")])
    products = [int(flops) for flops in record.flops if flops]
    peak = int(record.held.sum(axis=1).max()) - given
    return Counts(found.params, sum(products), peak, products)


@pytest.mark.slow
def test_open_sora_at_full_size() -> None:
    """Parameters and FLOPs to the last one, the most activations held within 1 %."""
    network = get("open-sora-1.2").network
    assert isinstance(network, Networks)
    ours, theirs = counts(network.denoiser, (30, 90, 160), [(1, 300, 4096)]), counted()
    assert (ours.params, ours.flops) == (theirs.params, theirs.flops)
    assert sorted(ours.products) == sorted(theirs.products)
    assert ours.peak == pytest.approx(theirs.peak, rel=0.01)


@pytest.mark.parametrize(("frames", "within", "along"), [(7, 0, 2), (12, 2, 2), (13, 2, 0)])
def test_scores_are_held_of_rows_no_longer_than_there_are(
    frames: int, within: int, along: int
) -> None:
    """12 places a frame: frames are rows within, places along time; two blocks of each."""
    tape = Tape()
    text = (tape.tensor((1, 5, 20), "bf16"),)
    latents = tape.tensor((1, 4, frames, 6, 8), "bf16")
    weights = Weights(tape, SMALL.held(), "bf16")
    SMALL.forward(weights, latents, np.zeros(1), text, numerics=Numerics())
    held = [int(e[7][0]) % 2 for e in tape.events if e[0] == "op" and e[1] == "scores"]
    assert (held.count(0), held.count(1)) == (within, along)


def test_gpus_share_places_and_heads() -> None:
    """Of 12 places of 7 frames on 3 GPUs each has four and, within frames, one of three heads."""
    tape = Tape()
    weights = Weights(tape, SMALL.held(), "bf16")
    latents = tape.tensor((1, 4, 7, 6, 8), "bf16")
    text = (tape.tensor((1, 5, 20), "bf16"),)
    numerics, layout = Numerics(), Layout(sp=3)
    SMALL.forward(weights, latents, np.zeros(1), text, numerics=numerics, layout=layout)
    sent = [e[6] for e in tape.events if e[0] == "op" and e[6]]
    # 7 x 4 places of 24 in bf16, two thirds of which go to others: q, k, v, what attention gives,
    # and q and the result of attention to the text; along time nothing.
    each = -(-2 * 7 * 4 * 24 * 2 // 3)
    assert sent == [each] * 12 + [2 * 7 * 4 * 32 * 2]
    assert SMALL.wrong(Layout(sp=2)) == "tp 1 x sp 2 does not divide 3 attention heads"
    assert (SMALL.wrong(Layout(sp=3, ring=3)) or "").startswith("ring 3: attention in steps")


def test_pairs_are_needed_to_turn() -> None:
    with pytest.raises(ValueError, match=re.escape("head: 7 of 4 heads has no pairs to turn")):
        Stdit(depth=1, heads=4, head=7).check()
