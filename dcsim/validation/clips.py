"""Diffusion requests as rows have them: FLOPs, peaks and seconds of any model of the catalogue.

Settings: `model`, `width`, `height`, `frames` (1), `steps`, `tp`, `sp`, `ring`, `cfg_gpus`, `gpu`,
`profile`; all else are options of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from dcsim.models.catalogue import get
from dcsim.models.options import ModelError
from dcsim.models.pipeline import Networks
from dcsim.models.shapes import Clip
from dcsim.spec import Layout
from dcsim.traces.api import trace
from dcsim.traces.report import report
from dcsim.traces.trace import MemoryTrace
from dcsim.validation.gpus import gpu_of
from dcsim.validation.rows import Settings

Check = Callable[[Settings], float]


def traced(s: Settings) -> MemoryTrace:
    """The trace of the request that a row is of."""
    model = get(s.need("model"))
    if not isinstance(model.request, Clip):
        raise ModelError([("settings", f"{model.name} makes no clips")])
    sizes = {"width", "height", "frames", "steps"} & set(s)
    shape = replace(model.request, **{name: s.whole(name) for name in sizes})
    layout = Layout(
        s.whole("tp", 1), s.whole("sp", 1), s.whole("cfg_gpus", 1), ring=s.whole("ring", 1)
    )
    for name in ("gpu", "profile", "branches"):
        s.get(name)
    return trace(model.name, s.rest(), shape, layout)


def _flops(s: Settings) -> float:
    """Of one pass of the denoiser, without guidance."""
    found = traced(s)
    flops = int(found.records["denoise"].flops.sum())
    return flops / (1 if found.options["cfg"] == "distilled" else 2)


def _tokens(s: Settings) -> float:
    """Patches of the latent."""
    model, found = get(s.need("model")), traced(s)
    network = model.built(found.options)
    assert isinstance(network, Networks)
    assert isinstance(found.shape, Clip)
    size = (found.shape.frames, found.shape.height, found.shape.width)
    return network.denoiser.tokens(*network.vae.latent(*size))


def _denoiser_peak(s: Settings) -> float:
    """What a denoising step holds beside weights; `branches=1`: without guidance."""
    if s.get("branches") == "1":
        s = Settings("; ".join(f"{k}={v}" for k, v in {**s, "cfg": "sequential"}.items()))
    return _most_held(traced(s), "denoise")


def _decode_peak(s: Settings) -> float:
    """What the VAE holds beside weights while it decodes."""
    return _most_held(traced(s), "decode")


def _most_held(found: MemoryTrace, record: str) -> float:
    return float(found.records[record].held.sum(axis=1).max())


def _weights(s: Settings) -> float:
    """Of all networks, a GPU."""
    found = traced(s)
    return found.weights_bytes / found.gpus


def _peak(s: Settings) -> float:
    """The most that a GPU holds, weights and all."""
    found = traced(s)
    return found.peak_bytes / found.gpus


def _seconds(s: Settings) -> float:
    """Of the request alone on its replica."""
    return float(report(traced(s), gpu_of(s))["seconds"])


def _step_seconds(s: Settings) -> float:
    """Of a sampler step, guidance included."""
    found = traced(s)
    phases = {row["name"]: row for row in report(found, gpu_of(s))["phases"]}
    assert isinstance(found.shape, Clip)
    return float(phases["denoise"]["seconds"]) / found.shape.steps


CHECKS: Mapping[str, tuple[str, Check]] = {
    "clip_flops": ("FLOPs of a pass", _flops),
    "clip_tokens": ("tokens of a pass", _tokens),
    "denoiser_peak": ("activation peak", _denoiser_peak),
    "decode_peak": ("activation peak", _decode_peak),
    "clip_weights": ("weights of a GPU", _weights),
    "clip_peak": ("peak of a GPU", _peak),
    "clip_seconds": ("seconds of a request", _seconds),
    "step_seconds": ("seconds of a step", _step_seconds),
}
