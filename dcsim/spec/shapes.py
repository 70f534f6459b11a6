"""What requests ask for: a clip of a diffusion model, tokens of an LLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from dcsim.reading.concept import Concept, Fields, concept_schema, defined, doc_of, keys_of
from dcsim.reading.errors import did_you_mean
from dcsim.reading.forms import LATER, Form, Key, Number, Reading, Schema, Steps
from dcsim.reading.tree import Node
from dcsim.spec.draws import Draw, Fixed, FromLog, Numbers, Sizes

INPUTS = ("image", "video")


@dataclass(frozen=True)
class Input(Number):
    """`image`, `video` or a number of frames."""

    low: float | None = 1
    whole: bool = True

    def parse(self, value: Any) -> str | int:
        if not isinstance(value, str):
            return int(super().parse(value))
        if value not in INPUTS:
            near = did_you_mean(value, INPUTS)
            raise ValueError(f"{value!r} is not allowed; {near}, or a number of frames")
        return value

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {"anyOf": [{"type": "string", "enum": list(INPUTS)}, super().schema(defs)]}


def frames_given(given: str | int | None, frames: int) -> int:
    """How many first frames of a clip of `frames` an `input` is; 0 of none."""
    if isinstance(given, int):
        return given
    return {None: 0, "image": 1, "video": frames}[given]


class Shape(Concept):
    """What a request asks for: of a diffusion model resolution, frames and steps; of an LLM
    prompt and output tokens."""


ONE: Draw = Fixed(1)


@dataclass(frozen=True)
class ClipShape(Shape):
    """Shapes of the requests to a diffusion model: an image has 1 frame."""

    resolution: Sizes = LATER
    """Of a diffusion model: width x height in pixels, or a choice of such."""
    frames: Numbers = ONE
    """Of a diffusion model: frames of the clip; 1, an image, is the default."""
    steps: Numbers = LATER
    """Of a diffusion model: denoising steps."""
    input: Annotated[str | int | None, Input()] = None
    """Of a diffusion model: what a request brings beside its text, an `image`, a whole clip
    (`video`), or so many first frames of the clip to go on from. An image model is given an image
    to edit, a video model one to animate or a clip to edit."""
    strength: Annotated[float, Number(above=0, high=1)] = 1.0
    """Of an edit: the share of the steps that is run, over noise on what it starts from."""

    def check(self) -> None:
        _needs(self, "resolution", "steps")
        if self.strength != 1 and self.input is None:
            raise ValueError("strength needs input: what the edit starts from")


@dataclass(frozen=True)
class TokenShape(Shape):
    """Shapes of the requests to an LLM, in tokens."""

    prompt: Numbers = LATER
    """Of an LLM: prompt tokens."""
    output: Numbers = LATER
    """Of an LLM: output tokens."""

    def check(self) -> None:
        _needs(self, "prompt", "output")


@dataclass(frozen=True)
class AsTraced(ClipShape):
    """The one request that a trace file was recorded of."""

    def check(self) -> None:
        pass


def is_trace(model: str | None) -> bool:
    """Whether a model is named by the file of a memory trace."""
    return model is not None and model.endswith(TRACE_SUFFIX)


TRACE_SUFFIX = ".npz"


def _needs(concept: Concept, *names: str) -> None:
    missing = [name for name in names if getattr(concept, name) is None]
    if missing:
        raise ValueError(f"needs {' and '.join(missing)}")


@dataclass(frozen=True)
class OneShape(Form):
    """A shape: its keys tell which kind of model is asked."""

    def of(self, node: Node) -> Form:
        """The form of the kind that is asked; of an LLM where nothing tells."""
        clip = node.map is not None and not node.map.keys().isdisjoint(keys_of(ClipShape))
        return Fields(ClipShape if clip else TokenShape)

    def read(self, node: Node, path: Steps, reading: Reading, name: str = "") -> Any:
        clip, tokens = (
            [key for key in keys_of(kind) if key in (node.map or {})]
            for kind in (ClipShape, TokenShape)
        )
        if clip and tokens:
            message = (
                f"{', '.join(clip)} (a diffusion model's) and {', '.join(tokens)} (an LLM's) "
                "do not go together"
            )
            return reading.wrong(node.place, path, message)
        return self.of(node).read(node, path, reading)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {"$ref": defined("Shape", defs, lambda: self._schema(defs))}

    def _schema(self, defs: dict[str, Schema]) -> Schema:
        clip, tokens = (concept_schema(kind, defs) for kind in (ClipShape, TokenShape))
        both = {"properties": clip["properties"] | tokens["properties"]}
        return clip | both | {"description": doc_of(Shape)}

    def keys(self, node: Node) -> Mapping[str, Key]:
        return self.of(node).keys(node)


AS_LOGGED = TokenShape(FromLog(), FromLog())
