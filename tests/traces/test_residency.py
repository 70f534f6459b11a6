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
from dcsim.traces.parts import handed_over, part
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


EXPERT = 14_288_491_584 * 2
"""Bytes of one of Wan 2.2 A14B's two networks in bf16 (14.288 B parameters)."""


def experts(model: str = "wan2.2-t2v-a14b", shape: Clip | None = None, **options: Any) -> Any:
    return traces.trace(model, options, shape or Clip(832, 480, 17, 40))


def steps_of(trace: MemoryTrace) -> list[tuple[str, int]]:
    """Rows of denoising and loading, in sampler steps: the branches come in turn."""
    named = ("denoise", "load")
    return [
        (row.name, row.steps if row.phase == "load" else row.steps // 2)
        for row in trace.rows
        if row.phase in named and "text" not in row.name and "vae" not in row.name
    ]


def test_the_second_expert_comes_when_the_boundary_is_passed() -> None:
    """Of 40 steps shifted by 12, step i has noise 12 s / (1 + 11 s) at s = 1 - i / 40: it is 0.875
    at s = 7/19, so 26 steps are of the first. 26.6 GiB each."""
    plain, one = experts(), experts(experts="switched")
    assert plain.weights_bytes - one.weights_bytes == EXPERT
    assert one.offloaded
    assert steps_of(one) == [
        ("load denoise", 1),
        ("first step", 1),
        ("denoise", 25),
        ("load denoise 2", 1),
        ("denoise", 14),
    ]
    noise = [12 * Fraction(40 - i, 40) / (1 + 11 * Fraction(40 - i, 40)) for i in range(40)]
    assert sum(each >= Fraction(7, 8) for each in noise) == 26
    facts, before = report(one, H100), report(plain, H100)
    assert facts["host_bytes"] - before["host_bytes"] == 2 * EXPERT
    assert pytest.approx(26.6, abs=0.05) == EXPERT / 2**30
    more = 2 * EXPERT / 63e9 + 2 * 20e-6
    assert facts["seconds"] == pytest.approx(before["seconds"] + more, rel=1e-9)
    assert plain.peak_bytes - one.peak_bytes == EXPERT
    first, switch = (next(r for r in one.rows if r.first), one.switch)
    assert switch is not None
    assert switch.live == first.live  # a request has its latents and embeddings meanwhile


def test_of_shared_out_experts_one_is_gathered() -> None:
    shared, plain = (
        traces.trace("wan2.2", {"fsdp": fsdp}, Clip(832, 480, 17, 40), Layout(sp=2))
        for fsdp in (True, False)
    )
    rows = [next(row for row in each.rows if row.first) for each in (shared, plain)]
    assert rows[0].comm_bytes - rows[1].comm_bytes == EXPERT  # half of it to each of two GPUs


def test_image_to_video_switches_earlier() -> None:
    """Boundary 0.9, shift 5: 0.9 at s = 9/14, so steps 0 to 14 of 40."""
    one = experts("wan2.2-i2v-a14b", Clip(832, 480, 17, 40, given=1), experts="switched")
    assert [steps for _, steps in steps_of(one)] == [1, 1, 14, 1, 25]


def test_steps_are_spread_anew_over_the_experts() -> None:
    one = experts(experts="switched")
    for steps in (1, 2, 3, 10, 39, 40):
        again = experts(shape=Clip(832, 480, 17, steps), experts="switched")
        assert one.with_steps(steps) == again
        assert sum(n for name, n in steps_of(again) if "load" not in name) == steps
    assert steps_of(one.with_steps(1)) == [("load denoise", 1), ("first step", 1)]
    assert steps_of(one.with_steps(3)) == [
        ("load denoise", 1),
        ("first step", 1),
        ("denoise", 1),
        ("load denoise 2", 1),
        ("denoise", 1),
    ]


@pytest.mark.parametrize(("strength", "early"), [(1.0, 26), (0.5, 6), (0.36, 1), (0.35, 0)])
def test_an_edit_leaves_out_steps_of_the_first_expert(strength: float, early: int) -> None:
    """An edit runs the last steps: of 40 the first 26 are the first expert's."""
    edit = Clip(832, 480, 17, 40, given=17, strength=strength)
    one = experts(shape=edit, experts="switched")
    names = [name for name, _ in steps_of(one)]
    if early:
        at = names.index("load denoise 2")
        assert sum(n for _, n in steps_of(one)[1:at]) == early
    else:
        assert "load denoise 2" not in names


def test_offload_holds_one_expert_at_a_time() -> None:
    """As the authors' offload_model and diffusers' pipeline of two transformers do."""
    one = experts(offload="model")
    loads = [row for row in one.rows if row.name.startswith("load denoise")]
    assert [row.host_bytes for row in loads] == [EXPERT, EXPERT]
    first = next(row for row in one.rows if row.first)
    assert loads[1].live == first.live
    plain = next(row for row in experts().rows if row.first)
    assert first.live - plain.live == EXPERT
    streamed = next(row for row in experts(offload="sequential").rows if row.first)
    assert streamed.host_bytes == EXPERT  # a pass needs one of them


def test_experts_that_cannot_be_switched() -> None:
    with pytest.raises(ModelError, match="stay where they are"):
        traces.trace("wan2.2", {"experts": "switched", "fsdp": True}, None, Layout(sp=2))
    with pytest.raises(ModelError, match="offload model has none that stays"):
        traces.trace("wan2.2", {"experts": "switched", "offload": "model"})
    for options in ({"experts": "switched"}, {"offload": "model"}):
        with pytest.raises(ModelError, match="one is there at a time"):
            traces.trace("wan2.2", {**options, "feature_cache": "teacache"})
    with pytest.raises(ModelError, match="unknown option"):
        traces.trace("wan2.1", {"experts": "switched"})


def test_a_file_keeps_the_switch(tmp_path: Any) -> None:
    one = experts(experts="switched")
    traces.save(one, tmp_path / "one.npz")
    again = traces.load(tmp_path / "one.npz")
    assert again == one
    assert again.with_steps(10) == one.with_steps(10)


def test_a_stage_brings_what_it_runs() -> None:
    """A replica of one stage has its own loads; it was refused with a traceback."""
    trace = of(offload="model")
    for stage, phase in (("encode", "text"), ("denoise", "denoise"), ("decode", "vae")):
        alone = part(trace, [stage])
        assert alone.rows[0].name == f"load {phase}"
        assert {each.name for each in alone.phases} == {phase, "load"}
    assert handed_over(trace, "encode") == handed_over(PLAIN, "encode")
    assert handed_over(trace, "denoise") == handed_over(PLAIN, "denoise")
