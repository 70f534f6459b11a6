"""What a diffusion model, its options, a layout and a request cannot be together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dcsim.models.pipeline import Networks
from dcsim.models.sampler import TRAINED
from dcsim.models.shapes import Clip
from dcsim.spec import Layout
from dcsim.traces.streaming import check_chunks


def check_clip(
    networks: Networks, options: Mapping[str, Any], shape: Clip, layout: Layout
) -> list[tuple[str, str]]:
    """Every reason why a shape or a layout cannot be, as (path, message)."""
    return [
        *_check_size(networks, shape),
        *_check_given(networks, shape),
        *_check_steps(options, shape),
        *_check_layout(networks, options, layout),
        *_check_patches(networks, options, shape, layout),
        *(check_chunks(networks, options, shape, layout) if networks.denoiser.chunk else ()),
    ]


def _check_size(networks: Networks, shape: Clip) -> list[tuple[str, str]]:
    problems = []
    network, space, time = networks.denoiser, networks.vae.space, networks.vae.time
    _, rows, columns = network.grain
    for side, value, grain in (
        ("width", shape.width, space * columns),
        ("height", shape.height, space * rows),
    ):
        if value < grain or value % grain:
            near = max(grain, value // grain * grain)
            problems.append(
                (
                    "shape.resolution",
                    f"{side} {value} is not a multiple of {grain} pixels "
                    f"(nearest: {near} or {near + grain})",
                )
            )
    if not network.frames and shape.frames != 1:
        problems.append(("shape.frames", f"{shape.frames} frames of an image model, which makes 1"))
    elif shape.frames < 1 or networks.vae.over(shape.frames):
        low, piece = max(1, shape.frames - networks.vae.over(shape.frames)), networks.vae.piece
        high = min(low + time, -(-low // piece) * piece if piece else low + time)
        form = f"{piece}j or {piece}j + 1 + {time}k" if piece else f"1 + {time}k"
        problems.append(
            ("shape.frames", f"{shape.frames} is not {form} (nearest: {low} or {high})")
        )
    return problems


def _check_given(networks: Networks, shape: Clip) -> list[tuple[str, str]]:
    """What is wrong with what a request brings."""
    takes, time = networks.denoiser.takes, networks.vae.time
    problems = []
    if not 0 < shape.strength <= 1:
        problems.append(("shape.strength", f"{shape.strength:g} is outside (0, 1]"))
    elif shape.strength < 1 and not networks.edits(shape):
        text = "is for an edit, which brings an image, or all frames of a clip, to start from"
        problems.append(("shape.strength", f"{shape.strength:g} {text}"))
    if shape.given > shape.frames:
        problems.append(("shape.input", f"{shape.given} frames of a clip of {shape.frames}"))
    elif shape.given > 1 and takes == "channels":
        problems.append(("shape.input", f"{shape.given} frames; the model takes an image"))
    elif 0 < shape.given < shape.frames:
        if takes == "nothing":
            text = "the model takes none; it can start from a whole clip: video"
            problems.append(("shape.input", f"{shape.given} frames to go on from, but {text}"))
        elif (shape.given - 1) % time:
            low = 1 + (shape.given - 1) // time * time
            text = f"{shape.given} is not 1 + {time}k (nearest: {low} or {low + time})"
            problems.append(("shape.input", text))
    return problems


def _check_steps(options: Mapping[str, Any], shape: Clip) -> list[tuple[str, str]]:
    if shape.steps < 1:
        return [("shape.steps", f"{shape.steps} steps; at least 1")]
    if options["sampler"] != "rectified_flow" and shape.steps > TRAINED:
        return [("shape.steps", f"{shape.steps} steps of a model trained with {TRAINED}")]
    return []


def _check_layout(
    networks: Networks, options: Mapping[str, Any], layout: Layout
) -> list[tuple[str, str]]:
    problems = []
    if text := networks.denoiser.wrong(layout):
        problems.append(("layout", text))
    if networks.audio is not None and (text := networks.audio.head.wrong(layout)):
        problems.append(("layout", f"{text}, of what makes the soundtrack"))
    if layout.cfg not in (1, 2):
        problems.append(("layout.cfg", f"{layout.cfg}; guidance has 2 branches, so 1 or 2"))
    elif layout.cfg == 2 and options["cfg"] == "distilled":
        problems.append(("layout.cfg", "2, but distilled guidance has one branch"))
    problems += _check_pipeline(networks, options, layout)
    if options["fsdp"] and layout.gpus == 1:
        problems.append(("options.fsdp", "true needs several GPUs to share weights out to"))
    if options["fsdp"] and options["offload"] != "none":
        problems.append(("options.offload", "weights that are shared out stay where they are"))
    if options["feature_cache"] != "none" and (
        options["fsdp"] or options["offload"] in ("group", "sequential")
    ):
        problems.append(
            ("options.feature_cache", "needs weights that stay: no fsdp, offload none or model")
        )
    problems += _check_experts(networks, options)
    problems += _check_decode(networks, options, layout)
    return problems


def _check_decode(
    networks: Networks, options: Mapping[str, Any], layout: Layout
) -> Iterator[tuple[str, str]]:
    """Whether a decode can be spread over GPUs."""
    if options["vae_parallel"] is True and options["vae_tiling"] == "none":
        yield "options.vae_parallel", "true needs tiles: vae_tiling is none"
    if options["vae_parallel"] != "patch":
        return
    if options["vae_tiling"] != "none":
        tiling = options["vae_tiling"]
        yield "options.vae_parallel", f"patch shares out whole pictures: vae_tiling is {tiling}"
    if layout.gpus == 1:
        yield "options.vae_parallel", "patch needs several GPUs"
    if any(layer.undivided for layer in networks.vae.decoder.layers):
        text = f"patch: the decoder {networks.vae.name} has layers that need all rows"
        yield "options.vae_parallel", text


def _check_experts(networks: Networks, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What goes wrong with one expert at a time."""
    switched = options.get("experts") == "switched"
    if switched and options["fsdp"]:
        yield "options.experts", "switched, but weights that are shared out stay where they are"
    if switched and options["offload"] != "none":
        yield "options.experts", f"switched, but offload {options['offload']} has none that stays"
    one = switched or (networks.denoiser.copies > 1 and options["offload"] == "model")
    if one and options["feature_cache"] != "none":
        yield "options.feature_cache", "not with experts of which one is there at a time"


