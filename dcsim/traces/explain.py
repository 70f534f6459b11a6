"""A request's bytes and FLOPs as arithmetic, line by line, that a reader can check by hand.

A line is a word, an expression and what it comes to. Where the expression is not empty it gives the
value exactly, or rounded up where it says so: `x` multiplies, `//` divides and rounds down. Terms
of it are values of lines above, figures of the model's file, or counts of the trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from dcsim.models.catalogue import get
from dcsim.models.delta import GatedDelta
from dcsim.models.llm import LlmConfig
from dcsim.models.mla import Mla
from dcsim.models.options import ModelError
from dcsim.models.pipeline import LATENT, Networks
from dcsim.models.shapes import Clip, Turn
from dcsim.models.tape import nbytes
from dcsim.models.vae import Vae
from dcsim.spec import Gpu, is_trace
from dcsim.traces.budget import kv
from dcsim.traces.report import report
from dcsim.traces.segments import Segment
from dcsim.traces.streaming import brings
from dcsim.traces.trace import MemoryTrace
from dcsim.traces.turns import Server, kv_dtype


@dataclass(frozen=True)
class Line:
    """One step of the calculation."""

    section: str
    what: str
    expression: str
    value: int | float
    unit: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data, by field."""
        return asdict(self)


def explain(model: str, trace: MemoryTrace, gpu: Gpu) -> list[Line]:
    """The calculation behind a trace of `model`, by name or trace file, on GPUs of one part."""
    lines: list[Line] = []
    sound = 0
    if not is_trace(model):
        found = get(model)
        network = found.built(trace.options)
        if isinstance(network, Networks):
            lines += _tokens(network, trace)
            lines += _heard(network, trace)
            if network.audio is not None and isinstance(trace.shape, Clip):
                sound = network.audio.stored(trace.shape.frames, trace.options)
        else:
            lines += _kv(network, trace)
    lines += _weights(trace)
    lines += _steps(trace)
    lines += _memory(trace)
    if not is_trace(model) and trace.kind == "llm":
        lines += _fit(model, trace, gpu)
    lines += _time(trace, gpu)
    lines += _artifact(trace, sound)
    return lines


def _product(*factors: int) -> str:
    return " x ".join(f"{factor:,}" for factor in factors)


def _latent_frames(vae: Vae, frames: int) -> str:
    """As an expression: of a clip, or of its pieces and what is left."""
    if not vae.piece:
        return f"1 + ({frames} - 1) // {vae.time}"
    whole, rest = divmod(frames, vae.piece)
    parts = [f"{whole} x (1 + ({vae.piece} - 1) // {vae.time})"] if whole else []
    return " + ".join(parts + ([f"1 + ({rest} - 1) // {vae.time}"] if rest else []))


