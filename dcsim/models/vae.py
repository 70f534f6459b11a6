"""Autoencoders: pixels to latents and back, as data (`vaes/*.yaml`).

The layers are those of the public code that a file names (diffusers' classes), with what it
copies and holds; see `autoencoder/`. So is how a clip is cut: into tiles that overlap in space,
runs of frames that overlap in time, or chunks of frames with features kept from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Literal

from dcsim.models import library
from dcsim.models.autoencoder import resampling, special
from dcsim.models.autoencoder.layers import Layer, expanded, sequence_shapes
from dcsim.models.autoencoder.passing import Half, Kept
from dcsim.models.tape import Shape
from dcsim.reading.concept import Concept, Count, CountOrZero, Entry, Least, Positive

KINDS = (resampling, special)
"""Where the layers are that a file can name, besides `layers`."""

Tiling = Literal["none", "spatial", "temporal", "spacetime"]


@dataclass(frozen=True)
class Coder(Half):
    """An encoder or a decoder."""

    layers: Annotated[tuple[Layer, ...], Least(1)] = field(kw_only=True)
    """From what comes in to what goes out."""

    @property
    def blocks(self) -> int:
        """Residual and attention blocks, for the launch overhead."""
        return sum(layer.blocks for layer in expanded(self.layers))

    def width(self, width: int) -> int:
        """Channels that go out."""
        for layer in self.layers:
            width = layer.width(width)
        return width


@dataclass(frozen=True)
class Tile(Concept):
    """Tiles in space, which overlap and are blended; those at the far borders are smaller."""

    size: Annotated[tuple[Count, ...], Least(2)]
    """Height and width in pixels."""
    stride: Annotated[tuple[Count, ...], Least(2)]
    """From one to the next, in pixels."""

    def check(self) -> None:
        if len(self.size) != 2 or len(self.stride) != 2:
            raise ValueError("size and stride have a height and a width each")
        if any(s > n for s, n in zip(self.stride, self.size, strict=True)):
            raise ValueError(f"the stride {self.stride} leaves gaps between tiles of {self.size}")


@dataclass(frozen=True)
class Cut(Concept):
    """How the frames of a clip are cut."""

    by = "kind"


@dataclass(frozen=True)
class Overlapping(Cut):
    """Runs of frames, which overlap and are blended; each is `size` frames and the one before."""

    tag = "overlapping"
    size: Count
    """Frames."""
    stride: Count
    """From one run to the next, in frames."""


@dataclass(frozen=True)
class Chunks(Cut):
    """Frames that follow those before, whose features are kept."""

    tag = "chunks"
    size: Count
    """Latent frames of a chunk; those that are over go with the first."""
    alone: bool = False
    """The first pixel frame is a chunk by itself."""
    growing: bool = False
    """What has been made is copied with each chunk that is added; else they are joined once."""

    def sizes(self, frames: int, scale: int) -> tuple[int, ...]:
        """Frames of each chunk; `scale` is 1 for latent frames, else pixel frames of one."""
        size = self.size * scale
        if self.alone:
            return (1, *(size,) * ((frames - 1) // size))
        return (min(size, frames) + frames % size if frames > size else frames,) + (size,) * max(
            0, frames // size - 1
        )


@dataclass(frozen=True)
class Pieces(Cut):
    """Runs of frames, each a clip of its own: nothing is kept, nothing blended."""

    tag = "pieces"
    size: Count
    """Frames of a piece; the last may have fewer."""


@dataclass(frozen=True, kw_only=True)
class Vae(Concept):
    """An autoencoder."""

    name: Annotated[str, Entry()] = ""
    title: str
    """What it is."""
    aliases: tuple[str, ...] = ()
    """Other names it is known by; autoencoders that differ in their weights alone."""
    source: str
    """Where the figures come from, and whose code it is."""
    channels: Count
    """Latent channels."""
    space: Count
    """Pixels of a latent cell's edge."""
    time: Count = 1
    """Frames of a latent frame, but for the first, which has one."""
    scale: Positive = 1.0
    """What latents are multiplied by to have unit variance."""
    dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    """In what it is run by default."""
    tiling: Tiling = "none"
    """What is cut by default."""
    tile: Tile
    """Of `spatial` tiling."""
    frames: Cut | None = None
    """How frames are cut: in overlapping runs for `temporal` tiling, or always in chunks or
    pieces."""
    patch: Count = 1
    """Pixels of an edge that are folded into channels before the encoder and after the decoder."""
    lead: CountOrZero = 0
    """Frames that the decoder makes in front and that are dropped."""
    clamped: bool = False
    """Pixels are clamped in a copy at the end."""
    encoder: Coder
    """Pixels to latents (the mean and the variance of each, where there are twice as many)."""
    decoder: Coder
    """Latents to pixels."""

    @property
    def video(self) -> bool:
        """Whether it takes clips."""
        return self.time > 1

    @property
    def tilings(self) -> tuple[Tiling, ...]:
        """The values of the option `vae_tiling` that it has."""
        if isinstance(self.frames, Overlapping):
            return ("none", "spatial", "temporal", "spacetime")
        return ("none", "spatial")

    @property
    def cut(self) -> str:
        """How it is cut, in words."""
        (height, width), (down, across) = self.tile.size, self.tile.stride
        said = [f"tiles of {height} x {width} every {down} x {across}"]
        match self.frames:
            case Overlapping(size, stride):
                said.append(f"runs of {size} + 1 frames every {stride}")
            case Chunks(size):
                said.append(
                    f"chunks of {size} latent frame{'s' if size > 1 else ''}, features kept"
                )
            case Pieces(size):
                said.append(f"pieces of {size} frames")
        return "; ".join(said) + (f"; by default {self.tiling}" if self.tiling != "none" else "")

    def keeping(self, kept: Kept) -> Vae:
        """Whose halves keep features of the frames before in that way."""
        if self.decoder.cached == kept:
            return self
        encoder, decoder = (replace(half, cached=kept) for half in (self.encoder, self.decoder))
        return replace(self, encoder=encoder, decoder=decoder)

    @property
    def blocks(self) -> int:
        """Residual and attention blocks of the decoder, for the launch overhead."""
        return self.decoder.blocks

    def latent(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip; ValueError where they do not divide."""
        if self.over(frames) or height % self.space or width % self.space:
            raise ValueError(f"{frames} frames of {width}x{height} do not divide")
        whole, rest = divmod(frames, self.piece) if self.piece else (0, frames)
        count = whole * self._of_piece(self.piece) + self._of_piece(rest)
        return count, height // self.space, width // self.space

    @property
    def piece(self) -> int:
        """Frames of a piece that is a clip of its own; 0: the whole clip is one."""
        return self.frames.size if isinstance(self.frames, Pieces) else 0

    def _of_piece(self, frames: int) -> int:
        """Latent frames of so many."""
        return 1 + (frames - 1) // self.time if frames else 0

    def over(self, frames: int) -> int:
        """Frames that are too many: of a clip, or of its last piece, it takes 1 and so many times
        the frames of a latent frame."""
        last = frames % self.piece if self.piece else frames
        return (last - 1) % self.time if last else 0

    def check(self) -> None:
        if self.piece and (self.piece - 1) % self.time:
            raise ValueError(f"frames: {self.piece} is not 1 + {self.time}k")
        wanted = 3 * self.patch**2
        if (made := self.decoder.width(self.channels)) != wanted:
            raise ValueError(f"decoder: {made} channels come out, {wanted} are due")
        made = self.encoder.width(wanted)
        if made not in (self.channels, self.channels + 1, 2 * self.channels):
            raise ValueError(
                f"encoder: {made} channels come out, for {self.channels} of the latent"
            )


def parameters(c: Vae) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the parameters, encoder and decoder."""
    wide = 3 * c.patch**2
    yield from sequence_shapes(c.encoder, "encoder", c.encoder.layers, wide, c.channels)
    yield from sequence_shapes(c.decoder, "decoder", c.decoder.layers, c.channels, c.channels)


@dataclass(frozen=True)
class VaeFile(Concept):
    """A file of autoencoders."""

    vaes: Mapping[str, Vae]
    """By name."""


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, Vae]:
    """Every autoencoder that dcsim ships, by name."""
    found: Mapping[str, Vae] = library.shipped("vaes", VaeFile, lambda file: file.vaes)
    return found


def names() -> tuple[str, ...]:
    """Names and aliases of all of them."""
    return tuple(library.index("vaes"))


def get(name: str) -> Vae:
    """The autoencoder of that name or alias; ModelError with the nearest where there is none."""
    found: Vae = library.named("vaes", name, "VAE", VaeFile, lambda file: file.vaes)
    return found
