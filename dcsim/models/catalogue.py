"""The models that can be named in a scenario, and how their options are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dcsim.models import dit, language, llm, t5, vae
from dcsim.models.dit import DitConfig
from dcsim.models.llm import LlmConfig
from dcsim.models.options import (
    DIT,
    IMAGE_SAMPLERS,
    VIDEO_SAMPLERS,
    ModelError,
    Option,
    resolve,
)
from dcsim.models.pipeline import Networks
from dcsim.models.shapes import Clip, RequestShape, Turn
from dcsim.models.t5 import T5Config
from dcsim.models.vae import VaeConfig
from dcsim.models.weights import count
from dcsim.reading.errors import did_you_mean


@dataclass(frozen=True)
class Model:
    """A model by name."""

    name: str
    kind: str
    """`dit` or `llm`."""
    description: str
    source: str
    """Where its figures come from."""
    network: Networks | LlmConfig
    options: Mapping[str, Option]
    """Implementation options with their defaults."""
    request: RequestShape
    """A typical request; others have the same type."""

    def resolve(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """All options, `given` over the defaults; ModelError lists what is wrong."""
        return resolve(self.options, given or {})

    def built(self, options: Mapping[str, Any]) -> Networks | LlmConfig:
        """The network under resolved options: some of them change its parameters."""
        if isinstance(self.network, LlmConfig):
            return self.network
        guidance = options["cfg"] == "distilled"
        config = replace(self.network.dit, guidance=guidance, embedders=options["embedders"])
        return replace(self.network, dit=config)

    @property
    def params(self) -> int:
        """Parameters of the transformer itself, with default options."""
        if isinstance(self.network, LlmConfig):
            return count(llm.parameters(self.network))
        return count(dit.parameters(self.network.dit))

    def all_params(self) -> dict[str, int]:
        """Parameters by network, with default options."""
        if isinstance(self.network, LlmConfig):
            return {"transformer": self.params}
        found = {"transformer": self.params, "vae": count(vae.parameters(self.network.vae))}
        if self.network.text is not None:
            found["text"] = count(t5.parameters(self.network.text))
        return found


_PEEBLES = "Peebles & Xie 2023, Scalable Diffusion Models with Transformers, table 1"
_SIZES = {"s": (12, 384, 6), "b": (12, 768, 12), "l": (24, 1024, 16), "xl": (28, 1152, 16)}


def _image(size: str, patch: int) -> Model:
    depth, hidden, heads = _SIZES[size]
    config = DitConfig(depth, hidden, heads, (1, patch, patch))
    options = dict(DIT)
    options["sampler"] = replace(DIT["sampler"], default="ddpm", allowed=IMAGE_SAMPLERS)
    return Model(
        f"dit-{size}-{patch}",
        "dit",
        f"DiT-{size.upper()}/{patch}, images of an ImageNet class, SD VAE",
        _PEEBLES,
        Networks(config, VaeConfig()),
        options,
        Clip(256, 256, 1, 250),  # as the DiT paper has it
    )


def _video(name: str, depth: int, hidden: int, heads: int, modulation: str) -> Model:
    config = DitConfig(
        depth,
        hidden,
        heads,
        (1, 2, 2),
        channels=16,
        out_channels=16,
        classes=None,
        text_width=4096,
        modulation=modulation,
        video=True,
    )
    options = dict(DIT)
    options["sampler"] = replace(DIT["sampler"], default="rectified_flow", allowed=VIDEO_SAMPLERS)
    options["vae_tiling"] = replace(DIT["vae_tiling"], default="spacetime")
    options["bits_per_pixel"] = replace(DIT["bits_per_pixel"], default=0.15)
    return Model(
        name,
        "dit",
        f"reference spacetime DiT, {depth} blocks of width {hidden}, T5-XXL, causal 3-D VAE",
        "dcsim's reference architecture, no published model",
        Networks(config, VaeConfig(channels=16, video=True, scale=1.0), T5Config(), 512),
        options,
        Clip(832, 480, 81, 50),  # 480p, as Wan has it by default
    )


def _llm(name: str, fields: language.LlmFields) -> Model:
    config = fields.config()
    described = fields.description(config)
    options = fields.options(config)
    return Model(name, "llm", described, fields.source, config, options, Turn(1024, 256))


_MODELS = {
    m.name: m
    for m in (
        *(_image(size, patch) for size in _SIZES for patch in (2, 4, 8)),
        _video("video-dit-xl", 28, 1152, 16, "block"),
        _video("video-dit-2b", 28, 2048, 32, "shared"),
        _video("video-dit-13b", 48, 4096, 32, "shared"),
        *(_llm(name, fields) for name, fields in language.shipped().items()),
    )
}


ALIASES = {alias: name for name, fields in language.shipped().items() for alias in fields.aliases}
"""Other names, and the models they mean."""


def names() -> tuple[str, ...]:
    """All models, images first, then video, then language models."""
    return tuple(_MODELS)


def get(name: str) -> Model:
    """The model of that name or alias, or the one of a file, `FILE.yaml` or `FILE.yaml#NAME`.

    ModelError with the nearest name where there is none, with all that is wrong with a file.
    """
    if is_file(name):
        return _from_file(name, stamp(name))
    found = _MODELS.get(ALIASES.get(name, name))
    if found is None:
        known = [*_MODELS, *ALIASES]
        raise ModelError([("model", f"no model {name!r}: {did_you_mean(name, known)}")])
    return found


def is_file(name: str) -> bool:
    """Whether a model is named by its file."""
    return name.partition("#")[0].endswith((".yaml", ".yml"))


def stamp(name: str) -> int:
    """When the file of a model was last changed, ns; 0 for one that dcsim ships."""
    if not is_file(name):
        return 0
    file = name.partition("#")[0]
    try:
        return Path(file).stat().st_mtime_ns
    except OSError as error:
        raise ModelError([("model", f"{file}: {error.strerror or error}")]) from None


@lru_cache(maxsize=16)
def _from_file(name: str, changed: int) -> Model:
    file, _, wanted = name.partition("#")
    found = language.read(Path(file))
    if not wanted and len(found) == 1:
        wanted = next(iter(found))
    if wanted not in found:
        message = f"{file} has {', '.join(found) or 'no model'}; name one: {file}#NAME"
        raise ModelError([("model", message)])
    return _llm(name, found[wanted])
