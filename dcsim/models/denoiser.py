"""The denoiser of a diffusion model: what a family of them has to say of itself.

A family is one file in `denoisers/`, a class with a `family` tag whose fields are its
architecture; its members are YAML beside it, read by `diffusion.py`. All that is around a denoiser
(guidance, sampler, text encoders, VAE, tracing, pricing) knows this interface alone.

Latents are (batch, channels, frames, rows, columns).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from math import prod
from typing import Any, Literal

from dcsim.models.encoder import Encoder, Encoding
from dcsim.models.options import Option
from dcsim.models.parallel import ALONE
from dcsim.models.tape import MEMORY, Array, Tensor
from dcsim.models.weights import Parameters, Weights
from dcsim.reading.concept import Concept
from dcsim.spec import Layout

Latent = tuple[int, int, int]
"""Frames, rows and columns."""

Takes = Literal["nothing", "channels", "frames", "tokens", "chunks"]
"""How a network takes the latents of what a request brings: as channels beside those of the
latents; as the first frames of them; as tokens behind theirs; as chunks before theirs."""


@dataclass(frozen=True)
class Numerics:
    """In what the network computes: implementation options that change memory, not results."""

    dtype: str = "bf16"
    residual: str = "bf16"
    """Of the hidden states between blocks."""
    modulation: str = "bf16"
    """Of the normalised and modulated input of a block's halves."""
    kernel: str = "fused"
    others: Stale | None = None
    """K and V of all patches, where a stage of a pipeline is given one."""


