"""The record itself: lifetimes, rounding, categories, views."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsim.models import ops
from dcsim.models.softmax_attention import softmax_attention
from dcsim.models.tape import GRAIN, Tape, nbytes, promote


def test_storage_is_freed_when_its_last_view_dies() -> None:
    tape = Tape()
    x = tape.tensor((4, 256), "fp32")
    view = x.reshape(8, 128)[2:4].permute(1, 0)
    assert tape.live == 4096
    del x
    assert tape.live == 4096
    del view
    assert tape.live == 0
    assert [e[0] for e in tape.events] == ["alloc", "free"]


def test_sizes_round_up_to_512_bytes() -> None:
    tape = Tape()
    held = [tape.tensor((n,), "uint8") for n in (1, 512, 513)]
    assert [e[2] for e in tape.events] == [512, 512, 1024]
    del held


def test_an_op_holds_its_inputs_its_output_and_its_scratch() -> None:
    tape = Tape()
    x = tape.tensor((2, 16, 4, 8), "bf16")
    y = softmax_attention(x, x, x)
    _, held = tape.profile[0]
    scratch = -(-4 * 2 * 4 * 16 // GRAIN) * GRAIN
    assert sum(held) == 2 * x.nbytes + scratch
    assert tape.live == 2 * x.nbytes
    del y


def test_fused_attention_holds_no_square_and_math_does() -> None:
    def peak(kernel: str) -> int:
        tape = Tape()
        x = tape.tensor((1, 512, 2, 32), "bf16")
        softmax_attention(x, x, x, kernel=kernel)
        return max(sum(held) for _, held in tape.profile)

    square = nbytes((1, 2, 512, 512), "bf16")
    assert peak("fused") < square
    assert peak("math") >= 2 * square


def test_weights_leave_no_events_and_are_no_traffic_of_activations() -> None:
    tape = Tape()
    w = tape.tensor((32, 64), "bf16", category="weights")
    x = tape.tensor((3, 64), "bf16")
    ops.linear(x, w)
    assert tape.events[1][0] == "alloc"
    name, kind, flops, weights, moved, comm, _ = tape.events[2][1:]
    assert (name, kind, flops) == ("linear", "dense", 2 * 3 * 64 * 32)
    assert (weights, moved, comm) == (w.nbytes, x.nbytes + 3 * 32 * 2, 0)


def test_keep_moves_bytes_between_categories() -> None:
    tape = Tape()
    x = tape.tensor((256,), "fp32")
    tape.keep(x, "latents")
    assert tape.held[0] == 0
    assert tape.live == 1024
    del x
    assert tape.live == 0


def test_a_shape_only_tensor_has_no_data() -> None:
    x = Tape().tensor((2,), "fp32", np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="no data"):
        _ = x.data


def test_the_wider_dtype_wins_and_the_first_of_equals() -> None:
    assert promote("bf16", "fp32") == promote("fp32", "fp16") == "fp32"
    assert (promote("bf16", "fp16"), promote("fp16", "bf16")) == ("bf16", "fp16")


def test_fp4_counts_its_block_scales() -> None:
    assert nbytes((1600,), "fp4") == 900


SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@st.composite
def indexed(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[object, ...]]:
    shape = draw(SHAPES)
    parts: list[object] = []
    for n in shape:
        if draw(st.booleans()):
            parts.append(draw(st.integers(-n, n - 1)))
        else:
            parts.append(draw(st.slices(n)))
    cut = draw(st.integers(0, len(parts)))
    if draw(st.booleans()):
        return shape, (*parts[:cut], ...)
    return shape, tuple(parts[:cut])


@given(indexed())
def test_a_view_has_numpys_shape(case: tuple[tuple[int, ...], tuple[object, ...]]) -> None:
    shape, index = case
    want = np.zeros(shape)[index]  # type: ignore[index]
    assert Tape().tensor(shape, "fp32")[index].shape == want.shape  # type: ignore[index]


@pytest.mark.parametrize("causal", [False, True])
def test_kernels_agree_where_heads_share_keys(causal: bool) -> None:
    """Six query heads over two of K and V, five queries at the end of seven keys."""
    random = np.random.Generator(np.random.Philox(4))
    tape = Tape(execute=True)
    q, k, v = (
        tape.tensor(shape, "fp32", random.standard_normal(shape).astype(np.float32))
        for shape in ((2, 5, 6, 4), (2, 7, 2, 4), (2, 7, 2, 4))
    )
    fused = softmax_attention(q, k, v, causal=causal).data
    math = softmax_attention(q, k, v, kernel="math", causal=causal).data
    np.testing.assert_allclose(math, fused, rtol=1e-5, atol=1e-6)
    for head in range(6):
        scores = q.data[1, :, head] @ k.data[1, :, head // 3].T / 2
        if causal:
            scores[np.triu_indices(5, 3, 7)] = -np.inf
        weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        want = weights @ v.data[1, :, head // 3]
        np.testing.assert_allclose(fused[1, :, head], want, rtol=1e-5, atol=1e-6)
