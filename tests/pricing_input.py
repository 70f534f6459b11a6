"""What a request brings, of docs/pricing.md: the VAE's encoder, and where an edit starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import ceil, prod
from typing import Any

from pricing_networks import Decoder, Shapes, counted, stored, vae_shapes
from pricing_oracle import Array, PhaseFigures, Row, Tape, size


def denoised(shape: Any) -> int:
    """Steps that are run."""
    share = Fraction(shape.strength).limit_denominator(10**6)
    return max(1, ceil(share * shape.steps))


def halves(c: Any) -> tuple[Shapes, Shapes]:
    """Parameters of the encoder and of the decoder, which begins with its layer of C to C."""
    every = vae_shapes(c)
    one = (c.channels, c.channels, *(1,) * (3 if c.video else 2))
    at = max(i for i, (_, shape) in enumerate(every) if shape == one)
    return every[:at], every[at:]


class Encoder(Decoder):
    """An encode, whole."""

    def shrink(self, width: int, time: int) -> None:
        """`y = shrink(x)`: a padded copy, then a convolution with a stride."""
        t, (a, b, d) = self.t, self.cells
        more = (a + 2, b + 2, d + 2) if self.c.video else (a, b + 1, d + 1)
        padded = Array(width * prod(more), self.dtype)
        t.make("padded", "memory", [self.array(width)], padded)
        self.cells = ((a - 1) // time + 1, b // 2, d // 2)
        out, taps = self.array(width), 27 if self.c.video else 9
        weights = size(width * width * taps, self.dtype) + size(width, self.dtype)
        flops = 2 * out.elements * width * taps
        with self.held_once_more(padded, out):
            t.make("y", "conv", [padded], out, flops=flops, weights=weights)
        t.free("padded")

    def run(self) -> None:
        """From `pixels` to `brought`, the fp32 latents."""
        t, c = self.t, self.c
        t.hold("pixels", self.array(3))
        before = c.widths[0]
        self.conv("x", 3, before, 3)
        for stage, width in enumerate(c.widths):
            t.rename("x", "in")
            for _ in range(c.layers):
                self.resnet(before, width)
                self.next()
                before = width
            if stage + 1 < len(c.widths):
                in_time = c.video and stage + 1 >= len(c.widths) - 2
                self.shrink(width, 2 if in_time else 1)
                self.next()
            t.free("in")
        self.middle(before)
        self.norm("x", before)
        self.silu("x", before)
        self.conv("m", before, 2 * c.channels, 3)
        t.free("x")
        t.rename("m", "plain")  # of kernel 1: not padded
        self.conv("plain", 2 * c.channels, 2 * c.channels, 1)
        z = self.array(c.channels)
        t.make("brought", "memory", [z], z)
        t.free("plain", "pixels")
        if self.dtype != "fp32":
            t.swap("brought", "memory", [z], Array(z.elements, "fp32"))


def bring(
    t: Tape, c: Any, o: Mapping[str, Any], shape: Any, gpus: int, segment: Callable[..., Row]
) -> tuple[Row, PhaseFigures]:
    """The segment and the phase of an edit: encoded, then noise over it."""
    dtype = o["vae_dtype"]
    copies = o["conv_workspace"] == "transposed"
    size_ = (shape.frames, shape.height, shape.width)
    encoder = Encoder(t, c, dtype, size_, "none", copies)
    encoder.run()
    z = Array(encoder.array(c.channels).elements, "fp32")
    t.hold("latents", z)
    t.make("a", "memory", [z], z)
    t.make("b", "memory", [z], z)
    t.make("start", "memory", [z, z], z)
    t.free("a", "b", "latents", "brought")
    t.rename("start", "latents")
    row = segment("encode input", 1, 0)
    pixels = ceil(Fraction(size(3 * prod(size_), dtype), 512)) * 512
    row.host_bytes = gpus * pixels
    own, _ = halves(c)
    kept, layers = stored(own, dtype), 3 + len(c.widths) * c.layers
    reads = gpus * t.total("dense", "weights")
    figures = PhaseFigures("input", layers, counted(own), gpus * kept, kept, reads, dtype, dtype)
    return row, figures
