"""An image, a clip and a turn, phase by phase: FLOPs, bytes, launches and seconds.

Each figure is worked here from the published architecture (layer by layer, as the papers' tables
have it) and the figures of the part, `GPU`: 1 PFLOP/s in bf16 of which matrix products reach .6,
attention .5 and convolutions .4; 3 TB/s of which traffic reaches .8; 5 us a layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from trace_scenes import GPU

from dcsim import traces
from dcsim.traces import Clip, MemoryTrace, Segment, Turn

DENSE, ATTENTION, CONV, MEMORY, LAUNCH = 6e14, 5e14, 4e14, 2.4e12, 5e-6


@dataclass
class Counted:
    """What a step does; bytes of activations in bf16 unless a line says 4 or 8."""

    dense: int = 0
    dense_bytes: int = 0
    attention: int = 0
    attention_bytes: int = 0
    conv: int = 0
    conv_bytes: int = 0
    other: int = 0
    reads: int = 0
    """Weights of matrix products."""

    def linear(self, rows: int, width: int, out: int, bias: bool = True) -> None:
        self.dense += 2 * rows * width * out
        self.dense_bytes += 2 * rows * (width + out)
        self.reads += 2 * (width * out + (out if bias else 0))

    def seconds(self, layers: int) -> float:
        return (
            layers * LAUNCH
            + max(self.reads / MEMORY, self.dense / DENSE, self.dense_bytes / MEMORY)
            + max(self.attention / ATTENTION, self.attention_bytes / MEMORY)
            + max(self.conv / CONV, self.conv_bytes / MEMORY)
            + self.other / MEMORY
        )

    def check(self, s: Segment) -> None:
        assert (s.dense_flops, s.dense_bytes) == (self.dense, self.dense_bytes)
        assert (s.attn_flops, s.attn_bytes) == (self.attention, self.attention_bytes)
        assert (s.conv_flops, s.conv_bytes) == (self.conv, self.conv_bytes)
        assert s.other_bytes == self.other


def found(trace: MemoryTrace, phase: str) -> dict[str, float]:
    row: dict[str, float]
    (row,) = (p for p in traces.report(trace, GPU)["phases"] if p["name"] == phase)
    return row


# DiT-XL/2: 28 blocks of width 1152, patches of 2 x 2 of 4 channels; two branches in a batch.


def modulated(c: Counted, rows: int, branches: int, h: int) -> None:
    """A norm (its statistics are two floats a row) times (1 + scale), plus shift."""
    c.other += 2 * 2 * branches * h  # 1 + scale
    c.other += 2 * 2 * rows * h + 8 * rows
    c.other += 2 * (2 * 2 * rows * h + 2 * branches * h)  # times, plus


def denoise_image() -> Counted:
    c, h, rows = Counted(), 1152, 2 * 256
    cells, batch = 4 * 32 * 32, 2
    c.other += 2 * batch * cells * 4  # the latents for both branches
    c.other += batch * 256 * 4 + batch * 256 * (4 + 2)  # the sinusoid, and in bf16
    c.linear(batch, 256, h)
    c.other += 2 * 2 * batch * h
    c.linear(batch, h, h)
    c.other += batch * 8 + 2 * batch * h + 3 * 2 * batch * h  # the label, added
    c.other += batch * cells * (4 + 2) + 2 * 2 * batch * cells  # bf16, patches
    c.linear(rows, 16, h)
    c.other += 2 * 2 * rows * h  # positions
    for _ in range(28):
        c.other += 2 * 2 * batch * h
        c.linear(batch, h, 6 * h)
        modulated(c, rows, batch, h)
        c.linear(rows, h, 3 * h)
        c.attention += batch * 4 * 256**2 * h
        c.attention_bytes += 4 * 2 * rows * h + 4 * 16 * rows  # q, k, v, out; a sum a row and head
        c.linear(rows, h, h)
        c.other += 2 * (2 * rows * h + batch * h) + 3 * 2 * rows * h  # gate, residual
        modulated(c, rows, batch, h)
        c.linear(rows, h, 4 * h)
        c.other += 2 * 2 * rows * 4 * h  # GELU
        c.linear(rows, 4 * h, h)
        c.other += 2 * (2 * rows * h + batch * h) + 3 * 2 * rows * h
    c.other += 2 * 2 * batch * h
    c.linear(batch, h, 2 * h)
    modulated(c, rows, batch, h)
    c.linear(rows, h, 4 * 8)
    c.other += 2 * 2 * batch * 2 * cells  # back to cells, noise and variance
    c.other += 3 * 2 * 2 * cells  # guidance
    # DDPM: x0 from latents and noise; the mean from x0 and latents; noise times its spread.
    c.other += 2 * 4 * cells + 2 * 2 * cells + (4 + 2 + 4) * cells
    c.other += 2 * (2 * 4 * cells) + 3 * 4 * cells
    c.other += 4 * cells + 2 * 2 * cells + (4 + 2 + 4) * cells
    c.other += 2 * 4 * cells + 3 * 4 * cells
    return c


def decoder(channels: int, frames: int, rows: int, columns: int, video: bool) -> Counted:
    """Stable Diffusion's decoder, or with time in every kernel of 3 HunyuanVideo's."""
    c, taps = Counted(), 27 if video else 9

    def conv(width: int, out: int, kernel: int = 3) -> None:
        """Of video, of a copy that is padded."""
        into, cells = frames * rows * columns, frames * rows * columns
        if video:
            more = kernel - 1
            into = (frames + more) * (rows + more) * (columns + more)
            c.other += 2 * width * (cells + into)
        count = 1 if kernel == 1 else taps
        c.conv += 2 * cells * width * out * count
        c.conv_bytes += 2 * (into * width + cells * out) + 2 * (width * out * count + out)

    def plain(width: int, out: int) -> None:
        cells = frames * rows * columns
        c.conv += 2 * cells * width * out
        c.conv_bytes += 2 * cells * (width + out) + 2 * (width * out + out)

    def norm(width: int) -> None:
        c.other += 2 * 2 * frames * rows * columns * width + 2 * 2 * width + 8 * min(32, width)

    def silu(width: int) -> None:
        c.other += 2 * 2 * frames * rows * columns * width

    def add(width: int) -> None:
        """An image's sum is divided by 1."""
        c.other += (3 if video else 5) * 2 * frames * rows * columns * width

    def resnet(width: int, out: int) -> None:
        norm(width)
        silu(width)
        conv(width, out)
        norm(out)
        silu(out)
        conv(out, out)
        if width != out:
            conv(width, out, 1)
        add(out)

    cells = frames * rows * columns
    c.other += channels * cells * (4 + 2) + 2 * 2 * channels * cells  # to 16 bits, unscaled
    plain(channels, channels)
    conv(channels, 512)
    resnet(512, 512)
    norm(512)
    c.other += 2 * 2 * cells * 512  # channels last
    for _ in "qkvo":
        c.linear(cells, 512, 512)
    c.attention += 4 * (cells if video else rows * columns) * cells * 512
    c.attention_bytes += 4 * 2 * cells * 512 + 4 * cells
    if video:  # a mask of all cells, made in float32, then in 16 bits; read
        c.other += 4 * cells**2 + (4 + 2) * cells**2
        c.attention_bytes += 2 * cells**2
    add(512)
    resnet(512, 512)
    before = 512
    for stage, width in enumerate((512, 512, 256, 128)):
        for _ in range(3):
            resnet(before, width)
            before = width
        if stage < 3:
            one, time = width * rows * columns, 2 if video and stage else 1
            if video:  # the first frame; the others, copied; both joined
                c.other += 2 * (one + 4 * one) + 2 * 2 * (frames - 1) * one
                c.other += 2 * (frames - 1) * one * (1 + 4 * time)
                c.other += 2 * 2 * 4 * one * (1 + (frames - 1) * time)
            else:
                c.other += 2 * (one + 4 * one)
            frames, rows, columns = 1 + (frames - 1) * time, 2 * rows, 2 * columns
            conv(width, width)
    norm(128)
    silu(128)
    conv(128, 3)
    return c


