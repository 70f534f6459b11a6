"""Whole traces of docs/pricing.md, 4: clips and turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

from pricing_caching import skip
from pricing_dit import denoise, dit_shapes, or_dtype
from pricing_input import bring, denoised, halves
from pricing_llm import Llm, fullest, llm_shapes, stages
from pricing_networks import (
    Decoder,
    counted,
    encode,
    stored,
    t5_shapes,
    vae_shapes,
)
from pricing_oracle import Array, PhaseFigures, Row, Tape, Trace, figures, size
from pricing_residency import settled
from vae_scenes import plain


def clip_trace(networks: Any, options: Mapping[str, Any], shape: Any, layout: Any) -> Trace:
    """A clip of a diffusion model; ``networks` has a `dit`, a `vae`, and a text encoder or none."""
    o, gpus = options, layout.tp * layout.sp * layout.cfg * layout.pp
    c, v = networks.denoiser, plain(networks.vae)
    text, text_tokens = None, 0
    if networks.prompts:
        (prompt,) = networks.prompts
        text, text_tokens = prompt.encoder, prompt.tokens
    cell = 2 ** (len(v.widths) - 1)
    latent = (
        1 + (shape.frames - 1) // (4 if v.video else 1),
        shape.height // cell,
        shape.width // cell,
    )
    branches = 1 if o["cfg"] == "distilled" or layout.cfg == 2 else 2
    batches = [1] * branches if o["cfg"] == "sequential" else [branches]
    phases: list[PhaseFigures] = []
    rows: list[Row] = []
    tape = Tape()
    dtype = o["dtype"]

    def segment(name: str, steps: int, tokens: int, passes: int = 1) -> Row:
        live, peak = gpus * tape.live, gpus * max(tape.extras())
        given = figures(tape, gpus, passes)
        return Row(name, len(phases), "fixed", steps, tokens, given, live, peak, False, tape)

    if text is not None:
        kept_as = or_dtype(o["text_weights_dtype"], dtype)
        encode(tape, text, text_tokens, dtype, branches, o["cfg"] == "batched", kept_as)
        rows.append(segment("encode", 1, branches * text_tokens))
        matrix = or_dtype(o["text_weights_dtype"], dtype)
        kept = stored(t5_shapes(text), matrix)
        reads = gpus * tape.total("dense", "weights")
        params = counted(t5_shapes(text))
        product = dtype if matrix in ("nf4", "fp32") else matrix
        phases.append(
            PhaseFigures(
                "text", text.layers, params, gpus * kept, kept, reads, dtype, product, 0, branches
            )
        )
    else:
        for i, count in enumerate(batches):
            tape.hold(f"label{i}", Array(count, "int64"))
    cells = latent[0] * latent[1] * latent[2]
    tape = tape.begin()
    if shape.given:
        row, phase = bring(tape, v, o, shape, gpus, segment)
        rows.append(row)
        phases.append(phase)
        tape = tape.begin()
    else:
        tape.hold("latents", Array(c.channels * cells, "fp32"))
    steps = denoised(shape)
    dit = denoise(tape, c, o, layout, batches, latent, text_tokens)
    passes, tokens = len(batches), batches[0] * dit.tokens
    first = segment("first step", passes, tokens, passes)
    first.first = True
    rows.append(first)
    if steps > 1:
        rows.append(segment("denoise", passes * (steps - 1), tokens, passes))
    guided, each = o["cfg"] == "distilled", o["embedders"] == "block"
    matrix = or_dtype(o["weights_dtype"], dtype)
    whole = dit_shapes(c, 1, guided, each)
    stage = replace(c, depth=ceil(c.depth / layout.pp))
    pieces = layout.in_flight or layout.pp
    turns = max(pieces, layout.pp)
    share = Fraction(turns, passes * pieces)
    phases.append(
        PhaseFigures(
            "denoise",
            stage.depth,
            counted(whole),
            gpus * stored(dit_shapes(stage, layout.tp, guided, each), matrix),
            stored(whole, matrix),
            gpus * ceil(tape.total("dense", "weights") * share),
            dtype,
            dtype if matrix in ("nf4", "fp32") else matrix,
            ceil(tape.count("comm") * share),
            turns,
            idle=turns - pieces,
        )
    )
    tape = tape.begin()
    row, count = _decode(tape, v, o, latent, gpus, segment)
    rows.append(row)
    own = halves(v)[1] if shape.given else vae_shapes(v)
    kept = stored(own, o["vae_dtype"])
    reads = gpus * ceil(tape.total("dense", "weights") / count)
    layers = 3 + len(v.widths) * (v.layers + 1)
    params = counted(own)
    kind = o["vae_dtype"]
    phases.append(
        PhaseFigures(
            "vae",
            layers,
            params,
            gpus * kept,
            kept,
            reads,
            kind,
            kind,
            ceil(tape.count("comm") / count),
        )
    )
    pixels = shape.width * shape.height * shape.frames
    artifact = {
        "encoded": ceil(pixels * o["bits_per_pixel"] / 8),
        "raw": 3 * pixels,
        "latent": 4 * c.channels * cells,
    }[o["artifact"]]
    trace = settled(Trace(phases, rows, gpus, artifact, gpus * o["runtime_overhead"]), o)
    if o["feature_cache"] != "none":
        skip(trace, o, steps, passes, dit.of(dit.mine * c.hidden).elements, c.depth)
    return trace


def _decode(
    tape: Tape, v: Any, o: Mapping[str, Any], latent: Any, gpus: int, segment: Any
) -> tuple[Row, int]:
    copies = o["conv_workspace"] == "transposed"
    decoder = Decoder(tape, v, o["vae_dtype"], latent, o["vae_tiling"], copies)
    decoder.run(gpus if o["vae_parallel"] == "patch" else 1)
    count = decoder.passes
    steps = ceil(count / gpus) if o["vae_parallel"] is True else count
    return segment("decode", steps, 0, count), count


def turn_trace(c: Any, options: Mapping[str, Any], shape: Any, layout: Any) -> Trace:
    """A turn of a language model: figures a token."""
    o, tp, pp, cp = options, layout.tp, layout.pp, layout.cp
    gpus, each = tp * pp * layout.dp * cp, tp * pp
    dtype = o["dtype"]
    matrix = or_dtype(o["weights_dtype"], dtype)
    stage = fullest(c, pp)
    near, far = (Llm(stage, o, layout, n).run(logits=False) for n in (64, 128))
    own = ceil(shape.chunk / cp)
    chunk = Llm(stage, o, layout, own).run(logits=False)
    token = Llm(stage, o, layout, 1).run(logits=True)
    pieces = layout.in_flight or pp
    turns = max(pieces, pp)

    def a_token(kind: str, column: str) -> int:
        return ceil(Fraction(each * (far.total(kind, column) - near.total(kind, column)), 64))

    kv = 2 * size(max(1, c.kv_heads // tp) * c.head, or_dtype(o["kv_dtype"], dtype))
    layers = len(stage.halves)
    pair, context = 4 * each * layers * (c.heads // tp) * c.head, each * layers * kv
    prefill = {
        "dense_flops": a_token("dense", "flops"),
        "dense_bytes": a_token("dense", "moved"),
        "attn_flops": pair,
        "attn_bytes": (3 * cp - 2) * context,
        "conv_flops": 0,
        "conv_bytes": 0,
        "other_bytes": a_token("memory", "moved")
        + a_token("attention", "moved")
        - (3 * cp - 2) * context,
        "comm_bytes": a_token("comm", "sent"),
        "ring_bytes": (cp - 1) * context,
    }
    moved = token.total("memory", "moved") + token.total("attention", "moved")
    decode = {
        "dense_flops": each * token.total("dense", "flops"),
        "dense_bytes": each * token.total("dense", "moved"),
        "attn_flops": pair,
        "attn_bytes": context,
        "conv_flops": 0,
        "conv_bytes": 0,
        "other_bytes": each * moved - context,
        "comm_bytes": each * token.total("comm", "sent"),
        "ring_bytes": 0,
    }
    live = each * kv * max(len(other.halves) for other in stages(c, pp))
    peaks = (ceil(max(chunk.extras()) / own), max(token.extras()))
    most = [ceil(Fraction(each * peak, pieces)) for peak in peaks]
    rows = [
        Row("prefill", 0, "prefill", 1, shape.chunk, prefill, live, most[0], True, chunk),
        Row("decode", 0, "decode", 1, 1, decode, live, most[1], False, token),
    ]
    phase = PhaseFigures(
        "transformer",
        layers,
        counted(llm_shapes(c, 1)),
        gpus * stored(llm_shapes(stage, tp, layout.ep), matrix),
        stored(llm_shapes(c, 1), matrix),
        gpus * turns * token.total("dense", "weights"),
        dtype,
        matrix,
        turns * token.count("comm"),
        turns,
        idle=turns - pieces,
    )
    return Trace([phase], rows, gpus, 0, gpus * o["runtime_overhead"])
