"""A clip made chunk by chunk: a few denoising steps each, with keys and values of those before.

As Self-Forcing (Huang et al. 2025) and CausVid (Yin et al. 2025) run Wan 2.1: after its last step
a chunk goes through the network once more, clean, and what that leaves is kept.
"""

from __future__ import annotations

import numpy as np

from dcsim.models import ops
from dcsim.models.cache import Cache
from dcsim.models.denoisers.wan import Before, Wan
from dcsim.models.pipeline import LATENT, Pipeline
from dcsim.models.tape import Tensor


class Streaming:
    """The chunks of a clip on one GPU of a replica, whose latents and condition are prepared."""

    def __init__(self, run: Pipeline) -> None:
        network = run.networks.denoiser
        assert isinstance(network, Wan)
        self.run, self.network = run, network
        self.before = Before(
            0, Cache(run.numerics.dtype, layers=[[] for _ in range(network.depth)])
        )

    @property
    def seen(self) -> int:
        """Latent frames before it that the next chunk sees."""
        return seen(self.network, self.before.frames)

    def go_to(self, frames: int) -> None:
        """Be behind so many latent frames, whose keys and values are there; their values are not
        known, so only by shape."""
        network, layout, tape = self.network, self.run.layout, self.run.tape
        self.before.frames = frames
        count = self.seen * network.tokens(1, *self.run.padded[1:])
        shape = (1, count, network.heads // (layout.tp * layout.sp), network.head)
        for layer in self.before.cache.layers if count else ():
            layer.append(
                tuple(tape.tensor(shape, self.run.numerics.dtype, None, "kv") for _ in "kv")
            )

    def step(self, index: int) -> None:
        """Denoise the chunk once; what this pass wrote is written over by the next."""
        at = self.before.frames
        latents = self._latents[:, :, at : at + self.network.chunk]
        guess = self._pass(latents, float(self.run.sampler.timesteps()[index]))
        made = self.run.sampler.advance(
            index, latents, guess, lambda: self.run.normal(latents.shape)
        )
        ops.write_(latents, ops.cast(made, LATENT), lambda _, new: new)
        for layer in self.before.cache.layers:
            layer.pop()

    def keep(self) -> None:
        """Run the clean chunk, keep its keys and values, and go on to the next."""
        at, chunk = self.before.frames, self.network.chunk
        self._pass(self._latents[:, :, at : at + chunk], 0.0)
        self.before.frames += chunk
        if self.network.window:
            tokens = self.seen * self.network.tokens(1, *self.run.padded[1:])
            for layer in range(self.network.depth):
                self.before.cache.trim(layer, tokens)

    @property
    def _latents(self) -> Tensor:
        assert self.run.latents is not None
        return self.run.latents

    def _pass(self, latents: Tensor, time: float) -> Tensor:
        run = self.run
        return self.network.forward(
            run.weights,
            latents,
            np.full(1, time),
            run.conditions[0],
            numerics=run.numerics,
            layout=run.layout,
            before=self.before,
        )


def seen(network: Wan, frames: int) -> int:
    """Latent frames of those before it that a chunk sees."""
    return min(frames, network.window - network.chunk) if network.window else frames