def test_an_image() -> None:
    trace = traces.trace("dit-xl-2", None, Clip(256, 256, 1, 250))
    step, image = denoise_image(), decoder(4, 1, 32, 32, video=False)
    for s in trace.segments[:-1]:
        step.check(s)
    image.check(trace.segments[-1])
    denoise, vae = found(trace, "denoise"), found(trace, "vae")
    assert denoise["flops"] == 250 * (step.dense + step.attention)
    assert denoise["seconds"] == pytest.approx(250 * step.seconds(28), rel=1e-9)
    assert denoise["weights_bytes"] == step.reads + 2 * 1001 * 1152  # labels are looked up
    assert vae["flops"] == image.dense + image.attention + image.conv
    assert vae["seconds"] == pytest.approx(image.seconds(15), rel=1e-9)
    # Latents in float32, two labels in a block of 512 bytes, and in the end the pixels.
    assert [s.live for s in trace.segments] == [16_896, 16_896, 16_896 + 2 * 3 * 256**2]


# The reference video DiT of 2 B: 28 blocks of width 2048, one modulation for all, T5-XXL.


def text() -> Counted:
    """24 layers of T5-XXL, 512 tokens; two prompts, one after the other."""
    c, n, d = Counted(), 512, 4096
    wide, square = 2 * n * d, 2 * 64 * n**2
    for _ in range(2):
        c.other += 8 * n + wide
        c.other += 2 * 32 * 64 + square  # relative positions
        for _ in range(24):
            c.other += 2 * (2 * wide + 2 * d)  # norms
            for _ in "qkvo":
                c.linear(n, d, d, bias=False)
            c.attention += 4 * n**2 * d
            c.attention_bytes += 4 * wide + square + 4 * 64 * n
            c.other += 2 * square  # a copy of the bias
            c.other += 2 * 3 * wide
            for width, out in ((d, 10240), (d, 10240), (10240, d)):
                c.linear(n, width, out, bias=False)
            c.other += 3 * 2 * n * 10240
        c.other += 2 * wide + 2 * d
    c.other += 2 * 2 * wide  # both in one batch
    return c