def _check_pipeline(
    networks: Networks, options: Mapping[str, Any], layout: Layout
) -> Iterator[tuple[str, str]]:
    """What goes wrong with stages, and degrees that only language models have."""
    for name in ("dp", "ep", "cp"):
        if (degree := getattr(layout, name)) != 1:
            yield f"layout.{name}", f"{degree}; a diffusion model is spread by tp, sp, cfg and pp"
    if layout.ring > 1 and options["feature_cache"] in ("pab", "taylorseer"):
        yield "options.feature_cache", "what each attention makes is not kept apart with a ring"
    if layout.sp % layout.ring:
        yield "layout.ring", f"{layout.ring} does not divide sp {layout.sp}"
    if layout.pp == 1:
        if layout.in_flight is not None:
            yield "layout.in_flight", f"{layout.in_flight} pieces in a pipeline of one stage"
        return
    network = networks.denoiser
    if not network.cut:
        yield "layout.pp", f"{layout.pp}; PipeFusion has no stages of its blocks"
    elif layout.pp > network.blocks:
        yield "layout.pp", f"{layout.pp} stages of {network.blocks} blocks"
    if layout.ring > 1:
        yield "layout.ring", f"{layout.ring}; stages of a pipeline swap heads only"
    if networks.audio is not None:
        yield "layout.pp", f"{layout.pp}; what makes the soundtrack has no stages"
    if options["fsdp"]:
        yield "options.fsdp", "true, but the stages of a pipeline share the weights out"
    if options["feature_cache"] != "none":
        yield "options.feature_cache", "not with pp: its patches are not of one step"


def _check_patches(
    networks: Networks, options: Mapping[str, Any], shape: Clip, layout: Layout
) -> Iterator[tuple[str, str]]:
    """Whether a clip has rows for the patches of a pipeline, and for the GPUs that decode it."""
    rows = shape.height // networks.vae.space // networks.denoiser.grain[1]
    latents = shape.height // networks.vae.space
    if options["vae_parallel"] == "patch" and layout.gpus > latents:
        yield "options.vae_parallel", f"patch: {layout.gpus} GPUs for {latents} rows of latents"
    if layout.pp > 1 and layout.pieces > rows:
        yield "layout.in_flight", f"{layout.pieces} patches of {rows} rows of tokens"
