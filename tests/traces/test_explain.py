"""The calculation behind a request adds up, line by line."""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil
from typing import Any

import pytest

from dcsim import traces
from dcsim.models import names
from dcsim.spec import Layout, load_parts
from dcsim.traces import Clip, Turn, report
from dcsim.traces.explain import Line, explain

GPU = load_parts().gpus["h200"]
CASES = [
    ("dit-xl-2", {}, Clip(256, 256, 1, 250), Layout()),
    ("video-dit-13b", {"cfg": "sequential"}, Clip(832, 480, 81, 50), Layout(sp=4)),
    ("video-dit-xl", {"weights_dtype": "fp8", "artifact": "raw"}, Clip(256, 192, 17, 4), Layout(2)),
    ("flux.1-dev", {}, Clip(512, 512, 1, 28, 1, 0.6), Layout()),
    ("wan2.1-i2v-14b", {}, Clip(832, 480, 17, 40, 1), Layout(sp=2)),
    ("llama-3.1-70b", {}, Turn(1024, 256), Layout(4)),
    ("llama-3.1-8b", {"kv_dtype": "fp8"}, Turn(100, 1), Layout()),
    ("gpt-oss-20b", {}, Turn(3000, 20), Layout()),
    ("deepseek-v3", {}, Turn(700, 30), Layout(8)),
    ("qwen3-next-80b-a3b", {}, Turn(700, 30), Layout(2)),
]


def lines(case: tuple[Any, ...]) -> list[Line]:
    model, options, shape, layout = case
    return explain(model, traces.trace(model, options, shape, layout), GPU)


def worth(expression: str) -> Fraction:
    """What an expression comes to, by rules that the page states."""
    text = expression.replace(",", "").replace(" x ", " * ")
    assert re.fullmatch(r"[\d\s.()+*/-]+", text), text
    exact = re.sub(r"\d+(\.\d+)?", lambda number: f"Fraction('{number[0]}')", text)
    return Fraction(eval(exact, {"Fraction": Fraction}))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_every_expression_comes_to_its_value(case: tuple[Any, ...]) -> None:
    checked = 0
    for line in lines(case):
        if line.expression:
            checked += 1
            exact = worth(line.expression)
            assert (ceil(exact) if "rounded up" in line.what else exact) == line.value, line
    assert checked >= 10


@pytest.mark.parametrize("name", names())
def test_every_model_is_explained(name: str) -> None:
    """A model on one GPU, whose expressions come to their values."""
    shape = traces.request_of(name)
    found = lines((name, {}, shape, Layout()))
    for line in found:
        if line.expression and "rounded up" not in line.what:
            assert worth(line.expression) == line.value, line
    assert found[-1].section == "what is kept of it"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_it_ends_where_the_trace_does(case: tuple[Any, ...]) -> None:
    model, options, shape, layout = case
    facts = report(traces.trace(model, options, shape, layout), GPU)
    found = {line.what.partition(":")[0]: line.value for line in lines(case)}
    assert found["of the replica"] == facts["weights_bytes"]
    assert found[f"peak, in {facts['peak_phase']}"] == facts["peak_bytes"]
    assert found["in all"] == facts["seconds"]
    for phase in facts["phases"]:
        assert found[f"FLOPs of {phase['name']}, all GPUs"] == phase["flops"]


def test_pixels_to_tokens_by_hand() -> None:
    """81 frames of 832 x 480: 21 latent frames of 60 x 104, patches of 1 x 2 x 2."""
    found = {line.what: line.value for line in lines(CASES[1])}
    assert found["pixels"] == 81 * 480 * 832
    assert found["latents, kept between steps"] == 16 * 21 * 60 * 104 * 4
    assert found["tokens, a patch each"] == 32_760
    assert found["guidance branches, sequential"] == 2


@pytest.mark.parametrize(
    ("frames", "expression", "value"),
    [
        (1, "1 + (1 - 1) // 4", 1),
        (51, "3 x (1 + (17 - 1) // 4)", 15),
        (39, "2 x (1 + (17 - 1) // 4) + 1 + (5 - 1) // 4", 12),
    ],
)
def test_latent_frames_of_pieces(frames: int, expression: str, value: int) -> None:
    """Open-Sora 1.2 makes five latent frames of 17, and of what is left as others do."""
    found = lines(("open-sora-1.2", {}, Clip(256, 144, frames, 1), Layout()))
    line = next(line for line in found if line.what == "latent frames")
    assert (line.expression, line.value, worth(expression)) == (expression, value, value)


def test_what_is_brought_by_hand() -> None:
    """An edit of 28 steps by 0.6, and an image before 16 blank frames."""
    edit, animation = ({line.what: line.value for line in lines(CASES[i])} for i in (3, 4))
    assert (edit["pixels that are brought"], edit["steps that are run, rounded up"]) == (512**2, 17)
    assert animation["pixels that are brought"] == 832 * 480
    assert animation["frames that are encoded"] == 17


def test_kv_by_hand() -> None:
    found = {line.what: line.value for line in lines(CASES[5])}
    assert found["80 layers of K and V, 2 heads of 128, in bf16"] == 80 * 2 * 2 * 128 * 2
    budget = traces.kv("llama-3.1-70b", "h200", 4)
    assert found["tokens that fit"] == budget.kv_tokens
    assert found["left for KV"] == budget.kv_bytes
