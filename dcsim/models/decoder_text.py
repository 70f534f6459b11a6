"""A language model as a text encoder: its hidden states, of every token of the prompt.

As transformers runs it with a KV cache: keys and values are held until the last state is there, and
with `output_hidden_states` the states of every layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from dcsim.models import language, library, llm, ops
from dcsim.models.cache import Cache
from dcsim.models.encoder import Encoder, Encoding
from dcsim.models.llm import LlmConfig
from dcsim.models.tape import Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import CountOrZero
from dcsim.reading.forms import Word


@dataclass(frozen=True)
class DecoderText(Encoder):
    """The hidden states of a decoder of `llms/`."""

    tag = "decoder"

    model: Annotated[str, Word(tuple(library.index("llms")))]
    """Its architecture."""
    skip: CountOrZero = 0
    """Layers after the one whose states are taken; 0: the last, and normed."""
    template: CountOrZero = 0
    """Tokens of a template before the prompt: encoded, and then cut off."""
    states: bool = True
    """Whether the states of every layer are held."""
    idle: CountOrZero = 0
    """Parameters that are loaded with it and never used by a prompt: a head, a vision tower."""

    def check(self) -> None:
        if self.skip and not self.states:
            raise ValueError(f"states: false, but the states before the last {self.skip} are taken")

    @property
    def config(self) -> LlmConfig:
        """The architecture."""
        return language.named(self.model).config()

    @property
    def out_width(self) -> int:
        return self.config.hidden

    @property
    def blocks(self) -> int:
        return self.config.layers

    def parameters(self) -> Iterator[tuple[str, Shape]]:
        for name, shape in llm.parameters(self.config):
            if name != "head":
                yield name, shape
        if self.idle:
            yield "idle", (self.idle,)

    def encode(self, w: Weights, ids: Tensor) -> Encoding:
        c, tape = self.config, ids.tape
        batch, tokens = ids.shape
        if batch != 1:
            raise ValueError("a decoder encodes one prompt at a time")
        count = self.template + tokens
        if tape.execute and self.template:
            raise ValueError("the template of a prompt has no ids: it is counted, not executed")
        words = tape.tensor((count,), "int64", ids.data[0] if tape.execute else None)
        x = llm.embedded(c, w, words)
        cache = Cache(w.dtype, layers=[[] for _ in c.blocks])
        states = [ops.copy(x)] if self.states else []
        for i in range(c.layers):
            llm.pass_block(c, w, i, x, cache)
            if self.states:
                states.append(ops.copy(x))
        chosen = states[c.layers - self.skip] if self.states else x
        if not self.skip:
            chosen = ops.rms_norm(chosen, w["norm"], c.eps)
        return Encoding(ops.copy(chosen[self.template :], (1, tokens, c.hidden)))
