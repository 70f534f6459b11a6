"""A clip made chunk by chunk, as segments: what attention sees of those before grows.

Of two chunks of a clip all figures but attention's and what is held are alike, and those are
linear in the frames that a chunk sees: so two chunks are recorded, and the others follow exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dcsim.models import ops
from dcsim.models.denoisers.wan import Wan
from dcsim.models.pipeline import Networks, Pipeline
from dcsim.models.shapes import Clip
from dcsim.models.streaming import Streaming, seen
from dcsim.models.tape import nbytes
from dcsim.spec import Layout
from dcsim.traces.record import Record
from dcsim.traces.residency import nothing
from dcsim.traces.segments import Phase, Segment
from dcsim.traces.trace import CHUNK

SESSION = "session"
"""The segment, the phase and the record of loading what the clip goes on from."""
LAST = f"last {CHUNK}"
GROWING = ("attn_flops", "attn_bytes", "live", "peak")


def brings(networks: Networks, options: Mapping[str, Any], shape: Clip) -> bool:
    """Whether pixels that a request brings are encoded: not where its session is kept."""
    kept = networks.denoiser.chunk > 0 and options["session"] == "kept"
    return shape.given > 0 and not kept


def check_chunks(
    networks: Networks, options: Mapping[str, Any], shape: Clip, layout: Layout
) -> list[tuple[str, str]]:
    """Why a clip cannot be streamed so, as (path, message)."""
    chunk, time = networks.denoiser.chunk, networks.vae.time
    problems = []
    for path, frames in (("frames", shape.frames), ("input", shape.given)):
        latent = 1 + (frames - 1) // time
        if frames and latent % chunk:
            near = max(1, latent // chunk) * chunk
            text = f"{frames} frames are {latent} latent ones, not chunks of {chunk}"
            nearest = f"(nearest: {1 + (near - 1) * time} or {1 + (near + chunk - 1) * time})"
            problems.append((f"shape.{path}", f"{text} {nearest}"))
    if 0 < shape.frames <= shape.given:
        problems.append(("shape.input", "a clip that is streamed goes on; it cannot be edited"))
    if options["cfg"] != "distilled" or layout.cfg != 1:
        problems.append(("options.cfg", "a clip is streamed without guidance: distilled"))
    for name in ("ring", "pp"):
        if getattr(layout, name) != 1:
            problems.append((f"layout.{name}", "a clip is streamed by tp and sp alone"))
    for name, plain in (("feature_cache", "none"), ("code", "diffusers")):
        if options[name] != plain:
            problems.append((f"options.{name}", f"a clip is streamed with {plain} alone"))
    return problems


@dataclass(frozen=True)
class Streamed:
    """The chunks of a clip, with what else they need."""

    rows: tuple[Segment, ...]
    phases: tuple[Phase, ...]
    context: int
    """Bytes that are left for a clip that goes on from this one."""


def streamed(run: Pipeline, records: dict[str, Record]) -> Streamed:
    """The segments of the chunks of a clip that is prepared; adds their records."""
    chunks = _Chunks(run, records)
    rows = [chunks.load()] if chunks.kept else []
    rebuilt = 0 if chunks.kept else chunks.given
    rows += [
        chunks.keep(at, f"rebuild {at // chunks.size + 1}") for at in chunks.starts(0, rebuilt)
    ]
    for at in chunks.starts(chunks.given, run.padded[0]):
        rows.append(chunks.steps(at))
        rows.append(chunks.keep(at, f"keep {at // chunks.size + 1}"))
    phases = [Phase(SESSION, 1, 0, 0, 0, 0, "bf16", "bf16")] if chunks.kept else []
    return Streamed(tuple(rows), tuple(phases), chunks.held(run.padded[0]))


class _Chunks:
    """A clip's chunks; frames are latent ones."""

    def __init__(self, run: Pipeline, records: dict[str, Record]) -> None:
        network, shape = run.networks.denoiser, run.shape
        assert isinstance(network, Wan)
        self.run, self.network, self.size = run, network, network.chunk
        self.records, self.gpus = records, run.layout.gpus
        self.given = 1 + (shape.given - 1) // run.networks.vae.time if shape.given else 0
        self.kept = self.given > 0 and run.options["session"] == "kept"
        self.tokens = network.tokens(network.chunk, *run.padded[1:])
        self._load_given()
        first = 0 if self.given and not self.kept else self.given
        self.ends = (first, run.padded[0] - self.size)
        for at, names in zip(self.ends, ((CHUNK, "keep"), (LAST, "last keep")), strict=True):
            if at == self.ends[0] or self.seen(at) != self.seen(self.ends[0]):
                self._record(at, *names)

    def _load_given(self) -> None:
        brought, latents = self.run.brought, self.run.latents
        if brought is not None:
            assert latents is not None
            ops.write_(latents[:, :, : self.given], brought, lambda _, given: given)
            del brought
            self.run.brought = None

    def _record(self, at: int, chunk: str, keep: str) -> None:
        tape, stream = self.run.tape, Streaming(self.run)
        stream.go_to(at)
        start = len(tape.profile)
        stream.step(0)
        self.records[chunk] = Record.of(tape, start)
        start = len(tape.profile)
        stream.keep()
        self.records[keep] = Record.of(tape, start)

    def starts(self, first: int, end: int) -> range:
        """Where the chunks of some frames begin."""
        return range(first, end, self.size)

    def seen(self, at: int) -> int:
        """Frames before it that the chunk sees which begins there."""
        return seen(self.network, at)

    def held(self, at: int) -> int:
        """Bytes of what is kept for that chunk, on all GPUs."""
        width = self.network.width // (self.run.layout.tp * self.run.layout.sp)
        frame = nbytes(
            (self.network.tokens(1, *self.run.padded[1:]), width), self.run.numerics.dtype
        )
        return self.gpus * 2 * self.network.depth * self.seen(at) * frame

    def _between(self, at: int, first: str, last: str, name: str, steps: int) -> Segment:
        """The segment of a chunk, between those of two that are recorded; `peak` is all that is
        held at most, of which what is live is taken by the caller."""
        near, far = (self._segment(each, name, steps) for each in (first, last))
        low, high = (self.seen(each) for each in self.ends)
        part = self.seen(at) - low

        def grown(field: str) -> int:
            a, b = getattr(near, field), getattr(far, field)
            return int(a + (b - a) * part // (high - low)) if high > low else int(a)

        source = last if at == self.ends[1] and last in self.records else first
        made: dict[str, Any] = {field: grown(field) for field in GROWING}
        return replace(near, record=source, **made)

    def _segment(self, record: str, name: str, steps: int) -> Segment:
        record = record if record in self.records else record.removeprefix("last ")
        found = Segment.of(
            self.records[record], record, name, "denoise", steps, self.tokens, gpus=self.gpus
        )
        return replace(found, peak=found.peak + found.live)

    def steps(self, at: int) -> Segment:
        """The steps of the chunk that begins there; the first chunk is the first result."""
        row = self._between(at, CHUNK, LAST, f"chunk {at // self.size + 1}", self.run.shape.steps)
        return replace(row, peak=row.peak - row.live, first=at == self.given)

    def keep(self, at: int, name: str) -> Segment:
        """The clean pass: what it leaves is kept, but for what the window leaves behind."""
        row = self._between(at, "keep", "last keep", name, 1)
        near = self.gpus * self.records["keep"].live - self.held(self.ends[0] + self.size)
        live = near + self.held(at + self.size)
        return replace(row, live=live, peak=row.peak - live)

    def load(self) -> Segment:
        """The session, from host memory."""
        self.records[SESSION] = nothing()
        host = self.held(self.given)
        live = self.gpus * self.records[CHUNK].live
        return Segment(SESSION, SESSION, 1, 0, host_bytes=host, live=live, record=SESSION)