def denoise_clip() -> Counted:
    c, h, batch = Counted(), 2048, 2
    tokens, cells = 21 * 30 * 52, 16 * 21 * 60 * 104
    rows, words = batch * tokens, batch * 512
    c.other += 2 * batch * cells * 4
    c.other += batch * 256 * 4 + batch * 256 * (4 + 2)
    c.linear(batch, 256, h)
    c.other += 2 * 2 * batch * h
    c.linear(batch, h, h)
    c.linear(words, 4096, h)
    c.other += 2 * 2 * words * h
    c.linear(words, h, h)
    c.other += 2 * 2 * batch * h
    c.linear(batch, h, 6 * h)
    c.other += batch * cells * (4 + 2) + 2 * 2 * batch * cells
    c.linear(rows, 64, h)
    c.other += 2 * 2 * rows * h
    for _ in range(28):
        c.other += 2 * (2 * batch * 6 * h + 6 * h)  # a learned offset a block
        modulated(c, rows, batch, h)
        c.linear(rows, h, 3 * h)
        c.attention += batch * 4 * tokens**2 * h
        c.attention_bytes += 4 * 2 * rows * h + 4 * 32 * rows
        c.linear(rows, h, h)
        c.other += 2 * (2 * rows * h + batch * h) + 3 * 2 * rows * h
        c.linear(rows, h, h)
        c.linear(words, h, 2 * h)
        c.attention += batch * 4 * tokens * 512 * h
        c.attention_bytes += 2 * 2 * rows * h + 2 * 2 * words * h + 4 * 32 * rows
        c.linear(rows, h, h)
        c.other += 3 * 2 * rows * h
        modulated(c, rows, batch, h)
        c.linear(rows, h, 4 * h)
        c.other += 2 * 2 * rows * 4 * h
        c.linear(rows, 4 * h, h)
        c.other += 2 * (2 * rows * h + batch * h) + 3 * 2 * rows * h
    c.other += 2 * 2 * batch * h
    c.linear(batch, h, 2 * h)
    modulated(c, rows, batch, h)
    c.linear(rows, h, 64)
    c.other += 2 * 2 * batch * cells
    c.other += 3 * 2 * cells  # guidance
    c.other += 2 * 2 * cells + (4 + 2 + 4) * cells  # an Euler step
    return c


