"""Queueing theory, Little's law and max-min shares: the page is fresh, and another seed agrees."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dcsim.pages import little, theory
from dcsim.validation.fair import engine_rates, exact_rates, share_rows

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"


def test_the_section_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.endswith(theory.theory_section()), "stale: python -m dcsim.pages.validation"


def test_another_seed_is_within_its_intervals() -> None:
    """Of 60 rows, 95 % less three standard deviations, and none far out."""
    rows = theory.queue_rows(seed=2)
    count = len(rows)
    assert count == 60
    due = 0.95 * count - 3 * (0.95 * 0.05 * count) ** 0.5
    assert sum(row.inside for row in rows) >= due
    for row in rows:
        assert row.half < 0.25 * row.theory, row
        assert abs(row.ours - row.theory) < 2.5 * row.half, row


@pytest.mark.parametrize("load", [0.3, 0.9])
def test_the_shorter_queue_is_worse_than_one_for_both_and_better_than_turns(load: float) -> None:
    """One queue for two is an M/M/2, `rho^2 / (1 - rho^2)`; taking turns is an E2/M/1 for each."""
    root = 0.0
    for _ in range(10_000):
        root = (2 * load / (2 * load + 1 - root)) ** 2
    wait = theory.shorter_of_two(load)
    assert load**2 / (1 - load**2) < wait < root / (1 - root)
    assert wait == pytest.approx(theory.shorter_of_two(load, 120, 20), rel=1e-6)


@pytest.mark.parametrize("seed", [2, 3])
def test_shares_are_exact_but_for_bytes(seed: int) -> None:
    for row in share_rows(seed):
        assert row.slowest > 10**7
        assert row.off < row.transfers, "less than a byte/s a transfer"


def test_shares_by_hand() -> None:
    """Links of 10 and 4 bytes/s: two share the narrow one, the third has what they leave."""
    paths = [[0, 1], [0, 1], [0]]
    assert exact_rates([10, 4], paths) == [2, 2, 6]
    assert engine_rates([10, 4], paths) == [2, 2, 6]
    assert exact_rates([10], [[0]] * 3) == [Fraction(10, 3)] * 3
    assert engine_rates([10], [[0]] * 3) == [3, 3, 3]


def test_little_by_hand() -> None:
    """Requests from 0 to 10 and 4 to 16 ns: 8 + 4 ns within the first window of 8, 2 + 8 later."""
    number, product = little._sides(np.array([0, 4]), np.array([10, 16]), np.array([0.0, 8, 16]))
    assert (number * 8).tolist() == [12, 10]
    assert (product * 8).tolist() == [22, 0]


def test_what_is_kept_is_what_is_left_times_how_long() -> None:
    rows = little.kept_rows()
    assert [row.job for row in rows] == ["video", "chat"]
    for row in rows:
        assert row.product > 10**8
        assert 0 <= row.held / row.product - 1 < 1e-4, "transfers take longer, a little"
