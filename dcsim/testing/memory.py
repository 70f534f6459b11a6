"""Strategy for memory traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from hypothesis import strategies as st

from dcsim.spec import Layout
from dcsim.testing.fit import Extent, clip_sizes, kind_of
from dcsim.testing.ladders import Count, count
from dcsim.testing.mixes import MODELS
from dcsim.traces import Clip, MemoryTrace, Turn, trace

__all__ = ["DrawnTrace", "memory_traces"]

Draw = Any


@dataclass(frozen=True, eq=False, repr=False)
class DrawnTrace(MemoryTrace):
    """A memory trace that prints as the call that makes it; else it would print every op."""

    call: str = ""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.call)

    def __repr__(self) -> str:
        return self.call

    def plain(self) -> MemoryTrace:
        """The trace itself."""
        return MemoryTrace(**{each.name: getattr(self, each.name) for each in fields(MemoryTrace)})

    def __eq__(self, other: object) -> bool:
        theirs = other.plain() if isinstance(other, DrawnTrace) else other
        return self.plain() == theirs

    __hash__ = None  # type: ignore[assignment]

    def scale(self, *, memory: float = 1.0, compute: float = 1.0) -> MemoryTrace:
        """As that of a `MemoryTrace`."""
        return self.plain().scale(memory=memory, compute=compute)


def memory_traces(
    *,
    models: Sequence[str] = MODELS,
    prompt: Count = (1, 3000),
    output: Count = (1, 150),
    chunk: Sequence[int] = (64, 512, 2048),
    resolutions: Sequence[str] = ("256x256", "256x128", "512x512"),
    frames: Sequence[int] = (1, 5, 9),
    steps: Count = (1, 20),
    gpus: int = 4,
) -> st.SearchStrategy[MemoryTrace]:
    """Memory traces of reference models: small shapes, layouts of at most `gpus` GPUs.

    A trace prints as the call of `dcsim.traces.trace` that makes it. Shapes that a model cannot
    make (several frames of an image model) are not drawn.
    """
    turns = st.builds(Turn, count(prompt), count(output), st.sampled_from(list(chunk)))
    sizes = [tuple(map(int, size.split("x"))) for size in resolutions]
    asked: list[st.SearchStrategy[MemoryTrace]] = []
    for model in models:
        if kind_of(model) == "llm":
            layouts = [Layout(tp=n) for n in (1, 2, 4) if n <= gpus]
            asked.append(_traces(model, _TURNS, turns, layouts))
            continue
        clips = [(w, h, f) for w, h in sizes for f in frames if _goes(model, (w, h, f))]
        if clips:
            layouts = [Layout(sp=s, cfg=c) for c in (1, 2) for s in (1, 2) if s * c <= gpus]
            shapes = st.builds(_clip, st.sampled_from(clips), count(steps))
            asked.append(_traces(model, _CLIPS, shapes, layouts))
    return st.one_of(asked)


@st.composite
def _traces(
    draw: Draw,
    model: str,
    options: st.SearchStrategy[dict[str, Any]],
    shapes: st.SearchStrategy[Any],
    layouts: Sequence[Layout],
) -> DrawnTrace:
    given, shape, layout = draw(options), draw(shapes), draw(st.sampled_from(list(layouts)))
    traced = trace(model, given, shape, layout)
    call = f"trace({model!r}, {given}, {shape}, {layout})"
    return DrawnTrace(
        **{each.name: getattr(traced, each.name) for each in fields(traced)}, call=call
    )


_TURNS = st.fixed_dictionaries(
    {},
    optional={
        "kv_dtype": st.just("fp8"),
        "weights_dtype": st.sampled_from(["fp8", "fp4"]),
        "dtype": st.just("fp16"),
    },
)
_CLIPS = st.fixed_dictionaries(
    {},
    optional={
        "cfg": st.just("sequential"),
        "attention": st.just("math"),
        "residual_dtype": st.just("fp32"),
        "vae_dtype": st.just("fp32"),
        "vae_tiling": st.sampled_from(["none", "spatial"]),
        "conv_workspace": st.just("none"),
        "artifact": st.sampled_from(["raw", "latent"]),
    },
)


def _clip(size: tuple[int, int, int], steps: int) -> Clip:
    return Clip(*size, steps)


def _goes(model: str, clip: Extent) -> bool:
    return clip_sizes(model, (), Layout(), clip) is not None
