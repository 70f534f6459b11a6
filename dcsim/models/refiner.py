"""HunyuanVideo's token refiner: blocks of attention within the text, before the denoiser's own.

Numbers as diffusers' `HunyuanVideoTokenRefiner`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcsim.models import ops, passes
from dcsim.models.passes import Pass, layer
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import MEMORY, Array, Shape, Tensor


@dataclass(frozen=True)
class Refiner:
    """`blocks` of them, for text of `width`, to `hidden` channels of `heads` heads.

    The text is short: each GPU refines all of it by itself.
    """

    blocks: int
    width: int
    heads: int
    hidden: int

    def parameters(self) -> Iterator[tuple[str, Shape]]:
        """Beside those of the layer `text`, which projects the text."""
        h = self.hidden
        for name, width in (("time", passes.TIME_WIDTH), ("pooled", self.width)):
            yield from layer(f"refiner.{name}.0", h, width)
            yield from layer(f"refiner.{name}.1", h, h)
        for i in range(self.blocks):
            name = f"refiner.{i}"
            for norm in ("norm1", "norm2"):
                yield f"{name}.{norm}.weight", (h,)
                yield f"{name}.{norm}.bias", (h,)
            yield from passes.attention_shapes(name, h, h)
            yield from passes.mlp_shapes(name, h, 4 * h)
            yield from layer(f"{name}.modulation", 2 * h, h)

    def refined(self, p: Pass, text: Tensor, steps: Array) -> Tensor:
        """Text (batch, tokens, width) as (batch, tokens, hidden)."""
        batch, _, width = text.shape
        summed = text.tape.run(
            "mean",
            MEMORY,
            (text,),
            (batch, width),
            text.dtype,
            lambda: np.asarray(text.data.mean(1)),
        )
        signal = passes.scalar(p, "refiner.time", steps, batch, text.tape)
        signal = ops.add(signal, passes.two_layers(p, "refiner.pooled", summed))
        x = p.linear("text", text)
        for i in range(self.blocks):
            x = self._block(p, f"refiner.{i}", x, signal)
        return ops.cast(x, p.numerics.residual)

    def _block(self, p: Pass, name: str, x: Tensor, signal: Tensor) -> Tensor:
        y = ops.layer_norm_learned(x, *p.w.linear(f"{name}.norm1"), p.eps)
        q, k, v = (
            passes.split_heads(p.linear(f"{name}.{part}", y), self.heads)
            for part in ("q", "k", "v")
        )
        z = softmax_attention(q, k, v, kernel=p.numerics.kernel).reshape(*x.shape)
        del q, k, v
        z = p.linear(f"{name}.out", z)
        gate, gate2 = p.linear(f"{name}.modulation", ops.silu(signal)).chunk(2, -1)
        x = ops.add(x, passes.gated(gate, z))
        y = ops.layer_norm_learned(x, *p.w.linear(f"{name}.norm2"), p.eps)
        f = p.linear(f"{name}.down", ops.silu(p.linear(f"{name}.up", y)))
        return ops.add(x, passes.gated(gate2, f))