class Stale:
    """K and V of a clip's patches in the blocks of a stage, each as it was last (PipeFusion)."""

    def __init__(self) -> None:
        self.tokens = 0
        """Of the patches that a pass does not have, on this GPU."""
        self._kept: dict[tuple[str, int], Tensor] = {}

    def joined(self, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The new parts (batch, tokens, heads, width) written among those of the other patches."""
        return tuple(self._joined(part, i) for i, part in enumerate(parts))

    def _joined(self, new: Tensor, number: int) -> Tensor:
        tape, (batch, tokens, *rest) = new.tape, new.shape
        key = (tape.module, number)
        if key not in self._kept:
            shape = (batch, tokens + self.tokens, *rest)
            self._kept[key] = tape.tensor(shape, new.dtype, None, "kv")
        tape.record("write", MEMORY, (new,), new.nbytes)
        return self._kept[key]

    @property
    def nbytes(self) -> int:
        """Held by it."""
        return sum(kept.storage.size for kept in self._kept.values())


class Denoiser(Concept, ABC):
    """A network that predicts noise or velocity; one with a tag is a family."""

    by = "family"

    # Fields of each family, with its own defaults; here they are none.
    heads: int
    """Attention heads."""
    channels: int
    """Channels of the latents that it is given."""
    text_width: int | None
    """Width of the encodings of a prompt; None where it takes class labels."""
    hears: int = 0
    """Width of the tokens of a clip that it listens to, which follow the encodings in its
    condition; 0 of all but those that make soundtracks."""

    @property
    @abstractmethod
    def grain(self) -> Latent:
        """Latent frames, rows and columns of which a latent must be a multiple."""

    @property
    @abstractmethod
    def frames(self) -> bool:
        """Whether it makes more than one frame."""

    @property
    @abstractmethod
    def blocks(self) -> int:
        """Blocks that a pass runs, each with a launch overhead."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Of the hidden states of an image's token."""

    def beside(self, words: int) -> int:
        """Elements of the hidden states of `words` text tokens that run beside the image's."""
        return 0

    @property
    def cut(self) -> tuple[str, ...]:
        """Fields that count blocks, which stages of a pipeline share out; none: they cannot."""
        return ()

    def stage(self, pp: int) -> Denoiser:
        """One of `pp` stages, as full as any: of each kind of blocks as many as it may have."""
        fewer = {name: -(-getattr(self, name) // pp) for name in self.cut}
        stage: Denoiser = replace(self, **fewer)  # type: ignore[type-var]
        return stage

    @property
    def copies(self) -> int:
        """Networks of that architecture that are loaded, of which each pass needs one."""
        return 1

    @property
    def early(self) -> Fraction:
        """Where there are two of them: of n steps the first network takes `1 + n x early`, rounded
        down."""
        return Fraction(1)

    @property
    def labelled(self) -> bool:
        """Whether its condition is a class; else it is text."""
        return False

    @property
    def takes(self) -> Takes:
        """How it takes what a request brings, other than as where to start from."""
        return "nothing"

    @property
    def shown(self) -> int:
        """Channels that a pass is given: the latents', and those of what is brought."""
        return self.channels

    def encodes(self, given: int, frames: int) -> int:
        """Frames that go through the VAE's encoder where `given` of a clip's are brought."""
        return given

    def brought(self, encoded: Tensor, latent: Latent) -> Tensor:
        """What is kept for every pass of the latents that were brought; `latent`: of the clip."""
        return encoded

    @property
    def chunk(self) -> int:
        """Latent frames that are denoised at once, with keys and values of those before; 0: all."""
        return 0

    def padded(self, latent: Latent) -> Latent:
        """A latent with so many frames more that patches divide them; they come first."""
        frames, rows, columns = latent
        return -(-frames // self.grain[0]) * self.grain[0], rows, columns

    def tokens(self, frames: int, rows: int, columns: int) -> int:
        """Patches of a latent of that size."""
        return prod(n // p for n, p in zip((frames, rows, columns), self.grain, strict=True))

    @abstractmethod
    def parameters(self, tp: int = 1) -> Parameters:
        """Names and shapes of the parameters that one of `tp` GPUs holds.

        Names of block i begin with `i.`.
        """

    def buffers(self) -> Parameters:
        """Names and shapes of tables that every GPU holds beside the parameters."""
        return iter(())

    def held(self, tp: int = 1) -> Parameters:
        """All that is in memory of one of `tp` GPUs before a pass."""
        return chain(self.parameters(tp), self.buffers())

    def options(self) -> Mapping[str, Option]:
        """Implementation options that the family has beside those of every diffusion model."""
        return {}

    def under(self, options: Mapping[str, Any]) -> Denoiser:
        """The network under resolved options: some change its parameters."""
        return self

    def wrong(self, layout: Layout) -> str | None:
        """Why the GPUs of a layout cannot share it, or None."""
        if self.heads % (layout.tp * layout.ulysses):
            swapped = f"sp {layout.sp}" + (f" / ring {layout.ring}" if layout.ring > 1 else "")
            return f"tp {layout.tp} x {swapped} does not divide {self.heads} attention heads"
        return None

    def unfit(self, encoders: Sequence[Encoder]) -> str | None:
        """Why it cannot be conditioned on what these encoders make, or None."""
        given = sum(each.out_width for each in encoders)
        return widths_differ("text_width:", self.text_width or 0, given)

    def condition(self, encodings: Sequence[Encoding]) -> tuple[Tensor, ...]:
        """What is kept of the encodings of a prompt, in order of the encoders, for `forward`."""
        return tuple(each.sequence for each in encodings)

    @abstractmethod
    def forward(
        self,
        w: Weights,
        latents: Tensor,
        steps: Array,
        condition: Sequence[Tensor],
        *,
        numerics: Numerics,
        layout: Layout = ALONE,
        guidance: float | None = None,
    ) -> Tensor:
        """The prediction: (batch, channels or twice as many, frames, rows, columns).

        `steps` (batch,) are timesteps; `condition` is what `condition` made, a branch a row, or
        class labels (batch,) of int64. `guidance` is the scale a distilled network is told.
        """


def widths_differ(
    what: str, wanted: int, given: int, giver: str = "its encoders give"
) -> str | None:
    """Why a network that takes so wide an encoding does not fit what gives another."""
    return None if wanted == given else f"{what} {wanted}, but {giver} {given}"
