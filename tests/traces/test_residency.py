"""Where weights lie, by hand: bytes and seconds of offload and of shared weights."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from scene import changed

from dcsim import traces
from dcsim.assembly import make_plan
from dcsim.engine import COLUMNS
from dcsim.models import ModelError
from dcsim.models.shapes import Clip
from dcsim.planning import simulate
from dcsim.spec import Layout, load_parts, scenario_from_data
from dcsim.traces import MemoryTrace
from dcsim.traces.report import report

H100 = load_parts().gpus["h100"]
CLIP = Clip(832, 480, 17, 10)


def of(layout: Layout | None = None, **options: Any) -> MemoryTrace:
    return traces.trace("video-dit-2b", options, CLIP, layout)


PLAIN = of()
W = {phase.name: phase.weights for phase in PLAIN.phases}


def test_a_network_at_a_time() -> None:
    """T5-XXL, the denoiser, the VAE come one after the other over the host's link, once each."""
    trace = of(offload="model")
    assert trace.weights_bytes == 0
    assert trace.checkpoint_bytes == PLAIN.checkpoint_bytes
    names = [row.name for row in trace.rows]
    plain = [row.name for row in PLAIN.rows]
    assert [name for name in names if not name.startswith("load")] == plain
    loads = [row for row in trace.rows if row.name.startswith("load")]
    assert [row.host_bytes for row in loads] == [W["text"], W["denoise"], W["vae"]]
    each = [row.live + row.peak + W[row.phase] for row in PLAIN.rows]
    assert trace.peak_bytes == max(each)
    facts, before = report(trace, H100), report(PLAIN, H100)
    # Three loads, each a launch and its bytes at 63 GB/s.
    more = sum(W.values()) / 63e9 + 3 * 20e-6
    assert facts["seconds"] == pytest.approx(before["seconds"] + more, rel=1e-12)


def test_a_layer_at_a_time() -> None:
    """All weights of a phase cross the link in each of its steps: 10 steps, two text branches."""
    trace = of(offload="sequential")
    steps = {row.name: row.steps for row in trace.rows}
    assert steps["first step"] + steps["denoise"] == 10
    crossing = sum(row.steps * row.host_bytes for row in trace.rows)
    tiles = steps["decode"]
    assert crossing == 2 * W["text"] + 10 * W["denoise"] + tiles * W["vae"]
    first = next(row for row in trace.rows if row.first)
    like = next(row for row in PLAIN.rows if row.first)
    assert first.live == like.live + -(-W["denoise"] // 28)
    cost = next(s for s in traces.price(trace, H100).segments if s.demand.first).cost
    assert cost.host == Fraction(W["denoise"], 63 * 10**9)


def test_loading_under_computing_costs_what_exceeds_it() -> None:
    """28 groups of weights in turn, the next while one computes."""
    trace = of(offload="group")
    work, plain = traces.price(trace, H100), traces.price(PLAIN, H100)
    for segment, like in zip(work.segments, plain.segments, strict=True):
        phase, cost = plain.phases[like.phase], like.cost
        alone = phase.launch + max(phase.weights, cost.dense) + cost.other
        alone += max(cost.attention, cost.reading)
        coming = Fraction(segment.demand.host_bytes, 63 * 10**9)
        assert segment.cost.host == max(0, coming - alone)
    assert any(segment.cost.host == 0 for segment in work.segments), "a step hides its load"
    assert any(segment.cost.host > 0 for segment in work.segments)


def test_two_layers_are_there_while_one_comes() -> None:
    """What computes and what is loaded: 28 blocks of the denoiser, 24 of T5-XXL."""
    trace = of(offload="group")
    rows = list(zip(trace.rows, PLAIN.rows, strict=True))
    assert {row.phase for row, _ in rows} >= {"text", "denoise"}
    for phase, layers in {"text": 24, "denoise": 28}.items():
        more = {row.live - like.live for row, like in rows if row.phase == phase}
        assert more == {2 * -(-W[phase] // layers)}


def test_weights_shared_out_over_four() -> None:
    """A GPU has a quarter and two gathered blocks; it is sent the three other quarters a step."""
    shared, plain = of(Layout(1, 4, 1), fsdp=True), of(Layout(1, 4, 1))
    for phase, like in zip(shared.phases, plain.phases, strict=True):
        whole = like.weights // 4
        assert phase.weights == (like.weights if phase.name == "vae" else whole)
    more = [p.collectives - q.collectives for p, q in zip(shared.phases, plain.phases, strict=True)]
    assert more == [2 * 24, 28, 0], "two prompts one after the other, a pass of the denoiser"
    first = next(row for row in shared.rows if row.first)
    like = next(row for row in plain.rows if row.first)
    whole = next(p.weights for p in plain.phases if p.name == "denoise") // 4
    assert first.comm_bytes - like.comm_bytes == 3 * whole
    assert first.live - like.live == 4 * 2 * -(-whole // 28)
    text, like = shared.rows[0], plain.rows[0]
    whole = next(p.weights for p in plain.phases if p.name == "text") // 4
    assert text.comm_bytes - like.comm_bytes == 2 * 3 * whole
    assert text.live - like.live == 4 * 2 * -(-whole // 24)


def test_text_on_the_host_holds_nothing_here() -> None:
    trace = of(text_encoders="cpu")
    assert trace.weights_bytes == PLAIN.weights_bytes - W["text"]
    assert [row.name for row in trace.rows] == [r.name for r in PLAIN.rows if r.phase != "text"]


def test_quantised_text() -> None:
    """T5-XXL's 24 layers are 4.63 G of its 4.76 G parameters: half of their 2 bytes fall away."""
    trace = of(text_weights_dtype="int8")
    blocks = 24 * (4 * 4096 * 4096 + 3 * 4096 * 10240)
    assert PLAIN.weights_bytes - trace.weights_bytes == blocks
    four = of(text_weights_dtype="nf4")
    assert PLAIN.weights_bytes - four.weights_bytes == blocks * 2 - blocks * 9 // 16


def test_what_cannot_be() -> None:
    with pytest.raises(ModelError, match="several GPUs"):
        of(fsdp=True)
    with pytest.raises(ModelError, match="stay where they are"):
        of(Layout(1, 2, 1), fsdp=True, offload="model")


def test_in_a_run_weights_stay_in_dram() -> None:
    """An offloaded image service holds no weights in HBM but with a request, and all in DRAM."""
    data = changed("jobs.image.options", {"offload": "model"})
    plan = make_plan(scenario_from_data(data))
    service = plan.services.index("image")
    row = plan.tables["services"][service]
    names = ("weights", "checkpoint", "keep")
    weights, checkpoint, keep = (row[COLUMNS["services"].index(name)] for name in names)
    assert (weights, keep) == (0, 1)
    assert checkpoint == traces.trace("dit-xl-2").checkpoint_bytes
    ended = simulate(plan).outputs
    image = plan.tables["klass"] == list(plan.classes).index("image")
    assert (ended["end"][image] >= 0).mean() > 0.9
