"""Latent DiffiT: counts as published and by hand, and a PyTorch network of the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from public import copied, counted, drawn, randomised, relative

from dcsim import traces
from dcsim.models import get
from dcsim.models.denoiser import Numerics
from dcsim.models.denoisers.diffit import Diffit
from dcsim.models.options import ModelError
from dcsim.models.pipeline import Networks
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights, count
from dcsim.spec import Layout
from dcsim.traces import Clip, Record

H, DEPTH, HEADS = 1152, 28, 16


def network(name: str) -> Diffit:
    found = get(name).network
    assert isinstance(found, Networks)
    assert isinstance(found.denoiser, Diffit)
    return found.denoiser


@pytest.mark.parametrize(("name", "side"), [("diffit-256", 16), ("diffit-512", 32)])
def test_parameters_and_operations(name: str, side: int) -> None:
    """561M at 256 pixels, as published; by hand a block is 15 widths squared and a table of biases.

    114 GFLOP are published: the multiply-accumulates of its layers, without those of attention.
    """
    block = 15 * H * H + 12 * H + (2 * side - 1) ** 2 * HEADS
    ends = 16 * H + H + 256 * H + H + H * H + H + 1001 * H + H * 32 + 32
    params = count(network(name).parameters())
    assert params == DEPTH * block + ends
    record = traces.trace(name, {"cfg": "distilled"}).records["denoise"]
    n = side * side
    dense = DEPTH * (12 * H * H * n + 3 * H * H) + (16 + 32) * H * n + 256 * H + H * H
    assert record.total("flops", "dense") == 2 * dense
    assert record.total("flops", "attention") == 2 * DEPTH * 2 * H * n * n
    if side == 16:
        assert params == pytest.approx(561e6, rel=0.005)
        assert dense == pytest.approx(114e9, rel=0.01)


def test_layouts() -> None:
    alone = traces.trace("diffit-256").rows[0]
    for layout in (Layout(tp=2), Layout(sp=2), Layout(tp=2, sp=4)):
        row = traces.trace("diffit-256", None, None, layout).rows[0]
        assert row.attn_flops == alone.attn_flops
        assert alone.dense_flops <= row.dense_flops < 1.01 * alone.dense_flops
        assert row.comm_bytes > 0
    with pytest.raises(ModelError, match="does not divide 16 attention heads"):
        traces.trace("diffit-256", None, None, Layout(sp=32))
    with pytest.raises(ModelError, match="a bias of all pairs"):
        traces.trace("diffit-256", None, None, Layout(sp=2, ring=2))


def test_scores_are_held_but_in_a_fused_kernel() -> None:
    """256 patches: 16 x 256 x 256 scores of two bytes, without a bias and with it."""
    math, fused = (
        traces.trace("diffit-256", {"attention": kind, "cfg": "distilled"}).rows[0].peak
        for kind in ("math", "fused")
    )
    assert 1 < (math - fused) / (HEADS * 256 * 256 * 2) < 2
    with pytest.raises(ValueError, match="heads: 5 does not divide 16"):
        Diffit(1, 16, 5, 4, 10).check()


torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
nn, F = torch.nn, torch.nn.functional


class Attention(nn.Module):  # type: ignore[name-defined,misc]
    """The time token enters queries, keys and values; a learned bias for each relative place."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.told, self.qkv = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.bias = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        self.out = nn.Linear(width, width)
        at = torch.cartesian_prod(torch.arange(side), torch.arange(side))
        apart = at[:, None] - at[None] + side - 1
        self.register_buffer("places", apart[..., 0] * (2 * side - 1) + apart[..., 1])

    def forward(self, x: Any, signal: Any) -> Any:
        batch, n, width = x.shape
        told = self.told(signal)[:, None]
        qkv = told + self.qkv(x)
        q, k, v = qkv.reshape(batch, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * (width // self.heads) ** -0.5) @ k.transpose(-2, -1)
        bias = self.bias[self.places.flatten()].view(n, n, -1)
        scores = scores + bias.permute(2, 0, 1).contiguous()[None]
        scores = scores.softmax(-1)
        x = (scores @ v).transpose(1, 2).reshape(batch, n, width)
        return self.out(x)


class Mlp(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        x = self.up(x)
        x = F.gelu(x, approximate="tanh")
        return self.down(x)


class Block(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention, self.mlp = Attention(width, heads, side), Mlp(width)

    def forward(self, x: Any, signal: Any) -> Any:
        x = x + self.attention(self.norm(x), signal)
        return x + self.mlp(self.norm(x))


class Network(nn.Module):  # type: ignore[name-defined,misc]
    """The sinusoids of the timestep are given."""

    def __init__(self, c: Diffit) -> None:
        super().__init__()
        self.patch, self.side = c.patch, c.table
        self.embed = nn.Conv2d(c.channels, c.hidden, c.patch, c.patch)
        self.positions = nn.Parameter(torch.zeros(1, c.table**2, c.hidden), requires_grad=False)
        self.time = nn.Sequential(
            nn.Linear(256, c.hidden), nn.SiLU(), nn.Linear(c.hidden, c.hidden)
        )
        self.label = nn.Embedding(c.classes + 1, c.hidden)
        self.blocks = nn.ModuleList(Block(c.hidden, c.heads, c.table) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.hidden, elementwise_affine=False, eps=1e-6)
        self.out = nn.Linear(c.hidden, 2 * c.channels * c.patch**2)

    def forward(self, x: Any, sinusoids: Any, label: Any) -> Any:
        batch, channels = x.shape[:2]
        x = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        signal = self.time(sinusoids) + self.label(label)
        for block in self.blocks:
            x = block(x, signal)
        x = self.out(F.silu(self.norm(x)))
        x = x.reshape(batch, self.side, self.side, self.patch, self.patch, 2 * channels)
        edge = self.side * self.patch
        return torch.einsum("nhwpqc->nchpwq", x).reshape(batch, 2 * channels, edge, edge)


NAMES = (
    (r"^time\.1", "time.2"),
    (r"^label", "label.weight"),
    (r"^final\.", ""),
    (r"^(\d+)\.(told|qkv|bias|out)", r"\1.attention.\2"),
    (r"^(\d+)\.(up|down)", r"\1.mlp.\2"),
    (r"^(\d+)\.", r"blocks.\1."),
)
STEPS = np.array([17.0, 903.0])


@pytest.mark.torch
@pytest.mark.parametrize("kernel", ["fused", "math"])
def test_it_equals_the_network_in_pytorch(kernel: str) -> None:
    small = Diffit(2, 24, 3, 4, 10, channels=3)
    model = randomised(Network(small))
    with torch.no_grad():
        for block in model.blocks:
            block.attention.bias.mul_(5)
    for block in model.blocks:
        del block.attention._buffers["places"]
    arrays = copied(small, model, NAMES)
    for block in model.blocks:
        block.attention.register_buffer("places", Attention(24, 3, 4).places)
    latents, labels = drawn(2, 3, 8, 8), np.array([4, 10])
    turns = STEPS[:, None] * 10000.0 ** (-np.arange(128) / 128)
    waves = np.concatenate([np.cos(turns), np.sin(turns)], 1).astype(np.float32)
    with torch.no_grad():
        theirs = model(*(torch.from_numpy(each) for each in (latents, waves, labels)))
    tape = Tape(execute=True)
    ours = small.forward(
        Weights(tape, small.held(), "fp32", arrays),
        tape.tensor((2, 3, 1, 8, 8), "fp32", latents[:, :, None]),
        STEPS,
        [tape.tensor((2,), "int64", labels)],
        numerics=Numerics("fp32", "fp32", "fp32", kernel),
    )
    assert relative(ours.data[:, :, 0], theirs) < 1e-4


def test_another_size_is_computed_too() -> None:
    """Places further apart than the table has count as its farthest."""
    found = traces.trace("diffit-256", None, Clip(512, 256, 1, 1)).rows[0]
    assert found.tokens == 2 * 32 * 16
    small = Diffit(1, 24, 3, 2, 10)
    tape = Tape(execute=True)
    arrays = {name: drawn(*shape) for name, shape in small.held()}
    out = small.forward(
        Weights(tape, small.held(), "fp32", arrays),
        tape.tensor((1, 4, 1, 8, 4), "fp32", drawn(1, 4, 1, 8, 4)),
        STEPS[:1],
        [tape.tensor((1,), "int64", np.array([3]))],
        numerics=Numerics("fp32", "fp32", "fp32", "math"),
    )
    assert np.isfinite(out.data).all()


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("diffit-256", 32), ("diffit-512", 64)])
def test_at_full_size_it_holds_what_pytorch_holds(name: str, side: int) -> None:
    """One branch: parameters but for fixed positions, products, activations within 1 %."""
    c = network(name)

    def inputs() -> Any:
        return (
            torch.zeros(1, 4, side, side),
            torch.zeros(1, 256),
            torch.zeros(1, dtype=torch.int64),
        )

    theirs = counted(lambda: Network(c), inputs)
    tape = Tape()
    latents, label = tape.tensor((1, 4, 1, side, side), "bf16"), tape.tensor((1,), "int64")
    before = tape.live
    kept = Numerics(kernel="math")
    c.forward(Weights(tape, c.held(), "bf16"), latents, np.zeros(1), [label], numerics=kept)
    record = Record.of(tape)
    assert count(c.parameters()) + c.table**2 * c.hidden == theirs.params
    products = [int(flops) for flops in record.flops if flops]
    assert sorted(products) == sorted(theirs.products)
    assert products[3:] == theirs.products[3:]
    assert int(record.held.sum(axis=1).max()) - before == pytest.approx(theirs.peak, rel=0.01)
