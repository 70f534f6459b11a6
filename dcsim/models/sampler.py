"""Samplers: DDPM (Ho et al. 2020, learned variance after Nichol & Dhariwal 2021), DDIM (Song
et al. 2021) and rectified flow (Liu et al. 2023, Euler steps)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dcsim.models import ops
from dcsim.models.tape import MEMORY, Array, Tensor

TRAINED = 1000
"""Timesteps a diffusion model is trained with."""


@dataclass(frozen=True)
class Sampler:
    """A schedule of `steps` and the update from one to the next."""

    kind: str
    """`ddpm`, `ddim` or `rectified_flow`."""
    steps: int

    def timesteps(self) -> Array:
        """What the network is told at each step, first step first (float64)."""
        if self.kind == "rectified_flow":
            return TRAINED * self._sigmas()[:-1]
        return self._spaced()[::-1].astype(np.float64)

    def _sigmas(self) -> Array:
        return np.linspace(1.0, 0.0, self.steps + 1)

    def _spaced(self) -> Array:
        return np.round(np.linspace(0, TRAINED - 1, self.steps)).astype(np.int64)

    def _alphas(self, index: int) -> tuple[float, float]:
        """Cumulative alpha at step `index` and at the one it leads to."""
        kept = np.cumprod(1.0 - np.linspace(1e-4, 0.02, TRAINED))[self._spaced()]
        at = self.steps - 1 - index
        return float(kept[at]), float(kept[at - 1]) if at else 1.0

    def noised(self, index: int, clean: Tensor, noise: Tensor) -> Tensor:
        """Clean latents with as much noise as there is before step `index`, in float32."""
        if self.kind == "rectified_flow":
            sigma = float(self._sigmas()[index])
            kept, spread = 1 - sigma, sigma
        else:
            now, _ = self._alphas(index)
            kept, spread = now**0.5, (1 - now) ** 0.5
        return ops.add(ops.affine(clean, kept), ops.affine(noise, spread))

    def advance(
        self, index: int, latents: Tensor, prediction: Tensor, noise: Callable[[], Array]
    ) -> Tensor:
        """The latents after step `index`.

        `prediction` has the latents' channels (noise, or velocity for rectified flow) or twice
        as many (noise, then the variance's place between its bounds; DDPM only). `noise` is
        called for a standard normal array of the latents' shape when executing.
        """
        guess = prediction[:, : latents.shape[1]]
        if self.kind == "rectified_flow":
            sigmas = self._sigmas()
            move = ops.affine(guess, float(sigmas[index + 1] - sigmas[index]))
            return ops.add(latents, move)
        now, then = self._alphas(index)
        clean = ops.sub(ops.affine(latents, now**-0.5), ops.affine(guess, (1 / now - 1) ** 0.5))
        if self.kind == "ddim":
            return ops.add(ops.affine(clean, then**0.5), ops.affine(guess, (1 - then) ** 0.5))
        return self._ddpm(latents, clean, prediction, now, then, noise)

    def _ddpm(
        self,
        latents: Tensor,
        clean: Tensor,
        prediction: Tensor,
        now: float,
        then: float,
        noise: Callable[[], Array],
    ) -> Tensor:
        beta = 1 - now / then
        mean = ops.add(
            ops.affine(clean, beta * then**0.5 / (1 - now)),
            ops.affine(latents, (1 - then) * (now / then) ** 0.5 / (1 - now)),
        )
        drawn = latents.tape.run("normal", MEMORY, (), latents.shape, latents.dtype, noise)
        # The last step adds none; its variance is bounded by that of the step before.
        last = then == 1.0
        low = np.log(beta) if last else np.log(beta * (1 - then) / (1 - now))
        high = np.log(beta)
        channels = latents.shape[1]
        if prediction.shape[1] == 2 * channels:
            place = prediction[:, channels:]
            spread = ops.pointwise(
                "variance",
                lambda v: np.exp(0.5 * ((v + 1) / 2 * (high - low) + low)).astype(np.float32),
                place,
            )
            drawn = ops.mul(drawn, spread)
        else:
            drawn = ops.affine(drawn, float(np.exp(0.5 * low)))
        return ops.add(mean, ops.affine(drawn, 0.0 if last else 1.0))
