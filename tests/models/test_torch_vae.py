"""Autoencoders against diffusers' own: numbers, parameters, shapes and bytes held.

Numbers with random weights and narrow layers, through whole encoders and decoders; parameters,
shapes and peaks at full size, without weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from vae_scenes import with_widths

from dcsim.models import coding, vae
from dcsim.models.tape import Array, Tape
from dcsim.models.vae import Vae
from dcsim.models.weights import Weights, count

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

from lifetimes import Counted, counted  # noqa: E402
from public import drawn, randomised, relative  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

IMAGES = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
WAN22 = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
STEPS = ("resnets", "norms", "attentions")
PARTS = ("norm1", "conv1", "norm2", "conv2", "norm3", "conv_shortcut")


@dataclass(frozen=True)
class Public:
    """A public class and what it takes."""

    name: str
    """Of ours."""
    make: str
    config: dict[str, Any] = field(default_factory=dict)
    narrow: dict[str, Any] = field(default_factory=dict)
    """What the config has in place of its own widths."""
    widths: dict[int, int] = field(default_factory=dict)
    """Ours for each of the file's."""
    pixels: tuple[int, int, int] = (9, 16, 24)
    """Frames, height and width of a tiny clip."""

    def full(self) -> Any:
        return getattr(diffusers, self.make)(**self.config)

    def tiny(self) -> Any:
        return randomised(getattr(diffusers, self.make)(**self.config | self.narrow))

    def ours(self) -> Vae:
        """With narrow layers, groups of channels and tiles."""
        found = vae.get(self.name)
        return replace(
            found,
            encoder=with_widths(found.encoder, self.widths),
            decoder=with_widths(found.decoder, self.widths),
        )


PUBLIC = [
    Public(
        "sd",
        "AutoencoderKL",
        IMAGES,
        {"block_out_channels": (32, 64, 96, 96)},
        {128: 32, 256: 64, 512: 96},
        (1, 32, 48),
    ),
    Public(
        "flux",
        "AutoencoderKL",
        {**IMAGES, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False},
        {"block_out_channels": (32, 64, 96, 96)},
        {128: 32, 256: 64, 512: 96},
        (1, 32, 48),
    ),
    Public(
        "hunyuanvideo",
        "AutoencoderKLHunyuanVideo",
        {},
        {"block_out_channels": (32, 64, 96, 96)},
        {128: 32, 256: 64, 512: 96},
    ),
    Public("wan-2.1", "AutoencoderKLWan", {}, {"base_dim": 8}, {96: 8, 192: 16, 384: 32}),
    Public("qwen-image", "AutoencoderKLQwenImage", {}, {"base_dim": 8}, {96: 8, 192: 16, 384: 32}),
    Public(
        "wan-2.2",
        "AutoencoderKLWan",
        WAN22,
        {"base_dim": 8, "decoder_base_dim": 12},
        {160: 8, 320: 16, 640: 32, 1024: 48, 512: 24, 256: 12},
        (13, 32, 48),
    ),
    Public(
        "cogvideox",
        "AutoencoderKLCogVideoX",
        {},
        {"block_out_channels": (32, 64, 64, 96)},
        {128: 32, 256: 64, 512: 96},
        (17, 16, 24),
    ),
    Public(
        "ltx-video",
        "AutoencoderKLLTXVideo",
        {},
        {
            "block_out_channels": (8, 16, 24, 24),
            "decoder_block_out_channels": (8, 16, 24, 24),
        },
        {128: 8, 256: 16, 512: 24},
        (17, 64, 96),
    ),
    Public(
        "mochi",
        "AutoencoderKLMochi",
        {},
        {
            "encoder_block_out_channels": (32, 32, 64, 96),
            "decoder_block_out_channels": (32, 64, 64, 96),
        },
        {64: 32, 128: 32, 256: 64, 384: 96, 512: 64, 768: 96},
        (13, 16, 24),
    ),
    Public(
        "dc-ae-f32c32",
        "AutoencoderDC",
        {
            "encoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
            "decoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
            "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
            "downsample_block_type": "Conv",
            "upsample_block_type": "interpolate",
            "scaling_factor": 0.41407,
        },
        {
            "encoder_block_out_channels": (32, 64, 64, 64, 64, 64),
            "decoder_block_out_channels": (32, 64, 64, 64, 64, 64),
        },
        {128: 32, 256: 64, 512: 64, 1024: 64},
        (1, 256, 192),
    ),
]
NAMES = [each.name for each in PUBLIC]


