"""Tracing a diffusion request by shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import ceil
from typing import Any

from dcsim.models import vae
from dcsim.models.catalogue import Model
from dcsim.models.denoiser import Denoiser
from dcsim.models.encoder import Encoder
from dcsim.models.options import ModelError, kept_dtype
from dcsim.models.pipeline import LATENT, Networks, Pipeline, Prompt
from dcsim.models.shapes import Clip
from dcsim.models.soundtrack import Soundtrack
from dcsim.models.tape import CATEGORIES, Tape, nbytes
from dcsim.models.weights import count, size
from dcsim.spec import Layout
from dcsim.traces.caching import Hidden, cached
from dcsim.traces.checks import check_clip
from dcsim.traces.record import Record
from dcsim.traces.residency import placed
from dcsim.traces.segments import Phase, Segment
from dcsim.traces.streaming import brings, streamed
from dcsim.traces.trace import CHUNK, MemoryTrace


def trace_clip(
    model: Model, options: Mapping[str, Any], shape: Clip, layout: Layout
) -> MemoryTrace:
    """The trace of one clip; `options` resolved. ModelError lists all that cannot be."""
    networks = model.built(options)
    assert isinstance(networks, Networks)
    problems = check_clip(networks, options, shape, layout)
    if problems:
        raise ModelError(problems)
    tape = Tape()
    run = Pipeline(tape, networks, options, shape, layout=layout)
    gpus = layout.gpus
    records: dict[str, Record] = {}
    phases, rows = [], []

    for i, prompt in enumerate(networks.prompts):
        start, alone = len(tape.profile), len(networks.prompts) == 1
        run.encode(encoder=i)
        row = "encode" if alone else f"encode {prompt.name}"
        phase = "text" if alone else f"text {prompt.name}"
        records[row] = Record.of(tape, start)
        phases.append(_text_phase(phase, prompt, options, records[row], gpus, run.branches))
        tokens = prompt.tokens * (1 if prompt.encoder.of_image else run.branches)
        rows.append(_segment(row, phase, records[row], gpus, 1, tokens))
    if networks.denoiser.labelled:
        run.label()
    spread = gpus if options["vae_parallel"] is True else 1
    encodes = brings(networks, options, shape)
    if encodes:
        start, pieces = len(tape.profile), run.bring_passes
        run.bring()
        if networks.edits(shape):
            run.prepare()
        records[BRING] = Record.of(tape, start)
        phases.append(_vae_phase(networks, options, records[BRING], gpus, pieces, "encoder"))
        rows.append(_brought(records[BRING], gpus, -(-pieces // spread), pieces))
    if run.latents is None:
        run.prepare()
    network, passes, context = networks.denoiser, len(run.conditions), 0
    if network.chunk:
        made = streamed(run, records)
        rows += made.rows
        phases += made.phases
        record, context = records[CHUNK], made.context
    else:
        start = len(tape.profile)
        run.step(0)
        record = records["denoise"] = Record.of(tape, start)
        rows += _denoise(networks, run, record, gpus, shape.denoised, passes)
    phases.append(_denoiser_phase("denoise", network, options, record, layout, passes, layout.pp))
    if networks.audio is not None:
        more_phases, more_rows = _sounding(Soundtrack(run, networks.audio, shape.frames), records)
        phases += more_phases
        rows += more_rows
    start = len(tape.profile)
    run.decode()
    records["decode"] = Record.of(tape, start)
    pieces, half = run.decode_passes, "decoder" if encodes else ""
    phases.append(_vae_phase(networks, options, records["decode"], gpus, pieces, half))
    turns = -(-pieces // spread)
    rows.append(_segment("decode", "vae", records["decode"], gpus, turns, 0, passes=pieces))
    counted = MemoryTrace(
        model.name,
        "dit",
        dict(options),
        shape,
        layout,
        tuple(phases),
        tuple(rows),
        records,
        _artifact(networks, options, shape),
        gpus * options["runtime_overhead"],
        stored=gpus * sum(stale.nbytes for stale in run.stale),
        early=networks.denoiser.early.as_integer_ratio(),
        context=context,
    )
    found = placed(counted, options)
    if options["feature_cache"] == "none":
        return found
    return cached(found, _hidden(networks, run, options), networks.denoiser.blocks, passes)


def _hidden(networks: Networks, run: Pipeline, options: Mapping[str, Any]) -> Hidden:
    """The hidden states of a pass on one GPU."""
    network, sp = networks.denoiser, run.layout.sp
    condition = run.conditions[0][0]
    words = 0 if network.labelled else -(-condition.shape[1] // sp)
    return Hidden(
        condition.shape[0] * -(-network.tokens(*run.seen) // sp) * network.width,
        condition.shape[0] * network.beside(words),
        run.numerics.dtype,
        run.numerics.residual,
    )


def _segment(
    name: str,
    phase: str,
    record: Record,
    gpus: int,
    steps: int,
    tokens: int,
    *,
    passes: int = 1,
    first: bool = False,
    record_name: str = "",
) -> Segment:
    """A segment of steps like the recorded one, which is `passes` of them."""
    source = record_name or name
    return Segment.of(
        record, source, name, phase, steps, tokens, gpus=gpus, passes=passes, first=first
    )


def _denoise(
    networks: Networks, run: Pipeline, record: Record, gpus: int, steps: int, passes: int
) -> list[Segment]:
    """The first sampler step, whose end is the first result, and the others.

    With both guidance branches in turn a sampler step is two steps of the replica.
    """
    tokens = networks.denoiser.tokens(*run.seen) * run.conditions[0][0].shape[0]
    first = _segment(
        "first step",
        "denoise",
        record,
        gpus,
        passes,
        tokens,
        passes=passes,
        first=True,
        record_name="denoise",
    )
    rest = _segment("denoise", "denoise", record, gpus, passes * (steps - 1), tokens, passes=passes)
    return [first, rest] if steps > 1 else [first]


@lru_cache(maxsize=256)
def _sizes(network: Denoiser, tp: int, dtype: str) -> tuple[int, int, int]:
    """Parameters, their bytes and those of tables on one of `tp` GPUs, and in a file."""
    whole = size(network.held(), dtype)
    local = whole if tp == 1 else size(network.held(tp), dtype)
    return count(network.parameters()), local, whole


@lru_cache(maxsize=256)
def _encoder_size(encoder: Encoder, dtype: str) -> tuple[int, int]:
    """Parameters and their bytes."""
    return count(encoder.parameters()), size(encoder.parameters(), dtype)


def _text_phase(
    name: str,
    prompt: Prompt,
    options: Mapping[str, Any],
    record: Record,
    gpus: int,
    branches: int,
) -> Phase:
    encoder, dtype = prompt.encoder, options["dtype"]
    kept = kept_dtype(options, "text_weights_dtype")
    params, stored = _encoder_size(encoder, kept)
    return Phase(
        name,
        encoder.blocks,
        params,
        gpus * stored,
        stored,
        gpus * record.total("weights", "dense"),
        dtype,
        _computed(kept, dtype),
        passes=1 if encoder.of_image else branches,
    )


def _computed(kept: str, dtype: str) -> str:
    """The dtype of their products: what is cast as it is read is multiplied as all else."""
    return dtype if kept in ("nf4", "fp32") else kept


def _sounding(
    sound: Soundtrack, records: dict[str, Record]
) -> tuple[tuple[Phase, Phase], list[Segment]]:
    """The soundtrack: its head takes its steps while it listens to the clip, and what it made is
    decoded, on every GPU as a VAE is."""
    run, head, decoder = sound.run, sound.audio.head, sound.audio.decoder
    gpus, passes, dtype = run.layout.gpus, len(run.conditions), run.options["dtype"]
    sound.prepare()
    for name, call in (("audio", sound.step), ("decode audio", sound.decode)):
        start = len(run.tape.profile)
        call()
        records[name] = Record.of(run.tape, start)
    audio, decode = records["audio"], records["decode audio"]
    tokens = head.tokens(*head.padded(sound.latent)) * run.conditions[0][0].shape[0]
    stored = size(decoder.parameters(), dtype)
    params = count(decoder.parameters())
    phases = (
        _denoiser_phase("audio", head, run.options, audio, run.layout, passes),
        Phase("waveform", decoder.blocks, params, gpus * stored, stored, 0, dtype, dtype),
    )
    steps = passes * sound.sampler.steps
    return phases, [
        _segment("audio", "audio", audio, gpus, steps, tokens, passes=passes),
        _segment("decode audio", "waveform", decode, gpus, 1, 0),
    ]


def _denoiser_phase(
    name: str,
    network: Denoiser,
    options: Mapping[str, Any],
    record: Record,
    layout: Layout,
    passes: int,
    pp: int = 1,
) -> Phase:
    """With `pp` stages a recorded pass is of all patches, each through the blocks of one."""
    dtype, stage = options["dtype"], network.stage(pp)
    kept = kept_dtype(options, "weights_dtype")
    params, _, stored = (network.copies * each for each in _sizes(network, 1, kept))
    local = network.copies * _sizes(stage, layout.tp, kept)[1]
    pieces, turns = (layout.pieces, layout.turns) if pp > 1 else (1, 1)
    return Phase(
        name,
        stage.blocks,
        params,
        layout.gpus * local,
        stored,
        layout.gpus * -(-record.total("weights", "dense") * turns // (passes * pieces)),
        dtype,
        _computed(kept, dtype),
        -(-record.count("comm") * turns // (passes * pieces)),
        turns,
        experts=network.copies,
        idle=turns - pieces,
    )


BRING = "encode input"
"""The segment and the record of the encoding of what a request brings."""


def _brought(record: Record, gpus: int, steps: int, pieces: int) -> Segment:
    """Its pixels come from the host as they are encoded."""
    row = _segment(BRING, "input", record, gpus, steps, 0, passes=pieces)
    pixels = int(record.held[0, CATEGORIES.index("inputs")])
    return replace(row, host_bytes=gpus * -(-pixels // pieces))


def _vae_phase(
    networks: Networks,
    options: Mapping[str, Any],
    record: Record,
    gpus: int,
    passes: int,
    half: str,
) -> Phase:
    """The decoder; where the request brings something, the encoder has a phase of its own."""
    config, dtype = networks.vae, options["vae_dtype"]
    own = [each for each in vae.parameters(config) if each[0].startswith(half)]
    stored = size(iter(own), dtype)
    return Phase(
        "input" if half == "encoder" else "vae",
        config.encoder.blocks if half == "encoder" else config.blocks,
        count(iter(own)),
        gpus * stored,
        stored,
        gpus * -(-record.total("weights", "dense") // passes),
        dtype,
        dtype,
        -(-record.count("comm") // passes),
    )


def _artifact(networks: Networks, options: Mapping[str, Any], shape: Clip) -> int:
    """Bytes stored of the finished clip, its sound among them."""
    if networks.audio is not None:
        silent = replace(networks, audio=None)
        return _artifact(silent, options, shape) + networks.audio.stored(shape.frames, options)
    there = shape.given if networks.denoiser.chunk else 0
    pixels = shape.width * shape.height * (shape.frames - there)
    if options["artifact"] == "raw":
        return 3 * pixels
    if options["artifact"] == "latent":
        size = networks.vae.latent(shape.frames, shape.height, shape.width)
        return nbytes((networks.denoiser.channels, *size), LATENT)
    bits: float = pixels * options["bits_per_pixel"]
    return ceil(bits / 8)
