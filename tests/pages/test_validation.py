"""The page of validation: its prefix caches are fresh, and as near as they must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsim.pages import validation

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"
STALE = "stale; render it: python -m dcsim.pages.validation > docs/validation.md"


@pytest.mark.traces
def test_the_page_is_up_to_date(logs: Path) -> None:
    assert PAGE.read_text(encoding="utf-8") == validation.page(logs), STALE


def test_lru_under_independent_references_is_ches() -> None:
    """Another draw than the page's, to four standard errors; these are small enough to tell."""
    rows = validation.che_rows(seed=2)
    assert len(rows) == 9
    for row in rows:
        assert row.error < 0.001
        assert abs(row.ours - row.che) < 4 * row.error, row
    assert validation.che_section() in PAGE.read_text(encoding="utf-8"), STALE


def test_without_the_log_nothing_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCSIM_TRACES", str(tmp_path))
    assert validation.main() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "No such file or directory; set DCSIM_TRACES" in err
