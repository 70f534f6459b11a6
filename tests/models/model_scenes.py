"""Small networks, so that executing one takes milliseconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from dcsim.models import dit, t5, vae
from dcsim.models.catalogue import get
from dcsim.models.dit import DitConfig
from dcsim.models.pipeline import Networks, Pipeline
from dcsim.models.t5 import T5Config
from dcsim.models.tape import Array, Tape
from dcsim.models.vae import VaeConfig
from dcsim.models.weights import random_arrays

IMAGE = Networks(
    DitConfig(2, 48, 4, (1, 2, 2), classes=10), VaeConfig(widths=(16, 16, 16, 16), layers=1)
)
VIDEO = Networks(
    DitConfig(
        2,
        48,
        4,
        (1, 2, 2),
        channels=6,
        out_channels=6,
        classes=None,
        text_width=32,
        modulation="shared",
        video=True,
    ),
    VaeConfig(channels=6, widths=(16, 16, 16, 16), layers=1, video=True, scale=1.0),
    T5Config(2, 32, 4, 8, 64, 100),
    7,
)


def options(networks: Networks, **given: Any) -> dict[str, Any]:
    name = "dit-s-2" if networks is IMAGE else "video-dit-xl"
    return get(name).resolve({"dtype": "fp32", "vae_dtype": "fp32", **given})


def arrays(networks: Networks, tp: int = 1) -> dict[str, dict[str, Array]]:
    found = {
        "dit": random_arrays(dit.parameters(networks.dit), 1),
        "vae": random_arrays(vae.parameters(networks.vae), 2),
    }
    if networks.text is not None:
        found["text"] = random_arrays(t5.parameters(networks.text), 3)
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
        size,
        steps,
        arrays=arrays(networks) if execute else None,
        seed=seed,
    )
    if networks.text is None:
        run.label(np.array([3, 10]) if execute else None)
    else:
        ids = np.arange(2 * networks.text_tokens).reshape(2, -1) % networks.text.vocabulary
        run.encode(ids if execute else None)
    run.prepare()
    for i in range(steps):
        run.step(i)
    run.decode()
    return run
