"""DiT, the VAE and T5 hold what public implementations hold: both traced at full published size,
ours by shape, theirs under fake tensors. The other denoisers: `test_torch_denoisers.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dcsim.models import coding, vae
from dcsim.models.catalogue import get
from dcsim.models.denoiser import Numerics
from dcsim.models.pipeline import Networks
from dcsim.models.tape import Tape
from dcsim.models.weights import Weights
from dcsim.traces import Record

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

from dcsim.traces.torch import Stage, trace  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
nn, F = torch.nn, torch.nn.functional


# The architecture of Peebles & Xie 2023 as its authors' code runs it: an embedder for all blocks,
# sums written as x + gate * f(x), no names for what lies between.


class PaperAttention(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).reshape(batch, tokens, width))


class PaperMlp(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.act = nn.GELU(approximate="tanh")

    def forward(self, x: Any) -> Any:
        x = self.up(x)
        x = self.act(x)
        return self.down(x)


def modulate(x: Any, shift: Any, scale: Any) -> Any:
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class PaperBlock(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention, self.mlp = PaperAttention(width, heads), PaperMlp(width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Any, signal: Any) -> Any:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(signal).chunk(6, 1)
        x = x + gate1.unsqueeze(1) * self.attention(modulate(self.norm(x), shift1, scale1))
        return x + gate2.unsqueeze(1) * self.mlp(modulate(self.norm(x), shift2, scale2))


class PaperDit(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self, side: int) -> None:
        super().__init__()
        width = 1152
        self.embed = nn.Conv2d(4, width, 2, 2)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(1001, width)
        self.register_buffer("places", torch.zeros(1, (side // 2) ** 2, width))
        self.blocks = nn.ModuleList(PaperBlock(width, 16) for _ in range(28))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.out = nn.Linear(width, 32)

    def forward(self, x: Any, wave: Any, label: Any) -> Any:
        batch, _, side, _ = x.shape
        x = self.embed(x).flatten(2).transpose(1, 2) + self.places
        signal = self.time(wave) + self.label(label)
        for block in self.blocks:
            x = block(x, signal)
        shift, scale = self.modulation(signal).chunk(2, 1)
        x = self.out(modulate(self.norm(x), shift, scale))
        x = x.reshape(batch, side // 2, side // 2, 2, 2, 8)
        return torch.einsum("nhwpqc->nchpwq", x).reshape(batch, 8, side, side)


def theirs(make: Callable[[], Any], **options: Any) -> Record:
    return trace(make, options).records["forward"]


def ours(
    name: str,
    latent: tuple[int, int, int],
    condition: list[tuple[tuple[int, ...], str]],
    options: dict[str, Any] | None = None,
    *,
    batch: int,
) -> Record:
    """A pass of a member of the catalogue."""
    found = get(name)
    network = found.built(found.resolve(options))
    assert isinstance(network, Networks)
    tape, denoiser = Tape(), network.denoiser
    latents = tape.tensor((batch, denoiser.channels, *latent), "bf16", category="inputs")
    given = [tape.tensor(shape, dtype, category="inputs") for shape, dtype in condition]
    weights = Weights(tape, denoiser.held(), "bf16")
    out = denoiser.forward(weights, latents, np.zeros(batch), given, numerics=Numerics())
    assert out.shape[0] == batch
    return Record.of(tape)


def peak(record: Record) -> int:
    return int(record.held.sum(axis=1).max())


def products(record: Record) -> list[int]:
    """FLOPs of every op that has any, in order."""
    return [int(flops) for flops in record.flops if flops]


def check(mine: Record, other: Record) -> None:
    """Peaks within 1 %, the same products in the same order."""
    assert peak(mine) == pytest.approx(peak(other), rel=0.01)
    assert products(mine) == products(other)


@pytest.mark.parametrize("side", [32, 64])
def test_dit_xl_2_is_the_papers(side: int) -> None:
    def make() -> Any:
        return PaperDit(side), (
            torch.zeros(2, 4, side, side),
            torch.zeros(2, 256),
            torch.zeros(2, dtype=torch.int64),
        )

    mine = ours("dit-xl-2", (1, side, side), [((2,), "int64")], batch=2)
    other = theirs(make)
    assert peak(mine) == pytest.approx(peak(other), rel=0.01)
    # Both embed time, then patches or patches, then time.
    assert sorted(products(mine)) == sorted(products(other))
    assert products(mine)[4:] == products(other)[4:]


def test_dit_xl_2_of_diffusers_holds_one_hidden_state_more() -> None:
    """Its block keeps a name for what attention gave until it ends, and computes as ours does."""

    def make() -> Any:
        model = diffusers.DiTTransformer2DModel(
            num_attention_heads=16,
            attention_head_dim=72,
            in_channels=4,
            out_channels=8,
            num_layers=28,
            sample_size=32,
            patch_size=2,
        )
        whole = torch.zeros(2, dtype=torch.int64)
        given = {"hidden_states": torch.zeros(2, 4, 32, 32), "timestep": whole}
        return model, {**given, "class_labels": whole}

    mine = ours("dit-xl-2", (1, 32, 32), [((2,), "int64")], {"embedders": "block"}, batch=2)
    other = theirs(make)
    state = 2 * 256 * 1152 * 2
    assert peak(mine) + state == pytest.approx(peak(other), rel=0.01)
    kept = [each for each in other.holdings if each.bytes // each.count == state]
    assert sum(each.count for each in kept) == 4
    # q, k and v are three products there.
    assert sum(products(mine)) == sum(products(other))


def test_the_vae_is_that_of_diffusers() -> None:
    """1024 x 1024, without the workspace that no lifetime shows."""

    def make() -> Any:
        model = diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        return Stage("forward", model.decode, torch.zeros(1, 4, 128, 128))

    network = get("dit-xl-2").network
    assert isinstance(network, Networks)
    tape = Tape()
    weights = Weights(tape, vae.parameters(network.vae), "bf16")
    pixels = coding.decode(network.vae, weights, tape.tensor((1, 4, 1, 128, 128), "bf16"))
    assert pixels.shape[1] == 3
    check(Record.of(tape), theirs(make))


def t5(tokens: int) -> Callable[[], Any]:
    transformers = pytest.importorskip("transformers", exc_type=ImportError)

    def make() -> Any:
        config = transformers.T5Config(
            vocab_size=32128,
            d_model=4096,
            d_kv=64,
            d_ff=10240,
            num_layers=24,
            num_heads=64,
            feed_forward_proj="gated-gelu",
        )
        ids = torch.zeros(1, tokens, dtype=torch.int64)
        return transformers.T5EncoderModel(config).eval(), {"input_ids": ids}

    return make


def test_t5_is_that_of_transformers() -> None:
    """Attention with its bias is one kernel, which is given a copy of the bias in each layer."""
    prompts = get("sd3-medium").network
    assert isinstance(prompts, Networks)
    encoder = next(each.encoder for each in prompts.prompts if each.name == "t5-xxl")
    tape = Tape()
    ids = tape.tensor((1, 512), "int64")
    assert encoder.encode(Weights(tape, encoder.parameters(), "bf16"), ids).pooled is None
    mine, fused = Record.of(tape), theirs(t5(512))
    check(mine, fused)
    pairs, state = 64 * 512 * 512 * 2, 512 * 4096 * 2
    assert peak(mine) == pytest.approx(2 * pairs + 7 * state, rel=0.01)  # bias, its copy
