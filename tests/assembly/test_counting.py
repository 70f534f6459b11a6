"""What is too large to be counted, at the limit and one beyond it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from dcsim import traces
from dcsim.assembly.counting import check_size, counted_trace, is_countable
from dcsim.models import ModelError
from dcsim.models.shapes import Clip, RequestShape, Turn
from dcsim.spec import Layout, load_parts

INT64 = 2**63 - 1
H100 = load_parts().gpus["h100"]


@pytest.mark.parametrize(
    ("shape", "field", "most"),
    [
        (Turn(1, 1, 1), "prompt", 2**31 - 1),
        (Turn(1, 1, 1), "output", 2**31 - 1),
        (Turn(1, 1, 1), "chunk", 2**20),
        (Clip(1, 1, 1, 1), "width", 10**6),
        (Clip(1, 1, 1, 1), "height", 10**6),
        (Clip(1, 1, 1, 1), "frames", 10**6),
        (Clip(1, 1, 1, 1), "steps", 100_000),
    ],
)
def test_limits(shape: Any, field: str, most: int) -> None:
    check_size(replace(shape, **{field: most}))
    with pytest.raises(ModelError, match=f"{most + 1} must be {most} or less") as caught:
        check_size(replace(shape, **{field: most + 1}))
    assert [path for path, _ in caught.value.problems] == [f"shape.{field}"]


def test_pixels_of_all_frames() -> None:
    check_size(Clip(2**15, 2**15, 2**10))
    with pytest.raises(ModelError, match=r"1\.1e\+12 pixels"):
        check_size(Clip(2**15, 2**15, 2**10 + 1))


@pytest.mark.parametrize("shape", [Clip(10**7, 64, 1, 1), Turn(2**31, 1)])
def test_too_large_is_said_before_it_is_counted(shape: RequestShape) -> None:
    model = "dit-s-8" if isinstance(shape, Clip) else "llama-3.1-8b"
    with pytest.raises(ModelError, match="or less"):
        counted_trace(model, {}, shape, Layout())


def test_more_than_64_bits_is_said() -> None:
    with pytest.raises(ModelError, match=r"width 999936.*FLOPs or bytes than 64 bits hold"):
        counted_trace("dit-xl-2", {}, Clip(999_936, 999_936, 1, 1), Layout())


def test_the_engines_integers_hold_a_work() -> None:
    """A step of 2^63 - 1 ticks is the longest."""
    work = traces.price(traces.trace("dit-s-8"), H100)
    tick = Fraction(1, 65536 * 10**9)
    segment = work.segments[0]
    for dense, fine in ((INT64, True), (INT64 + 1, False)):
        cost = replace(segment.cost, dense=dense * tick)
        priced = replace(work, segments=(replace(segment, cost=cost), *work.segments[1:]))
        assert is_countable(priced) is fine
    for field in ("launch", "weights"):
        phase = replace(work.phases[1], **{field: (INT64 + 1) * tick})
        assert not is_countable(replace(work, phases=(work.phases[0], phase)))
