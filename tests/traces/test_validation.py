"""The page of published figures, and how near some rows must stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsim.traces.validation import Row, compare, markdown

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return compare()


def test_counts_hold_to_half_a_percent(rows: tuple[Row, ...]) -> None:
    counted = [r for r in rows if r.unit in ("parameters", "MAC", "B", "tokens")]
    assert len(counted) > 40
    for row in counted:
        assert abs(row.error) < 0.005, row


def test_every_row_has_a_source(rows: tuple[Row, ...]) -> None:
    for row in rows:
        assert row.source
        assert row.kind in ("measured", "counted", "published")
        assert row.published > 0
        assert row.ours > 0


def test_the_page_begins_with_them(rows: tuple[Row, ...]) -> None:
    fresh = PAGE.read_text(encoding="utf-8").startswith(markdown(rows))
    assert fresh, "stale; render it: python -m dcsim.report.validation > docs/validation.md"
