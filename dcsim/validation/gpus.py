"""The GPU of a row, under the profile that it names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dcsim.models.options import ModelError
from dcsim.spec import Gpu, did_you_mean, load_parts
from dcsim.spec.parts import Profile
from dcsim.validation.rows import Settings

TRIED: dict[str, Profile] = {}
"""Profiles in place of those of the parts, while one is fitted."""


def gpu_of(s: Settings) -> Gpu:
    """The part under the profile. ModelError where there is none of that name."""
    parts = load_parts().gpus
    name, profile = s.need("gpu"), s.get("profile")
    if name not in parts:
        raise ModelError([("settings", f"no GPU {name!r}; {did_you_mean(name, parts)}")])
    part = parts[name]
    if TRIED:
        part = replace(part, profiles={**part.profiles, **TRIED})
    try:
        return part.under(profile)
    except KeyError:
        known = did_you_mean(str(profile), parts[name].profiles)
        raise ModelError([("settings", f"{name} has no profile {profile!r}; {known}")]) from None


def written(gpu: Gpu) -> dict[str, Any]:
    """The part as YAML has it, with the figures of its profile as its own."""
    times = ("launch", "host", "step", "collective")
    figures: dict[str, Any] = {name: f"{getattr(gpu, name)} ns" for name in times}
    return {"extends": gpu.name, "efficiency": dict(gpu.efficiency), **figures}