# Names


def in_order(model: Any, side: str) -> list[str]:
    """Names of the public parameters of an encoder or a decoder, in order of their use."""
    keys = list(model.state_dict())
    down = side == "encoder"
    levels = [
        f"up_blocks.{i}" for i, _ in enumerate(getattr(getattr(model, side), "up_blocks", ()))
    ]
    if type(model).__name__ == "AutoencoderDC":  # finest first
        levels.reverse()
    blocks = (
        ["block_in", "down_blocks", "mid_block"] if down else ["block_in", "mid_block", *levels]
    )
    inside = ["conv_in", "proj_in", *blocks, "block_out", "conv_norm_out", "norm_out", "conv_out"]
    prefixes = [f"{side}.{each}." for each in (*inside, "proj_out")]
    prefixes = [*prefixes, "quant_conv."] if down else ["post_quant_conv.", *prefixes]
    return [
        key for prefix in prefixes for key in _sorted([k for k in keys if k.startswith(prefix)])
    ]


def _sorted(keys: list[str]) -> list[str]:
    """Residual blocks part by part; between attention one by one with its norms."""
    first = {_block(key): i for i, key in reversed(list(enumerate(keys)))}
    heads = {_head(key): i for i, key in reversed(list(enumerate(keys)))}
    mixed = {_head(key) for key in keys if ".attentions." in key}

    def place(key: str) -> tuple[int, ...]:
        part = next((PARTS.index(each) for each in key.split(".") if each in PARTS), -1)
        step, head = next((each for each in STEPS if f".{each}." in key), ""), _head(key)
        if not step or head not in mixed:
            return first[_block(key)], 0, part
        number = int(key.removeprefix(f"{head}.{step}.").split(".")[0])
        return heads[head], 3 * number + STEPS.index(step), part

    return sorted(keys, key=place)


def _head(key: str) -> str:
    """What a step is one of; of what is none its own name."""
    step = next((each for each in STEPS if f".{each}." in key), "")
    return key.split(f".{step}.")[0] if step else key


def _block(key: str) -> str:
    """The residual block of a parameter, or what else it is of."""
    path = key.split(".")
    at = next((i for i, part in enumerate(path) if part in PARTS), len(path) - 1)
    return ".".join(path[:at])


def copied(found: Vae, model: Any) -> dict[str, Array]:
    """The public model's weights under our names."""
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    theirs = [*in_order(model, "encoder"), *in_order(model, "decoder")]
    values = iter(list(_split(theirs, state)))
    arrays = {}
    for name, shape in vae.parameters(found):
        value = next(values)
        assert value.size == np.prod(shape), (name, shape, value.shape)
        arrays[name] = value.reshape(shape)
    assert next(values, None) is None
    return arrays


def _split(names: list[str], state: dict[str, Array]) -> Iterator[Array]:
    """One by one; q, k and v that are one matrix apart."""
    for name in names:
        if name.endswith("to_qkv.weight"):
            both = zip(
                np.split(state[name], 3), np.split(state[name[:-6] + "bias"], 3), strict=True
            )
            yield from (part for pair in both for part in pair)
        elif not name.endswith("to_qkv.bias"):
            yield state[name]


# Numbers


def both_ways(public: Public, tiling: str = "none") -> tuple[float, float]:
    """How far latents and pixels are off, of the largest of each."""
    found, model = public.ours(), public.tiny()
    arrays = copied(found, model)
    pixels = np.tanh(drawn(1, 3, *public.pixels))
    images = found.decoder.flat
    if tiling == "none":
        model.use_framewise_encoding = model.use_framewise_decoding = False
    if tiling in ("spatial", "spacetime"):
        model.enable_tiling()
        _small_tiles(model, found)
    with torch.no_grad():
        given = torch.from_numpy(pixels[:, :, 0] if images else pixels)
        moments = model.encode(given, return_dict=False)[0]
        mean = moments if isinstance(moments, torch.Tensor) else moments.mode()
        back = model.decode(mean, return_dict=False)[0]
    if images:
        mean, back = mean[:, :, None], back[:, :, None]
    tape = Tape(execute=True)
    weights = Weights(tape, vae.parameters(found), "fp32", arrays)
    x = tape.tensor(pixels.shape, "fp32", pixels)
    z = coding.encode(found, weights, x, tiling=tiling)  # type: ignore[arg-type]
    off = relative(z.data / np.float32(found.scale), mean)
    y = coding.decode(found, weights, z, tiling=tiling)  # type: ignore[arg-type]
    return off, relative(y.data, back)


