"""Public denoisers beside ours: the same weights, numbers, counts and FLOPs."""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from dcsim.models.denoiser import Denoiser, Numerics
from dcsim.models.tape import GRAIN, Array, Tape
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
    """Of a pass: parameters, FLOPs, and the most bytes of activations held at once."""

    params: int
    flops: int
    peak: int


def counted(make: Any, inputs: Any) -> Counts:
    """A pass of a public model at its full size in bf16, without weights and values."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    attention = [0]

    def fused(query: Any, key: Any, value: Any, **_: Any) -> Any:
        """What flash attention leaves: its output, heads inside tokens."""
        batch, heads, tokens, width = query.shape
        attention[0] += 2 * batch * heads * tokens * key.shape[2] * (width + value.shape[3])
        out = torch.empty(batch, tokens, heads, value.shape[3], dtype=query.dtype)
        return out.transpose(1, 2)

    counter = FlopCounterMode(display=False)
    with ExitStack() as stack:
        stack.enter_context(mock.patch("torch.nn.functional.scaled_dot_product_attention", fused))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.bfloat16)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(torch.no_grad())
        model, given = make().eval(), inputs()
        known = [*model.parameters(), *model.buffers(), *_tensors(given)]
        live = live_bytes({each.untyped_storage()._cdata for each in known})
        with counter, live:
            model(**given)
    params = sum(each.numel() for each in model.parameters())
    return Counts(params, counter.get_total_flops() + attention[0], live.peak)


def _tensors(values: Any) -> list[Any]:
    import torch
    from torch.utils._pytree import tree_iter

    return [each for each in tree_iter(values) if isinstance(each, torch.Tensor)]


def live_bytes(known: set[int]) -> Any:
    """A mode that follows the storages that come and go, but for the known ones."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Live(TorchDispatchMode):  # type: ignore[misc]
        live = peak = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in _tensors(out):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, -(-storage.nbytes() // GRAIN) * GRAIN
                if key not in known:
                    known.add(key)
                    self.live += size
                    weakref.finalize(storage, self.free, key, size)
            self.peak = max(self.peak, self.live)
            return out

        def free(self, key: int, size: int) -> None:
            known.discard(key)
            self.live -= size

    return Live()


def counts(
    network: Denoiser, latent: tuple[int, int, int], condition: Sequence[tuple[int, ...]]
) -> Counts:
    """A pass of ours of one branch, in bf16."""
    tape = Tape()
    weights = Weights(tape, network.held(), "bf16")
    latents = tape.tensor((1, network.latent_channels, *latent), "bf16")
    given = [tape.tensor(shape, "bf16") for shape in condition]
    before = tape.live
    network.forward(weights, latents, np.zeros(1), given, numerics=Numerics())
    return Counts(
        count(network.parameters()),
        sum(event[3] for event in tape.events if event[0] == "op"),
        max(sum(held) for _, held in tape.profile) - before,
    )
