"""Sora-class models: counts by hand, and a plain PyTorch network of the same description with the
same random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from public import copied, counted, counts, drawn, predicted, randomised, relative

from dcsim import traces
from dcsim.models import get
from dcsim.models.denoiser import Denoiser
from dcsim.models.denoisers.spacetime import Spacetime
from dcsim.models.options import ModelError
from dcsim.models.pipeline import Networks
from dcsim.models.tape import Array
from dcsim.spec import Layout
from dcsim.traces import Clip

SIZES = {
    "sora-class-4b": (28, 3072, 8192),
    "sora-class-10b": (32, 4096, 14336),
    "sora-class-30b": (48, 6144, 16384),
}
TEXT, CELLS = 4096, 16 * 2 * 2 * 2


def denoiser(name: str) -> Denoiser:
    network = get(name).network
    assert isinstance(network, Networks)
    return network.denoiser


@pytest.mark.parametrize("name", SIZES)
def test_parameters_by_hand(name: str) -> None:
    depth, h, ffn = SIZES[name]
    block = 4 * h * h + 4 * h * h + 3 * h * ffn  # attention, attention to the text, SwiGLU
    block += 6 * h + 3 * h + 4 * 128  # offsets of the modulation, norms, norms of heads
    ends = CELLS * h + h + 256 * h + h + h * h + h + 6 * h * h + 6 * h + TEXT * h + h
    ends += h + 2 * h + CELLS * h + CELLS
    assert get(name).params == depth * block + ends


def test_the_largest_is_of_movie_gens_size() -> None:
    """30B, as it is published; norms, embedders and what text encoders it joins are not."""
    assert get("sora-class-30b").params == pytest.approx(30e9, rel=0.025)


# Width, height and frames; patches of a clip, by hand.
CLIPS = [
    ((1280, 720, 241), 31 * 45 * 80),  # 61 latent frames, padded to 62
    ((720, 1280, 241), 31 * 45 * 80),
    ((768, 768, 253), 73_728),  # Movie Gen's, for 16 s of 16 frames
    ((2048, 2048, 1), 128 * 128),  # an image: one latent frame, padded to two
    ((1920, 1088, 481), 61 * 68 * 120),
    ((352, 1008, 97), 13 * 22 * 63),
]


@pytest.mark.parametrize(("clip", "tokens"), CLIPS)
def test_any_size_has_its_own_tokens(clip: tuple[int, int, int], tokens: int) -> None:
    """No crop and no bucket: the patches of a clip, of an image too, are all that is computed."""
    width, height, frames = clip
    found = traces.trace("sora-class-4b", None, Clip(width, height, frames, 2))
    row = next(row for row in found.rows if row.first)
    assert row.tokens == tokens
    depth, h, ffn = SIZES["sora-class-4b"]
    # Self-attention among the clip's own tokens, and to 512 of the text: 4 h a pair.
    assert row.attn_flops == depth * 4 * h * (tokens**2 + tokens * 512)
    token = depth * (4 * h * h + 2 * h * h + 3 * h * ffn) + 2 * CELLS * h
    of_text = depth * 2 * h * h + TEXT * h
    once = 256 * h + h * h + 6 * h * h
    assert row.dense_flops == 2 * (token * tokens + of_text * 512 + once)


def test_sides_that_no_patch_divides_are_refused() -> None:
    with pytest.raises(ModelError, match="height 1080 is not a multiple of 16"):
        traces.trace("sora-class-4b", None, Clip(1920, 1080, 241, 2))


def test_gpus_that_do_not_divide_it_are_refused() -> None:
    for layout, message in (
        (Layout(sp=16), "does not divide 24 attention heads"),
        (Layout(tp=3), "tp 3 does not divide the feed-forward width 8192"),
    ):
        with pytest.raises(ModelError, match=message):
            traces.trace("sora-class-4b", None, Clip(256, 256, 9, 2), layout)


# The network as it is described, in PyTorch.

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
nn, F = torch.nn, torch.nn.functional


def turned(x: Any, cos: Any, sin: Any) -> Any:
    """x (batch, tokens, heads, width) turned by pairs of neighbours, in float32."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    other = torch.stack([-b, a], -1).flatten(3)
    return (x.float() * cos + other.float() * sin).to(x.dtype)


