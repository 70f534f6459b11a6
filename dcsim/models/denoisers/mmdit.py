"""MM-DiT, after Esser et al. 2024, "Scaling Rectified Flow Transformers for High-Resolution Image
Synthesis": text and image are streams with weights of their own that attend to each other.

Numbers and lifetimes as diffusers' `SD3Transformer2DModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Annotated

from dcsim.models import ops, passes
from dcsim.models.denoiser import (
    Denoiser,
    Latent,
    Numerics,
    widths_differ,
)
from dcsim.models.encoder import Encoder, Encoding
from dcsim.models.parallel import ALONE, all_gather, check_execution
from dcsim.models.passes import Pass, layer
from dcsim.models.tape import Array, Shape, Tensor
from dcsim.models.weights import Weights
from dcsim.reading.concept import Count, CountOrZero, Unwritten
from dcsim.spec import Layout


@dataclass(frozen=True)
class Mmdit(Denoiser):
    """Stable Diffusion 3: blocks of a stream for the text and one for the image."""

    tag = "mmdit"

    depth: Count
    """Blocks; the last has no feed-forward half for the text."""
    heads: Count
    table: Count
    """Patches along a side of the table of positions, whose middle is taken."""
    head: Count = 64
    """Channels of a head."""
    patch: Count = 2
    """Latent rows and columns of a patch."""
    channels: Count = 16
    text_width: Count = 4096
    """Width to which narrower encodings, joined, are padded; that of the widest encoder."""
    pooled_width: Count = 2048
    dual: CountOrZero = 0
    """Blocks, from the first, with a second attention among the image's tokens alone."""
    head_norm: bool = False
    """Norms of the queries and keys of a head."""
    open: Annotated[bool, Unwritten()] = False
    """It is a stage of a pipeline: others follow its last block."""

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.heads * self.head

    @property
    def grain(self) -> Latent:
        return 1, self.patch, self.patch

    @property
    def frames(self) -> bool:
        return False

    @property
    def blocks(self) -> int:
        return self.depth

    @property
    def cut(self) -> tuple[str, ...]:
        return "depth", "dual"

    def stage(self, pp: int) -> Mmdit:
        stage = super().stage(pp)
        assert isinstance(stage, Mmdit)
        return replace(stage, open=pp > 1)

    def ends(self, i: int) -> bool:
        """Whether block i is the last, which leaves the text as it is."""
        return i == self.depth - 1 and not self.open

    def beside(self, words: int) -> int:
        return words * self.width

    def unfit(self, encoders: Sequence[Encoder]) -> str | None:
        widest = max((each.out_width for each in encoders), default=0)
        pooled = sum(each.pooled_width for each in encoders)
        return widths_differ("text_width:", self.text_width, widest) or widths_differ(
            "pooled_width:", self.pooled_width, pooled
        )

    def parameters(self, tp: int = 1) -> Iterator[tuple[str, Shape]]:
        h, part, cells = self.width, self.width // tp, self.channels * self.patch**2
        norm = self.head if self.head_norm else 0
        yield from layer("embed", h, cells)
        for name, width in (("time", passes.TIME_WIDTH), ("pooled", self.pooled_width)):
            yield from layer(f"{name}.0", h, width)
            yield from layer(f"{name}.1", h, h)
        yield from layer("text", h, self.text_width)
        for i in range(self.depth):
            last = self.ends(i)
            yield from layer(f"{i}.modulation", (9 if i < self.dual else 6) * part, h)
            yield from layer(f"{i}.text.modulation", (2 if last else 6) * part, h)
            yield from passes.attention_shapes(f"{i}", h, part, norm=norm)
            yield from passes.attention_shapes(f"{i}.text", h, part, norm=norm, back=not last)
            if i < self.dual:
                yield from passes.attention_shapes(f"{i}.dual", h, part, norm=norm)
            yield from passes.mlp_shapes(f"{i}", h, 4 * part)
            if not last:
                yield from passes.mlp_shapes(f"{i}.text", h, 4 * part)
        yield from layer("final.modulation", 2 * h, h)
        yield from layer("final.out", cells, h)

    def buffers(self) -> Iterator[tuple[str, Shape]]:
        yield "positions", (self.table**2, self.width)

    def condition(self, encodings: Sequence[Encoding]) -> tuple[Tensor, ...]:
        pooled = ops.concat([e.pooled for e in encodings if e.pooled is not None], -1)
        wide = [e.sequence for e in encodings if e.sequence.shape[2] == self.text_width]
        slim = [e.sequence for e in encodings if e.sequence.shape[2] != self.text_width]
        if not slim:
            return ops.concat(wide, 1), pooled
        return ops.concat([ops.padded(ops.concat(slim, -1), self.text_width), *wide], 1), pooled

    def forward(
        self,
        w: Weights,
        latents: Tensor,
        steps: Array,
        condition: Sequence[Tensor],
        *,
        numerics: Numerics,
        layout: Layout = ALONE,
        guidance: float | None = None,
    ) -> Tensor:
        check_execution(latents.tape, layout)
        p = Pass(w, numerics, layout)
        x = _embedded(self, p, latents)
        signal = passes.scalar(p, "time", steps, latents.shape[0], latents.tape)
        signal = ops.add(signal, passes.two_layers(p, "pooled", condition[1]))
        text = p.linear("text", passes.share(condition[0], layout.sp))
        state = [text, x]
        del text, x
        alike = self.depth if self.open else self.depth - 1
        edges = (0, min(self.dual, alike), alike, self.depth)
        for first, after in pairwise(edges):
            block = partial(_block, self, p, signal)
            passes.streams(latents.tape, first, after - first, block, state)
        x = state.pop()
        scale, shift = p.linear("final.modulation", ops.silu(signal)).chunk(2, -1)
        x = passes.modulated(p, passes.normal(p, x), shift, scale)
        x = all_gather(p.linear("final.out", x), layout.sp, axis=1)
        return passes.unpatchify(x, latents.shape, self.grain, self.channels)


