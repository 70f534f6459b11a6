"""What models cannot do is told in the round that tells what is wrong with fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from scene import scene

from dcsim.planning import check, load, variants
from dcsim.spec import SpecError

Jobs = dict[str, dict[str, Any]]

TYPO = "duration: '10 minx': the unit 'minx' is not a time's"
IMAGE = {"model": "dit-xl-2", "shape": {"resolution": "256x256", "steps": 50}}
STAGED = {
    "replicas": None,
    "stages": {"prefill": {"replicas": 1, "layout": {"tp": 3}}, "decode": {"replicas": 1}},
}

CASES: dict[str, tuple[Jobs, list[str]]] = {
    "a model": ({"chat": {"model": "llama-3.1-8bb"}}, ["chat.model: no model 'llama-3.1-8bb'"]),
    "a model of a stage": (
        {"chat": {**STAGED, "model": "llama-3.1-8bb"}},
        ["chat.model: no model 'llama-3.1-8bb'"],
    ),
    "options": (
        {"image": {"options": {"dtype": "fp17", "cgf": "none"}}},
        ["image.options.dtype: 'fp17' is not", "image.options.cgf: unknown option: did you mean"],
    ),
    "an option and a layout": (
        {"image": {"options": {"dtype": "fp17"}, "layout": {"sp": 3}}},
        ["image.options.dtype: 'fp17'", "image.layout: tp 1 x sp 3 does not divide 16"],
    ),
    "an option that needs GPUs": (
        {"image": {"options": {"fsdp": True}}},
        ["image.options.fsdp: true needs several GPUs"],
    ),
    "an option that has its GPUs": (
        {"image": {"options": {"fsdp": True}, "layout": {"sp": 2}}},
        [],
    ),
    "an option beside a layout that cannot be read": (
        {"image": {"options": {"cgf": 1, "fsdp": True}, "layout": {"sp": "x"}}},
        ["image.options.cgf: unknown option", "image.layout.sp: 'x' where a whole number is due"],
    ),
    "a layout of a stage": (
        {"chat": STAGED},
        ["chat.stages.prefill.layout.tp: 3 does not divide 32 attention heads"],
    ),
    "a profile": (
        {"chat": {"profile": "vlm"}},
        ["chat.profile: h100 has no profile 'vlm'; known: eager, compiled, fa3, trt-llm"],
    ),
    "a profile there is": ({"chat": {"profile": "trt-llm"}}, []),
    "a shape of the other kind": (
        {"chat": {"model": "dit-xl-2"}},
        ["chat.shape: dit-xl-2 takes resolution, frames, steps"],
    ),
    "an image's shape of an LLM": (
        {"image": {"model": "llama-3.1-8b"}},
        ["image.shape: llama-3.1-8b takes prompt, output"],
    ),
    "each value that is named": (
        {
            "image": {
                "shape": {
                    "resolution": {"choice": {"256x256": 1, "250x256": 1, "256x264": 1}},
                    "frames": 3,
                    "steps": {"choice": {"50": 1, "1001": 1}},
                }
            }
        },
        [
            "image.shape.resolution: width 250 is not a multiple of 16",
            "image.shape.resolution: height 264 is not a multiple of 16",
            "image.shape.frames: 3 frames of an image model",
            "image.shape.steps: 1001 steps of a model trained with 1000",
        ],
    ),
    "a shape that cannot be read": (
        {"image": {"shape": {"resolution": "256x250", "steps": "many"}}},
        [
            "image.shape.resolution: height 250 is not a multiple of 16",
            "image.shape.steps: 'many' is no whole number",
        ],
    ),
    "a shape beside a layout that cannot be read": (
        {"image": {"shape": {"resolution": "256x250", "steps": 9}, "layout": {"sp": "x"}}},
        ["image.layout.sp: 'x' where", "image.shape.resolution: height 250 is not a multiple"],
    ),
    "a job that shares": (
        {"more": {"shares": "image", "shape": {"resolution": "256x250", "steps": 9}}},
        ["more.shape.resolution: height 250 is not a multiple of 16"],
    ),
    "a job that shares a model of the other kind": (
        {"more": {"shares": "image", "shape": {"prompt": 1, "output": 9}}},
        ["more.shares: one is a diffusion job and the other an LLM's: more, image"],
    ),
    "a model that shares cannot mend": (
        {"image": {"model": "dit-xl"}, "more": {"shares": "image", "shape": IMAGE["shape"]}},
        ["image.model: no model 'dit-xl'"],
    ),
    "a model that is no text": ({"image": {"model": 5}}, ["image.model: 5 where text is due"]),
}


def write(path: Path, changes: Jobs, **more: Any) -> Path:
    data = scene(**more)
    for name, keys in changes.items():
        job = data["jobs"].setdefault(name, {"arrivals": {"process": "poisson", "rate": "1/s"}})
        job.update(keys)
        data["jobs"][name] = {key: value for key, value in job.items() if value is not None}
    file = path / "s.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return file


def told(file: Path) -> list[str]:
    return [f"{problem.path}: {problem.message}" for problem in check(file)]


def agree(found: list[str], expected: list[str]) -> None:
    assert len(found) == len(expected), found
    for each in expected:
        assert sum(one.startswith(each) for one in found) == 1, (each, found)


@pytest.mark.parametrize("name", CASES)
def test_beside_a_typo(tmp_path: Path, name: str) -> None:
    changes, expected = CASES[name]
    file = write(tmp_path, changes, duration="10 minx")
    agree(told(file), [TYPO, *(f"jobs.{each}" for each in expected)])


@pytest.mark.parametrize("name", CASES)
def test_alone(tmp_path: Path, name: str) -> None:
    """What is told beside a typo is what is wrong without it: nothing more, nothing less."""
    changes, _ = CASES[name]
    found = told(write(tmp_path, changes, duration="10 minx"))
    rest = {each.partition(": ")[2] for each in found if not each.startswith("duration")}
    assert {each.partition(": ")[2] for each in told(write(tmp_path, changes))} == rest


def test_the_places_are_those_in_the_file(tmp_path: Path) -> None:
    changes, _ = CASES["options"]
    file = write(tmp_path, changes, duration="10 minx")
    lines = file.read_text(encoding="utf-8").splitlines()
    where = {problem.path: problem.line for problem in check(file)}
    assert lines[(where["jobs.image.options.cgf"] or 0) - 1].strip() == "cgf: none"


def test_variants_are_read_where_the_base_is_wrong(tmp_path: Path) -> None:
    """What they change is told once, and nothing of the base again."""
    variants = {"more": {"jobs.chat.replicas": "many"}, "same": {"seed": 2}}
    file = write(tmp_path, CASES["a model"][0], duration="10 minx", what_if=variants)
    agree(
        told(file),
        [
            TYPO,
            "jobs.chat.model: no model 'llama-3.1-8bb'",
            "what_if.more: jobs.chat.replicas: 'many' where a whole number is due",
        ],
    )


def test_a_profile_that_one_of_two_kinds_of_gpus_has(tmp_path: Path) -> None:
    """Where the job may run on it nothing is wrong yet; where it may not, that is told."""
    racks = {name: {"extends": "hgx-h100", "count": 1} for name in ("rack0", "rack1")}
    racks["rack1"]["node"] = {"gpu": "l20"}
    profile = {"chat": {"profile": "trt-llm"}}
    file = write(tmp_path, profile, duration="10 minx", topology={"name": "two", "racks": racks})
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    data["jobs"]["image"]["keep"] = {}
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    agree(told(file), [TYPO])
    data["jobs"]["chat"]["replicas"] = {"count": 1, "on": ["rack1"]}
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    agree(told(file), [TYPO, "jobs.chat.profile: l20 has no profile 'trt-llm'"])


def test_by_every_way_in(tmp_path: Path) -> None:
    """Loading for a run and for a comparison tell the same; a variant's typo hides no model."""
    variant = {"slow": {"jobs.chat.arrivals.rate": "-1/s"}}
    file = write(tmp_path, CASES["a model"][0], what_if=variant)
    expected = [
        "jobs.chat.model: no model 'llama-3.1-8bb'",
        "what_if.slow: jobs.chat.arrivals.rate: '-1/s' must be 0 or more",
    ]
    agree(told(file), expected)
    for way in (load, variants):
        with pytest.raises(SpecError) as caught:
            way(file)
        assert {f"{p.path}: {p.message}" for p in caught.value.problems} >= set(told(file))
