"""From a condition to pixels: encode the text and what is brought, denoise, decode. Runs, or only
counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dcsim.models import coding, ops, vae
from dcsim.models.audio import Audio
from dcsim.models.denoiser import Denoiser, Latent, Numerics, Stale
from dcsim.models.encoder import Encoder, Encoding
from dcsim.models.options import kept_dtype
from dcsim.models.parallel import ALONE, all_gather, evenly, sent
from dcsim.models.sampler import Sampler
from dcsim.models.shapes import Clip
from dcsim.models.tape import Array, Tape, Tensor
from dcsim.models.vae import Vae
from dcsim.models.weights import Weights
from dcsim.spec import Layout

LATENT = "fp32"
"""Latents are kept in float32 between steps, as Wan and most schedulers do."""


@dataclass(frozen=True)
class Prompt:
    """A text encoder, and how long prompts are padded for it."""

    name: str
    encoder: Encoder
    tokens: int


@dataclass(frozen=True)
class Networks:
    """The networks of a diffusion model."""

    denoiser: Denoiser
    vae: Vae
    prompts: tuple[Prompt, ...] = ()
    """Text encoders, in order."""
    audio: Audio | None = None
    """What makes a soundtrack."""

    def edits(self, shape: Clip) -> bool:
        """Whether a request starts from the clip that it brings, with noise over it."""
        whole = shape.given == shape.frames
        return whole and self.denoiser.takes not in ("channels", "tokens", "chunks")


def _joined(parts: Sequence[Encoding]) -> Encoding:
    """Branches as one batch."""
    pooled = [each.pooled for each in parts if each.pooled is not None]
    return Encoding(
        ops.concat([each.sequence for each in parts], 0), ops.concat(pooled, 0) if pooled else None
    )


@dataclass(frozen=True)
class _Pass:
    """A pass of a denoiser for one condition."""

    network: Denoiser
    weights: Weights
    time: float
    condition: tuple[Tensor, ...]


class Pipeline:
    """One clip on one GPU of a replica: `encode`, `bring` if something is given, `prepare`, `step`
    for each step, `decode`.

    Between calls it holds only what a server holds: latents and embeddings. `arrays` maps
    `denoiser`, `vae` and the names of the text encoders to arrays by parameter name, for a tape
    that executes.
    """

    def __init__(
        self,
        tape: Tape,
        networks: Networks,
        options: Mapping[str, Any],
        shape: Clip,
        *,
        layout: Layout = ALONE,
        arrays: Mapping[str, Mapping[str, Array]] | None = None,
        seed: int = 0,
    ) -> None:
        self.tape, self.networks, self.options, self.layout = tape, networks, options, layout
        self.network = networks.denoiser.stage(layout.pp)
        dtype = options["dtype"]
        self.numerics = Numerics(
            dtype,
            kept_dtype(options, "residual_dtype"),
            kept_dtype(options, "modulation_dtype"),
            options["attention"],
        )
        tape.transposes = options["conv_workspace"] == "transposed"
        self.shape = shape
        self.latent = networks.vae.latent(shape.frames, shape.height, shape.width)
        self.padded = networks.denoiser.padded(self.latent)
        self.sampler = Sampler(options["sampler"], shape.steps)
        self.skipped = shape.steps - shape.denoised
        """Steps that an edit leaves out: the first."""
        arrays = arrays or {}
        self.weights = Weights(
            tape,
            self.network.held(layout.tp),
            kept_dtype(options, "weights_dtype"),
            arrays.get("denoiser"),
        )
        self.vae_weights = Weights(
            tape, vae.parameters(networks.vae), options["vae_dtype"], arrays.get("vae")
        )
        self.text_weights = [
            Weights(
                tape,
                each.encoder.parameters(),
                kept_dtype(options, "text_weights_dtype"),
                arrays.get(each.name),
            )
            for each in networks.prompts
        ]
        for weights in (self.weights, *self.text_weights):
            weights.dtype = dtype  # of activations, however matrices are kept
        self._encoded: list[list[Encoding]] = []
        self._rng = np.random.Generator(np.random.Philox(seed))
        self._times = self.sampler.timesteps() if tape.execute else np.zeros(shape.steps)
        self.conditions: list[tuple[Tensor, ...]] = []
        self.stale: list[Stale] = []
        """K and V that a stage of a pipeline keeps of all patches, by condition."""
        self.latents: Tensor | None = None
        self.brought: Tensor | None = None
        """What every pass is given of the latents of what the request brings; before an edit's
        `prepare` the latents to start from."""
        self.pixels: Tensor | None = None

    @property
    def branches(self) -> int:
        """Guidance branches this GPU computes."""
        return 1 if self.options["cfg"] == "distilled" or self.layout.cfg == 2 else 2

    def encode(self, ids: Array | None = None, encoder: int = 0) -> None:
        """Embed the prompt and, under guidance, the negative prompt: ids (branches, tokens).

        With several encoders, by one after the other; the last leaves the condition.
        """
        if not self.networks.prompts:
            raise ValueError("the model has no text encoder")
        prompt, weights = self.networks.prompts[encoder], self.text_weights[encoder]
        found, of_image = [], prompt.encoder.of_image
        for branch in range(1 if of_image else self.branches):
            data = None if ids is None else ids[branch : branch + 1]
            words = prompt.encoder.fed(self.tape, prompt.tokens, weights.dtype, data)
            found.append(prompt.encoder.encode(weights, words))
        if of_image:
            found *= self.branches
        if self.options["cfg"] == "batched" and len(found) > 1:
            found = [_joined(found)]
        for each in found:
            for part in (each.sequence, each.pooled):
                if part is not None:
                    self.tape.keep(part, "embeddings")
        self._encoded.append(found)
        if len(self._encoded) == len(self.networks.prompts):
            self._conclude()

    def _conclude(self) -> None:
        """Make the condition of each pass of what the encoders have made."""
        of_pass = list(zip(*self._encoded, strict=True))
        self._encoded = []
        while of_pass:
            made = self.networks.denoiser.condition(of_pass.pop(0))
            self.conditions.append(tuple(self.tape.keep(each, "embeddings") for each in made))

    def label(self, classes: Array | None = None) -> None:
        """The class, and "none" under guidance, as the condition: (branches,)."""
        count = self.branches
        batched = self.options["cfg"] == "batched" and count > 1
        for part in range(1 if batched else count):
            take = slice(None) if batched else slice(part, part + 1)
            data = None if classes is None else classes[take]
            shape = (count if batched else 1,)
            self.conditions.append((self.tape.tensor(shape, "int64", data, "embeddings"),))

    def bring(self, pixels: Array | None = None) -> None:
        """Encode what the request brings: pixels (1, 3, frames, height, width) in [-1, 1]."""
        network, shape, dtype = self.networks.denoiser, self.shape, self.options["vae_dtype"]
        frames = network.encodes(shape.given, shape.frames)
        size = (1, 3, frames, shape.height, shape.width)
        latents = coding.encode(
            self.networks.vae,
            self.vae_weights,
            self.tape.tensor(size, dtype, pixels, "inputs"),
            tiling=self.options["vae_tiling"],
        )
        latents = ops.cast(latents, LATENT)
        if not self.networks.edits(shape):
            latents = network.brought(latents, self.padded)
        elif self.padded != self.latent:
            first = self.padded[0] - self.latent[0]
            blank = (*latents.shape[:2], first, *latents.shape[3:])
            latents = ops.concat([ops.blank(self.tape, blank, LATENT), latents], 2)
        self.brought = self.tape.keep(latents, "embeddings")

    def prepare(self, noise: Array | None = None) -> None:
        """Draw the first latents, (1, channels, frames, rows, columns), over those of an edit."""
        shape = (1, self.networks.denoiser.channels, *self.padded)
        if self.tape.execute and noise is None:
            noise = self.normal(shape)
        self.latents = self.tape.tensor(shape, LATENT, noise, "latents")
        if self.networks.edits(self.shape) and self.brought is not None:
            start = self.sampler.noised(self.skipped, self.brought, self.latents)
            self.latents = self.tape.keep(start, "latents")
            self.brought = None

    @property
    def seen(self) -> Latent:
        """Latent frames, rows and columns of which a pass makes tokens."""
        (frames, rows, columns), network, shape = self.padded, self.networks.denoiser, self.shape
        if shape.given and network.takes == "tokens":
            given = self.networks.vae.latent(shape.given, shape.height, shape.width)
            frames += network.padded(given)[0]
        return frames, rows, columns

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Standard normal numbers from the stream of the clip."""
        return self._rng.standard_normal(shape).astype(np.float32)

    def predict(self, index: int) -> Tensor:
        """The guided prediction at step `index`."""
        assert self.latents is not None
        time = self._times[index]
        guess = self.guess(self.network, self.weights, self.conditions, time, self._shown)
        return guess[:, :, : self.padded[0]]

    def guess(
        self,
        network: Denoiser,
        weights: Weights,
        conditions: Sequence[tuple[Tensor, ...]],
        time: float,
        shown: Callable[[int], Tensor],
    ) -> Tensor:
        """The guided prediction of a network; `shown` gives its input for so many branches."""
        self.tape.module = ""
        parts = []
        for number, condition in enumerate(conditions):
            batch = condition[0].shape[0]
            run = _Pass(network, weights, time, condition)
            if network is self.network and self.layout.pp > 1:
                parts.append(self._patches(run, shown(batch), number))
            else:
                parts.append(self._forward(run, shown(batch), self.numerics))
        if self.layout.cfg == 2:
            parts = [all_gather(parts[0], 2, 0)]
        if len(parts) == 1:
            if parts[0].shape[0] == 1:
                return parts[0]
            parts = list(parts.pop().chunk(2, 0))
        return self._guided(*parts)

    def _shown(self, batch: int) -> Tensor:
        """The latents that a pass of so many branches is given, with what was brought."""
        latents, brought, takes = self.latents, self.brought, self.networks.denoiser.takes
        assert latents is not None
        if brought is not None and takes == "frames":
            ops.write_(latents[:, :, : brought.shape[2]], brought, lambda _, given: given)
            brought = None
        many = ops.concat([latents] * batch, 0) if batch > 1 else latents
        if brought is None:
            return many
        beside = ops.concat([brought] * batch, 0) if batch > 1 else brought
        return ops.concat([many, beside], 1 if takes == "channels" else 2)

    def _forward(self, run: _Pass, latents: Tensor, numerics: Numerics) -> Tensor:
        return run.network.forward(
            run.weights,
            latents,
            np.full(latents.shape[0], run.time),
            run.condition,
            numerics=numerics,
            layout=self.layout,
            guidance=self.options["guidance"],
        )

    def _patches(self, run: _Pass, latents: Tensor, number: int) -> Tensor:
        """A pass over patches of rows, one after the other, as a stage of a pipeline has them: each
        is sent on when it is through its blocks, and attends to the others as they were last."""
        network, layout, condition = run.network, self.layout, run.condition
        frames, rows, columns = latents.shape[2:]
        grain = network.grain[1]
        sizes = evenly(rows // grain, layout.pieces)
        shares = [-(-network.tokens(frames, grain * n, columns) // layout.sp) for n in sizes]
        if number == len(self.stale):
            self.stale.append(Stale())
        stale = self.stale[number]
        words = 0 if network.labelled else -(-condition[0].shape[1] // layout.sp)
        made, at = [], 0
        for size, share in zip(sizes, shares, strict=True):
            stale.tokens = layout.ulysses * (sum(shares) - share)
            piece = latents[:, :, :, grain * at : grain * (at + size)]
            at += size
            made.append(self._forward(run, piece, replace(self.numerics, others=stale)))
            hidden = latents.shape[0] * (share * network.width + network.beside(words))
            sent(self.tape, (hidden,), self.numerics.residual)
        return ops.concat(made, 3)

    def _guided(self, wanted: Tensor, free: Tensor) -> Tensor:
        scale = np.float32(self.options["guidance"])
        return ops.pointwise("guidance", lambda a, b: b + scale * (a - b), wanted, free)

    def step(self, index: int) -> None:
        """Denoise once; of an edit steps are counted from the first that is run."""
        assert self.latents is not None
        latents, index = self.latents, index + self.skipped
        guess = self.predict(index)
        self.latents = self.tape.keep(
            ops.cast(
                self.sampler.advance(index, latents, guess, lambda: self.normal(latents.shape)),
                LATENT,
            ),
            "latents",
        )

    def decode(self) -> Tensor:
        """Pixels (1, 3, frames, height, width) in about [-1, 1], as the VAE cuts them."""
        assert self.latents is not None
        pixels = coding.decode(
            self.networks.vae,
            self.vae_weights,
            self.latents[:, :, self.padded[0] - self.decoded[0] :],
            tiling=self.options["vae_tiling"],
            gpus=self.layout.gpus if self.options["vae_parallel"] == "patch" else 1,
        )
        self.pixels = self.tape.keep(pixels, "output")
        return self.pixels

    @property
    def decoded(self) -> Latent:
        """Latent frames, rows and columns that a decode takes: of a stream that goes on what is
        new, behind the last frame that was there."""
        frames, rows, columns = self.latent
        if self.networks.denoiser.chunk and self.shape.given:
            frames -= (self.shape.given - 1) // self.networks.vae.time
        return frames, rows, columns

    @property
    def decode_passes(self) -> int:
        """Passes through the decoder that a decode takes."""
        return coding.passes(self.networks.vae, self.decoded, self.options["vae_tiling"])

    @property
    def bring_passes(self) -> int:
        """Passes through the encoder that `bring` takes."""
        shape, coder = self.shape, self.networks.vae
        frames = self.networks.denoiser.encodes(shape.given, shape.frames)
        latent = coder.latent(frames, shape.height, shape.width)
        return coding.passes(coder, latent, self.options["vae_tiling"])
