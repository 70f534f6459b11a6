"""Names and options, and what is said of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from dcsim import models
from dcsim.models import ModelError


def test_every_name_resolves() -> None:
    assert len(set(models.names())) == len(models.names())
    assert "dit-xl-2" in models.names()
    assert "video-dit-13b" in models.names()
    for name in models.names():
        model = models.get(name)
        assert model.name == name
        assert model.kind in ("dit", "llm")
        assert model.params == model.all_params()["transformer"]
        assert set(model.resolve()) == set(model.options)
        for option in model.options.values():
            assert option.wrong(option.default) is None
            assert option.meaning


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ModelError, match="video-dit-13b") as caught:
        models.get("video-dit-13")
    assert caught.value.problems[0][0] == "model"


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({"dtyp": "bf16"}, "options.dtyp", "dtype"),
        ({"cfg": "batch"}, "options.cfg", "batched"),
        ({"vae_parallel": 1}, "options.vae_parallel", "true"),
        ({"guidance": "high"}, "options.guidance", "not a number"),
        ({"guidance": True}, "options.guidance", "not a number"),
        ({"guidance": -1}, "options.guidance", "outside"),
        ({"guidance": float("nan")}, "options.guidance", "outside"),
        ({"runtime_overhead": 1.5}, "options.runtime_overhead", "whole number"),
        ({"sampler": "ddpm"}, "options.sampler", "rectified_flow"),
    ],
)
def test_wrong_options_are_told(given: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        models.get("video-dit-2b").resolve(given)
    assert [p for p, _ in caught.value.problems] == [path]


def test_all_wrong_options_are_told_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        models.get("qwen3-8b").resolve({"dtype": "fp32", "kv": 1, "memory_utilization": 2})
    assert len(caught.value.problems) == 3
