"""Trace -> price agrees with the slow oracle to the last integer, on models drawn at random."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pricing_oracle as slow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pricing_models import plain
from pricing_traces import clip_trace, turn_trace
from vae_scenes import kl

from dcsim import traces
from dcsim.assembly.rows import phase_row, segment_row
from dcsim.models.catalogue import Model, get, names
from dcsim.models.denoisers.dit import EMBEDDERS, Dit
from dcsim.models.feed_forward import Dense, Experts
from dcsim.models.gqa import Gqa
from dcsim.models.language import EXPERTS_READ, IMBALANCE
from dcsim.models.llm import Block, LlmConfig
from dcsim.models.options import DIT, LLM, Option
from dcsim.models.pipeline import Networks, Prompt
from dcsim.models.shapes import Clip, Turn
from dcsim.models.t5 import T5
from dcsim.spec import Gpu, Layout, Scheduler, load_parts
from dcsim.traces import MemoryTrace, price
from dcsim.traces.clips import trace_clip
from dcsim.traces.server import reserve
from dcsim.traces.turns import trace_turn

Draw = Any
SAMPLERS = ("ddpm", "ddim", "rectified_flow")
H100 = load_parts().gpus["h100"]
FIGURES = tuple(slow.figures(slow.Tape(), 1))


def whole(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


def option(name: str, o: Option) -> st.SearchStrategy[Any]:
    """Any value of an option."""
    if name == "sampler":
        return st.sampled_from(SAMPLERS)
    if o.allowed is not None:
        return st.sampled_from(o.allowed)
    if o.whole:
        return whole(0, 10**9)
    return st.floats(max(o.low, 0.01), min(o.high, 50.0))


def options(table: dict[str, Option]) -> st.SearchStrategy[dict[str, Any]]:
    """Every option: most often its default, else anything that is allowed."""
    return st.fixed_dictionaries(
        {name: st.just(o.default) | option(name, o) for name, o in table.items()}
    )


PARTS = st.builds(
    Gpu,
    name=st.just("drawn"),
    hbm=whole(10**9, 10**12),
    hbm_bandwidth=whole(10**11, 10**13),
    flops=st.fixed_dictionaries({k: whole(10**12, 10**16) for k in ("bf16", "fp8", "fp4")}),
    scale_up=whole(10**9, 10**12),
    host_link=whole(10**9, 10**11),
    efficiency=st.fixed_dictionaries(
        {k: st.floats(0.01, 1.0) for k in ("dense", "attention", "conv", "memory", "comm")},
        optional={k: st.floats(0.01, 1.0) for k in ("weights", "kv", "host_link")},
    ),
    launch=whole(1, 10**6),
    host=st.just(0) | whole(1, 10**7),
    step=st.just(0) | whole(1, 10**7),
    collective=st.just(0) | whole(1, 10**5),
)


@st.composite
def clips(draw: Draw) -> tuple[Model, dict[str, Any], Clip, Layout]:
    """A diffusion model of any widths, a request it can serve and a layout."""
    video, text = draw(st.booleans()), draw(st.booleans())
    tp, sp, cfg = (draw(st.sampled_from(s)) for s in ((1, 1, 2, 3), (1, 1, 2, 4), (1, 1, 2)))
    ring = draw(st.sampled_from([n for n in (1, 2, 4) if sp % n == 0]))
    pp = draw(st.sampled_from((1, 1, 1, 2, 3))) if ring == 1 else 1
    heads = tp * sp * draw(whole(1, 3))
    patch, channels = draw(st.sampled_from((1, 2, 4))), draw(whole(1, 5))
    encoder = None
    if text:
        widths = [draw(whole(1, n)) for n in (2, 70, 3, 9, 90, 50, 6)]
        encoder = T5(*widths)
    network = Networks(
        Dit(
            depth=draw(whole(pp, 3)),
            hidden=heads * draw(whole(1, 12)),
            heads=heads,
            patch=(1, patch, patch),
            channels=channels,
            out_channels=channels * draw(whole(1, 2)),
            classes=None if text else draw(whole(1, 20)),
            text_width=encoder.width if encoder else None,
            modulation=draw(st.sampled_from(("block", "shared"))),
            video=video,
            ratio=draw(whole(1, 4)),
        ),
        kl(
            channels,
            draw(st.lists(whole(1, 40), min_size=3 if video else 1, max_size=4)),
            draw(whole(1, 2)),
            video,
        ),
        (Prompt("drawn", encoder, draw(whole(1, 9))),) if encoder else (),
    )
    chosen = draw(options(DIT | {"embedders": EMBEDDERS, "sampler": Option("ddpm", "", SAMPLERS)}))
    if chosen["cfg"] == "distilled":
        cfg = 1
    gpus = tp * sp * cfg * pp
    if chosen["vae_tiling"] == "none":
        spread = not video and gpus > 1 and draw(st.booleans())
        chosen["vae_parallel"] = "patch" if spread else False
    elif chosen["vae_parallel"] == "patch":
        chosen["vae_parallel"] = True
    if tp * sp * cfg == 1 or pp > 1:
        chosen["fsdp"] = False
    if pp > 1 or (ring > 1 and chosen["feature_cache"] in ("pab", "taylorseer")):
        chosen["feature_cache"] = "none"
    if chosen["fsdp"]:
        chosen["offload"] = "none"
    if chosen["fsdp"] or chosen["offload"] in ("group", "sequential"):
        chosen["feature_cache"] = "none"
    grain = network.vae.space * patch
    frames = 1 + 4 * draw(whole(0, 6)) if video else 1
    flight = draw(st.none() | whole(1, 5)) if pp > 1 else None
    least = gpus if chosen["vae_parallel"] == "patch" else 1
    rows = draw(whole(max(flight or pp, least), 48))
    shape = Clip(grain * draw(whole(1, 30)), grain * rows, frames, draw(whole(1, 40)))
    if chosen["vae_tiling"] == "none" and draw(st.booleans()):  # an edit
        shape = replace(shape, given=frames, strength=draw(st.floats(0.01, 1)))
    model = Model("drawn", "dit", "", "", network, DIT, shape)
    return model, chosen, shape, Layout(tp, sp, cfg, ring=ring, pp=pp, in_flight=flight)


EXPERT_OPTIONS = {"experts_read": EXPERTS_READ, "expert_imbalance": IMBALANCE}


@st.composite
def turns(draw: Draw) -> tuple[Model, dict[str, Any], Turn, Layout]:
    """A language model of any widths and halves, a layout, and how its prompt is fed."""
    tp = draw(st.sampled_from((1, 2, 3, 4, 8)))
    kv = draw(st.sampled_from([n for n in range(1, 13) if n % tp == 0 or tp % n == 0]))
    chosen = draw(options(LLM | EXPERT_OPTIONS))
    # A block of FP4 shares a scale: 16 numbers are 9 whole bytes.
    head = 16 * draw(whole(1, 2)) if chosen["kv_dtype"] == "fp4" else draw(whole(1, 20))
    # Experts' matrices are cut by whole bytes.
    attention = Gqa(max(kv, tp) * draw(whole(1, 3)), kv, head, head_norm=draw(st.booleans()))
    halves: list[Any] = draw(st.lists(st.builds(Dense, whole(1, 200)), min_size=1, max_size=3))
    dp = ep = 1
    if draw(st.booleans()):
        dp = draw(st.sampled_from((1, 1, 2, 3)))
        ep = draw(st.sampled_from((tp * dp,) if dp > 1 else (1, tp)))
        halves += draw(st.lists(_experts(ep), min_size=1, max_size=3))
    blocks = tuple(Block(attention, half) for half in draw(st.permutations(halves)))
    config = LlmConfig(blocks, draw(whole(1, 90)), draw(whole(1, 999)))
    pp, cp = draw(whole(1, len(blocks))), draw(st.sampled_from((1, 1, 2, 3)))
    flight = draw(st.none() | whole(1, 4)) if pp > 1 else None
    shape = Turn(draw(whole(1, 3000)), draw(whole(1, 500)), draw(whole(1, 700)))
    model = Model("drawn", "llm", "", "", config, LLM, shape)
    return model, chosen, shape, Layout(tp, pp=pp, in_flight=flight, dp=dp, ep=ep, cp=cp)


@st.composite
def _experts(draw: Draw, ep: int) -> Experts:
    experts = draw(whole(max(2, ep), ep + 9))
    shared = draw(st.just(0) | whole(1, 99))
    return Experts(
        experts,
        draw(whole(1, experts)),
        draw(whole(1, 99)),
        shared,
        shared_gate=bool(shared) and draw(st.booleans()),
        router=draw(st.sampled_from(("softmax", "sigmoid"))),
    )


def agree(trace: MemoryTrace, oracle: slow.Trace, gpu: Gpu) -> None:
    """Every figure of the trace and every column of the rows."""
    assert trace.gpus == oracle.gpus
    assert (trace.artifact, trace.overhead) == (oracle.artifact, oracle.overhead)
    assert [vars(p) for p in trace.phases] == [vars(p) for p in oracle.phases]
    assert (trace.weights_bytes, trace.checkpoint_bytes) == (oracle.weights, oracle.checkpoint)
    assert [r.name for r in trace.rows] == [r.name for r in oracle.rows]
    for ours, theirs in zip(trace.rows, oracle.rows, strict=True):
        assert {name: getattr(ours, name) for name in FIGURES} == theirs.figures, ours.name
        assert (ours.live, ours.peak) == (theirs.live, theirs.peak), ours.name
        came = (ours.host_bytes, ours.overlapped)
        assert came == (theirs.host_bytes, theirs.overlapped), ours.name
        found = trace.records[ours.record].extra.tolist()
        if len(found) == len(theirs.tape.extras()):
            assert found == theirs.tape.extras()
        else:  # of pieces alike only the last is recorded
            assert ours.name == "decode"
            assert ours.steps > 1 or trace.options["vae_parallel"]
    work = price(trace, gpu)
    phases, segments = slow.price(oracle, gpu)
    assert [dict(phase_row(p)) for p in work.phases] == phases
    for segment, row in zip(work.segments, segments, strict=True):
        assert {"own_slope": 0, "pair": 0, "ctx": 0} | dict(segment_row(segment)) == row
    assert (work.weights, work.checkpoint) == (oracle.weights, oracle.checkpoint)
    assert (work.artifact, work.reserve) == (oracle.artifact, oracle.overhead)


@given(clips(), PARTS)
def test_clips_agree(case: tuple[Model, dict[str, Any], Clip, Layout], gpu: Gpu) -> None:
    model, chosen, shape, layout = case
    network = model.built(chosen)
    agree(trace_clip(model, chosen, shape, layout), clip_trace(network, chosen, shape, layout), gpu)


@pytest.mark.parametrize("method", ["teacache", "fbcache", "pab", "taylorseer"])
@given(case=clips(), gpu=PARTS)
def test_clips_agree_under_a_feature_cache(
    method: str, case: tuple[Model, dict[str, Any], Clip, Layout], gpu: Gpu
) -> None:
    """Drawn with all else, one method alone is too rare."""
    model, chosen, shape, layout = case
    kept_apart = method in ("teacache", "fbcache") or layout.ring == 1
    stay = not chosen["fsdp"] and chosen["offload"] in ("none", "model") and layout.pp == 1
    if stay and kept_apart:
        chosen = {**chosen, "feature_cache": method}
    network = model.built(chosen)
    agree(trace_clip(model, chosen, shape, layout), clip_trace(network, chosen, shape, layout), gpu)


SCHEDULERS = st.builds(
    Scheduler,
    max_jobs=whole(1, 300),
    max_batched_tokens=whole(1, 9000),
    prefill_chunk=whole(1, 700),
)


@given(turns(), PARTS, SCHEDULERS)
def test_turns_agree(
    case: tuple[Model, dict[str, Any], Turn, Layout], gpu: Gpu, limits: Scheduler
) -> None:
    model, chosen, shape, layout = case
    oracle = turn_trace(plain(model), chosen, shape, layout)
    trace = trace_turn(model, chosen, shape, layout)
    agree(trace, oracle, gpu)
    kept = reserve(trace, gpu, limits.max_batched_tokens, limits.max_jobs)
    assert kept == slow.reserve(oracle, gpu, chosen, limits)


CLIPS = [n for n in names() if isinstance(getattr(get(n).network, "denoiser", None), Dit)]
TURNS = ("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "qwen3-8b", "qwen3-32b")


@pytest.mark.parametrize("layout", [Layout(), Layout(tp=2, sp=2)])
@pytest.mark.parametrize("name", CLIPS)
def test_typical_clips_agree(name: str, layout: Layout) -> None:
    model = get(name)
    if model.network.denoiser.heads % layout.gpus:  # type: ignore[union-attr]
        layout = Layout(cfg=2)
    chosen = model.resolve()
    oracle = clip_trace(model.built(chosen), chosen, model.request, layout)
    agree(traces.trace(name, None, None, layout), oracle, H100)


@pytest.mark.parametrize("tp", [1, 8, 16])
@pytest.mark.parametrize("name", TURNS)
def test_typical_turns_agree(name: str, tp: int) -> None:
    model = get(name)
    oracle = turn_trace(plain(model), model.resolve(), model.request, Layout(tp))
    agree(traces.trace(name, None, None, Layout(tp)), oracle, H100)
