"""Open-Sora 1.2's autoencoder against a plain PyTorch network of its description, around diffusers'
class for the images: numbers, parameters, and pieces that know nothing of each other."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from public import drawn, randomised, relative
from vae_scenes import with_widths

from dcsim import traces
from dcsim.models import ModelError, coding, vae
from dcsim.models.shapes import Clip
from dcsim.models.tape import Array, Tape
from dcsim.models.vae import Pieces, Vae
from dcsim.models.weights import Weights, count

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason="needs the torch extra", exc_type=ImportError)

from dcsim.traces.torch import Stage, trace  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
nn, F = torch.nn, torch.nn.functional
Module: Any = nn.Module
OURS = vae.get("open-sora-1.2")


class Causal(Module):  # type: ignore[misc]
    def __init__(self, width: int, to: int, kernel: int = 3, step: int = 1, bias: bool = True):
        super().__init__()
        self.conv = nn.Conv3d(width, to, kernel, stride=(step, 1, 1), bias=bias)
        side = kernel // 2
        self.sides = (side, side, side, side, kernel - step, 0)

    def forward(self, x: Any) -> Any:
        return self.conv(F.pad(x, self.sides))


class Residual(Module):  # type: ignore[misc]
    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, width), Causal(width, to, bias=False)
        self.norm2, self.conv2 = nn.GroupNorm(32, to), Causal(to, to, bias=False)
        self.skip = Causal(width, to, 1, bias=False) if width != to else nn.Identity()

    def forward(self, x: Any) -> Any:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(h))) + self.skip(x)


class Frames(Module):  # type: ignore[misc]
    """A convolution whose channels are two frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Causal(width, 2 * width)

    def forward(self, x: Any) -> Any:
        x = self.conv(x).unflatten(1, (-1, 2)).permute(0, 1, 3, 2, 4, 5)
        return x.flatten(2, 3)


def several(width: int, to: int, times: int = 4) -> list[Any]:
    return [Residual(width, to), *(Residual(to, to) for _ in range(times - 1))]


class InTime(Module):  # type: ignore[misc]
    def __init__(self, a: int, b: int, c: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            *(Causal(4, a, bias=False), *several(a, a), *several(a, b), Causal(b, b, step=2)),
            *(*several(b, b), Causal(b, b, step=2), *several(b, c), *several(c, c)),
            *(nn.GroupNorm(32, c), nn.SiLU(), Causal(c, 8, 1), Causal(8, 8, 1)),
        )
        self.up = nn.Sequential(
            *(Causal(4, 4, 1), Causal(4, c), *several(c, c), *several(c, c), Frames(c)),
            *(*several(c, b), Frames(b), *several(b, b), *several(b, a)),
            *(nn.GroupNorm(32, a), nn.SiLU(), Causal(a, 4)),
        )


