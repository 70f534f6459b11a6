"""The soundtrack of a clip, as data: a shallow network that denoises it while it listens to the
clip's latents, and the decoder that makes a waveform of it. `soundtrack.py` runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dcsim.models.denoiser import Denoiser
from dcsim.models.options import Option
from dcsim.models.tape import nbytes
from dcsim.models.waveform import WaveDecoder
from dcsim.reading.concept import Concept, Count

LATENT = "fp32"
"""Of the latents between steps."""
SAMPLE = 2
"""Bytes of a raw sample of each side (16-bit PCM)."""


@dataclass(frozen=True)
class Audio(Concept):
    """What makes the soundtrack of a clip."""

    head: Denoiser
    """Its denoiser, whose frames are latents of the decoder."""
    fps: Count
    """Frames a second of the clips."""
    decoder: WaveDecoder = field(default_factory=WaveDecoder)
    steps: Count = 50
    """Denoising steps."""
    bitrate: Count = 128_000
    """Bits a second of a soundtrack that is stored. An assumption."""

    def latents(self, frames: int) -> int:
        """Latents of the soundtrack of so many frames: a second's worth a second, rounded up."""
        return -(-frames * self.decoder.rate // (self.fps * self.decoder.hop))

    def options(self) -> Mapping[str, Option]:
        """The options that a model with a soundtrack has."""
        return {
            "audio": Option(True, "Whether a clip has a soundtrack.", (False, True)),
            "audio_steps": Option(
                self.steps, "Denoising steps of the soundtrack.", low=1, whole=True
            ),
            "audio_bitrate": Option(
                self.bitrate, "Of an encoded soundtrack, bits a second.", low=1, whole=True
            ),
        }

    def stored(self, frames: int, options: Mapping[str, Any]) -> int:
        """Bytes kept of the soundtrack of so many frames, as `artifact` says."""
        if options["artifact"] == "latent":
            return nbytes((self.decoder.channels, self.latents(frames)), LATENT)
        if options["artifact"] == "raw":
            samples = -(-frames * self.decoder.rate // self.fps)
            return SAMPLE * self.decoder.sides * samples
        rate: int = options["audio_bitrate"]
        return -(-frames * rate // (8 * self.fps))
