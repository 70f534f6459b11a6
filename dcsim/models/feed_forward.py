"""The half of a decoder's block that works on each token alone: one SwiGLU, or chosen experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

import numpy as np

from dcsim.models import ops
from dcsim.models.block_parts import FeedForward, divides
from dcsim.models.parallel import all_reduce_, nothing
from dcsim.models.tape import COMM, DENSE, MEMORY, Array, Shape, Tensor, nbytes
from dcsim.models.weights import Parameters, Weights
from dcsim.reading.concept import Count, CountOrZero, Positive
from dcsim.spec import Layout

SCALE, SCALED = 4, 128
"""Bytes of a scale, and numbers of a token that share it on the way to an expert (DeepEP)."""


@dataclass(frozen=True)
class Routing:
    """How tokens are spread over experts."""

    read: float = 1.0
    """Share of a GPU's experts whose weights are read."""
    fullest: Fraction = Fraction(1)
    """Tokens that the fullest of several GPUs with whole experts is sent, over their mean."""


EVEN = Routing()


@dataclass(frozen=True)
class Dense(FeedForward):
    """One gated half that every token goes through."""

    tag = "dense"

    width: Count
    activation: Literal["silu", "gelu"] = "silu"
    """Of the gate: SwiGLU, or GEGLU (Gemma)."""

    def parameters(self, name: str, hidden: int, tp: int, ep: int = 1) -> Parameters:
        """Names and shapes on one of `tp` GPUs."""
        yield from _swiglu(name, hidden, -(-self.width // tp))

    def idle(self, hidden: int) -> int:
        """Parameters that a token does not meet."""
        return 0

    def forward(
        self, w: Weights, name: str, given: list[Tensor], layout: Layout, routing: Routing
    ) -> Tensor:
        """Of tokens (n, hidden), taken out of `given`: (n, hidden)."""
        y = given.pop()
        gate, up = ops.linear(y, w[f"{name}.up"]).chunk(2, -1)
        y = ops.gated(self.activation, gate, up)
        del gate, up
        y = ops.linear(y, w[f"{name}.down"])
        all_reduce_(y, layout.tp)
        return y


@dataclass(frozen=True)
class Experts(FeedForward):
    """A mixture of experts: a router sends each token to `chosen` of them.

    On several GPUs each expert is divided, as a dense SwiGLU is, and the router is repeated. With
    `ep` each GPU has whole experts. Where all have the same tokens (`dp` 1) each computes its
    experts' part of the sum; else tokens are sent to the GPUs of their experts, and what comes
    out back (DeepEP's dispatch and combine).
    """

    tag = "experts"

    experts: Count
    chosen: Count
    width: Count
    """Of one expert."""
    shared: CountOrZero = 0
    """Width of a SwiGLU that every token goes through as well; 0: none."""
    shared_gate: bool = False
    """The shared one is multiplied by the sigmoid of a product with the token."""
    router: Literal["softmax", "sigmoid"] = "softmax"
    """`softmax`: the largest, scaled to a sum of 1. `sigmoid`: DeepSeek-V3's, chosen by score and
    a bias, within the best groups."""
    groups: Count = 1
    chosen_groups: Count = 1
    scale: Positive = 1.0
    """What the weights of the chosen are multiplied by."""
    bias: bool = False
    """Biases of the router and the experts (gpt-oss)."""
    activation: Literal["silu", "clamped"] = "silu"

    def faults(self) -> Iterator[str]:
        yield from divides("groups", self.experts, self.groups)
        if self.chosen > self.experts:
            yield f"chosen: {self.chosen} of {self.experts} experts"

    @property
    def wholes(self) -> int:
        """Experts of which each may be whole on a GPU."""
        return self.experts

    def parameters(self, name: str, hidden: int, tp: int, ep: int = 1) -> Parameters:
        """Names and shapes on one of `tp` GPUs, or with whole experts of one of `ep`."""
        width = self.width if ep > 1 else -(-self.width // tp)
        experts = -(-self.experts // ep)
        yield f"{name}.router", (self.experts, hidden)
        if self.bias or self.router == "sigmoid":
            yield f"{name}.router_bias", (self.experts,)
        yield f"{name}.experts.up", (experts, 2 * width, hidden)
        yield f"{name}.experts.down", (experts, hidden, width)
        if self.bias:
            yield f"{name}.experts.up_bias", (experts, 2 * width)
            yield f"{name}.experts.down_bias", (experts, hidden)
        if self.shared:
            yield from _swiglu(f"{name}.shared", hidden, -(-self.shared // tp))
        if self.shared_gate:
            yield f"{name}.shared.gate", (1, hidden)

    def idle(self, hidden: int) -> int:
        """Parameters that a token does not meet: those of the experts it is not sent to."""
        one = 3 * self.width * hidden + (2 * self.width + hidden if self.bias else 0)
        return (self.experts - self.chosen) * one

    def forward(
        self, w: Weights, name: str, given: list[Tensor], layout: Layout, routing: Routing
    ) -> Tensor:
        """Of tokens (n, hidden), taken out of `given`: (n, hidden)."""
        x = given.pop()
        y = self._mixture(w, name, x, layout, routing)
        if self.shared:
            z = ops.linear(x, w[f"{name}.shared.up"])
            z = ops.gated("silu", *z.chunk(2, -1))
            z = ops.linear(z, w[f"{name}.shared.down"])
            if self.shared_gate:
                ops.write_(z, ops.linear(x, w[f"{name}.shared.gate"]), ops.times_sigmoid)
            if layout.dp > 1:
                all_reduce_(z, layout.tp)
            ops.add_(y, z)
            del z
        if layout.dp == 1:
            all_reduce_(y, layout.tp)
        return y

    def _mixture(
        self, w: Weights, name: str, x: Tensor, layout: Layout, routing: Routing
    ) -> Tensor:
        """The chosen experts' outputs, weighed and added: (n, hidden)."""
        routed = self._routed(w, name, x)
        # Pairs of a token and an expert. Of GPUs with whole experts each sends as many as comes.
        own = Fraction(x.shape[0] * self.chosen, 1 if layout.ep == 1 else layout.tp)
        pairs = own if layout.ep == 1 else own * routing.fullest
        read = ceil(routing.read * -(-self.experts // layout.ep))
        away = pairs * (1 - Fraction(1, layout.ep))
        given = x
        if layout.dp > 1:
            # In FP8 where the weights are.
            width, dtype = x.shape[1], x.dtype
            if w.stored == "fp8":
                width, dtype = width + SCALE * -(-width // SCALED), "fp8"
            given = _exchanged("dispatch", x, away, (ceil(pairs), width), dtype)
        y = self._grouped("experts_up", w, f"{name}.experts.up", given, routed, read, pairs)
        del given
        y = ops.gated(self.activation, *y.chunk(2, -1))
        y = self._grouped("experts_down", w, f"{name}.experts.down", y, routed, read, pairs)
        if layout.dp > 1:
            y = _exchanged("return", y, away, (ceil(own), x.shape[1]), x.dtype)
        y = x.tape.run(
            "combine", MEMORY, (y, routed), x.shape, x.dtype, lambda: _combined(y, routed)
        )
        if layout.dp > 1 and layout.tp > 1:
            # Each of a rank's GPUs has the sums of its share of the tokens.
            sent = ceil(Fraction(layout.tp - 1, layout.tp) * y.nbytes)
            x.tape.record("all_gather", COMM, (), y.nbytes, comm=sent)
        return y

    def _routed(self, w: Weights, name: str, x: Tensor) -> Tensor:
        """Which experts, then with which weights: (n, 2 chosen), 32 bits each."""
        bias = w[f"{name}.router_bias"] if self.bias or self.router == "sigmoid" else None
        logits = ops.linear(x, w[f"{name}.router"], bias if self.router == "softmax" else None)
        inputs = (logits,) if bias is None or self.router == "softmax" else (logits, bias)
        choose = self._by_sigmoid if self.router == "sigmoid" else self._by_softmax
        shape = (x.shape[0], 2 * self.chosen)
        return x.tape.run(
            "route", MEMORY, inputs, shape, "fp32", lambda: choose(*(t.data for t in inputs))
        )

    def _by_softmax(self, logits: Array) -> Array:
        ids = np.argsort(-logits, axis=-1, kind="stable")[:, : self.chosen]
        best = np.take_along_axis(logits, ids, -1)
        e = np.exp(best - best.max(-1, keepdims=True))
        return np.concatenate([ids, self.scale * e / e.sum(-1, keepdims=True)], -1)

    def _by_sigmoid(self, logits: Array, bias: Array) -> Array:
        scores = 1 / (1 + np.exp(-logits))
        ranked = scores + bias
        if self.groups > 1:
            grouped = ranked.reshape(len(ranked), self.groups, -1)
            worth = np.sort(grouped, -1)[..., -2:].sum(-1)
            best = np.argsort(-worth, axis=-1, kind="stable")[:, : self.chosen_groups]
            open_ = np.zeros(worth.shape, bool)
            np.put_along_axis(open_, best, True, -1)
            ranked = np.where(open_[..., None], grouped, -np.inf).reshape(ranked.shape)
        ids = np.argsort(-ranked, axis=-1, kind="stable")[:, : self.chosen]
        weights = np.take_along_axis(scores, ids, -1)
        return np.concatenate([ids, self.scale * weights / weights.sum(-1, keepdims=True)], -1)

    def _grouped(
        self,
        op: str,
        w: Weights,
        name: str,
        x: Tensor,
        routed: Tensor,
        read: int,
        pairs: Fraction,
    ) -> Tensor:
        """One matrix of each of this GPU's pairs of a token and an expert; x (n, in) or, a row a
        pair, (pairs, in)."""
        weight, bias = w[name], w[f"{name}_bias"] if self.bias else None
        rows, (_, out, width) = ceil(pairs), weight.shape

        def compute() -> Array:
            ids = routed.data[:, : self.chosen].astype(np.int64).reshape(-1)
            fed = x.data if len(x.data) == rows else np.repeat(x.data, self.chosen, 0)
            y = np.empty((rows, out), np.float32)
            for expert in np.unique(ids):
                mine = ids == expert
                y[mine] = fed[mine] @ weight.data[expert].T
                if bias is not None:
                    y[mine] += bias.data[expert]
            return y

        inputs = [x, routed, weight[:read], *([] if bias is None else [bias[:read]])]
        flops = ceil(2 * pairs * out * width)
        return x.tape.run(op, DENSE, inputs, (rows, out), w.dtype, compute, flops=flops)


def _exchanged(name: str, x: Tensor, away: Fraction, shape: Shape, dtype: str) -> Tensor:
    """Rows that come from other GPUs, of which `away` are sent to others."""
    sent = ceil(away * nbytes(shape[1:], dtype))
    return x.tape.run(name, COMM, (x,), shape, dtype, nothing, comm=sent)


def _swiglu(name: str, hidden: int, width: int) -> Parameters:
    yield f"{name}.up", (2 * width, hidden)
    yield f"{name}.down", (hidden, width)


def _combined(y: Tensor, routed: Tensor) -> Array:
    chosen = routed.shape[1] // 2
    parts = y.data.reshape(-1, chosen, y.shape[1])
    out: Array = (parts * routed.data[:, chosen:, None]).sum(1).astype(np.float32)
    return out