class Attention(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q", "k", "v", "out"):
            setattr(self, name, nn.Linear(width, width, bias=False))
        self.q_norm, self.k_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))

    def forward(self, x: Any, text: Any = None, waves: Any = ()) -> Any:
        of = x if text is None else text
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1))
            for layer, y in ((self.q, x), (self.k, of), (self.v, of))
        )
        q = self.q_norm(q)
        k = self.k_norm(k)
        if waves:
            q = turned(q, *waves)
            k = turned(k, *waves)
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        z = F.scaled_dot_product_attention(q, k, v)
        return self.out(z.transpose(1, 2).flatten(2))


class Block(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(6, width))
        self.norm, self.cross_norm, self.ffn_norm = (nn.RMSNorm(width, eps=1e-6) for _ in range(3))
        self.attention, self.cross = Attention(width, heads), Attention(width, heads)
        self.gate, self.up = (nn.Linear(width, ffn, bias=False) for _ in range(2))
        self.down = nn.Linear(ffn, width, bias=False)

    def forward(self, x: Any, six: Any, text: Any, waves: Any) -> Any:
        shift, scale, gate, shift2, scale2, gate2 = (six + self.offset).chunk(6, 1)
        y = self.norm(x) * (1 + scale) + shift
        x = x + gate * self.attention(y, None, waves)
        y = self.cross_norm(x)
        x = x + self.cross(y, text)
        y = self.ffn_norm(x) * (1 + scale2) + shift2
        return x + gate2 * self.down(F.silu(self.gate(y)) * self.up(y))