def _small_tiles(model: Any, found: Vae) -> None:
    """Tiles of 4 x 4 cells every 3, of ours (see `tiled`) and theirs."""
    edge = found.space
    for axis in ("height", "width"):
        setattr(model, f"tile_sample_min_{axis}", 4 * edge)
        setattr(model, f"tile_sample_stride_{axis}", 3 * edge)


@pytest.mark.parametrize("public", PUBLIC, ids=NAMES)
def test_encoders_and_decoders_equal_diffusers(public: Public) -> None:
    latents, pixels = both_ways(public)
    assert latents < 1e-4
    assert pixels < 1e-4


@pytest.mark.parametrize("name", [pytest.param("hunyuanvideo", marks=pytest.mark.slow), "wan-2.1"])
def test_tiles_and_runs_equal_diffusers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    public = next(each for each in PUBLIC if each.name == name)
    edge = 8
    tile = vae.Tile((4 * edge, 4 * edge), (3 * edge, 3 * edge))
    plain = Public.ours
    monkeypatch.setattr(Public, "ours", lambda self: replace(plain(self), tile=tile))
    runs = name == "hunyuanvideo"
    public = replace(public, pixels=(21 if runs else 5, 40, 48))
    latents, pixels = both_ways(public, "spacetime" if runs else "spatial")
    assert latents < 1e-4
    assert pixels < 1e-4


# Parameters, shapes and bytes at full size


@pytest.mark.parametrize("public", PUBLIC, ids=NAMES)
def test_parameters_equal_diffusers(public: Public) -> None:
    with torch.device("meta"):
        model = public.full()
    want = sum(parameter.numel() for parameter in model.parameters())
    assert count(vae.parameters(vae.get(public.name))) == want


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def theirs(public: Public, way: str, shape: tuple[int, ...], dtype: str, tiling: str) -> Counted:
    """A pass of the public class."""
    images = vae.get(public.name).decoder.flat

    def call(model: Any, x: Any) -> Any:
        if tiling == "none":
            model.use_framewise_encoding = model.use_framewise_decoding = False
        if tiling in ("spatial", "spacetime"):
            model.enable_tiling()
        out = getattr(model, way)(x, return_dict=False)[0]
        return out if isinstance(out, torch.Tensor) else out.mode()

    given = (*shape[:2], *shape[3:]) if images else shape
    kind = DTYPES[dtype]
    return counted(public.full, call, [(given, kind)], kind)


def ours(found: Vae, way: str, shape: tuple[int, ...], dtype: str, tiling: str) -> Counted:
    """The same pass of ours."""
    tape = Tape()
    weights = Weights(tape, vae.parameters(found), dtype)
    x = tape.tensor(shape, dtype)
    run: Callable[..., Any] = getattr(coding, way)
    y = run(found, weights, x, tiling=tiling)
    peak = max(sum(held) for _, held in tape.profile) - x.storage.size
    out = (*y.shape[:2], *y.shape[3:]) if found.decoder.flat else y.shape
    return Counted(count(vae.parameters(found)), peak, out)


