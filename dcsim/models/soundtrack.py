"""From the latents of a clip to its sound: denoise, decode. Runs, or only counts."""

from __future__ import annotations

from collections.abc import Mapping

from dcsim.models import ops, passes
from dcsim.models.audio import LATENT, Audio
from dcsim.models.options import kept_dtype
from dcsim.models.pipeline import Pipeline
from dcsim.models.sampler import Sampler
from dcsim.models.tape import Array, Tensor
from dcsim.models.weights import Weights


class Soundtrack:
    """The sound of one clip on one GPU of a replica: once the clip is denoised `prepare`, `step`
    for each step, `decode`.

    `arrays` maps `audio` and `waveform` to arrays by parameter name, for a tape that executes.
    """

    def __init__(
        self,
        run: Pipeline,
        audio: Audio,
        frames: int,
        *,
        arrays: Mapping[str, Mapping[str, Array]] | None = None,
    ) -> None:
        self.run, self.audio, self.tape = run, audio, run.tape
        options, arrays = run.options, arrays or {}
        dtype = options["dtype"]
        self.latent = (audio.latents(frames), 1, 1)
        self.shape = (1, audio.decoder.channels, *audio.head.padded(self.latent))
        self.sampler = Sampler("rectified_flow", options["audio_steps"])
        held, kept = audio.head.held(run.layout.tp), kept_dtype(options, "weights_dtype")
        self.weights = Weights(self.tape, held, kept, arrays.get("audio"))
        self.weights.dtype = dtype
        decoder = audio.decoder.parameters()
        self.wave_weights = Weights(self.tape, decoder, dtype, arrays.get("waveform"))
        self.latents: Tensor | None = None
        self.wave: Tensor | None = None

    def prepare(self, noise: Array | None = None) -> None:
        """Draw the first latents of the sound."""
        if self.tape.execute and noise is None:
            noise = self.run.normal(self.shape)
        self.latents = self.tape.tensor(self.shape, LATENT, noise, "latents")

    def _conditions(self) -> list[tuple[Tensor, ...]]:
        """The words of each branch, and the clip's latents cut into tokens."""
        run = self.run
        found: list[tuple[Tensor, ...]] = []
        assert run.latents is not None
        grain, dtype = run.networks.denoiser.grain, run.numerics.dtype
        heard = passes.patchify(run.latents, grain, dtype, run.layout.sp)
        for words, *_ in run.conditions:
            batch = words.shape[0]
            found.append((words, ops.concat([heard] * batch, 0) if batch > 1 else heard))
        return found

    def step(self, index: int = 0) -> None:
        """Denoise once."""
        assert self.latents is not None
        latents, times = self.latents, self.sampler.timesteps()

        def shown(batch: int) -> Tensor:
            return ops.concat([latents] * batch, 0) if batch > 1 else latents

        guess = self.run.guess(
            self.audio.head, self.weights, self._conditions(), times[index], shown
        )
        after = self.sampler.advance(index, latents, guess, lambda: self.run.normal(self.shape))
        self.latents = self.tape.keep(ops.cast(after, LATENT), "latents")

    def decode(self) -> Tensor:
        """Samples (1, sides, samples), of whole latents."""
        assert self.latents is not None
        frames = self.latent[0]
        latents = self.latents[:, :, self.shape[2] - frames :]
        latents = latents.reshape(1, self.shape[1], frames)
        self.wave = self.tape.keep(self.audio.decoder.decode(self.wave_weights, latents), "output")
        return self.wave