def _embedded(c: Mmdit, p: Pass, latents: Tensor) -> Tensor:
    """Tokens of this GPU, positions added."""
    rows, columns = latents.shape[3] // c.patch, latents.shape[4] // c.patch
    table = p.w["positions"].reshape(c.table, c.table, c.width)
    top, left = (c.table - rows) // 2, (c.table - columns) // 2
    middle = table[top : top + rows, left : left + columns]
    x = p.linear("embed", passes.patchify(latents, c.grain, p.numerics.dtype, p.layout.sp))
    places = passes.share(ops.copy(middle, (1, rows * columns, c.width)), p.layout.sp)
    return ops.add(x, places, dtype=p.numerics.residual)


def _block(
    c: Mmdit, p: Pass, signal: Tensor, i: int, text: Tensor, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Text and image after a block. The last leaves the text as it is: nobody asks for it."""
    dual, last = i < c.dual, c.ends(i)
    six = passes.modulation(p, f"{i}.modulation", signal, 9 if dual else 6)
    plain = passes.normal(p, x)
    y = passes.modulated(p, plain, six[0], six[1])
    y_dual = passes.modulated(p, plain, six[6], six[7]) if dual else None
    del plain
    of_text = passes.modulation(p, f"{i}.text.modulation", signal, 2 if last else 6)
    shift, scale = (of_text[1], of_text[0]) if last else (of_text[0], of_text[1])
    t = passes.modulated(p, passes.normal(p, text), shift, scale)

    z, z_text = _attention(c, p, i, y, t)
    z = passes.gated(six[2], z)
    x = passes.added(p, x, z)
    if y_dual is not None:
        own = passes.projected(p, f"{i}.dual", y_dual, c.heads, norm=c.head_norm)
        z2 = passes.out(p, f"{i}.dual.out", passes.attend(p, *own))
        del own
        x = passes.added(p, x, passes.gated(six[8], z2))
    y = passes.modulated(p, passes.normal(p, x), six[3], six[4])
    f = passes.mlp(p, f"{i}", y)
    f = passes.gated(six[5], f)
    x = passes.added(p, x, f)
    if last:
        return text, x
    z_text = passes.gated(of_text[2], z_text)
    text = passes.added(p, text, z_text)
    t = passes.modulated(p, passes.normal(p, text), of_text[3], of_text[4])
    return passes.added(p, text, passes.gated(of_text[5], passes.mlp(p, f"{i}.text", t))), x


def _attention(c: Mmdit, p: Pass, i: int, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """What image and text make of each other."""
    q, k, v = passes.projected(p, f"{i}", y, c.heads, norm=c.head_norm)
    tq, tk, tv = passes.projected(p, f"{i}.text", t, c.heads, norm=c.head_norm)
    q = ops.concat([q, tq], 1)
    k = ops.concat([k, tk], 1)
    v = ops.concat([v, tv], 1)
    z = passes.attend(p, q, k, v)
    tokens = y.shape[1]
    z_text = z[:, tokens:]
    if not c.ends(i):
        z_text = passes.out(p, f"{i}.text.out", passes.dense(z_text))
    return passes.out(p, f"{i}.out", passes.dense(z[:, :tokens])), z_text