PASSES: list[tuple[str, str, tuple[int, ...], str, str]] = [
    ("sd", "decode", (1, 4, 1, 128, 128), "bf16", "none"),
    ("sd", "encode", (1, 3, 1, 1024, 1024), "bf16", "none"),
    ("flux", "decode", (1, 16, 1, 128, 128), "bf16", "none"),
    ("hunyuanvideo", "decode", (1, 16, 5, 64, 96), "bf16", "none"),
    ("hunyuanvideo", "encode", (1, 3, 17, 512, 768), "bf16", "none"),
    ("wan-2.1", "decode", (1, 16, 4, 90, 160), "fp32", "none"),
    ("wan-2.1", "encode", (1, 3, 13, 480, 832), "fp32", "none"),
    ("wan-2.2", "decode", (1, 48, 4, 44, 80), "fp32", "none"),
    ("cogvideox", "decode", (1, 16, 5, 60, 90), "bf16", "none"),
    ("cogvideox", "encode", (1, 3, 17, 480, 720), "bf16", "none"),
    ("ltx-video", "decode", (1, 128, 5, 16, 22), "bf16", "none"),
    ("ltx-video", "encode", (1, 3, 33, 512, 704), "bf16", "none"),
    ("mochi", "decode", (1, 12, 5, 60, 106), "bf16", "none"),
    ("mochi", "encode", (1, 3, 13, 480, 848), "bf16", "none"),
    ("dc-ae-f32c32", "decode", (1, 32, 1, 32, 32), "bf16", "none"),
    ("dc-ae-f32c32", "encode", (1, 3, 1, 1024, 1024), "bf16", "none"),
]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("sd", (1, 3, 1, 512, 768)),
        ("flux", (1, 3, 1, 512, 512)),
        ("wan-2.1", (1, 3, 9, 64, 96)),
        ("cogvideox", (1, 3, 1, 96, 64)),
        ("hunyuanvideo", (1, 3, 9, 64, 96)),
    ],
)
def test_an_encode_computes_as_much_as_diffusers(name: str, shape: tuple[int, ...]) -> None:
    """FLOPs of convolutions and products, as PyTorch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    public = next(each for each in PUBLIC if each.name == name)
    given = (*shape[:2], *shape[3:]) if vae.get(name).decoder.flat else shape
    with torch.device("meta"), torch.no_grad():
        model, x = public.full(), torch.zeros(given)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encode(x)
    tape = Tape()
    found = vae.get(name)
    coding.encode(found, Weights(tape, vae.parameters(found), "fp32"), tape.tensor(shape, "fp32"))
    mine = sum(event[3] for event in tape.events if event[0] == "op")
    assert mine == pytest.approx(counter.get_total_flops(), rel=0.001)


LONG: list[tuple[str, str, tuple[int, ...], str, str]] = [
    ("hunyuanvideo", "decode", (1, 16, 31, 64, 96), "bf16", "temporal"),
    ("hunyuanvideo", "encode", (1, 3, 121, 512, 768), "bf16", "temporal"),
    ("hunyuanvideo", "decode", (1, 16, 9, 68, 60), "bf16", "spacetime"),
    ("wan-2.1", "decode", (1, 16, 21, 90, 160), "fp32", "none"),
    ("wan-2.1", "decode", (1, 16, 5, 40, 52), "fp32", "spatial"),
    ("wan-2.2", "decode", (1, 48, 31, 44, 80), "fp32", "none"),
    ("cogvideox", "decode", (1, 16, 13, 60, 90), "bf16", "none"),
    ("cogvideox", "decode", (1, 16, 21, 96, 170), "bf16", "none"),
    ("cogvideox", "decode", (1, 16, 5, 60, 90), "bf16", "spatial"),
]


@pytest.mark.parametrize(
    ("name", "way", "shape", "dtype", "tiling"),
    [*PASSES, *(pytest.param(*each, marks=pytest.mark.slow) for each in LONG)],
)
def test_peaks_equal_diffusers(
    name: str, way: str, shape: tuple[int, ...], dtype: str, tiling: str
) -> None:
    public = next(each for each in PUBLIC if each.name == name)
    want = theirs(public, way, shape, dtype, tiling)
    got = ours(vae.get(name), way, shape, dtype, tiling)
    assert got.shape == want.shape
    # What is not modelled is small: posteriors, clones of latents, lines of blended tiles.
    assert got.peak == pytest.approx(want.peak, rel=0.005)


def _kept_in_place(self: Any, inputs: Any, conv_cache: Any = None) -> tuple[Any, None]:
    """A causal convolution that has one copy of what it keeps, as before diffusers 0.31."""
    old = self.__dict__.pop("kept", None)
    inputs = self.fake_context_parallel_forward(inputs, old)
    del old
    self.__dict__["kept"] = inputs[:, :, 1 - self.time_kernel_size :].clone()
    return self.conv(inputs), None


@pytest.mark.parametrize("frames", [5, 6])
def test_features_replaced_one_by_one(monkeypatch: pytest.MonkeyPatch, frames: int) -> None:
    """CogVideoX as diffusers had it when others measured it, and 2.0 GiB below what it has now."""
    kind = "autoencoder_kl_cogvideox.CogVideoXCausalConv3d.forward"
    public = next(each for each in PUBLIC if each.name == "cogvideox")
    shape = (1, 16, frames, 60, 90)
    now = theirs(public, "decode", shape, "bf16", "none")
    monkeypatch.setattr(f"diffusers.models.autoencoders.{kind}", _kept_in_place)
    want = theirs(public, "decode", shape, "bf16", "none")
    found = vae.get("cogvideox").keeping("replaced")
    assert ours(found, "decode", shape, "bf16", "none").peak == pytest.approx(want.peak, rel=0.005)
    assert now.peak - want.peak > 1.9 * 2**30
