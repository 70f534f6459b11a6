"""HDiT: counts by hand and as published, and a plain PyTorch network with the same weights, whose
compiled kernels and neighbourhood attention are one operation each."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from public import FP32, copied, counted, drawn, randomised, relative

from dcsim import traces
from dcsim.models import get
from dcsim.models.denoiser import Numerics
from dcsim.models.denoisers.hourglass import Hourglass, Level, told
from dcsim.models.neighbourhood import neighbourhood_attention
from dcsim.models.options import ModelError
from dcsim.models.pipeline import Networks
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights, count
from dcsim.spec import Layout
from dcsim.traces import Clip, Record

IMAGENET, FACES = "hdit-imagenet-256", "hdit-ffhq-1024"


def network(name: str) -> Hourglass:
    found = get(name).network
    assert isinstance(found, Networks)
    assert isinstance(found.denoiser, Hourglass)
    return found.denoiser


@pytest.mark.parametrize(("name", "published"), [(IMAGENET, 557e6), (FACES, 85e6)])
def test_parameters_are_those_published(name: str, published: float) -> None:
    """And, by hand, those of the blocks: 13 widths squared, two norms of the mapping's 256."""
    found = network(name)
    assert count(found.parameters()) == pytest.approx(published, rel=0.005)
    *fine, last = [(level.width, level.depth) for level in found.levels]
    layers = [(w, 2 * depth) for w, depth in fine] + [last]
    hand = sum(n * (13 * w * w + 2 * 256 * w + w // 64) for w, n in layers)
    widths = [w for w, _ in layers]
    hand += sum(8 * a * b + 1 for a, b in itertools.pairwise(widths))
    hand += 2 * 48 * widths[0] + widths[0] + 2 * 256**2 + 2 * 256
    hand += 2 * (256 + 9 * 256**2) + (1001 * 256 if name == IMAGENET else 0)
    assert count(found.parameters()) == hand


@pytest.mark.parametrize(
    ("name", "published", "sides"),
    [(IMAGENET, 198e9, (64, 32, 16)), (FACES, 206e9, (256, 128, 64, 32, 16))],
)
def test_operations_are_those_published(
    name: str, published: float, sides: tuple[int, ...]
) -> None:
    """Multiply-accumulates of a pass, which the paper prints as GFLOP: within 1 %, and by hand."""
    clip = get(name).request
    assert isinstance(clip, Clip)
    record = traces.trace(name, {"cfg": "distilled"}, clip).records["denoise"]
    found = network(name)
    dense = attention = 0
    for i, (level, side) in enumerate(zip(found.levels, sides, strict=True)):
        n, w = side * side, level.width
        last = i == len(sides) - 1
        times = level.depth * (1 if last else 2)
        dense += times * (13 * w * w * n + 2 * 256 * w)
        attention += times * 2 * w * n * (49 if level.neighbours else n)
        if not last:
            dense += 2 * 4 * w * found.levels[i + 1].width * n // 4
    dense += 2 * 48 * found.levels[0].width * sides[0] ** 2 + 2 * 256**2 + 2 * 9 * 256**2
    assert record.total("flops", "dense") == 2 * dense
    assert record.total("flops", "attention") == 2 * attention
    assert dense + attention == pytest.approx(published, rel=0.01)


def test_it_is_linear_in_the_pixels_but_for_its_coarse_levels() -> None:
    """Four times the pixels: four times the matrices and the neighbourhoods."""
    a, b = (
        traces.trace(IMAGENET, {"cfg": "distilled"}, Clip(side, side, 1, 1)).rows[0]
        for side in (256, 512)
    )
    assert b.dense_flops == pytest.approx(4 * a.dense_flops, rel=1e-3)
    near = sum(
        4 * 2 * w * (side // cell) ** 2 * 49 * 2
        for w, cell in ((384, 4), (768, 8))
        for side in (256,)
    )
    whole = 2 * 16 * 2 * 1536 * 256**2
    assert a.attn_flops == near + whole
    assert b.attn_flops == 4 * near + 16 * whole


def test_wide_and_small_images() -> None:
    """Sides are multiples of what the coarsest level takes, 4 x 2 x 2 pixels."""
    assert traces.trace(IMAGENET, None, Clip(512, 256, 1, 1)).rows[0].tokens == 2 * 32 * 16
    with pytest.raises(ModelError, match="width 264 is not a multiple of 16"):
        traces.trace(IMAGENET, None, Clip(264, 256, 1, 1))


def test_layouts_divide_the_heads_of_every_level() -> None:
    """6, 12 and 24 heads: 2, 3 or 6 GPUs. Rows are spread by sp, the last
    padded; merges and splits are not divided by tp."""
    alone = traces.trace(IMAGENET, None, None, Layout()).rows[0]
    for layout in (Layout(sp=2), Layout(tp=2), Layout(sp=3), Layout(tp=3, sp=2)):
        row = traces.trace(IMAGENET, None, None, layout).rows[0]
        more = 1.13 if layout.sp == 3 else 1.001  # 16 rows of the coarsest level in shares of 6
        assert alone.attn_flops <= row.attn_flops < more**2 * alone.attn_flops
        assert alone.dense_flops <= row.dense_flops < 1.06 * more * alone.dense_flops
        assert row.comm_bytes > 0
    with pytest.raises(ModelError, match="tp 4 x sp 1 does not divide 6 attention heads"):
        traces.trace(IMAGENET, None, None, Layout(tp=4))
    with pytest.raises(ModelError, match="neighbourhoods have no K and V"):
        traces.trace(IMAGENET, None, None, Layout(sp=2, ring=2))
    with pytest.raises(ModelError, match="tp 1 x sp 4 does not divide 2 attention heads"):
        traces.trace(FACES, None, None, Layout(sp=4))


def test_what_it_cannot_be() -> None:
    with pytest.raises(ModelError, match="'teacache' is not allowed"):
        traces.trace(IMAGENET, {"feature_cache": "teacache"})
    with pytest.raises(ValueError, match="head: 64 does not divide 96"):
        Hourglass((Level(1, 96),)).check()
    with pytest.raises(ValueError, match="head: 8 does not divide 12"):
        Hourglass((Level(1, 96),), head=12).check()


@pytest.mark.parametrize("kernel", ["fused", "math"])
@pytest.mark.parametrize(("grid", "side"), [((9, 8), 7), ((5, 6), 3), ((4, 9), 7)])
def test_a_query_sees_the_square_around_it(kernel: str, grid: tuple[int, int], side: int) -> None:
    """By loops; FLOPs of the pairs alone, and what is held of their scores."""
    rows, columns = grid
    n, heads, width = rows * columns, 2, 3
    q, k, v = (drawn(1, n, heads, width, seed=s) for s in range(3))
    tape = Tape(execute=True)
    ours = neighbourhood_attention(
        *(tape.tensor(each.shape, "bf16", each) for each in (q, k, v)), grid, side, kernel=kernel
    )
    want = np.zeros_like(q)
    for r in range(rows):
        for c in range(columns):
            top = min(max(r - side // 2, 0), max(rows - side, 0))
            left = min(max(c - side // 2, 0), max(columns - side, 0))
            near = [
                y * columns + x
                for y in range(top, min(top + side, rows))
                for x in range(left, min(left + side, columns))
            ]
            for h in range(heads):
                at = r * columns + c
                score = np.exp(q[0, at, h] @ k[0, near, h].T)
                want[0, at, h] = score / score.sum() @ v[0, near, h]
    np.testing.assert_allclose(ours.data, want, rtol=1e-4, atol=1e-5)
    seen = min(side, rows) * min(side, columns)
    flops = sum(event[3] for event in tape.events if event[0] == "op")
    assert flops == 4 * heads * width * n * seen
    most = max(sum(held) for _, held in tape.profile) - 4 * 512 * math.ceil(2 * n * 6 / 512)
    scores = 512 * math.ceil(heads * n * seen * 2 / 512)
    sums = 512 * math.ceil(4 * heads * n / 512)
    assert most == (sums if kernel == "fused" else 2 * scores)


# The network in PyTorch.

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
nn, F = torch.nn, torch.nn.functional


@torch.library.custom_op("dcsim_tests::scaled_rms", mutates_args=())
def scaled_rms(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x * scale * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


@torch.library.custom_op("dcsim_tests::geglu", mutates_args=())
def geglu(both: torch.Tensor) -> torch.Tensor:
    x, gate = both.chunk(2, -1)
    return x * F.gelu(gate)


@torch.library.custom_op("dcsim_tests::cosine", mutates_args=())
def cosine(
    q: torch.Tensor, k: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """q and k (batch, heads, tokens, width)."""

    def one(x: torch.Tensor) -> torch.Tensor:
        return x * scale.sqrt()[:, None, None] / (x.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()

    return one(q), one(k)


@torch.library.custom_op("dcsim_tests::turn_", mutates_args={"x"})
def turn_(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    part = cos.shape[-1]
    a, b, rest = x[..., :part], x[..., part : 2 * part], x[..., 2 * part :]
    x.copy_(torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1))


@torch.library.custom_op("dcsim_tests::near", mutates_args=())
def near(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, columns: int, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """By a mask of all pairs."""
    n = q.shape[2]
    rows = n // columns
    at = torch.arange(n)

    def seen(place: torch.Tensor, many: int) -> torch.Tensor:
        side_ = min(side, many)
        first = (place - side_ // 2).clamp(0, many - side_)
        return (place[None] >= first[:, None]) & (place[None] < first[:, None] + side_)

    mask = seen(at // columns, rows) & seen(at % columns, columns)
    scores = (q @ k.transpose(-1, -2)).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


scaled_rms.register_fake(lambda x, scale: torch.empty_like(x))
geglu.register_fake(lambda both: both.new_empty((*both.shape[:-1], both.shape[-1] // 2)))
cosine.register_fake(lambda q, k, scale: (q.new_empty(q.shape), k.new_empty(k.shape)))
turn_.register_fake(lambda x, cos, sin: None)
near.register_fake(
    lambda q, k, v, columns, side: (
        q.new_empty(q.shape),
        q.new_empty(q.shape[:-1], dtype=torch.float32),
    )
)


class Norm(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Any) -> Any:
        return scaled_rms(x, self.scale)


class AdaptiveNorm(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int, signal: int) -> None:
        super().__init__()
        self.linear = nn.Linear(signal, width, bias=False)

    def forward(self, x: Any, signal: Any) -> Any:
        return scaled_rms(x, self.linear(signal)[:, None, None] + 1)


class Attention(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int, head: int, signal: int, neighbours: int) -> None:
        super().__init__()
        self.head, self.neighbours = head, neighbours
        self.norm = AdaptiveNorm(width, signal)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.scale = nn.Parameter(torch.full([width // head], 10.0))
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Any, places: Any, signal: Any) -> Any:
        skip = x
        batch, rows, columns, width = x.shape
        x = self.norm(x, signal)
        qkv = self.qkv(x)
        q, k, v = qkv.reshape(batch, rows * columns, 3, -1, self.head).permute(2, 0, 3, 1, 4)
        rates = torch.linspace(math.log(math.pi), math.log(10 * math.pi), self.head // 8 + 1)
        turns = (places.flatten(0, 1)[:, :, None] * rates[:-1].exp()).flatten(1)
        cos, sin = turns.cos().to(x.dtype), turns.sin().to(x.dtype)
        more = 1.0 if self.neighbours else self.head**0.5
        q, k = cosine(q, k, self.scale * more)
        turn_(q, cos, sin)
        turn_(k, cos, sin)
        if self.neighbours:
            x = near(q, k, v, columns, self.neighbours)[0]
        else:
            x = F.scaled_dot_product_attention(q, k, v)
        x = x.transpose(1, 2).reshape(batch, rows, columns, width)
        x = self.out(x)
        return x + skip


class FeedForward(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int, signal: int = 0) -> None:
        super().__init__()
        self.norm = AdaptiveNorm(width, signal) if signal else Norm(width)
        self.up = nn.Linear(width, 6 * width, bias=False)
        self.down = nn.Linear(3 * width, width, bias=False)

    def forward(self, x: Any, *signal: Any) -> Any:
        skip = x
        x = self.norm(x, *signal)
        x = geglu(self.up(x))
        x = self.down(x)
        return x + skip


class Layer(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, level: Level, head: int, signal: int) -> None:
        super().__init__()
        self.attention = Attention(level.width, head, signal, level.neighbours)
        self.ffn = FeedForward(level.width, signal)

    def forward(self, x: Any, places: Any, signal: Any) -> Any:
        x = self.attention(x, places, signal)
        return self.ffn(x, signal)


class Run(nn.ModuleList):  # type: ignore[name-defined,misc]
    def forward(self, x: Any, *more: Any) -> Any:
        for each in self:
            x = each(x, *more)
        return x


def merged(x: Any, p: int) -> Any:
    batch, rows, columns, width = x.shape
    x = x.reshape(batch, rows // p, p, columns // p, p, width).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, rows // p, columns // p, p * p * width)


def split(x: Any, p: int) -> Any:
    batch, rows, columns, width = x.shape
    x = x.reshape(batch, rows, columns, p, p, -1).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, rows * p, columns * p, width // p**2)


class Network(nn.Module):  # type: ignore[name-defined,misc]
    """Features of the noise, and of augmentations that are none, are given."""

    def __init__(self, c: Hourglass) -> None:
        super().__init__()
        m, self.patch = c.mapping, c.patch
        widths = [level.width for level in c.levels]
        self.embed = nn.Linear(c.channels * c.patch**2, widths[0], bias=False)
        self.time, self.augment = (nn.Linear(m, m, bias=False) for _ in range(2))
        self.label = nn.Embedding(c.classes + 1, m) if c.classes else None
        self.in_norm, self.out_norm = Norm(m), Norm(m)
        self.mapping = nn.ModuleList(FeedForward(m) for _ in range(c.mapping_depth))

        def run(level: Level) -> Run:
            return Run(Layer(level, c.head, m) for _ in range(level.depth))

        self.down, self.up = (nn.ModuleList(map(run, c.levels[:-1])) for _ in range(2))
        self.mid = run(c.levels[-1])
        pairs = list(itertools.pairwise(widths))
        self.merges = nn.ModuleList(nn.Linear(4 * a, b, bias=False) for a, b in pairs)
        self.splits = nn.ModuleList(nn.Linear(b, 4 * a, bias=False) for a, b in pairs)
        self.skips = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in pairs)
        self.norm = Norm(widths[0])
        self.out = nn.Linear(widths[0], c.channels * c.patch**2, bias=False)

    def forward(self, x: Any, noise: Any, augmented: Any, label: Any = None) -> Any:
        x = merged(x.movedim(-3, -1), self.patch)
        x = self.embed(x)
        places = grid(x.shape[1], x.shape[2])
        signal = self.time(noise) + self.augment(augmented)
        if self.label is not None:
            signal = signal + self.label(label)
        signal = self.in_norm(signal)
        for each in self.mapping:
            signal = each(signal)
        signal = self.out_norm(signal)
        skips, kept = [], []
        for run, merge in zip(self.down, self.merges, strict=True):
            x = run(x, places, signal)
            skips.append(x)
            kept.append(places)
            x = merge(merged(x, 2))
            places = places.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).mean((1, 3))
        x = self.mid(x, places, signal)
        for i in reversed(range(len(skips))):
            x = split(self.splits[i](x), 2)
            x = torch.addcmul(x, skips[i], self.skips[i])
            x = self.up[i](x, kept[i], signal)
        x = self.norm(x)
        return split(self.out(x), self.patch).movedim(-1, -3)


def grid(rows: int, columns: int) -> Any:
    """Middles of cells of an image whose longer side is from -1 to 1."""
    down, across = (
        (torch.arange(n, dtype=torch.float32) + 0.5) * 2 / max(rows, columns)
        - n / max(rows, columns)
        for n in (rows, columns)
    )
    return torch.stack(torch.meshgrid(down, across, indexing="ij"), -1)


def names(c: Hourglass) -> tuple[tuple[str, Any], ...]:
    """Ours to those of the network, layers by their place."""
    runs = []
    for i, level in enumerate(c.levels[:-1]):
        runs += [f"down.{i}.{j}" for j in range(level.depth)]
    up = [run.replace("down", "up") for run in runs]
    order = [i for i, level in enumerate(c.levels[:-1]) for _ in range(level.depth)]
    runs += [f"mid.{j}" for j in range(c.levels[-1].depth)]
    back = sorted(range(len(up)), key=lambda at: -order[at])  # levels reversed, layers in order
    runs += [up[at] for at in back]
    return (
        (r"^label", "label.weight"),
        (r"^mapping\.(in|out)_norm", r"\1_norm.scale"),
        (r"^(mapping\.\d+\.norm)", r"\1.scale"),
        (r"^merge", "merges"),
        (r"^split", "splits"),
        (r"^skip", "skips"),
        (r"^final\.norm", "norm.scale"),
        (r"^final\.", ""),
        (r"^(\d+)\.norm", r"\1.attention.norm.linear"),
        (r"^(\d+)\.ffn\.norm", r"\1.ffn.norm.linear"),
        (r"^(\d+)\.(qkv|out|scale)", r"\1.attention.\2"),
        (r"^(\d+)\.(up|down)", r"\1.ffn.\2"),
        (r"^(\d+)\.", lambda found: f"{runs[int(found[1])]}."),
    )


SMALL = Hourglass(
    (Level(2, 16, 3), Level(1, 24), Level(3, 32)), patch=2, head=8, mapping=12, classes=5
)
PLAIN = Hourglass((Level(1, 16, 3), Level(2, 32)), patch=1, head=8, mapping=12, mapping_depth=1)
STEPS = np.array([170.0, 903.0])


@pytest.mark.torch
@pytest.mark.parametrize("kernel", ["fused", "math"])
@pytest.mark.parametrize(
    ("small", "sides"), [(SMALL, (16, 16)), (SMALL, (16, 32)), (SMALL, (32, 24)), (PLAIN, (6, 10))]
)
def test_it_equals_the_network_in_pytorch(
    small: Hourglass, sides: tuple[int, int], kernel: str
) -> None:
    model = randomised(Network(small))
    with torch.no_grad():  # scales of queries and keys are positive
        for name, each in model.named_parameters():
            if name.endswith("attention.scale"):
                each.copy_(each.abs() + 1)
    images, waves, labels = drawn(2, 3, *sides), drawn(6, 1, seed=8), np.array([4, 1])
    # Features of a number: cosines and sines of two pi times it and its waves.
    noise = np.log(STEPS / (1000 - STEPS)) / 4
    turns = torch.from_numpy((2 * np.pi * noise[:, None] @ waves.T).astype(np.float32))
    none = torch.cat([torch.ones(2, 6), torch.zeros(2, 6)], 1)
    label = torch.from_numpy(labels) if small.classes else None
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(images), torch.cat([turns.cos(), turns.sin()], 1), none, label
        )
    arrays = copied(small, model, names(small))
    # Ours have the channel outermost in a patch of the image, theirs innermost.
    p = small.patch
    inner = arrays["embed.weight"].reshape(-1, p, p, 3).transpose(0, 3, 1, 2)
    arrays["embed.weight"] = np.ascontiguousarray(inner).reshape(arrays["embed.weight"].shape)
    arrays["time.waves"], arrays["augment.waves"] = waves, drawn(6, 9, seed=9)
    tape = Tape(execute=True)
    ours = small.forward(
        Weights(tape, small.held(), "fp32", arrays),
        tape.tensor((2, 3, 1, *sides), "fp32", images[:, :, None]),
        STEPS,
        [tape.tensor((2,), "int64", labels)],
        numerics=Numerics("fp32", "fp32", "fp32", kernel) if kernel == "math" else FP32,
    )
    assert relative(ours.data[:, :, 0], theirs) < 1e-4


def test_noise_that_is_told_is_bounded() -> None:
    assert told(np.array([500.0, 1000.0, 0.0])).tolist() == pytest.approx(
        [0, math.log(160) / 4, math.log(0.01) / 4]
    )


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [(IMAGENET, 256), (FACES, 1024)])
def test_at_full_size_it_holds_what_pytorch_holds(name: str, side: int) -> None:
    """Parameters and matrix products equal, in order but for embedders; activations within 1 %."""
    c = network(name)

    def inputs() -> Any:
        given = [torch.zeros(1, 3, side, side), torch.zeros(1, 256), torch.zeros(1, 256)]
        return tuple([*given, torch.zeros(1, dtype=torch.int64)] if c.classes else given)

    theirs = counted(lambda: Network(c), inputs)
    tape = Tape()
    latents = tape.tensor((1, 3, 1, side, side), "bf16")
    label = tape.tensor((1,), "int64")
    before = tape.live
    weights = Weights(tape, c.held(), "bf16")
    c.forward(weights, latents, np.zeros(1), [label], numerics=Numerics())
    record = Record.of(tape)
    # What neighbourhood attention computes PyTorch does not know of.
    products = [
        int(flops)
        for flops, op in zip(record.flops, record.names, strict=True)
        if flops and op != "neighbourhood"
    ]
    assert count(c.parameters()) == theirs.params
    assert products == theirs.products
    assert int(record.held.sum(axis=1).max()) - before == pytest.approx(theirs.peak, rel=0.01)
