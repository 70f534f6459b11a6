"""What docs/scheduling.md works out by hand, run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dcsim.planning import load, run

PAGE = Path(__file__).parents[2] / "docs" / "scheduling.md"
TICKS = 65536


def worked(folder: Path, name: str) -> Path:
    """A scenario of the page, as a file."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"<!-- worked: {name} -->\n```yaml\n(.*?)```", text, re.S)
    assert found is not None
    file = folder / "scenario.yaml"
    file.write_text(found[1], encoding="utf-8")
    return file


def test_swap_saves_the_prefill_and_pays_the_way_back(tmp_path: Path) -> None:
    file = worked(tmp_path, "two requests")
    swap, again = (
        run(load(file, overrides=[f"jobs.chat.scheduler.preemption={how}"]))
        for how in ("swap", "recompute")
    )
    rows: list[dict[str, Any]] = [each.requests().to_pydict() for each in (swap, again)]
    assert [row["preemptions"] for row in rows] == [[0, 1], [0, 1]]
    assert rows[0]["swaps"] == [0, 1]
    assert "swaps" not in rows[1]
    assert rows[0]["first_ns"] == rows[1]["first_ns"]
    assert rows[0]["end_ns"][0] == rows[1]["end_ns"][0]
    size = 1625 * 131_072
    assert swap.summary["jobs"]["chat"]["swap"] == {
        "preemptions": 1,
        "recomputed": 0,
        "out_bytes": size,
        "back_bytes": size,
        "no_room_bytes": 0,
        "lost_bytes": 0,
    }
    back = -(-size * 10**9 // (63 * 10**9))
    prefill, decode = load(file).tables["segments"].tolist()
    launch, weights = load(file).tables["phases"].tolist()[0]
    _, _, _, _, dense, own, _, ctx, pair, *_ = prefill
    compute = launch + max(weights, dense * 1625) + own * 1625
    compute += max(pair * (1625 * 1626 // 2), ctx * 1625)
    _, _, _, _, dense, own, _, ctx, pair, *_ = decode
    step = launch + max(weights, dense) + own + max(pair, ctx) * 1625
    saved = rows[1]["end_ns"][1] - rows[0]["end_ns"][1]
    assert abs(saved - ((compute - step) / TICKS - back)) <= 3
    assert [round(each / TICKS / 1e6, 1) for each in (compute, step)] == [44.5, 6.3]
    assert round(saved / 1e6, 1) == 34.8
    assert [round(row["end_ns"][1] / 1e9, 3) for row in rows] == [8.778, 8.813]


def test_swapped_bytes_are_live_in_dram_until_they_are_back(tmp_path: Path) -> None:
    file = worked(tmp_path, "two requests")
    results = run(load(file, overrides=["bin=100 ms", "duration=10 s"]))
    dram = [row for row in results.timeline().to_pylist() if row["tier"] == "dram"]
    held = [row["live"] for row in dram]
    assert max(held) == 1625 * 131_072 == max(row["peak"] for row in dram)
    # it leaves at 4.0 s, and is back at 6.404 s
    assert [i for i, each in enumerate(held) if each] == list(range(40, 65))
    assert sum(row["taken"] for row in dram) == sum(row["moved"] for row in dram) == max(held)


def test_a_prompt_that_goes_first_does_not_pay_for_the_decodes(tmp_path: Path) -> None:
    file = worked(tmp_path, "a document")
    first, after = (
        run(load(file, overrides=[f"jobs.chat.scheduler.order={order}"])).summary["jobs"]
        for order in ("prefill_first", "decode_first")
    )
    ttft = [each["document"]["first_ns"]["mean"] / 1e6 for each in (first, after)]
    assert [round(each, 1) for each in ttft] == [256.7, 269.7]
    gaps = [each["chat"]["per_token_ns"]["mean"] / 1e6 for each in (first, after)]
    assert [round(each, 2) for each in gaps] == [9.32, 9.25]
    _, decode = load(file).tables["segments"].tolist()
    _, _, _, _, dense, own, _, ctx, pair, *_ = decode
    token = [each / TICKS / 1e3 for each in (dense, own + max(pair, ctx) * 1480)]
    assert [round(each, 1) for each in token] == [25.3, 75.2]
    assert round(4 * 32 * sum(token) / 1e3, 1) == 12.9
    # and what it waits until the iteration in hand has ended, a few tenths of a ms more or less
    assert abs(ttft[1] - ttft[0] - 12.9) < 0.3
