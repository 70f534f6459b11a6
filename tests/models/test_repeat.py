"""Blocks that are recorded once leave what recording each of them leaves."""

from __future__ import annotations

from typing import Any

import pytest

from dcsim.models import get, names, repeat
from dcsim.models.pipeline import Networks, Pipeline
from dcsim.models.shapes import Clip
from dcsim.models.tape import Tape
from dcsim.spec import Layout

CLIPS = [name for name in names() if get(name).kind == "dit"]


def recorded(name: str, given: dict[str, Any], layout: Layout) -> Tape:
    """A step of a model at a small size, then another."""
    model = get(name)
    options = model.resolve(given)
    network, clip = model.built(options), model.request
    assert isinstance(network, Networks)
    assert isinstance(clip, Clip)
    frames = 1 + 2 * network.vae.time if network.denoiser.frames else 1
    tape = Tape()
    run = Pipeline(tape, network, options, Clip(256, 256, frames, 2), layout=layout)
    for i in range(len(network.prompts)):
        run.encode(encoder=i)
    if network.denoiser.labelled:
        run.label()
    run.prepare()
    run.step(0)
    run.step(1)
    return tape


@pytest.mark.parametrize("layout", [Layout(), Layout(tp=2, sp=2)])
@pytest.mark.parametrize("name", CLIPS)
def test_a_record_of_equal_blocks_is_that_of_each(
    name: str, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = "fp32" in (get(name).options["residual_dtype"].allowed or ())
    given = {"residual_dtype": "fp32"} if wide else {}
    short = recorded(name, given, layout)
    monkeypatch.setattr(repeat._Mark, "same", lambda mark, after, stride: False)
    long = recorded(name, given, layout)
    assert short.events == long.events
    assert short.profile == long.profile
    assert (short.held, short.numbered) == (long.held, long.numbered)


def test_most_blocks_are_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []
    kept = repeat._Mark.copy

    def spy(mark: repeat._Mark, times: int, state: Any, stride: int) -> None:
        copied.append(times)
        kept(mark, times, state, stride)

    monkeypatch.setattr(repeat._Mark, "copy", spy)
    recorded("video-dit-13b", {}, Layout())
    # Each branch's text encoder of 24 layers, and in each step 48 blocks.
    assert copied == [22, 22, 46, 46]
