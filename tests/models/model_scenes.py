"""Small networks, so that executing one takes milliseconds."""

from __future__ import annotations

from typing import Any

import numpy as np
from vae_scenes import kl

from dcsim.models import vae
from dcsim.models.catalogue import get
from dcsim.models.denoisers.dit import Dit
from dcsim.models.pipeline import Networks, Pipeline, Prompt
from dcsim.models.shapes import Clip
from dcsim.models.t5 import T5
from dcsim.models.tape import Array, Tape
from dcsim.models.weights import random_arrays

IMAGE = Networks(Dit(2, 48, 4, (1, 2, 2), classes=10), kl(4, (16, 16, 16, 16), 1))
VIDEO = Networks(
    Dit(
        2,
        48,
        4,
        (1, 2, 2),
        channels=6,
        out_channels=6,
        text_width=32,
        modulation="shared",
        video=True,
    ),
    kl(6, (16, 16, 16, 16), 1, video=True),
    (Prompt("t5", T5(2, 32, 4, 8, 64, 100), 7),),
)


def options(networks: Networks, **given: Any) -> dict[str, Any]:
    name = "dit-s-2" if networks is IMAGE else "video-dit-xl"
    return get(name).resolve({"dtype": "fp32", "vae_dtype": "fp32", **given})


def arrays(networks: Networks, tp: int = 1) -> dict[str, dict[str, Array]]:
    found = {
        "denoiser": random_arrays(networks.denoiser.parameters(), 1),
        "vae": random_arrays(vae.parameters(networks.vae), 2),
    }
    for prompt in networks.prompts:
        found[prompt.name] = random_arrays(prompt.encoder.parameters(), 3)
    return found


def generate(
    networks: Networks,
    size: tuple[int, int, int],
    steps: int,
    *,
    execute: bool,
    seed: int = 0,
    **given: Any,
) -> Pipeline:
    """A whole clip, from condition to pixels."""
    chosen = options(networks, **given)
    run = Pipeline(
        Tape(execute=execute),
        networks,
        chosen,
        Clip(size[2], size[1], size[0], steps),
        arrays=arrays(networks) if execute else None,
        seed=seed,
    )
    if networks.denoiser.labelled:
        run.label(np.array([3, 10]) if execute else None)
    else:
        ids = np.arange(2 * networks.prompts[0].tokens).reshape(2, -1) % 100
        run.encode(ids if execute else None)
    run.prepare()
    for i in range(steps):
        run.step(i)
    run.decode()
    return run
