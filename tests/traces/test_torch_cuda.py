"""The history of CUDA's allocator, on snapshots made up as PyTorch's are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest

from dcsim.models import ModelError
from dcsim.models.tape import CATEGORIES

torch = pytest.importorskip("torch", reason="needs the torch extra", exc_type=ImportError)

from dcsim.traces.torch import trace  # noqa: E402
from dcsim.traces.torch.cuda import Measured, measured, with_workspace  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

MIB = 2**20


def event(action: str, addr: int, size: int) -> dict[str, Any]:
    """As `_record_memory_history` leaves them; frames are not looked at."""
    return {"action": action, "addr": addr, "size": size, "stream": 0, "frames": [], "time_us": 0}


def snapshot(*events: dict[str, Any], segments: tuple[int, ...] = ()) -> dict[str, Any]:
    found = [{"device": 0, "address": i, "total_size": n} for i, n in enumerate(segments)]
    return {"segments": found, "device_traces": [list(events)]}


HISTORY = (
    event("segment_alloc", 0, 20 * MIB),
    event("alloc", 0, 1000),
    event("alloc", 1024, 4 * MIB),
    event("free_requested", 1024, 4 * MIB),
    event("alloc", 8 * MIB, MIB),  # while the other is only asked to go
    event("free_completed", 1024, 4 * MIB),
    event("alloc", 1024, 2 * MIB),
    event("free_completed", 16 * MIB, 7 * MIB),  # was there before
    event("segment_alloc", 64 * MIB, 40 * MIB),
    event("segment_free", 64 * MIB, 40 * MIB),
    event("snapshot", 0, 0),
)


def test_peaks_of_a_history() -> None:
    found = measured(snapshot(*HISTORY, segments=(20 * MIB, 2 * MIB)))
    assert found == Measured(
        allocated=1024 + 5 * MIB,  # 1000 B take two grains
        reserved=62 * MIB,
        left=1024 + 3 * MIB,
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"segments": [], "device_traces": []}, "no history of device 0"),
        ({"segments": [], "device_traces": [[]]}, "no history of device 0"),
        (snapshot(event("alloc", 0, 8), event("alloc", 0, 8)), "0x0 is allocated twice"),
        (snapshot(event("alloc", 0, 8), event("oom", 0, 8)), "out of memory"),
    ],
)
def test_a_broken_history_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        measured(given)


def make() -> Any:
    return torch.nn.Linear(64, 64), torch.zeros(4, 64)


def test_what_lifetimes_do_not_show_is_workspace() -> None:
    """512 B of inputs were there before; the product is 512 B, the allocator says 4096."""
    record = trace(make).records["forward"]
    assert record.held.sum(axis=1).tolist() == [1024]
    more = with_workspace(record, 512, Measured(4096, 2 * MIB, 512))
    assert more.held[0, CATEGORIES.index("workspace")] == 4096 - 512
    assert more.held.sum(axis=1).tolist() == [512 + 4096]
    assert sum(each.bytes for each in more.holdings) == 512 + 4096
    assert more.peak == record.peak + 4096 - 512
    assert with_workspace(record, 512, Measured(512, MIB, 512)) == record


def test_a_measured_trace_is_the_counted_one_with_workspaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU that says 4096 B of every stage."""

    def run(call: Callable[[], Any]) -> Measured:
        assert call().shape == (4, 64)
        return Measured(4096, 2 * MIB, 512)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("dcsim.traces.torch.tracing.real", lambda *_: nullcontext())
    monkeypatch.setattr("dcsim.traces.torch.cuda.run", run)
    monkeypatch.setattr(torch, "zeros", partial(torch.zeros, dtype=torch.float32))
    found, plain = trace(make, {"device": "cuda", "dtype": "fp32"}), trace(make, {"dtype": "fp32"})
    assert found.options["forward allocated"] == 4096
    assert found.options["forward reserved"] == 2 * MIB
    # In float32 inputs and the product are 1024 B each.
    assert found.peak_bytes == plain.peak_bytes + 4096 - 1024
    assert found.rows[0].dense_flops == plain.rows[0].dense_flops


def test_the_page_of_what_is_recorded_counts_without_a_gpu() -> None:
    pytest.importorskip("diffusers", exc_type=ImportError)
    from dcsim.pages.recorded import table

    rows = [line.split(" | ") for line in table(["dit-xl-2"], "fake").splitlines()[2:]]
    assert [row[:2] for row in rows] == [["| dit-xl-2", "denoise"], ["| dit-xl-2", "decode"]]
    weights, counted = (float(cell) for cell in rows[0][2:4])
    assert weights == pytest.approx(749_826_464 * 2 / 2**30, rel=0.002)
    # 14.2 MB: the hidden states four times, and up and gelu of the feed-forward half.
    assert counted == pytest.approx((4 + 2 * 4) * 2 * 256 * 1152 * 2 / 2**30, abs=2e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(ModelError, match="finds no CUDA GPU"):
        trace(make, {"device": "cuda"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_real_run_holds_no_less() -> None:
    found = trace(make, {"device": "cuda"})
    plain = trace(make)
    assert found.peak_bytes >= plain.peak_bytes
    assert found.options["forward allocated"] >= 512