class Both(Module):  # type: ignore[misc]
    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.images = diffusers.AutoencoderKL(
            block_out_channels=(*widths, widths[-1]),
            layers_per_block=2,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        self.time = InTime(*widths)

    def encode(self, x: Any) -> Any:
        made = []
        for piece in x.split(17, 2):
            frames = piece.transpose(1, 2).flatten(0, 1)
            moments = [self.images._encode(each) for each in frames.split(4)]
            inner = torch.cat(moments).chunk(2, 1)[0]
            inner = inner.unflatten(0, (len(x), -1)).transpose(1, 2)
            made.append(self.time.down(F.pad(inner, (0, 0, 0, 0, 3, 0)))[:, :4])
        return torch.cat(made, 2)

    def decode(self, z: Any) -> Any:
        inner = torch.cat([self.time.up(piece)[:, :, 3:] for piece in z.split(5, 2)], 2)
        frames = inner.transpose(1, 2).flatten(0, 1)
        pixels = torch.cat([self.images.decode(each).sample for each in frames.split(4)])
        return pixels.unflatten(0, (len(z), -1)).transpose(1, 2)


def arrays(model: Any, ours: Vae) -> dict[str, Array]:
    """The weights of both halves in the order of their layers, which is that of ours."""
    images = model.images
    inner = [
        *(images.encoder.conv_in, *images.encoder.down_blocks, images.encoder.mid_block),
        *(images.encoder.conv_norm_out, images.encoder.conv_out, images.quant_conv),
    ]
    outer = [
        *(images.post_quant_conv, images.decoder.conv_in, images.decoder.mid_block),
        *(*images.decoder.up_blocks, images.decoder.conv_norm_out, images.decoder.conv_out),
    ]
    theirs = [*_within(inner), *_states(model.time.down), *_states(model.time.up), *_within(outer)]
    names = [(name, shape) for name, shape in vae.parameters(ours)]
    assert len(names) == len(theirs)
    return {name: each.reshape(shape) for (name, shape), each in zip(names, theirs, strict=True)}


def _states(module: Any) -> list[Array]:
    return [value.detach().numpy() for value in module.state_dict().values()]


PARTS = ("norm1", "conv1", "norm2", "conv2", "conv_shortcut")
ATTENTION = ("group_norm", "to_q", "to_k", "to_v", "to_out")


def _within(modules: list[Any]) -> list[Array]:
    """diffusers' blocks in the order in which they run."""
    found = []
    for module in modules:
        state = {name: value.detach().numpy() for name, value in module.state_dict().items()}
        middle = any(name.startswith("attentions") for name in state)
        found += [state[name] for name in sorted(state, key=lambda name: _place(name, middle))]
    return found


def _place(name: str, middle: bool) -> tuple[int, ...]:
    """When a parameter of a block is used; in the middle attention is between residual blocks."""
    number = re.search(r"\.(\d+)\.", name)
    block = int(number[1]) if number else 0
    if name.startswith("attentions"):
        return 1, block, next(i for i, each in enumerate(ATTENTION) if each in name), "bias" in name
    if name.startswith("resnets"):
        part = next(i for i, each in enumerate(PARTS) if each in name)
        return 2 if middle and block else 0, block, part, "bias" in name
    return 3, block, 0, "bias" in name


def test_numbers_equal_the_description() -> None:
    """22 frames: a piece of 17, and one of 5."""
    widths = (32, 64, 96)
    model = randomised(Both(widths))
    small = dict(zip((128, 256, 512), widths, strict=True))
    ours = replace(
        OURS,
        scale=1.0,
        encoder=with_widths(OURS.encoder, small),
        decoder=with_widths(OURS.decoder, small),
    )
    given = arrays(model, ours)
    clip, latents = drawn(1, 3, 22, 16, 24), drawn(1, 4, 7, 2, 3, seed=5)
    with torch.no_grad():
        down, up = model.encode(torch.from_numpy(clip)), model.decode(torch.from_numpy(latents))
    tape = Tape(execute=True)
    weights = Weights(tape, vae.parameters(ours), "fp32", given)
    made = coding.encode(ours, weights, tape.tensor(clip.shape, "fp32", clip))
    assert relative(made.data, down) < 1e-4
    made = coding.decode(ours, weights, tape.tensor(latents.shape, "fp32", latents))
    assert relative(made.data, up) < 1e-4


def test_parameters_equal_the_description() -> None:
    with torch.device("meta"):
        model = Both((128, 256, 512))
    assert count(vae.parameters(OURS)) == sum(each.numel() for each in model.parameters())


@pytest.mark.slow
def test_flops_and_peak_of_a_decode() -> None:
    """Two pieces at 640 x 360: the same FLOPs, and within 0.5 % what is held."""

    def make() -> Any:
        model = Both((128, 256, 512)).eval()
        return Stage("forward", model.decode, torch.zeros(1, 4, 10, 45, 80), modules=[model])

    theirs = trace(make).records["forward"]
    tape = Tape()
    weights = Weights(tape, vae.parameters(OURS), "bf16")
    coding.decode(OURS, weights, tape.tensor((1, 4, 10, 45, 80), "bf16"))
    assert sum(event[3] for event in tape.events if event[0] == "op") == theirs.flops.sum()
    peak = max(sum(held) for _, held in tape.profile)
    assert peak == pytest.approx(int(theirs.held.sum(axis=1).max()), rel=0.005)


def test_latent_frames_of_pieces() -> None:
    """Open-Sora's lengths: an image, and 2, 4, 8 and 16 seconds."""
    found = {frames: OURS.latent(frames, 8, 8)[0] for frames in (1, 51, 102, 204, 408, 22)}
    assert found == {1: 1, 51: 15, 102: 30, 204: 60, 408: 120, 22: 7}
    with pytest.raises(ValueError, match="20 frames of 8x8 do not divide"):
        OURS.latent(20, 8, 8)
    for frames, near in ((20, "18 or 22"), (33, "30 or 34")):
        with pytest.raises(ModelError, match=rf"{frames} is not 17j or 17j \+ 1 \+ 4k .* {near}"):
            traces.trace("open-sora-1.2", None, Clip(256, 144, frames, 1))
    with pytest.raises(ValueError, match="frames: 16 is not 1 \\+ 4k"):
        replace(OURS, frames=Pieces(16)).check()


def test_pieces_cost_alike() -> None:
    """Two pieces take twice the work of one, and hold no more beside what is made."""
    work = []
    for frames in (5, 10):
        tape = Tape()
        weights = Weights(tape, vae.parameters(OURS), "bf16")
        made = coding.decode(OURS, weights, tape.tensor((1, 4, frames, 4, 4), "bf16"))
        flops = sum(event[3] for event in tape.events if event[0] == "op")
        work.append((made.shape[2], flops, coding.passes(OURS, (frames, 4, 4), "none")))
    (one, cost, alone), (two, double, both) = work
    assert (two, double, both) == (2 * one, 2 * cost, 2)
    assert (one, alone) == (17, 1)
