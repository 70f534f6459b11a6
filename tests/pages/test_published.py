"""The page of published figures, and how near some rows must stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsim.pages.published import Row, compare, markdown

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return compare()


def test_counts_hold_to_half_a_percent(rows: tuple[Row, ...]) -> None:
    counted = [r for r in rows if r.unit in ("parameters", "MAC", "B") or r.kind == "identity"]
    assert len(counted) > 70
    # Active parameters printed as 22B and 32B; logs of which one GPU of several is printed.
    rough = {"Qwen3-235B-A22B active", "Kimi-K2 active", "FP8 KV tokens, TP 4, H100, vLLM"}
    rough |= {"DeepSeek-R1-Distill-Qwen-14B KV tokens", "NVFP4 KV tokens", "27B-FP8 KV tokens"}
    for row in counted:
        assert row.error is not None
        if not any(part in row.subject for part in rough):
            assert abs(row.error) < 0.005, row


def test_budgets_of_stated_settings_hold_to_three_percent(rows: tuple[Row, ...]) -> None:
    """What vLLM leaves for KV on an H100, and its activation peak, from the model alone."""
    words = ("activation peak, vLLM", "KV memory, H100", "KV tokens, H100, vLLM defaults")
    mine = [r for r in rows if r.kind == "measured" and any(w in r.subject for w in words)]
    assert len(mine) == 8
    for row in mine:
        assert row.error is not None
        assert abs(row.error) < 0.03, row


def test_every_row_has_a_source(rows: tuple[Row, ...]) -> None:
    for row in rows:
        assert row.source
        assert row.kind in ("measured", "counted", "published", "identity")
        assert row.published > 0
        assert row.ours is None or row.ours > 0
        assert row.ours is not None or "not expressed" in row.note


def test_every_published_kv_count_is_there(rows: tuple[Row, ...]) -> None:
    """The 17 counts of tokens that logs print, by their figures."""
    logs = [31232, 23648, 91056, 93872, 464848, 412944, 450192, 1192160, 366400, 178880, 367404]
    logs += [117616, 333840, 81536, 567978, 302921, 6048]
    assert set(logs) <= {row.published for row in rows if row.unit == "tokens"}


def test_the_page_begins_with_them(rows: tuple[Row, ...]) -> None:
    fresh = PAGE.read_text(encoding="utf-8").startswith(markdown(rows))
    assert fresh, "stale; render it: python -m dcsim.pages.validation > docs/validation.md"
