"""The models that can be named in a scenario, and how their options are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from dcsim.models import diffusion, language, library, llm, vae
from dcsim.models.llm import LlmConfig
from dcsim.models.options import ModelError, Option, resolve
from dcsim.models.pipeline import Networks
from dcsim.models.shapes import RequestShape, Turn
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
        network = self.network
        coded = network.vae.keeping(options["vae_cache"])
        audio = network.audio if options.get("audio") else None
        return replace(network, denoiser=network.denoiser.under(options), vae=coded, audio=audio)

    @property
    def needs_image(self) -> bool:
        """Whether each of its requests brings an image, said or not."""
        return isinstance(self.network, Networks) and self.network.denoiser.takes == "channels"

    @property
    def params(self) -> int:
        """Parameters of the transformer itself, with default options."""
        return self.all_params()["transformer"]

    def all_params(self) -> dict[str, int]:
        """Parameters by network, with default options."""
        network = self.built(self.resolve())
        if isinstance(network, LlmConfig):
            return {"transformer": count(llm.parameters(network))}
        found = {
            "transformer": network.denoiser.copies * count(network.denoiser.parameters()),
            "vae": count(vae.parameters(network.vae)),
        }
        if network.prompts:
            found["text"] = sum(count(each.encoder.parameters()) for each in network.prompts)
        if network.audio is not None:
            audio = network.audio
            found["audio"] = count(audio.head.parameters()) + count(audio.decoder.parameters())
        return found


def _clip(name: str, fields: diffusion.DiffusionFields) -> Model:
    networks, options = fields.networks(), fields.options()
    return Model(name, "dit", fields.title, fields.source, networks, options, fields.clip())


def _llm(name: str, fields: language.LlmFields) -> Model:
    config = fields.config()
    described = fields.description(config)
    options = fields.options(config)
    return Model(name, "llm", described, fields.source, config, options, Turn(1024, 256))


def _index() -> dict[str, library.Entry]:
    return {**diffusion.names(), **library.index("llms")}


def names() -> tuple[str, ...]:
    """All models, diffusion models first, then language models."""
    return tuple(name for name, (_, own) in _index().items() if name == own)


def aliases() -> dict[str, str]:
    """Other names, and the models they mean."""
    return {name: own for name, (_, own) in _index().items() if name != own}


@cache
def _family(path: Path) -> Mapping[str, Model]:
    """The models of a shipped file, read when one of them is asked for."""
    if path.parent.name == "llms":
        models = library.ours(path, language.LlmFile).models
        return {name: _llm(name, fields) for name, fields in models.items()}
    clips = library.ours(path, diffusion.DiffusionFile).models
    return {name: _clip(name, fields) for name, fields in clips.items()}


def get(name: str) -> Model:
    """The model of that name or alias, or the one of a file, `FILE.yaml` or `FILE.yaml#NAME`.

    ModelError with the nearest name where there is none, with all that is wrong with a file.
    """
    if is_file(name):
        return _from_file(name, stamp(name))
    index = _index()
    if name not in index:
        raise ModelError([("model", f"no model {name!r}: {did_you_mean(name, index)}")])
    path, own = index[name]
    return _family(path)[own]


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
    path = Path(file)
    found: Mapping[str, Model]
    if diffusion.is_one(path):
        found = {each: _clip(name, fields) for each, fields in diffusion.read(path).items()}
    else:
        found = {each: _llm(name, more) for each, more in language.read(path).items()}
    if not wanted and len(found) == 1:
        wanted = next(iter(found))
    if wanted not in found:
        message = f"{file} has {', '.join(found) or 'no model'}; name one: {file}#NAME"
        raise ModelError([("model", message)])
    return found[wanted]