def test_a_clip() -> None:
    """81 frames of 832 x 480: 21 x 60 x 104 cells, decoded at once."""
    trace = traces.trace("video-dit-2b", {"vae_tiling": "none"}, Clip(832, 480, 81, 50))
    prompt, step, clip = text(), denoise_clip(), decoder(16, 21, 60, 104, video=True)
    assert [s.steps for s in trace.segments] == [1, 1, 49, 1]
    for s, counted in zip(trace.segments, (prompt, step, step, clip), strict=True):
        counted.check(s)
    encode, denoise, vae = (found(trace, name) for name in ("text", "denoise", "vae"))
    assert encode["flops"] == prompt.dense + prompt.attention
    assert encode["seconds"] == pytest.approx(prompt.seconds(2 * 24), rel=1e-9)
    assert denoise["flops"] == 50 * (step.dense + step.attention)
    assert denoise["seconds"] == pytest.approx(50 * step.seconds(28), rel=1e-9)
    assert denoise["weights_bytes"] == step.reads + 2 * 28 * 6 * 2048  # and the offsets
    assert vae["flops"] == clip.dense + clip.attention + clip.conv
    assert vae["seconds"] == pytest.approx(clip.seconds(15), rel=1e-9)
    embeddings, latents, pixels = 2 * 2 * 512 * 4096, 4 * 16 * 21 * 60 * 104, 2 * 3 * 81 * 480 * 832
    held = [embeddings, embeddings + latents, embeddings + latents, embeddings + latents + pixels]
    assert [s.live for s in trace.segments] == [-(-b // 512) * 512 for b in held]


# Llama 3.1 8B: 32 layers of width 4096, 32 heads of 128 over 8 of K and V, 14336 in the MLP.


def token(logits: bool) -> Counted:
    c, h = Counted(), 4096
    c.other += 8 + 2 * h  # looked up
    for _ in range(32):
        c.other += 2 * (2 * 2 * h)  # norms
        c.linear(1, h, h + 2 * 1024, bias=False)
        c.other += 2 * (2 * h + 2 * 1024) + 2 * (2 * 2 * 1024)  # rotation; K and V kept
        c.other += 2 * 2 * h + 4 * 32  # queries, what attention puts out, a sum a head
        c.linear(1, h, h, bias=False)
        c.other += 2 * (3 * 2 * h)  # residual sums
        c.linear(1, h, 2 * 14336, bias=False)
        c.other += 3 * 2 * 14336
        c.linear(1, 14336, h, bias=False)
    if logits:
        c.other += 2 * 2 * h + (2 + 4) * 128_256
        c.linear(1, h, 128_256, bias=False)
    return c


def test_a_turn() -> None:
    """1,000 tokens in, in one chunk, and 10 out: one with the prompt, nine one by one."""
    trace = traces.trace("llama-3.1-8b", None, Turn(1000, 10))
    prefill, decode = trace.rows
    fed, made = token(logits=False), token(logits=True)
    kv, pair = 2 * 32 * 2 * 1024, 32 * 4 * 4096
    for counted, row in ((fed, prefill), (made, decode)):
        counted.attention, counted.attention_bytes = pair, kv
        counted.check(row)
        assert row.live == kv
    reading = made.reads / MEMORY
    pairs = 1000 * 1001 // 2
    seconds = 32 * LAUNCH + max(reading, 1000 * fed.dense / DENSE) + 1000 * fed.other / MEMORY
    seconds += max(pairs * pair / ATTENTION, 1000 * kv / MEMORY)
    for context in range(1001, 1010):
        seconds += 32 * LAUNCH + max(reading, made.dense / DENSE) + made.other / MEMORY
        seconds += max(context * pair / ATTENTION, context * kv / MEMORY)
    (phase,) = traces.report(trace, GPU)["phases"]
    assert phase["flops"] == 1000 * fed.dense + pairs * pair + 9 * made.dense + pair * sum(
        range(1001, 1010)
    )
    assert phase["seconds"] == pytest.approx(seconds, rel=1e-9)
    # All matrices are read; the embedding table and the norms are weights too.
    assert phase["weights_bytes"] == made.reads + 2 * (128_256 * 4096 + 65 * 4096)
    assert phase["live_bytes"] == 1009 * kv