class Network(nn.Module):  # type: ignore[name-defined,misc]
    """`waves` and the sinusoids of the timestep are given."""

    def __init__(self, c: Spacetime) -> None:
        super().__init__()
        h, self.patch = c.width, c.patch
        cells = c.channels * int(np.prod(c.patch))
        self.embed, self.text = nn.Linear(cells, h), nn.Linear(c.text_width, h)
        self.heard = nn.Linear(c.hears, h) if c.hears else None
        self.time = nn.Sequential(nn.Linear(256, h), nn.SiLU(), nn.Linear(h, h))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(h, 6 * h))
        self.blocks = nn.ModuleList(Block(h, c.heads, c.ffn) for _ in range(c.depth))
        self.norm, self.offset = nn.RMSNorm(h, eps=1e-6), nn.Parameter(torch.zeros(2, h))
        self.out = nn.Linear(h, cells)

    def forward(
        self, latents: Any, sinusoids: Any, text: Any, angles: Any, clip: Any = None
    ) -> Any:
        batch, channels, *sides = latents.shape
        (t, h, w), (pt, ph, pw) = (
            (n // p for n, p in zip(sides, self.patch, strict=True)),
            self.patch,
        )
        x = latents.reshape(batch, channels, t, pt, h, ph, w, pw)
        x = self.embed(x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(batch, t * h * w, -1))
        angles = angles[None, :, None]
        waves = (angles.cos(), angles.sin())
        signal = self.time(sinusoids)
        six = self.modulation(signal).unflatten(1, (6, -1))
        text = self.text(text)
        if self.heard is not None:
            text = torch.cat([text, self.heard(clip)], 1)
        for block in self.blocks:
            x = block(x, six, text, waves)
        shift, scale = (signal[:, None] + self.offset).chunk(2, 1)
        x = self.out(self.norm(x) * (1 + scale) + shift)
        x = x.reshape(batch, t, h, w, pt, ph, pw, channels).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(batch, channels, *sides)


NAMES = (
    (r"^time\.0", "time.0"),
    (r"^time\.1", "time.2"),
    (r"^modulation", "modulation.1"),
    (r"^final\.norm", "norm.weight"),
    (r"^final\.", ""),
    (r"\.cross\.norm", ".cross_norm.weight"),
    (r"\.ffn\.norm", ".ffn_norm.weight"),
    (r"^(\d+)\.norm", r"\1.norm.weight"),
    (r"^(\d+)\.(q|k|v|out|q_norm|k_norm)\b", r"\1.attention.\2"),
    (r"([qk]_norm)$", r"\1.weight"),
    (r"^(\d+)\.", r"blocks.\1."),
)
SMALL = Spacetime(2, 3, 40, head=16, channels=3, text_width=20, axes=(4, 6, 6), patch=(2, 1, 2))
STEPS = np.array([17.0, 903.0])


def waves_of(steps: Array) -> Any:
    rates = 10000.0 ** (-np.arange(128) / 128)
    turns = steps[:, None] * rates
    return torch.from_numpy(np.concatenate([np.cos(turns), np.sin(turns)], 1).astype(np.float32))


def angles_of(c: Spacetime, sides: tuple[int, ...]) -> Any:
    """Places of patches: frame, row, column, counted through each axis."""
    places = [(t, h, w) for t in range(sides[0]) for h in range(sides[1]) for w in range(sides[2])]
    rows = []
    for place in places:
        row: list[float] = []
        for at, width in zip(place, c.axes, strict=True):
            for j in range(0, width, 2):
                row += [at * c.theta ** (-j / width)] * 2
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.torch
@pytest.mark.parametrize("kernel", ["fused", "math"])
@pytest.mark.parametrize("sides", [(4, 3, 6), (2, 5, 2)])
def test_it_equals_the_network_in_pytorch(kernel: str, sides: tuple[int, int, int]) -> None:
    model = randomised(Network(SMALL))
    latents, text = drawn(2, 3, *sides), drawn(2, 5, 20, seed=4)
    grid = tuple(n // p for n, p in zip(sides, SMALL.patch, strict=True))
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(latents),
            waves_of(STEPS),
            torch.from_numpy(text),
            angles_of(SMALL, grid),
        )
    arrays = copied(SMALL, model, NAMES)
    ours = predicted(SMALL, arrays, latents, STEPS, (text,), kernel=kernel)
    assert relative(ours, theirs) < 1e-4


@pytest.mark.torch
@pytest.mark.parametrize("kernel", ["fused", "math"])
def test_what_listens_to_a_clip_equals_the_network_in_pytorch(kernel: str) -> None:
    """Seven latents of sound, told five words and shown nine patches of a clip."""
    small = replace(SMALL, patch=(1, 1, 1), axes=(16, 0, 0), hears=6)
    model = randomised(Network(small))
    latents, text, clip = drawn(2, 3, 7, 1, 1), drawn(2, 5, 20, seed=4), drawn(2, 9, 6, seed=5)
    words, tokens = torch.from_numpy(text), torch.from_numpy(clip)
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(latents), waves_of(STEPS), words, angles_of(small, (7, 1, 1)), tokens
        )
    arrays = copied(small, model, NAMES)
    ours = predicted(small, arrays, latents, STEPS, (text, clip), kernel=kernel)
    assert relative(ours, theirs) < 1e-4


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_at_full_size_it_holds_what_pytorch_holds(name: str) -> None:
    """720p, 10 s: parameters and products equal, activations within 1 %."""
    network = denoiser(name)
    assert isinstance(network, Spacetime)
    tokens = 31 * 45 * 80

    def inputs() -> Any:
        angles = torch.zeros(tokens, 128, dtype=torch.float32)
        return (
            torch.zeros(1, 16, 62, 90, 160),
            torch.zeros(1, 256),
            torch.zeros(1, 512, TEXT),
            angles,
        )

    theirs = counted(lambda: Network(network), inputs)
    ours = counts(network, (62, 90, 160), [(1, 512, TEXT)])
    assert (ours.params, ours.flops) == (theirs.params, theirs.flops)
    assert ours.products[3:] == theirs.products[3:]  # time before the patches, or after
    assert ours.peak == pytest.approx(theirs.peak, rel=0.01)


@pytest.mark.torch
@pytest.mark.slow
def test_at_full_size_what_listens_holds_what_pytorch_holds() -> None:
    """The head of a soundtrack of 10 s, beside 512 words and 111,600 patches of the clip."""
    model = get("sora-2-class").network
    assert isinstance(model, Networks)
    assert model.audio is not None
    head = model.audio.head
    assert isinstance(head, Spacetime)

    def inputs() -> Any:
        return (
            torch.zeros(1, 64, 217, 1, 1),
            torch.zeros(1, 256),
            torch.zeros(1, 512, TEXT),
            torch.zeros(217, 96, dtype=torch.float32),
            torch.zeros(1, 111_600, 128),
        )

    theirs = counted(lambda: Network(head), inputs)
    ours = counts(head, (217, 1, 1), [(1, 512, TEXT), (1, 111_600, 128)])
    assert (ours.params, ours.flops) == (theirs.params, theirs.flops)
    assert ours.peak == pytest.approx(theirs.peak, rel=0.01)