def _tokens(network: Networks, trace: MemoryTrace) -> Iterator[Line]:
    """From pixels through latents and patches to tokens."""
    shape, vae, denoiser = trace.shape, network.vae, network.denoiser
    assert isinstance(shape, Clip)

    def line(what: str, expression: str, value: int, unit: str) -> Line:
        return Line("from pixels to tokens", what, expression, value, unit)

    pixels = (shape.frames, shape.height, shape.width)
    sides = vae.latent(*pixels)
    yield line("pixels", _product(*pixels), shape.frames * shape.height * shape.width, "pixels")
    if vae.time > 1:
        yield line("latent frames", _latent_frames(vae, shape.frames), sides[0], "frames")
    yield line("latent rows", f"{shape.height} // {vae.space}", sides[1], "rows")
    yield line("latent columns", f"{shape.width} // {vae.space}", sides[2], "columns")
    padded = denoiser.padded(sides)
    if padded != sides:
        more = f"{sides[0]} + {padded[0] - sides[0]}"
        yield line("latent frames, with what patches need more", more, padded[0], "frames")
        sides = padded
    latent = (denoiser.channels, *sides)
    width = nbytes((1,), LATENT)
    yield line("latents, kept between steps", _product(*latent, width), nbytes(latent, LATENT), "B")
    cuts = " x ".join(f"({side} // {cut})" for side, cut in zip(sides, denoiser.grain, strict=True))
    yield line("tokens, a patch each", cuts, denoiser.tokens(*sides), "tokens")
    if shape.given:
        brought = (shape.given, shape.height, shape.width)
        yield line("pixels that are brought", _product(*brought), prod(brought), "pixels")
        if brings(network, trace.options, shape):
            frames = denoiser.encodes(shape.given, shape.frames)
            yield line("frames that are encoded", "", frames, "frames")
        text = f"{shape.strength:g} x {shape.steps}"
        yield line("steps that are run, rounded up", text, shape.denoised, "steps")
    if denoiser.chunk:
        each = (2, denoiser.blocks, denoiser.width, denoiser.tokens(1, *sides[1:]))
        frame = nbytes(each, trace.options["dtype"])
        text = _product(*each, frame // prod(each))
        yield line("K and V of a latent frame, all layers", text, frame, "B")
        text = f"{trace.context // frame} x {frame:,}"
        yield line("what is left for a clip that goes on", text, trace.context, "B")
    for prompt in network.prompts:
        yield line(f"tokens of a prompt for {prompt.name}", "", prompt.tokens, "tokens")
    branches = 1 if trace.options["cfg"] == "distilled" else 2
    yield line(f"guidance branches, {trace.options['cfg']}", "", branches, "branches")


def _heard(network: Networks, trace: MemoryTrace) -> Iterator[Line]:
    """From the frames of a clip to the tokens of its soundtrack."""
    audio, shape, section = network.audio, trace.shape, "from frames to sound"
    if audio is None:
        return
    assert isinstance(shape, Clip)
    rate, hop, latents = audio.decoder.rate, audio.decoder.hop, audio.latents(shape.frames)
    text = f"{shape.frames} x {rate:,} / ({audio.fps} x {hop:,})"
    what = f"latents, one of {hop:,} samples, rounded up"
    yield Line(section, what, text, latents, "latents")
    width = nbytes((1,), LATENT)
    size = (audio.decoder.channels, latents)
    yield Line(
        section, "latents, kept between steps", _product(*size, width), nbytes(size, LATENT), "B"
    )
    sides = network.denoiser.padded(network.vae.latent(shape.frames, shape.height, shape.width))
    heard = network.denoiser.tokens(*sides)
    yield Line(section, "tokens of the clip that are heard", "", heard, "tokens")
    steps = trace.options["audio_steps"]
    yield Line(section, "denoising steps of the sound", "", steps, "steps")


def _weights(trace: MemoryTrace) -> Iterator[Line]:
    """Bytes of the parameters on each GPU, and what is not of them or not divided evenly."""
    total, layout = [], trace.layout
    for phase in trace.phases:
        each, dtype = phase.weights // trace.gpus, phase.dense_dtype
        if dtype not in PLAIN:
            dtype = phase.dtype
        shared = 1 if phase.name.startswith(WHOLE) else layout.tp * layout.pp
        per = nbytes((1,), dtype)
        rest = each - phase.params * per // shared
        text = _product(phase.params, per)
        text += f" // {shared}" if shared > 1 else ""
        what = f"{phase.name}, parameters in {dtype}"
        if rest:
            text += f" {'-' if rest < 0 else '+'} {abs(rest):,}"
            what += ", and what is quantised, a table, repeated or rounded"
        yield Line("weights", what, text, each, "B a GPU")
        total.append(phase.weights)
    text = " + ".join(f"{trace.gpus} x {size // trace.gpus:,}" for size in total)
    yield Line("weights", "of the replica", text, trace.weights_bytes, "B")


def _steps(trace: MemoryTrace) -> Iterator[Line]:
    """FLOPs of a step, and what one GPU holds when it is fullest."""
    for name, record in trace.records.items():
        section = f"one {name} step, on one GPU"
        kinds = {kind: record.total("flops", kind) for kind in ("dense", "attention", "conv")}
        shown = {kind: flops for kind, flops in kinds.items() if flops}
        for kind, flops in shown.items():
            yield Line(section, f"FLOPs, {kind}", "", flops, "FLOPs")
        text = " + ".join(f"{flops:,}" for flops in shown.values())
        if len(shown) > 1:
            yield Line(section, "FLOPs", text, sum(shown.values()), "FLOPs")
        for each in record.holdings[:MOST_HOLDINGS]:
            what = f"{each.op} of {each.module}" if each.op else each.category
            size = each.bytes // each.count
            even = each.count > 1 and size * each.count == each.bytes
            text = _product(each.count, size) if even else ""
            yield Line(section, f"held: {what.removesuffix(' of ')}", text, each.bytes, "B")
        rest = record.holdings[MOST_HOLDINGS:]
        if rest:
            size = sum(each.bytes for each in rest)
            yield Line(section, f"held: {len(rest)} more", "", size, "B")
        most = sum(each.bytes for each in record.holdings)
        text = " + ".join(
            [f"{each.bytes:,}" for each in record.holdings[:MOST_HOLDINGS]]
            + ([f"{sum(each.bytes for each in rest):,}"] if rest else [])
        )
        if record.holdings or not record.names:  # of a cached step nobody recorded what is held
            yield Line(section, "held at its fullest, beside weights", text, most, "B")
        yield Line(section, "live when it has ended", "", record.live, "B")


MOST_HOLDINGS = 8
WHOLE = ("text", "input", "vae", "waveform")
"""Phases whose weights tensor parallelism does not divide."""
PLAIN = ("bf16", "fp16", "fp32", "fp8")
"""Dtypes of whole bytes."""


def _memory(trace: MemoryTrace) -> Iterator[Line]:
    """The peak of the replica, and the FLOPs of the request."""
    section = "the request"
    for phase in trace.phases:
        mine = [s for s in trace.segments if s.phase == phase.name and s.flops]
        if not mine:
            continue
        text = " + ".join(filter(None, map(_flops_text, mine)))
        value = sum(
            s.steps * s.flops + s.attn_flops_slope * (s.steps * (s.steps - 1) // 2) for s in mine
        )
        yield Line(section, f"FLOPs of {phase.name}, all GPUs", text, value, "FLOPs")
    fullest = max(trace.segments, key=lambda s: s.most_live + s.peak)
    terms = [trace.weights_bytes, trace.state, fullest.most_live, fullest.peak]
    text = " + ".join(f"{term:,}" for term in terms if term)
    said = "weights + state + live + transient" if trace.state else "weights + live + transient"
    yield Line(section, f"peak, in {fullest.phase}: {said}", text, trace.peak_bytes, "B")
    if trace.overhead:
        text = f"{trace.gpus} x {trace.overhead // trace.gpus:,}"
        yield Line(section, "beside tensors: context and libraries", text, trace.overhead, "B")


def _flops_text(s: Segment) -> str:
    text = f"{s.steps:,} x {s.flops:,}"
    if s.attn_flops_slope and s.steps > 1:
        text += f" + {s.attn_flops_slope:,} x ({s.steps:,} x {s.steps - 1:,} // 2)"
    return text


def _kv(config: LlmConfig, trace: MemoryTrace) -> Iterator[Line]:
    """KV bytes of a token and of the request, on one GPU."""
    dtype, shape = kv_dtype(trace.options), trace.shape
    assert isinstance(shape, Turn)
    section, terms = f"KV on each of {trace.gpus} GPUs" if trace.gpus > 1 else "KV", []
    server = Server.of(config, trace.options, trace.layout)
    config, tp = server.stage, trace.layout.tp
    kinds = dict.fromkeys(block.attention for block in config.blocks)
    for kind in kinds:
        layers = sum(block.attention == kind for block in config.blocks)
        kept = kind.kept(tp, dtype)
        if isinstance(kind, GatedDelta):
            text = _product(layers, kept.state)
            what = f"{layers} layers of linear attention, a sequence"
            yield Line(section, what, text, layers * kept.state, "B")
            continue
        if isinstance(kind, Mla):
            numbers = kind.kv_rank + kind.rope
            what = f"{layers} layers of a latent of {kind.kv_rank} + {kind.rope} numbers"
        else:
            heads = kind.kv_local(tp)
            numbers = 2 * heads * kind.head
            what = f"{layers} layers of K and V, {heads} heads of {kind.head}"
            if kind.window is not None:
                what += f", of the last {kind.window:,} tokens"
        exact = numbers and kept.token % numbers == 0
        text = _product(layers, numbers, kept.token // numbers) if exact else ""
        yield Line(section, f"{what}, in {dtype}", text, layers * kept.token, "B a token")
        terms.append(layers * kept.token)
    size = server.kv()
    text = " + ".join(f"{term:,}" for term in terms) if len(terms) > 1 else ""
    yield Line(section, "of a token, within every window", text, size.token, "B a token")
    if size.growth != size.token:
        yield Line(section, "of a token more, beyond every window", "", size.growth, "B a token")
    if size.state:
        yield Line(section, "whatever the length: windows and states", "", size.state, "B")
    # The last token is put out, but not fed.
    tokens = shape.prompt + shape.output - 1
    if (cp := trace.layout.cp) > 1:
        yield Line(
            section, "tokens of the request here", f"{tokens:,} // {cp}", tokens // cp, "tokens"
        )
        tokens //= cp
    text = f"{size.state:,} + {tokens:,} x {size.growth:,}"
    what = f"of the request, prompt {shape.prompt:,} and {shape.output:,} put out, but for the last"
    yield Line(section, what, text, size.state + tokens * size.growth, "B")


def _fit(model: str, trace: MemoryTrace, gpu: Gpu) -> Iterator[Line]:
    """The tokens that fit beside the weights, by vLLM's budget."""
    section = f"what fits on {trace.gpus} x {gpu.name}, a GPU"
    given: Mapping[str, Any] = trace.options
    try:
        found = kv(model, gpu, layout=trace.layout, options=given)
    except ModelError as error:
        yield Line(section, "; ".join(text for _, text in error.problems), "", 0, "tokens")
        return
    assert found.hbm_bytes is not None
    use = int(found.hbm_bytes * 1000 * float(found.memory_utilization or 0)) // 1000
    terms = {
        "weights": found.weights_bytes or 0,
        "activations of a full batch": found.activation_bytes or 0,
        "beside tensors": found.non_torch_bytes or 0,
        "CUDA graphs": found.cuda_graph_bytes or 0,
    }
    usable = found.kv_bytes + sum(terms.values())
    assert abs(use - usable) < 2
    share = f"{found.hbm_bytes:,} x {found.memory_utilization:g} // 1"
    yield Line(section, "memory that is used", share, usable, "B")
    for name, size in terms.items():
        yield Line(section, name, "", size, "B")
    text = " - ".join(f"{size:,}" for size in (usable, *terms.values()))
    yield Line(section, "left for KV", text, found.kv_bytes, "B")
    text = f"{found.kv_bytes:,} // {found.kv_bytes_per_token_per_gpu:,}"
    if (ranks := trace.layout.dp * trace.layout.cp) > 1:
        text = f"{ranks} x ({text})"
    yield Line(section, "tokens that fit", text, found.kv_tokens, "tokens")


def _time(trace: MemoryTrace, gpu: Gpu) -> Iterator[Line]:
    section = f"alone on {trace.gpus} x {gpu.name}"
    facts = report(trace, gpu)
    for phase in facts["phases"]:
        yield Line(section, f"{phase['name']}, by the roofline", "", phase["seconds"], "s")
    yield Line(section, "in all", "", facts["seconds"], "s")


def _artifact(trace: MemoryTrace, sound: int) -> Iterator[Line]:
    """Bytes of a finished clip, or of the context of a turn, as DRAM and NAND keep it."""
    shape, section = trace.shape, "what is kept of it"
    if isinstance(shape, Clip):
        if not trace.artifact:
            return
        pixels, how, text = (shape.frames, shape.height, shape.width), "", ""
        match trace.options.get("artifact"):
            case "raw":
                how, text = ", 3 bytes a pixel", _product(*pixels, 3)
            case "encoded":
                bits = trace.options["bits_per_pixel"]
                how, text = f", {bits:g} bits a pixel, rounded up", _product(*pixels)
                text += f" x {bits:g} / 8"
        seen = trace.artifact - sound
        yield Line(section, f"the finished clip{how}", text, seen, "B")
        if sound:
            yield Line(section, "its soundtrack", "", sound, "B")
            both = f"{seen:,} + {sound:,}"
            yield Line(section, "the clip with its soundtrack", both, trace.artifact, "B")
        return
    last = trace.segments[-1]
    yield Line(section, "KV of the turn, all GPUs", "", last.most_live, "B")
