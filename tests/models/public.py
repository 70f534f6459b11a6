"""Public denoisers beside ours: the same weights, numbers, counts and FLOPs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dcsim.models.denoiser import Denoiser, Numerics
from dcsim.models.tape import CATEGORIES, Array, Tape
from dcsim.models.weights import Weights, count

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


def copied(network: Denoiser, model: Any, names: Sequence[tuple[str, Any]]) -> dict[str, Array]:
    """The public model's weights under our names, which `names` turn into its own, in order."""
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    found, used = {}, set()
    for name, shape in network.held():
        source = name
        for ours, theirs in names:
            source = re.sub(ours, theirs, source)
        used.add(source)
        if source in state:
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


@dataclass(frozen=True)
class Counts:
    """Of a pass: parameters, FLOPs, the most bytes of activations held at once, and the FLOPs of
    every product, in order."""

    params: int
    flops: int
    peak: int
    products: list[int]


def counted(make: Any, inputs: Any) -> Counts:
    """A pass of a public model at its full size in bf16, without weights and values."""
    from dcsim.traces.torch import trace

    found = trace(lambda: (make().eval(), inputs()))
    record = found.records["forward"]
    given = int(record.held[0, CATEGORIES.index("inputs")])
    products = [int(flops) for flops in record.flops if flops]
    peak = int(record.held.sum(axis=1).max()) - given
    return Counts(found.params, sum(products), peak, products)


def counts(
    network: Denoiser, latent: tuple[int, int, int], condition: Sequence[tuple[int, ...]]
) -> Counts:
    """A pass of ours of one branch, in bf16."""
    tape = Tape()
    weights = Weights(tape, network.held(), "bf16")
    latents = tape.tensor((1, network.shown, *latent), "bf16")
    given = [tape.tensor(shape, "bf16") for shape in condition]
    before = tape.live
    network.forward(weights, latents, np.zeros(1), given, numerics=Numerics())
    products = [event[3] for event in tape.events if event[0] == "op" and event[3]]
    peak = max(sum(held) for _, held in tape.profile) - before
    return Counts(count(network.parameters()), sum(products), peak, products)
