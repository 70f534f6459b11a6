"""The reference networks against the public PyTorch ones, random weights copied over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dcsim.models.catalogue import get
from dcsim.models.denoiser import Numerics
from dcsim.models.denoisers.dit import Dit
from dcsim.models.pipeline import Networks
from dcsim.models.tape import Array, Tape
from dcsim.models.weights import Weights

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SIZES = {"s": (12, 384, 6), "b": (12, 768, 12), "l": (24, 1024, 16), "xl": (28, 1152, 16)}


def public_dit(depth: int, heads: int, width: int, patch: int, side: int) -> Any:
    """`DiTTransformer2DModel` with the paper's epsilon in every norm."""
    torch.manual_seed(7)
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=width,
        in_channels=4,
        out_channels=8,
        num_layers=depth,
        sample_size=side,
        patch_size=patch,
        norm_eps=1e-6,
    ).eval()
    # The default initialisation leaves biases small and modulation near the identity.
    with torch.no_grad():
        for parameter in model.parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 16
            parameter.copy_(torch.randn_like(parameter) / fan**0.5)
    return model


def share_embedders(model: Any) -> None:
    """Give every block the first block's timestep and label embedder, as the paper has it."""
    first = model.transformer_blocks[0].norm1.emb.state_dict()
    for block in model.transformer_blocks:
        block.norm1.emb.load_state_dict(first)


def copied(model: Any, embedders: str) -> dict[str, Array]:
    """The public model's weights under the reference model's names."""
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    out: dict[str, Array] = {}

    def put(name: str, source: str) -> None:
        out[f"{name}.weight"] = state[f"{source}.weight"]
        out[f"{name}.bias"] = state[f"{source}.bias"]

    put("embed", "pos_embed.proj")
    out["embed.weight"] = out["embed.weight"].reshape(len(out["embed.weight"]), -1)
    for i in range(len(model.transformer_blocks)):
        block = f"transformer_blocks.{i}"
        prefix = f"{i}." if embedders == "block" else ""
        if prefix or i == 0:
            put(f"{prefix}time.0", f"{block}.norm1.emb.timestep_embedder.linear_1")
            put(f"{prefix}time.1", f"{block}.norm1.emb.timestep_embedder.linear_2")
            table = f"{block}.norm1.emb.class_embedder.embedding_table.weight"
            out[f"{prefix}label"] = state[table]
        put(f"{i}.modulation", f"{block}.norm1.linear")
        for part in ("weight", "bias"):
            out[f"{i}.qkv.{part}"] = np.concatenate(
                [state[f"{block}.attn1.to_{x}.{part}"] for x in "qkv"]
            )
        put(f"{i}.out", f"{block}.attn1.to_out.0")
        put(f"{i}.up", f"{block}.ff.net.0.proj")
        put(f"{i}.down", f"{block}.ff.net.2")
    put("final.modulation", "proj_out_1")
    put("final.out", "proj_out_2")
    return out


def relative(ours: Array, theirs: Any) -> float:
    """Largest difference over the largest value."""
    want = theirs.detach().numpy()
    assert ours.shape == want.shape
    return float(np.abs(ours - want).max() / np.abs(want).max())


@pytest.mark.parametrize("embedders", ["one", "block"])
@pytest.mark.parametrize("kernel", ["fused", "math"])
@pytest.mark.parametrize("patch", [2, 4])
def test_dit_equals_diffusers(embedders: str, kernel: str, patch: int) -> None:
    model = public_dit(3, 4, 24, patch, 16)
    if embedders == "one":
        share_embedders(model)
    config = Dit(3, 96, 4, (1, patch, patch), classes=1000, embedders=embedders, time_shift=1)
    _compare(model, config, 16, kernel)


@pytest.mark.slow
def test_dit_s_2_equals_diffusers() -> None:
    model = public_dit(12, 6, 64, 2, 32)
    share_embedders(model)
    _compare(model, Dit(12, 384, 6, (1, 2, 2), classes=1000, time_shift=1), 32, "fused")


def _compare(model: Any, config: Dit, side: int, kernel: str) -> None:
    rng = np.random.Generator(np.random.Philox(3))
    latents = rng.standard_normal((2, 4, side, side)).astype(np.float32)
    steps, labels = np.array([17.0, 903.0]), np.array([5, 1000])
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(latents),
            timestep=torch.tensor([17, 903]),
            class_labels=torch.from_numpy(labels),
        ).sample
    tape = Tape(execute=True)
    weights = Weights(tape, config.parameters(), "fp32", copied(model, config.embedders))
    ours = config.forward(
        weights,
        tape.tensor((2, 4, 1, side, side), "fp32", latents[:, :, None]),
        steps,
        (tape.tensor((2,), "int64", labels),),
        numerics=Numerics("fp32", "fp32", "fp32", kernel),
    )
    assert relative(ours.data[:, :, 0], theirs) < 1e-4


@pytest.mark.slow
def test_parameters_and_macs_equal_diffusers_for_all_twelve() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    for size, (depth, hidden, heads) in SIZES.items():
        for patch in (2, 4, 8):
            with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
                model = diffusers.DiTTransformer2DModel(
                    num_attention_heads=heads,
                    attention_head_dim=hidden // heads,
                    in_channels=4,
                    out_channels=8,
                    num_layers=depth,
                    sample_size=32,
                    patch_size=patch,
                ).eval()
                counter = FlopCounterMode(display=False)
                # The counter knows no formula for the CPU's fused attention.
                with sdpa_kernel(SDPBackend.MATH), counter:
                    model(
                        torch.zeros(1, 4, 32, 32),
                        timestep=torch.zeros(1, dtype=torch.int64),
                        class_labels=torch.zeros(1, dtype=torch.int64),
                    )
            network = get(f"dit-{size}-{patch}").built(
                get(f"dit-{size}-{patch}").resolve({"embedders": "block"})
            )
            assert isinstance(network, Networks)
            config = network.denoiser
            assert isinstance(config, Dit)
            ours = sum(int(np.prod(s)) for _, s in config.parameters())
            assert ours == sum(p.numel() for p in model.parameters())
            assert _flops(config, 32) == counter.get_total_flops()


def _flops(config: Dit, side: int) -> int:
    tape = Tape()
    config.forward(
        Weights(tape, config.parameters(), "bf16"),
        tape.tensor((1, 4, 1, side, side), "bf16"),
        np.zeros(1),
        (tape.tensor((1,), "int64"),),
        numerics=Numerics(),
    )
    return sum(e[3] for e in tape.events if e[0] == "op")
