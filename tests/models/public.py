"""Public denoisers beside ours: the same weights, numbers, counts and FLOPs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from dcsim.models.denoiser import Denoiser, Numerics
from dcsim.models.tape import Array, Tape
from dcsim.models.weights import Weights

FP32 = Numerics("fp32", "fp32", "fp32")


def randomised(model: Any) -> Any:
    """A model with weights of every kind away from zero, one and each other."""
    import torch

    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 16
            parameter.copy_(torch.randn_like(parameter) / fan**0.5)
            if "norm" in name and parameter.dim() == 1 and name.endswith("weight"):
                parameter.add_(1)
    return model.eval()


def copied(network: Denoiser, model: Any, names: Sequence[tuple[str, str]]) -> dict[str, Array]:
    """The public model's weights under our names, which `names` turn into its own, in order."""
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    found, used = {}, set()
    for name, shape in network.held():
        source = name
        for ours, theirs in names:
            source = re.sub(ours, theirs, source)
        used.add(source)
        found[name] = state[source].reshape(shape)
    assert used >= set(state), sorted(set(state) - used)
    return found


def drawn(*shape: int, seed: int = 3) -> Array:
    rng = np.random.Generator(np.random.Philox(seed))
    return rng.standard_normal(shape).astype(np.float32)


def predicted(
    network: Denoiser,
    arrays: Mapping[str, Array],
    latents: Array,
    steps: Array,
    condition: Sequence[Array],
    *,
    kernel: str = "fused",
    guidance: float | None = None,
) -> Array:
    """What our network computes."""
    tape = Tape(execute=True)
    return network.forward(
        Weights(tape, network.held(), "fp32", arrays),
        tape.tensor(latents.shape, "fp32", latents),
        steps,
        [tape.tensor(each.shape, "fp32", each) for each in condition],
        numerics=Numerics("fp32", "fp32", "fp32", kernel),
        guidance=guidance,
    ).data


def relative(ours: Array, theirs: Any) -> float:
    """Largest difference over the largest value."""
    want = theirs.detach().numpy()
    assert ours.shape == want.shape
    return float(np.abs(ours - want).max() / np.abs(want).max())


def counted(make: Any, inputs: Any) -> tuple[int, int]:
    """Parameters and FLOPs of a pass of a public model at its full size, without its weights."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(torch.no_grad())
        # The counter knows no formula for the CPU's fused attention.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        model = make().eval()
        with counter:
            model(**inputs())
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops()


def flops(
    network: Denoiser, latent: tuple[int, int, int], condition: Sequence[tuple[int, ...]]
) -> int:
    """FLOPs of a pass of ours of one branch."""
    tape = Tape()
    network.forward(
        Weights(tape, network.held(), "bf16"),
        tape.tensor((1, network.latent_channels, *latent), "bf16"),
        np.zeros(1),
        [tape.tensor(shape, "bf16") for shape in condition],
        numerics=Numerics(),
    )
    return sum(event[3] for event in tape.events if event[0] == "op")
