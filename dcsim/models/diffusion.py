"""The diffusion models, as data: `denoisers/*.yaml`, a family a file.

A model is a denoiser of some family, a VAE and text encoders by name, the request it is mostly
asked for, and the defaults of its options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from dcsim.models import denoisers, library, text, vae
from dcsim.models.audio import Audio
from dcsim.models.denoiser import Denoiser, widths_differ
from dcsim.models.options import DIT, Option
from dcsim.models.pipeline import Networks, Prompt
from dcsim.models.shapes import Clip
from dcsim.reading.concept import Concept, Count
from dcsim.reading.errors import SpecError, did_you_mean
from dcsim.reading.forms import Word
from dcsim.reading.tree import Node, read_yaml
from dcsim.spec.draws import Resolution, Size
from dcsim.spec.shapes import Input, frames_given

SAMPLERS = {"noise": ("ddpm", "ddim"), "velocity": ("rectified_flow",)}
"""How a step can follow from what a network predicts."""


@dataclass(frozen=True)
class PromptFields(Concept):
    """A text encoder and how long prompts are padded for it."""

    encoder: Annotated[str, Word(text.names())]
    tokens: Count


@dataclass(frozen=True)
class RequestFields(Concept):
    """A typical request."""

    resolution: Annotated[Size, Resolution()]
    steps: Count
    frames: Count = 1
    input: Annotated[str | int | None, Input()] = None
    """What it brings, as in a job's shape."""


@dataclass(frozen=True)
class DiffusionFields(Concept):
    """One model as a file has it."""

    title: str
    source: str
    """Where the figures come from."""
    denoiser: Denoiser
    vae: Annotated[str, Word(vae.names())]
    request: RequestFields
    prompts: tuple[PromptFields, ...] = ()
    """Its text encoders; none, where its condition is a class."""
    audio: Audio | None = None
    """What makes the soundtrack of its clips; none, where they are silent."""
    predicts: Literal["noise", "velocity"] = "velocity"
    """What `sampler` can be: `ddpm` or `ddim` of noise, `rectified_flow` of velocity."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Implementation options in which it differs from the others."""
    aliases: tuple[str, ...] = ()
    """Other names it is known by; models that differ in their weights alone."""

    def check(self) -> None:
        if wrong := list(self._wrong()):
            raise ValueError("; ".join(wrong))

    def _wrong(self) -> Iterator[str]:
        found, network = vae.get(self.vae), self.denoiser
        if found.channels != network.channels:
            had = f"{self.vae} has {found.channels} latent channels"
            yield f"vae: {had}, the denoiser {network.channels}"
        if network.labelled == bool(self.prompts):
            due = "none is due, its condition is a class" if network.labelled else "none is given"
            yield f"prompts: {due}"
        elif not network.labelled and (text := network.unfit([p.encoder for p in self.texts()])):
            yield f"denoiser.{text}"
        if network.hears:
            yield "denoiser.hears: is of the head of a soundtrack, under audio"
        if self.audio is not None:
            yield from self._audio_wrong(self.audio)
        table = self._table()
        for name, value in self.defaults.items():
            if name not in table:
                yield f"defaults.{name}: unknown option: {did_you_mean(name, table)}"
            elif text := table[name].wrong(value):
                yield f"defaults.{name}: {text}"

    def _audio_wrong(self, audio: Audio) -> Iterator[str]:
        """What does not fit between a soundtrack's networks and the clip's."""
        head, network, made = audio.head, self.denoiser, audio.decoder.channels
        if network.labelled:
            yield "audio: needs a prompt, whose words it is told"
        if not network.frames:
            yield "audio: an image has none"
        if head.channels != made:
            yield f"audio.head.channels: {head.channels}, but its decoder takes {made}"
        given = network.channels * prod(network.grain)
        if text := widths_differ("hears:", head.hears, given, "a patch of the clip has"):
            yield f"audio.head.{text}"
        if prompts := self.texts():
            first = prompts[0].encoder.out_width
            if text := widths_differ("text_width:", head.text_width or 0, first):
                yield f"audio.head.{text}"

    def texts(self) -> tuple[Prompt, ...]:
        """Its text encoders."""
        return tuple(Prompt(p.encoder, text.get(p.encoder), p.tokens) for p in self.prompts)

    def networks(self) -> Networks:
        """The networks, under default options."""
        return Networks(self.denoiser, vae.get(self.vae), self.texts(), self.audio)

    def _table(self) -> dict[str, Option]:
        allowed = SAMPLERS[self.predicts]
        found = vae.get(self.vae)
        own = {
            "sampler": replace(DIT["sampler"], default=allowed[0], allowed=allowed),
            "vae_dtype": replace(DIT["vae_dtype"], default=found.dtype),
            "vae_tiling": replace(DIT["vae_tiling"], default=found.tiling, allowed=found.tilings),
        }
        if (kept := found.decoder.cached) != "none":
            kinds = ("renewed", "replaced")
            own["vae_cache"] = replace(DIT["vae_cache"], default=kept, allowed=kinds)
        audio = self.audio.options() if self.audio is not None else {}
        return {**DIT, **own, **audio, **self.denoiser.options()}

    def options(self) -> Mapping[str, Option]:
        """Implementation options, those of the family among them, with this model's defaults."""
        table = self._table()
        changed = {n: replace(table[n], default=value) for n, value in self.defaults.items()}
        return table | changed

    def clip(self) -> Clip:
        """The typical request."""
        width, height = self.request.resolution
        frames = self.request.frames
        given = frames_given(self.request.input, frames)
        return Clip(width, height, frames, self.request.steps, given)


@dataclass(frozen=True)
class DiffusionFile(Concept):
    """A file of them."""

    models: Mapping[str, DiffusionFields]


def is_one(path: Path) -> bool:
    """Whether a file holds diffusion models: whether its first model has a denoiser."""
    try:
        models = read_yaml(path, []).child("models")
    except SpecError:
        return False  # whoever reads it next says why
    entries = list((models.map or {}).values()) if isinstance(models, Node) else []
    return bool(entries) and entries[0].child("denoiser") is not None


def read(path: Path) -> Mapping[str, DiffusionFields]:
    """The models of a file. ModelError has all that is wrong with it, with places in the file."""
    return library.read(path, DiffusionFile).models


def names() -> Mapping[str, library.Entry]:
    """Where each shipped model stands, by its name and its aliases."""
    return library.index(denoisers.FOLDER)
