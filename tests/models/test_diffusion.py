"""The diffusion models as data: files of one's own, and what is said of wrong ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scene import scene

from dcsim import traces
from dcsim.assembly import make_plan
from dcsim.models import ModelError, diffusion, get, names
from dcsim.models.shapes import Clip
from dcsim.spec import scenario_from_data

CLIPS = [name for name in names() if get(name).kind == "dit"]

GOOD = """
models:
  tiny:
    title: Tiny painter
    source: a test
    denoiser:
      family: dit
      depth: 2
      hidden: 64
      heads: 4
      patch: [1, 2, 2]
      text_width: 4096
      modulation: shared
    vae: sd
    prompts:
      - {encoder: t5-xxl, tokens: 120}
    predicts: noise
    request: {resolution: 512x256, steps: 20}
    defaults: {cfg: sequential, guidance: 4.5}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_gives_a_model(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    model = get(str(file))
    assert (model.kind, model.request) == ("dit", Clip(512, 256, 1, 20))
    options = model.resolve()
    assert (options["cfg"], options["guidance"], options["sampler"]) == ("sequential", 4.5, "ddpm")
    # Embedder of 256 and one of 64, text of 4096 and one of 64, one modulation of six; a block has
    # an offset, qkv, out, the same again for the text, and an MLP of four; ends.
    h = 64
    ends = 16 * h + h + 256 * h + 2 * h + h * h + 4096 * h + 2 * h + h * h + 6 * h * h + 6 * h
    block = 6 * h + 2 * (4 * h * h + 4 * h) + 8 * h * h + 5 * h
    last = 2 * h * h + 2 * h + 32 * h + 32
    assert model.params == ends + 2 * block + last
    trace = traces.trace(f"{file}#tiny")
    assert [row.name for row in trace.rows] == ["encode", "first step", "denoise", "decode"]
    assert trace.rows[1].tokens == 32 * 16


def test_a_file_is_the_model_of_a_job(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    shape = {"resolution": "256x256", "steps": 10}
    arrivals = {"process": "poisson", "rate": "1/s"}
    job = {"model": f"{file}#tiny", "shape": shape, "arrivals": arrivals, "replicas": 1}
    plan = make_plan(scenario_from_data(scene(jobs={"mine": job})))
    assert len(plan.tables["phases"]) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Tiny", "titel: Tiny", "4:5: models.tiny.titel: unknown key"),
        ("family: dit", "family: dot", "6:5: models.tiny.denoiser: family: 'dot' is not known"),
        ("depth: 2", "depth: 0", "8:14: models.tiny.denoiser.depth: 0 must be 1 or more"),
        ("heads: 4", "heads: 5", "heads: 5 does not divide 64"),
        ("patch: [1, 2, 2]", "patch: [2, 2]", "patch: needs at least 3"),
        ("text_width: 4096", "text_width: 512", "text_width: 512, but its encoders give 4096"),
        ("vae: sd", "vae: sdd", "did you mean 'sd'"),
        ("vae: sd", "vae: causal-16", "causal-16 has 16 latent channels, the denoiser 4"),
        ("encoder: t5-xxl", "encoder: t5-xl", "did you mean 't5-xxl'"),
        ("tokens: 120", "tokens: many", "'many' where a whole number is due"),
        ("text_width: 4096", "classes: 10", "prompts: none is due, its condition is a class"),
        ("    prompts:\n      - {encoder: t5-xxl, tokens: 120}\n", "", "prompts: none is given"),
        ("512x256", "512x", "is no resolution"),
        ("cfg: sequential", "cfg: both", "defaults.cfg: 'both' is not allowed"),
        ("cfg: sequential", "cgf: batched", "defaults.cgf: unknown option: did you mean 'cfg'"),
        ("modulation: shared", "modulation: all", "modulation: 'all' is not allowed"),
        ("models:", "- models:", "where a mapping is due"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    file = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        diffusion.read(file)
    assert all(path == "model" and str(file) in text for path, text in caught.value.problems)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    bad = GOOD.replace("depth: 2", "depth: 0").replace("vae: sd", "vae: sdd")
    with pytest.raises(ModelError) as caught:
        get(str(written(tmp_path, bad)))
    assert len(caught.value.problems) == 2


def test_shipped_models_can_be_named_and_traced() -> None:
    assert len(CLIPS) == len(diffusion.shipped())
    for name in CLIPS:
        found = traces.trace(name)
        assert found.peak_bytes > found.weights_bytes > 2 * get(name).params
