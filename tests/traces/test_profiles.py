"""Serving profiles, by hand: what a stack's figures do to the price of a step."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from scene import changed

from dcsim import traces
from dcsim.assembly import make_plan
from dcsim.models.shapes import Turn
from dcsim.spec import Layout, SpecError, load_parts, scenario_from_data
from dcsim.spec.parts import Efficiency, Profile

H100 = load_parts().gpus["h100"]
SHARES = {"dense": 0.5, "attention": 0.5, "conv": 0.5, "memory": 0.8, "comm": 0.5}
SLOW = Profile(
    efficiency=Efficiency(**SHARES, weights=0.9, kv=0.6),
    launch=30_000,
    host=200_000,
    step=1_000_000,
    collective=12_000,
)
GPU = replace(H100, profiles={"slow": SLOW}).under("slow")
MS = Fraction(1, 1000)


def test_a_decode_step_of_llama_70b_at_tp_8() -> None:
    """80 layers and 162 collectives: one after each half of a layer, of the embedding, and of
    the logits. Weights of a GPU are 17.4 GB of matrices, read at 0.9 of 3.35 TB/s in 5.8 ms; a
    host that needs 0.2 ms a layer takes 16 ms."""
    trace = traces.trace("llama-3.1-70b", None, Turn(512, 16), Layout(8))
    (phase,) = traces.price(trace, GPU).phases
    assert phase.launch == 80 * 30 * MS / 1000 + 1 * MS + 162 * 12 * MS / 1000
    read = Fraction(trace.phases[0].reads, 8 * H100.hbm_bandwidth * 9 // 10)
    assert float(read) == pytest.approx(5.8e-3, rel=0.02)
    assert phase.weights == 16 * MS
    quick = replace(GPU, host=50_000)
    assert traces.price(trace, quick).phases[0].weights == read


def test_attention_reads_kv_at_a_rate_of_its_own() -> None:
    """327,680 B a token over 8 GPUs at 0.6 of 3.35 TB/s."""
    trace = traces.trace("llama-3.1-70b", None, Turn(512, 16), Layout(8))
    decode = traces.price(trace, GPU).segments[1].cost
    assert decode.reading == Fraction(327_680, 8 * 2_010 * 10**9)
    plain = traces.price(trace, replace(GPU, efficiency=Efficiency(**SHARES))).segments[1].cost
    assert plain.reading == Fraction(327_680, 8 * 2_680 * 10**9)
    assert plain.dense == decode.dense


def test_what_says_nothing_is_as_before() -> None:
    assert H100.under(None) is H100
    assert (H100.host, H100.step, H100.collective) == (0, 0, 0)


def test_a_job_names_its_profile() -> None:
    plain = make_plan(scenario_from_data(changed("seed", 3)))
    fast = make_plan(scenario_from_data(changed("jobs.chat.profile", "trt-llm")))
    assert (plain.tables["phases"] != fast.tables["phases"]).any()
    assert (plain.tables["arrival"] == fast.tables["arrival"]).all()


def test_a_profile_that_is_not_there() -> None:
    with pytest.raises(SpecError, match=r"jobs.chat.profile: h100 has no profile 'trt'; did you"):
        make_plan(scenario_from_data(changed("jobs.chat.profile", "trt")))


def test_a_job_that_shares_has_none() -> None:
    data = changed("seed", 3)
    data["jobs"]["more"] = {"shares": "chat", "profile": "trt-llm"} | {
        key: data["jobs"]["chat"][key] for key in ("arrivals", "shape")
    }
    with pytest.raises(SpecError, match="profile come from the job 'chat'"):
        scenario_from_data(data)
